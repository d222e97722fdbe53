"""The rollout decision: one pure function, used by the deployer for local nodes and by the operator in a cluster.

What serves is moved by nothing but this: `active` changes only after every main node has acknowledged the new version as
resident and proven, and whatever goes wrong before that moment leaves the old version answering. The caller stores the
returned record by compare-and-swap before it publishes the plans: that is the fence between two deciders.
"""

from __future__ import annotations

from collections.abc import Sequence

from quarterdeck.plan import NodeReport, VersionRef
from quarterdeck.rollout_conditions import conditions
from quarterdeck.rollout_record import (
    Condition,
    ConditionType,
    Counted,
    Decision,
    Hold,
    Record,
    Spec,
    Status,
    TakenBack,
    Watch,
    distinct,
    has,
    same,
    scored,
)
from quarterdeck.rollout_watch import begin, watched
from quarterdeck.rollout_world import World

__all__ = [
    "Condition",
    "ConditionType",
    "Counted",
    "Decision",
    "Hold",
    "Record",
    "Spec",
    "Status",
    "TakenBack",
    "Watch",
    "decide",
]


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
    kept = {scored(ref) for ref in (record.active, record.previous, record.left) if ref}
    main, challenger = World(spec, nodes, "main", kept), World(spec, nodes, "challenger", set())
    # The fence after the wish, for a hold must not outlive the generation it belongs to.
    record = _fence(_take_over(spec, record), main)
    # A reader of an older wish (a slow replica, a restored backup) may look, but decides nothing.
    if spec.generation == record.generation:
        if spec.running:
            # What is taken back comes first: a newer wish then starts from a version that works.
            record = _pair(spec, _advance(spec, watched(spec, record, main, now), main, now), challenger)
        else:
            record = _rest(record)
    active = record.active if spec.running else None
    wish = spec.challenger if spec.running else None
    mirror = record.challenger if active and wish and not has(record.challenger, active.digest) else None
    return Decision(
        record=record,
        active=active,
        resident=distinct(active, record.target, record.previous, record.left) if spec.running else [],
        challenger=wish,
        mirror=mirror,
        conditions=conditions(spec, record, main, challenger, now),
    )


def _take_over(spec: Spec, record: Record) -> Record:
    """A new generation ends holds, and carries what people said about rejections."""
    if spec.generation <= record.generation:
        return record
    rejected = [digest for digest in record.rejected if not (has(spec.wanted, digest) and spec.chosen > record.generation)]
    # Whoever rolls back to the very version that is left has chosen it, so it cannot be rejected by that.
    if spec.leaving and not has(spec.wanted, spec.leaving) and spec.leaving not in rejected:
        rejected.append(spec.leaving)
    taken = record.taken_back if record.taken_back and record.taken_back.version.digest in rejected else None
    return record.model_copy(update={"generation": spec.generation, "hold": None, "rejected": rejected, "taken_back": taken})


def _fence(record: Record, main: World) -> Record:
    """A node that has seen a higher revision than the record (a restored database) raises the floor."""
    # Numbers that answers have named already must never be given to something else.
    highest = max((report.revision for report in main.reports.values()), default=0)
    return record.model_copy(update={"revision": highest}) if highest > record.revision else record


def _advance(spec: Spec, record: Record, main: World, now: float) -> Record:
    """Move `active` where everything is proven; stop where a node refused or time ran out."""
    wanted = spec.wanted
    if wanted is None or record.hold or wanted.digest in record.rejected or same(wanted, record.active):
        return record.model_copy(update={"target": None, "target_since": 0.0, **_settled(wanted, record)})
    if not same(wanted, record.target):
        record = record.model_copy(update={"target": wanted, "target_since": now})
    # Proof before failure: a node that has refused and then succeeded has succeeded.
    if main.proven(wanted):
        return _flip(spec, record, wanted, main, now)
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
    return {"active": wanted} if wanted and same(wanted, record.active) else {}


def _flip(spec: Spec, record: Record, wanted: VersionRef, main: World, now: float) -> Record:
    healthy = record.active if now - record.active_since >= spec.healthy_seconds else None
    # A version that was not healthy for long is a poor way back, but better than none.
    ways_back = [ref for ref in (healthy, record.previous, record.active) if ref and not same(ref, wanted)]
    return record.model_copy(
        update={
            "revision": max(record.revision + 1, spec.generation),
            "active": wanted,
            "active_since": now,
            "previous": ways_back[0] if ways_back else None,
            "left": record.active,
            "target": None,
            "target_since": 0.0,
            "watch": begin(record, wanted, main),
            "counted": Counted(),
        }
    )


def _abort(spec: Spec, record: Record, code: str, reason: str) -> Record:
    hold = Hold(generation=spec.generation, reason=reason, code=code)
    return record.model_copy(update={"hold": hold, "target": None, "target_since": 0.0})


def _rest(record: Record) -> Record:
    return record.model_copy(update={"target": None, "target_since": 0.0, "challenger": None, "watch": None})


def _pair(spec: Spec, record: Record, challenger: World) -> Record:
    """Main mirrors to a challenger only once every challenger node has it proven, and its address leads to one."""
    if spec.challenger is None:
        return record.model_copy(update={"challenger": None})
    if same(spec.challenger, record.challenger) or (spec.reachable and challenger.proven(spec.challenger)):
        return record.model_copy(update={"challenger": spec.challenger})
    # The former challenger is leaving its nodes: copies for it would be answered by another version or by nobody.
    return record.model_copy(update={"challenger": None})
