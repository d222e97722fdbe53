"""The rollout decision: one pure function, used by the deployer for local nodes and by the operator in a cluster.

What serves is moved by nothing but this: `active` changes only after every main node has acknowledged the new version as
resident and proven, and whatever goes wrong before that moment leaves the old version answering. The caller stores the
returned record by compare-and-swap before it publishes the plans: that is the fence between two deciders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from quarterdeck.manifest import Digest
from quarterdeck.plan import DeploymentReport, NodeReport, Role, VersionRef, VersionReport
from quarterdeck.schema import Frozen, Name


class Spec(Frozen):
    """What people want of one deployment: the newest revision's content."""

    deployment: Name
    generation: int = Field(description="Rises with every change that a person makes; locally the revision's number.")
    main: VersionRef | None
    challenger: VersionRef | None = None
    pin: VersionRef | None = Field(None, description="Overrides `main` while it is set: rollbacks of resources that GitOps owns.")
    running: bool = True
    chosen: int = Field(0, description="Generation in which a person last chose main by name; a choice lifts a rejection.")
    leaving: Digest | None = Field(None, description="A rollback names the version it leaves; it becomes rejected.")
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


ConditionType = Literal[
    "Ready", "Progressing", "ModelLoaded", "RollbackReady", "ChallengerReady", "ChallengerReceiving", "RolledBack"
]
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


def decide(spec: Spec, record: Record, nodes: Sequence[NodeReport], now: float) -> Decision:
    """One step from what is wanted, what was decided and what is seen to what is decided now.

    Deciding again with the result and an unchanged world changes nothing.

    Args:
        spec: the newest generation.
        record: the stored decision record.
        nodes: reports of live nodes of both roles; stale ones are left out by the caller.
        now: Unix seconds.
    """
    # Versions that every plan so far kept resident: their old reports still say the truth.
    kept = {ref.digest for ref in (record.active, record.previous, record.left) if ref}
    main, challenger = _World(spec, nodes, "main", kept), _World(spec, nodes, "challenger", set())
    # The fence after the wish, for a hold must not outlive the generation it belongs to.
    record = _fence(_take_over(spec, record), main)
    # A reader of an older wish (a slow replica, a restored backup) may look, but decides nothing.
    if spec.generation == record.generation:
        record = _pair(spec, _advance(spec, record, main, now), challenger) if spec.running else _rest(record)
    active = record.active if spec.running else None
    wish = spec.challenger if spec.running else None
    mirror = record.challenger if active and wish and not _same(record.challenger, active) else None
    return Decision(
        record=record,
        active=active,
        resident=_distinct(active, record.target, record.previous, record.left) if spec.running else [],
        challenger=wish,
        mirror=mirror,
        conditions=_conditions(spec, record, main, challenger),
    )


class _World:
    """What the live nodes of one role say about one deployment.

    Words about versions count for the present generation only, lest an old refusal ends a new attempt. One exception makes
    a step back quick: a version that every plan kept resident (`kept`) is ready without a new word.
    """

    def __init__(self, spec: Spec, nodes: Sequence[NodeReport], role: Role, kept: set[str]) -> None:
        self.nodes = [node.node for node in nodes if node.role == role and not node.draining]
        self.reports: dict[str, DeploymentReport] = {
            node.node: report
            for node in nodes
            if node.role == role and not node.draining
            for report in node.deployments
            if report.name == spec.deployment and report.role == role
        }
        self._generation = spec.generation
        self._kept = kept

    def states(self, ref: VersionRef) -> dict[str, VersionReport]:
        """Node → how far it is with this version; a node that answers for an older wish has not spoken yet."""
        return {
            node: version
            for node, report in self.reports.items()
            for version in report.versions
            if version.digest == ref.digest
            and (report.generation == self._generation or (version.state == "ready" and version.digest in self._kept))
        }

    def proven(self, ref: VersionRef) -> bool:
        """Whether every node has the version resident and proven; never true of an empty set."""
        # Of no nodes everything is true; a system that restarts must not flip before anybody has reported.
        return bool(self.nodes) and self.count(ref) == len(self.nodes)

    def count(self, ref: VersionRef) -> int:
        return sum(version.state == "ready" for version in self.states(ref).values())

    def failure(self, ref: VersionRef) -> tuple[str, VersionReport] | None:
        """The first node (by name) that refused the version."""
        for node, version in sorted(self.states(ref).items()):
            if version.state == "failed":
                return node, version
        return None

    def obstacle(self, ref: VersionRef) -> str:
        """In words, what the version still waits for."""
        if not self.nodes:
            return "no live node has reported"
        for node, version in sorted(self.states(ref).items()):
            if version.reason:
                return f"{node}: {version.reason}"
        return f"{self.count(ref)} of {len(self.nodes)} nodes have it ready"

    def answering(self, ref: VersionRef) -> int:
        return sum(report.active == ref.digest for report in self.reports.values())


def _take_over(spec: Spec, record: Record) -> Record:
    """A new generation ends holds, and carries what people said about rejections."""
    if spec.generation <= record.generation:
        return record
    rejected = [digest for digest in record.rejected if not (_is(spec.wanted, digest) and spec.chosen > record.generation)]
    # Whoever rolls back to the very version that is left has chosen it, so it cannot be rejected by that.
    if spec.leaving and not _is(spec.wanted, spec.leaving) and spec.leaving not in rejected:
        rejected.append(spec.leaving)
    return record.model_copy(update={"generation": spec.generation, "hold": None, "rejected": rejected})


def _fence(record: Record, main: _World) -> Record:
    """A node that has seen a higher revision than the record (a restored database) raises the floor."""
    # Numbers that answers have named already must never be given to something else.
    highest = max((report.revision for report in main.reports.values()), default=0)
    return record.model_copy(update={"revision": max(record.revision, highest)})


def _advance(spec: Spec, record: Record, main: _World, now: float) -> Record:
    """Move `active` where everything is proven; stop where a node refused or time ran out."""
    wanted = spec.wanted
    if wanted is None or record.hold or wanted.digest in record.rejected or _same(wanted, record.active):
        return record.model_copy(update={"target": None, "target_since": 0.0, **_settled(wanted, record)})
    if not _same(wanted, record.target):
        record = record.model_copy(update={"target": wanted, "target_since": now})
    # Proof before failure: a node that has refused and then succeeded has succeeded.
    if main.proven(wanted):
        return _flip(spec, record, wanted, now)
    failed = main.failure(wanted)
    if failed:
        node, version = failed
        return _abort(
            spec, record, version.code or "load-failed", f"{wanted} on node {node}: {version.reason or 'it failed to load'}"
        )
    if now - record.target_since > spec.progress_seconds:
        reason = f"{wanted} was not ready after {spec.progress_seconds:.0f} s: {main.obstacle(wanted)}"
        return _abort(spec, record, "progress-deadline", reason)
    return record


def _settled(wanted: VersionRef | None, record: Record) -> dict[str, VersionRef]:
    """The active bytes under the present wish's name: the same digest may be wanted with other trust or number."""
    return {"active": wanted} if wanted and _same(wanted, record.active) else {}


def _flip(spec: Spec, record: Record, wanted: VersionRef, now: float) -> Record:
    healthy = record.active if now - record.active_since >= spec.healthy_seconds else None
    # A version that was not healthy for long is a poor way back, but better than none.
    ways_back = [ref for ref in (healthy, record.previous, record.active) if ref and not _same(ref, wanted)]
    return record.model_copy(
        update={
            "revision": max(record.revision + 1, spec.generation),
            "active": wanted,
            "active_since": now,
            "previous": ways_back[0] if ways_back else None,
            "left": record.active,
            "target": None,
            "target_since": 0.0,
        }
    )


def _abort(spec: Spec, record: Record, code: str, reason: str) -> Record:
    hold = Hold(generation=spec.generation, reason=reason, code=code)
    return record.model_copy(update={"hold": hold, "target": None, "target_since": 0.0})


def _rest(record: Record) -> Record:
    return record.model_copy(update={"target": None, "target_since": 0.0, "challenger": None})


def _pair(spec: Spec, record: Record, challenger: _World) -> Record:
    """Main mirrors to a challenger only once every challenger node has it proven."""
    if spec.challenger is None:
        return record.model_copy(update={"challenger": None})
    if _same(spec.challenger, record.challenger) or challenger.proven(spec.challenger):
        return record.model_copy(update={"challenger": spec.challenger})
    # The former challenger is leaving its nodes: copies for it would be answered by another version or by nobody.
    return record.model_copy(update={"challenger": None})


def _conditions(spec: Spec, record: Record, main: _World, challenger: _World) -> list[Condition]:
    return [
        _ready(spec, record, main),
        _progressing(spec, record, main),
        _model_loaded(spec, record, main),
        _rollback_ready(record, main),
        *_challenger_conditions(spec, record, challenger),
        _rolled_back(spec, record),
    ]


def _ready(spec: Spec, record: Record, main: _World) -> Condition:
    if not spec.running:
        return _no("Ready", "Stopped", "Stopped by wish; start it with `quarterdeck run`.")
    if not main.nodes:
        return Condition(type="Ready", status="Unknown", reason="NoNodes", message="No live node has reported.")
    if record.active is None:
        wish = spec.wanted
        return _no("Ready", "NothingProven", f"Nothing answers yet: {main.obstacle(wish)}." if wish else "No version is chosen.")
    answering = main.answering(record.active)
    if answering < len(main.nodes):
        return _no("Ready", "NodesBehind", f"{answering} of {len(main.nodes)} nodes answer with {record.active}.")
    return _yes("Ready", "Answering", f"{answering} of {len(main.nodes)} nodes answer with {record.active}.")


def _progressing(spec: Spec, record: Record, main: _World) -> Condition:
    if spec.generation < record.generation:
        reason = f"The wish {spec.generation} is older than {record.generation}, which was decided already; nothing is changed."
        return _no("Progressing", "OlderGeneration", reason)
    if record.hold:
        return _no(
            "Progressing", "Held", f"Stopped: {record.hold.reason} What served goes on serving; the next change tries again."
        )
    if record.target:
        return _yes("Progressing", "Loading", f"{record.target}: {main.obstacle(record.target)}.")
    return _no("Progressing", "Settled", "Nothing is under way.")


def _model_loaded(spec: Spec, record: Record, main: _World) -> Condition:
    wanted = spec.wanted
    if wanted is None:
        return _no("ModelLoaded", "NoVersion", "No version is chosen.")
    if record.hold:
        return _no("ModelLoaded", _camel(record.hold.code), record.hold.reason)
    if wanted.digest in record.rejected:
        return _no("ModelLoaded", "Rejected", f"{wanted} was rejected and is not loaded as main.")
    failed = main.failure(wanted)
    if failed:
        node, version = failed
        return _no("ModelLoaded", _camel(version.code or "load-failed"), f"{wanted} on node {node}: {version.reason}")
    if main.proven(wanted):
        return _yes("ModelLoaded", "Proven", f"{wanted} matched its golden rows on {len(main.nodes)} of {len(main.nodes)} nodes.")
    return Condition(type="ModelLoaded", status="Unknown", reason="Loading", message=f"{wanted}: {main.obstacle(wanted)}.")


def _rollback_ready(record: Record, main: _World) -> Condition:
    back = record.previous or record.left
    if back is None or _same(back, record.active):
        return _no("RollbackReady", "NothingBefore", "There is nothing to go back to yet.")
    ready = main.count(back)
    message = f"{back} is resident on {ready} of {len(main.nodes)} nodes."
    return _yes("RollbackReady", "Resident", message) if main.proven(back) else _no("RollbackReady", "NotResident", message)


def _challenger_conditions(spec: Spec, record: Record, challenger: _World) -> list[Condition]:
    wish = spec.challenger
    if wish is None:
        nobody = "No challenger is set."
        return [_no("ChallengerReady", "NoChallenger", nobody), _no("ChallengerReceiving", "NoChallenger", nobody)]
    failed = challenger.failure(wish)
    if failed:
        node, version = failed
        ready = _no("ChallengerReady", _camel(version.code or "load-failed"), f"{wish} on node {node}: {version.reason}")
    elif challenger.proven(wish):
        ready = _yes(
            "ChallengerReady", "Proven", f"{wish} matched its golden rows on all {len(challenger.nodes)} challenger nodes."
        )
    else:
        ready = _no("ChallengerReady", "Loading", f"{wish}: {challenger.obstacle(wish)}.")
    if not spec.running:
        return [ready, _no("ChallengerReceiving", "Stopped", "The deployment is stopped.")]
    if _same(wish, record.active):
        return [ready, _no("ChallengerReceiving", "SameAsMain", f"{wish} is main already; mirroring is paused.")]
    if record.challenger is None:
        return [ready, _no("ChallengerReceiving", "NotReady", f"Mirroring starts once {wish} is ready.")]
    return [ready, _yes("ChallengerReceiving", "Mirroring", f"Rows of main are copied to {wish}.")]


def _rolled_back(spec: Spec, record: Record) -> Condition:
    if spec.wanted and spec.wanted.digest in record.rejected:
        return _yes("RolledBack", "Rejected", f"{spec.wanted} was rejected; deploy it again by name to use it.")
    if record.rejected and not record.hold:
        return _no(
            "RolledBack", "RejectedBefore", f"{len(record.rejected)} version(s) were left by a rollback and stay rejected."
        )
    return _no("RolledBack", "Never", "No version is rejected.")


def _yes(kind: ConditionType, reason: str, message: str) -> Condition:
    return Condition(type=kind, status="True", reason=reason, message=message)


def _no(kind: ConditionType, reason: str, message: str) -> Condition:
    return Condition(type=kind, status="False", reason=reason, message=message)


def _same(one: VersionRef | None, other: VersionRef | None) -> bool:
    return one is not None and other is not None and one.digest == other.digest


def _is(ref: VersionRef | None, digest: str) -> bool:
    return ref is not None and ref.digest == digest


def _distinct(*refs: VersionRef | None) -> list[VersionRef]:
    found: dict[str, VersionRef] = {}
    for ref in refs:
        if ref is not None:
            found.setdefault(ref.digest, ref)
    return list(found.values())


def _camel(code: str) -> str:
    return "".join(part.capitalize() for part in code.split("-")) or "Failed"
