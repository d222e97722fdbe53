"""What passes between the one who decides (deployer or operator) and the nodes: plans down, reports up."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from quarterdeck.manifest import Digest
from quarterdeck.schema import Frozen, Name

PLAN_SCHEMA: Literal[1] = 1
TELL = "quarterdeck-tell"
"""Header of the answer to a report: `plan` asks the node to say in the next one what it was told."""
Role = Literal["main", "challenger"]
AccessMode = Literal["public", "instance", "project"]
RecordMode = Literal["spooled", "off"]
LoadState = Literal["fetching", "loading", "ready", "failed"]
Accelerator = Literal["none", "cuda"]


class VersionRef(Frozen):
    """One immutable version: where it lies and which bytes it must be."""

    model: Name
    version: Annotated[int, Field(ge=1)]
    digest: Digest
    trust: Literal["data", "code"] = Field(
        "data", description="What the deployment allows: `code` lets the package run code when loaded."
    )
    accelerator: Accelerator = Field("none", description="What scores: the processor, or an NVIDIA GPU by ONNX Runtime.")

    def __str__(self) -> str:
        return f"{self.model} v{self.version}"


class Mirror(Frozen):
    """Where a main node sends copies of its rows, and how much it may hold back meanwhile."""

    url: str = Field(description="Base URL of the challenger node.")
    version: VersionRef
    token: str = Field(repr=False, description="Bearer token that the challenger node knows by its SHA-256.")
    queue_rows: int = 10_000
    queue_bytes: int = 16 * 2**20
    max_age_seconds: float = 10.0
    batch_rows: int = Field(1_000, description="Rows of a batch at most; a larger request travels alone.")
    timeout_seconds: float = 5.0


class Key(Frozen):
    """One API key as nodes know it: by digest only."""

    id: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    project: str = Field(description="The project it opens; `*` for an instance-wide key.")
    scopes: list[Literal["predict", "feedback", "read", "mirror"]]
    expires: float | None = Field(None, description="Unix seconds, UTC.")
    rate: Annotated[float, Field(gt=0)] | None = Field(None, description="Requests per second at each node; None: no limit.")
    burst: Annotated[int, Field(ge=1)] = Field(1, description="Requests that may come at once before the rate counts.")


class TokenIssuer(Frozen):
    """Who signs short-lived tokens of people: nodes check them by the public keys alone, without asking anybody."""

    issuer: str = Field(description="The tokens' `iss`.")
    audience: str = Field(description="The tokens' `aud`.")
    keys: list[dict[str, str]] = Field(description="Public Ed25519 keys as JWKs; the newest first.")


class VersionName(Frozen):
    """A version that is known by number only, before anybody has seen its manifest."""

    model: Name
    version: Annotated[int, Field(ge=1)]

    def __str__(self) -> str:
        return f"{self.model} v{self.version}"


class DeploymentPlan(Frozen):
    """What one node does for one deployment in one role."""

    name: Name
    project: Name = "default"
    service: str = ""
    stage: Name = "dev"
    role: Role
    revision: int = Field(description="The number that answers name; rises whenever `active` moves.")
    generation: int = Field(
        0, description="The wish that this plan serves; nodes try failed versions again when it rises, and echo it."
    )
    resolve: list[VersionName] = Field(
        default_factory=list, description="Versions whose digest the node is asked to look up; whoever decides has no store."
    )
    active: VersionRef | None = Field(description="Answers requests; None: nothing has been proven yet.")
    resident: list[VersionRef] = Field(description="Held in memory and proven, `active` among them.")
    access: AccessMode = "instance"
    records: RecordMode = "spooled"
    mirror: Mirror | None = None


class Plan(Frozen):
    """Everything that one node has to do; level-triggered: the whole wish, never a difference."""

    # Nodes may be older than their deployer: the number is what lets one refuse what it would misread.
    plan: Literal[1] = PLAN_SCHEMA
    node: Name
    sequence: int = Field(description="Rises with every change; a node ignores a plan that is older than its own.")
    store: str = Field(description="URL of the package and record store.")
    namespace: str = Field("", description="Of the cluster; empty: of no cluster. Record files carry it.")
    deployments: list[DeploymentPlan] = Field(default_factory=list)
    # The whole keyring with every plan: a revoked key is gone when the plan is, and no node keeps a list of its own.
    keyring: list[Key] = Field(default_factory=list)
    issuers: list[TokenIssuer] = Field(default_factory=list, description="Whose people may ask with tokens instead of keys.")

    def content(self) -> bytes:
        """Everything but the number, as JSON: plans with equal content ask for the same."""
        # Field order is fixed by the class and lists are sorted by their makers, so equal content gives equal bytes.
        return self.model_copy(update={"sequence": 0}).model_dump_json().encode()

    def told(self) -> list[DeploymentPlan]:
        """What it says of each deployment, without the mirrors' tokens: for a deployer that has forgotten it."""
        return [
            one.model_copy(update={"mirror": one.mirror.model_copy(update={"token": ""})}) if one.mirror else one
            for one in self.deployments
        ]


class VersionReport(Frozen):
    """How far a node is with one resident version."""

    digest: Digest
    version: int
    accelerator: Accelerator = "none"
    state: LoadState
    code: str = Field("", description="Error code while fetching is retried, or of the failure.")
    reason: str = Field("", description="The error's words: what, and the next step.")
    place: str = Field("", description="Which file, library, row or variable; empty where it does not apply.")
    memory_bytes: int = 0
    load_seconds: float = 0.0


class Resolved(Frozen):
    """What a node found when it was asked for a version's digest: the digest, or why there is none."""

    model: Name
    version: int
    digest: Digest | None = None
    code: str = Field("", description="Error code where there is no digest.")
    reason: str = Field("", description="The error's words: what, and the next step.")


class MirrorReport(Frozen):
    """The mirror's ledger of this boot: mirrored = answered + failed + expired + dropped + pending, always."""

    # Counters of one boot: whoever adds them up over restarts must look at NodeReport.boot.
    mirrored: int = 0
    answered: int = 0
    failed: int = 0
    expired: int = 0
    dropped: int = 0
    pending: int = 0
    last_error: str = ""


class DeploymentReport(Frozen):
    """What a node does for one deployment right now."""

    name: Name
    role: Role
    revision: int = 0
    generation: int = Field(0, description="Echo of the plan's: states of versions count as ACK or NACK for this wish only.")
    active: Digest | None = None
    versions: list[VersionReport] = Field(default_factory=list)
    answered: dict[str, int] = Field(default_factory=dict, description="Digest → rows answered in this boot.")
    errors: dict[str, int] = Field(default_factory=dict, description="Digest → rows that the model failed in this boot.")
    requests: dict[str, int] = Field(
        default_factory=dict, description="Digest → requests that reached the version in this boot, failed ones among them."
    )
    failures: dict[str, int] = Field(
        default_factory=dict, description="Digest → requests answered 5xx because of the version in this boot."
    )
    resolved: list[Resolved] = Field(default_factory=list, description="Answers to the plan's `resolve`, for this wish only.")
    probe_failure: str = Field("", description="Why what is active failed its last golden row; empty: it did not.")
    probe_age_seconds: float | None = Field(
        None, description="Age of the last golden row that was answered rightly; None: none yet."
    )
    mirroring: Digest | None = Field(None, description="The version that rows are copied to from now on; None: to nobody.")
    mirror: MirrorReport = MirrorReport()


class KeyUse(Frozen):
    """How often a key was let in at one node in this boot, and when last: coarse, renewed every 30 seconds at most."""

    id: str
    requests: int
    last: float = Field(description="Unix seconds.")


class NodeReport(Frozen):
    """A snapshot of a node, sent on every change and every two seconds; it replaces the one before."""

    node: Name
    boot: str
    role: Role
    url: str
    sequence: int = Field(description="The plan that it has taken over.")
    ready: bool
    draining: bool = False
    deployments: list[DeploymentReport] = Field(default_factory=list)
    spool_rows: int = 0
    spool_bytes: int = 0
    spool_oldest_seconds: float = 0.0
    keys: list[KeyUse] = Field(default_factory=list)
    rss_bytes: int = 0
    cpu_seconds: float = 0.0
    told: list[DeploymentPlan] = Field(
        default_factory=list, description="What its plan says, without tokens; only after the deployer has asked for it."
    )
