"""What is so, as opposed to what is wished: built from the wish, the decision and what live nodes say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from quarterdeck.manifest import Digest
from quarterdeck.plan import DeploymentReport, LoadState, MirrorReport, Role, VersionRef, VersionReport
from quarterdeck.rollout import Condition, Hold
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer.nodes import BESIDE, Heard, Member
from quarterdeck_deployer.plans import Decided

PROBE_SECONDS = 30.0
"""A right answer to a golden row counts as "running" for so long."""


class Deployed(Frozen):
    """Whether it is built and reachable. Without a recent report this is unknown, whatever was true before."""

    state: Literal["yes", "building", "failed", "no", "unknown"]
    age_seconds: float | None = Field(description="Age of the report that says so; None: no report ever.")
    sentence: str


class Running(Frozen):
    """Whether it answers requests now. Without a recent report this is unknown, whatever was true before."""

    state: Literal["yes", "starting", "partly", "failing", "stopped", "unknown"]
    age_seconds: float | None = Field(description="Age of the report that says so; None: no report ever.")
    sentence: str


class NodeVersion(Frozen):
    """How far one node is with one version."""

    node: Name
    state: LoadState
    code: str = ""
    reason: str = ""
    place: str = ""
    memory_bytes: int = 0
    load_seconds: float = 0.0


class Placed(Frozen):
    """A version and where it is."""

    ref: VersionRef
    nodes: list[NodeVersion] = Field(description="By live node; empty: no live node has spoken of it.")
    answered: int = Field(0, description="Rows answered in the present boots.")
    errors: int = Field(0, description="Rows that it failed to answer in the present boots.")

    @property
    def ready(self) -> bool:
        """Whether every node that speaks of it has it ready; False where none does."""
        return bool(self.nodes) and all(one.state == "ready" for one in self.nodes)


class Failure(Frozen):
    """The last refusal of a version that is wanted somewhere."""

    node: Name
    role: Role
    version: VersionRef
    code: str
    reason: str
    place: str


class NodeSeen(Frozen):
    """One node and when it was last heard of."""

    node: Name
    role: Role
    url: str
    live: bool
    ready: bool
    age_seconds: float | None
    sequence: int = Field(description="The plan that it has taken over.")


class ObservedDeployment(Frozen):
    """Everything that is known of one deployment at this moment."""

    name: Name
    generation: int = Field(description="Number of the wish's revision.")
    revision: int = Field(description="The revision that answers name.")
    deployed: Deployed
    running: Running
    main: Placed | None = Field(description="What answers; None: nothing yet, or stopped.")
    target: Placed | None = Field(description="What is being prepared to answer.")
    challenger: Placed | None
    previous: Placed | None = Field(description="What a step back leads to.")
    failure: Failure | None
    hold: Hold | None = Field(description="Why automation stopped; the next change ends it.")
    rejected: list[Digest]
    rollback_ready: bool = Field(description="Whether `previous` is resident on every live main node.")
    mirror: MirrorReport = Field(description="Sum of the main nodes' ledgers of their present boots.")
    mirroring: bool
    conditions: list[Condition]
    nodes: list[NodeSeen]
    main_applied: bool = Field(description="Whether main nodes do now what the newest revision says.")
    applied: bool = Field(description="Whether all nodes do now what the newest revision says.")
    waiting_for: str = Field(description="What it waits for where it is not applied; empty where it is.")


@dataclass(frozen=True, slots=True)
class _Seen:
    """One live node's word about the deployment; `report` is None where it has not taken it over yet."""

    node: str
    role: Role
    age: float
    report: DeploymentReport | None


def observe(decided: Decided, heard: Sequence[Heard], now: float, members: Mapping[str, Member] = BESIDE) -> ObservedDeployment:
    """Put together what is known.

    Args:
        decided: the wish and the present decision.
        heard: the latest report of each node, live or not.
        now: Unix seconds.
        members: the nodes that there should be.
    """
    wish, decision = decided.wish, decided.decision
    seen = [_seen(one, wish.deployment, now) for one in heard if one.live(now)]
    main = [one for one in seen if one.role == "main"]
    placed = _Places(seen)
    active = decision.active
    # Main first: what the challenger waits for is of interest only once main has followed.
    main_waits = _main_waits(decided, main)
    waiting = (
        main_waits
        or _challenger_waits(decided, [one for one in seen if one.role == "challenger"])
        or _mirror_waits(decided, main)
    )
    back = decision.record.previous or decision.record.left
    conditions = {condition.type: condition.status for condition in decision.conditions}
    return ObservedDeployment(
        name=wish.deployment,
        generation=wish.number,
        revision=decision.record.revision,
        deployed=_deployed(decided, main, _last_age(heard, now)),
        running=_running(decided, main, _last_age(heard, now)),
        main=placed.of(active, "main"),
        target=placed.of(decision.record.target, "main"),
        challenger=placed.of(wish.challenger, "challenger"),
        previous=placed.of(back if back and (active is None or back.digest != active.digest) else None, "main"),
        failure=_failure(decided, seen),
        hold=decision.record.hold,
        rejected=decision.record.rejected,
        rollback_ready=bool(main) and conditions.get("RollbackReady") == "True",
        mirror=_ledger(main),
        mirroring=decision.mirror is not None,
        conditions=decision.conditions,
        nodes=_nodes(heard, now, members),
        main_applied=not main_waits,
        applied=not waiting,
        waiting_for=waiting,
    )


class _Places:
    """Where versions are, by the word of live nodes."""

    def __init__(self, seen: Sequence[_Seen]) -> None:
        self._seen = seen

    def of(self, ref: VersionRef | None, role: Role) -> Placed | None:
        if ref is None:
            return None
        reports = [(one.node, one.report) for one in self._seen if one.role == role and one.report]
        return Placed(
            ref=ref,
            nodes=[_node_version(node, state) for node, report in reports if (state := _state(report, ref))],
            answered=sum(report.answered.get(ref.digest, 0) for _, report in reports),
            errors=sum(report.errors.get(ref.digest, 0) for _, report in reports),
        )


def _deployed(decided: Decided, main: Sequence[_Seen], last: float | None) -> Deployed:
    active, record = decided.decision.active, decided.decision.record
    if not main:
        return Deployed(state="unknown", age_seconds=last, sentence=_silence(last))
    age = max(one.age for one in main)
    if not decided.wish.running:
        return Deployed(state="no", age_seconds=age, sentence="Stopped by wish.")
    held = sum(_state_is(one.report, active, "ready") for one in main)
    # During a rollout the old version still counts as deployed: it is reachable, and that is the question.
    if active is not None and held == len(main):
        return Deployed(state="yes", age_seconds=age, sentence=f"{active} is loaded and proven on {held} of {len(main)} nodes.")
    if active is None and record.hold:
        return Deployed(state="failed", age_seconds=age, sentence=record.hold.reason)
    if active is not None and any(_state_is(one.report, active, "failed") for one in main):
        return Deployed(
            state="failed", age_seconds=age, sentence=f"{active} failed to load again on {len(main) - held} of {len(main)} nodes."
        )
    wanted = active or decided.wish.main
    return Deployed(state="building", age_seconds=age, sentence=f"{wanted} is loaded on {held} of {len(main)} nodes.")


def _running(decided: Decided, main: Sequence[_Seen], last: float | None) -> Running:
    active = decided.decision.active
    if not main:
        return Running(state="unknown", age_seconds=last, sentence=_silence(last))
    age = max(one.age for one in main)
    if not decided.wish.running:
        return _stopped(main, age)
    if active is None:
        # Nothing has ever answered and automation has given up: that is failing, not starting.
        hold = decided.decision.record.hold
        sentence = hold.reason if hold else f"Nothing answers yet; {decided.wish.main} is being prepared."
        return Running(state="failing" if hold else "starting", age_seconds=age, sentence=sentence)
    answering = sum(_answers(one, active) for one in main)
    if answering == len(main):
        return Running(state="yes", age_seconds=age, sentence=f"{active} answers on {answering} of {len(main)} nodes.")
    if answering:
        return Running(state="partly", age_seconds=age, sentence=f"{active} answers on only {answering} of {len(main)} nodes.")
    probes = [one.report.probe_age_seconds for one in main if one.report and one.report.probe_age_seconds is not None]
    if probes:
        return Running(
            state="failing", age_seconds=age, sentence=f"The last right answer to a golden row is {min(probes):.0f} s old."
        )
    return Running(state="starting", age_seconds=age, sentence=f"{active} has not answered a golden row yet.")


def _stopped(main: Sequence[_Seen], age: float) -> Running:
    # Wish and observation may differ; both are said instead of showing the wish as fact.
    still = sum(bool(one.report and one.report.active) for one in main)
    if still:
        return Running(state="yes", age_seconds=age, sentence=f"Should be stopped; {still} of {len(main)} nodes still answer.")
    return Running(state="stopped", age_seconds=age, sentence="Stopped by wish.")


def _main_waits(decided: Decided, main: Sequence[_Seen]) -> str:
    """What is missing until main nodes do what the newest revision says; empty: nothing."""
    wish, decision = decided.wish, decided.decision
    if not main:
        return "no live main node has reported"
    if decision.record.hold:
        return decision.record.hold.reason
    wanted = wish.main.digest if wish.running else None
    for one in main:
        if one.report is None or one.report.generation != wish.number:
            return f"node {one.node} has not taken over revision {wish.number} yet"
        if one.report.active != wanted:
            return f"node {one.node} does not answer with {wish.main} yet" if wanted else f"node {one.node} still answers"
        state = _state(one.report, wish.main)
        # The same bytes may be wanted on another device: those that answer are then not yet what is wished for.
        if wanted and state is not None and state.state == "failed":
            return f"node {one.node}: {wish.main} is failed: {state.reason}"
    return ""


def _challenger_waits(decided: Decided, seen: Sequence[_Seen]) -> str:
    wish = decided.wish
    if wish.challenger is None or not wish.running:
        return ""
    if not seen:
        return "no live challenger node has reported"
    for one in seen:
        state = _state(one.report, wish.challenger)
        if one.report is None or one.report.generation != wish.number or state is None:
            return f"node {one.node} has not taken over revision {wish.number} yet"
        if state.state != "ready":
            return f"node {one.node}: {wish.challenger} is {state.state}{': ' + state.reason if state.reason else ''}"
    return ""


def _mirror_waits(decided: Decided, main: Sequence[_Seen]) -> str:
    """Main copies its rows only once it has been told that the challenger is ready: one plan later."""
    mirror = decided.decision.mirror
    for one in main:
        if mirror is not None and (one.report is None or one.report.mirroring != mirror.digest):
            return f"node {one.node} does not copy its rows to {mirror} yet"
    return ""


def _failure(decided: Decided, seen: Sequence[_Seen]) -> Failure | None:
    wish = decided.wish
    wanted: list[tuple[VersionRef, Role]] = [(wish.main, "main")]
    if wish.challenger:
        wanted.append((wish.challenger, "challenger"))
    for ref, role in wanted:
        for one in seen:
            state = _state(one.report, ref)
            # A refusal of an older wish is no news: the node has not tried again yet.
            if one.role != role or one.report is None or one.report.generation != wish.number:
                continue
            if state is not None and state.state == "failed":
                return Failure(node=one.node, role=role, version=ref, code=state.code, reason=state.reason, place=state.place)
    return None


def _ledger(main: Sequence[_Seen]) -> MirrorReport:
    reports = [one.report.mirror for one in main if one.report]
    counts = {
        name: sum(getattr(report, name) for report in reports) for name in MirrorReport.model_fields if name != "last_error"
    }
    return MirrorReport(**counts, last_error=next((report.last_error for report in reports if report.last_error), ""))


def _nodes(heard: Sequence[Heard], now: float, members: Mapping[str, Member]) -> list[NodeSeen]:
    known = {one.report.node: one for one in heard}
    missing = [
        NodeSeen(node=node, role=member.role, url=member.url, live=False, ready=False, age_seconds=None, sequence=0)
        for node, member in members.items()
        if node not in known
    ]
    return missing + [
        NodeSeen(
            node=one.report.node,
            role=one.report.role,
            url=one.report.url,
            live=one.live(now),
            ready=one.live(now) and one.report.ready,
            age_seconds=max(0.0, now - one.at),
            sequence=one.report.sequence,
        )
        for one in heard
    ]


def _seen(one: Heard, deployment: str, now: float) -> _Seen:
    report = next((report for report in one.report.deployments if report.name == deployment), None)
    return _Seen(one.report.node, one.report.role, max(0.0, now - one.at), report)


def _last_age(heard: Sequence[Heard], now: float) -> float | None:
    return min((max(0.0, now - one.at) for one in heard if one.report.role == "main"), default=None)


def _silence(age: float | None) -> str:
    return "No main node has ever reported." if age is None else f"No main node has reported for {age:.0f} s."


def _state(report: DeploymentReport | None, ref: VersionRef | None) -> VersionReport | None:
    if report is None or ref is None:
        return None
    return next((version for version in report.versions if version.digest == ref.digest), None)


def _state_is(report: DeploymentReport | None, ref: VersionRef | None, state: LoadState) -> bool:
    found = _state(report, ref)
    return found is not None and found.state == state


def _answers(one: _Seen, active: VersionRef) -> bool:
    report = one.report
    # A probe counts for the version that answered it; after a flip the new one must show itself.
    if report is None or report.active != active.digest or report.probe_age_seconds is None:
        return False
    return report.probe_age_seconds <= PROBE_SECONDS


def _node_version(node: str, state: VersionReport) -> NodeVersion:
    return NodeVersion(
        node=node,
        state=state.state,
        code=state.code,
        reason=state.reason,
        place=state.place,
        memory_bytes=state.memory_bytes,
        load_seconds=state.load_seconds,
    )
