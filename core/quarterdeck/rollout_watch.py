"""A version that has just become active is on trial: where it fails more than the one before, that one answers again.

Nothing here writes the wish. What was taken back is rejected until a person chooses it again, so it cannot come back by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from quarterdeck.plan import VersionRef
from quarterdeck.rollout_record import Counted, Hold, Record, Spec, TakenBack, Watch, same
from quarterdeck.rollout_world import World

ROLLED_BACK = "rolled-back"
"""Code of the hold that follows."""


class Trouble(NamedTuple):
    """Why the active version should not go on: a CamelCase reason, and sentences with the figures."""

    reason: str
    message: str


def begin(record: Record, wanted: VersionRef, main: World) -> Watch:
    """The trial of a version that becomes active now; `record` is still the one before."""
    # Pods of a new template have counted next to nothing: then what was known when the version's own trial ended says more.
    now = _sum(main.counted(record.active).values()) if record.active else Counted()
    return Watch(before=max(now, record.counted, key=lambda counted: counted.requests), boots=main.counted(wanted))


def watched(spec: Spec, record: Record, main: World, now: float) -> Record:
    """The record after a look at the version on trial: unchanged, taken back, or off its trial because the window is over."""
    if record.watch is None or record.active is None:
        return record
    if _over(spec, record, now):
        return record.model_copy(update={"watch": None, "counted": _since_flip(record.active, record.watch, main)})
    found, back = trouble(spec, record, main, now), way_back(record)
    if found is None or back is None or not spec.rollback.automatic:
        return record
    seconds = now - record.active_since
    message = f"{record.active} was taken back after {seconds:.0f} s. {found.message}"
    taken = TakenBack(version=record.active, reason=found.reason, message=message, since=now)
    # A newer wish that is still being loaded has done nothing wrong: only the wish for this very version is over.
    over = Hold(generation=spec.generation, reason=message, code=ROLLED_BACK) if same(spec.wanted, record.active) else record.hold
    return record.model_copy(
        update={
            "revision": max(record.revision + 1, spec.generation),
            "active": back,
            "active_since": now,
            # The way back from here would lead to what has just failed.
            "previous": None,
            "left": None,
            "rejected": [*record.rejected, record.active.digest],
            "hold": over,
            "watch": None,
            "counted": record.watch.before,
            "taken_back": taken,
        }
    )


def trouble(spec: Spec, record: Record, main: World, now: float) -> Trouble | None:
    """What speaks against the version on trial; None where nothing does, or where none is on trial.

    Counted are the requests since the flip on nodes that are alive.
    """
    if record.watch is None or record.active is None or _over(spec, record, now):
        return None
    wrong = main.wrong(record.active, record.revision)
    if wrong:
        node, how = wrong
        return Trouble("GoldenRow", f"{record.active} fails its golden row on node {node}: {how}")
    since, before, margin = _since_flip(record.active, record.watch, main), record.watch.before, spec.rollback.margin_percent
    if since.requests < spec.rollback.min_requests or not _worse(since, before, margin):
        return None
    former = f"{record.left} before it {before}" if record.left and before.requests else "nothing is known of a version before it"
    points = f"more than {margin} percentage points above that"
    return Trouble("ErrorRate", f"{record.active} failed {since} since it became active; {former}. Allowed is no {points}.")


def way_back(record: Record) -> VersionRef | None:
    """The resident version that would answer again; None where there is none that was not taken back itself."""
    ways = (record.previous, record.left)
    return next((ref for ref in ways if ref and not same(ref, record.active) and ref.digest not in record.rejected), None)


def _over(spec: Spec, record: Record, now: float) -> bool:
    return now - record.active_since > spec.rollback.window_seconds


def _since_flip(active: VersionRef, watch: Watch, main: World) -> Counted:
    """Requests since the flip, boot by boot: a node that restarted counts from zero, one that left takes its figures along."""
    return _sum(_after(counted, watch.boots.get(boot, Counted())) for boot, counted in main.counted(active).items())


def _after(now: Counted, then: Counted) -> Counted:
    # Never below nothing: a late report may be older than the one that was read at the flip.
    return Counted(requests=max(0, now.requests - then.requests), failures=max(0, now.failures - then.failures))


def _worse(since: Counted, before: Counted, margin_percent: int) -> bool:
    """Whether the rate lies above the former one by more than the margin; in whole numbers, so that tables are exact."""
    former_failures, former = (before.failures, before.requests) if before.requests else (0, 1)
    return 100 * (since.failures * former - former_failures * since.requests) > margin_percent * since.requests * former


def _sum(all_counted: Iterable[Counted]) -> Counted:
    found = list(all_counted)
    return Counted(requests=sum(one.requests for one in found), failures=sum(one.failures for one in found))
