"""What the rollout decision is made of: the wish, the durable record, what is said about both, and the decision itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quarterdeck.manifest import Digest
from quarterdeck.placement import Rollback
from quarterdeck.plan import Accelerator, VersionRef, VersionReport
from quarterdeck.schema import Frozen, Name

Scored = tuple[Digest, Accelerator]


class Spec(Frozen):
    """What people want of one deployment: the newest revision's content."""

    deployment: Name
    generation: int = Field(description="Rises with every change that a person makes; locally the revision's number.")
    main: VersionRef | None
    challenger: VersionRef | None = None
    pin: VersionRef | None = Field(None, description="Overrides `main` while it is set: rollbacks of resources that GitOps owns.")
    running: bool = True
    reachable: bool = Field(True, description="Whether the challenger's address leads to a node of it.")
    chosen: int = Field(0, description="Generation in which a person last chose main by name; a choice lifts a rejection.")
    leaving: Digest | None = Field(None, description="A rollback names the version it leaves; it becomes rejected.")
    rollback: Rollback = Field(Rollback(), description="When a version that has just become active is taken back by itself.")
    progress_seconds: float = 600.0
    healthy_seconds: float = 60.0

    @property
    def wanted(self) -> VersionRef | None:
        """The version that should answer: the pin where there is one, else main."""
        return self.pin or self.main


class Hold(Frozen):
    """Automation stopped here; the next generation ends it."""

    generation: int
    reason: str
    code: str = ""


class Counted(Frozen):
    """Requests that reached one version, and how many of them were answered 5xx because of it."""

    requests: int = 0
    failures: int = 0

    def __str__(self) -> str:
        share = 100 * self.failures / self.requests if self.requests else 0.0
        return f"{self.failures:,} of {self.requests:,} requests ({share:.1f} %)"


class Watch(Frozen):
    """The active version on trial, from the moment it became active until the window ends.

    Counters of nodes belong to one boot: those that are missing here began at zero after the flip.
    """

    before: Counted = Field(Counted(), description="What the version before had come to.")
    boots: dict[str, Counted] = Field(
        default_factory=dict, description="Boot → what it had counted of the new version at the flip; boots at zero are left out."
    )


class TakenBack(Frozen):
    """What automation took back last, and why."""

    version: VersionRef
    reason: str = Field(description="CamelCase, as conditions have it.")
    message: str
    since: float = Field(description="Unix seconds.")


class Record(Frozen):
    """The durable decision record of one deployment. Times are Unix seconds.

    `left` is the version that answered before `active`, however briefly; `previous` the last one that did so in health.
    Both stay resident, so that a step back needs no load.
    """

    revision: int = 0
    generation: int = 0
    active: VersionRef | None = None
    active_since: float = 0.0
    previous: VersionRef | None = None
    left: VersionRef | None = None
    target: VersionRef | None = None
    target_since: float = 0.0
    challenger: VersionRef | None = None
    rejected: list[Digest] = Field(default_factory=list)
    hold: Hold | None = None
    watch: Watch | None = Field(None, description="While the active version may still be taken back by itself.")
    counted: Counted = Field(Counted(), description="What the active version had come to when its watch ended.")
    taken_back: TakenBack | None = Field(None, description="Until a person chooses that version again.")


ConditionType = Literal[
    "Ready", "Progressing", "ModelLoaded", "RollbackReady", "ChallengerReady", "ChallengerReceiving", "RolledBack",
    # Only a cluster has these four.
    "ArtifactVerified", "KeyringReady", "TemplateOutdated", "Reconciled",
]  # fmt: skip
Status = Literal["True", "False", "Unknown"]


class Condition(Frozen):
    """One observed fact. `reason` is CamelCase for programs, `message` a sentence for people."""

    type: ConditionType
    status: Status
    reason: str
    message: str


class Decision(Frozen):
    """What to write, then publish.

    Main nodes hold `resident` and answer with `active`; challenger nodes hold and answer with `challenger`; main nodes
    mirror to `mirror` where it is set.
    """

    record: Record
    active: VersionRef | None
    resident: list[VersionRef]
    challenger: VersionRef | None
    mirror: VersionRef | None
    conditions: list[Condition]


def scored(version: VersionRef | VersionReport) -> Scored:
    """Which bytes, and what scores them: a package that answers on the processor has proven nothing about the GPU."""
    return version.digest, version.accelerator


def same(one: VersionRef | None, other: VersionRef | None) -> bool:
    """Whether both are there, with the same bytes and the same scorer."""
    return one is not None and other is not None and scored(one) == scored(other)


def has(ref: VersionRef | None, digest: str) -> bool:
    """Whether it is there with these bytes, whatever scores them."""
    return ref is not None and ref.digest == digest


def distinct(*refs: VersionRef | None) -> list[VersionRef]:
    """Those that are there, each once, in order."""
    found: dict[Scored, VersionRef] = {}
    for ref in refs:
        if ref is not None:
            found.setdefault(scored(ref), ref)
    return list(found.values())


def reason_of(code: str, otherwise: str = "Failed") -> str:
    """An error's code as the reason of a condition: `golden-mismatch` is `GoldenMismatch`; `otherwise` where there is no code."""
    return "".join(part.capitalize() for part in code.split("-")) or otherwise
