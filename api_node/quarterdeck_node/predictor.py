"""The one inner object: every door's rows are answered, recorded and mirrored here.

What serves is one dictionary of slots that is replaced as a whole. A request takes one snapshot of it and keeps it to its end,
so version, revision and record always belong together, whatever is switched meanwhile.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np
from pydantic_core import to_json

from quarterdeck.column_rows import ColumnRows
from quarterdeck.errors import ModelFailed, NotFound, NotReady, Overloaded, ValueRefused
from quarterdeck.manifest import Manifest
from quarterdeck.plan import DeploymentPlan, VersionRef
from quarterdeck.records import Answer, Stamp
from quarterdeck.schema import Row
from quarterdeck_node.answers import Answers, Writer
from quarterdeck_node.binding import Binder
from quarterdeck_node.limits import DEFAULT, Limits
from quarterdeck_node.runtimes import Runtime
from quarterdeck_node.spool import RecordSpool

CHUNK_ROWS = 256
"""Rows per turn of the event loop: a large request lets small ones pass between its chunks."""


class Mirroring(Protocol):
    """Who sends copies to the challenger."""

    def offer(self, deployment: DeploymentPlan, request_id: str, rows: bytes, count: int) -> None:
        """Take a copy of the rows (JSON text of an array), or count them as dropped. Never blocks, never raises."""


@runtime_checkable
class Scoring(Protocol):
    """A model in this process that gives scores without any object per row."""

    def scores(self, row: Row) -> tuple[float, ...]:
        """One score per class of one row, in the schema's order; of a regression, the number alone."""

    def many(self, rows: Sequence[Row]) -> np.ndarray[Any, Any]:
        """The same of many rows: float64, one row each."""


class Resident:
    """One version in memory, proven by its golden rows. It is closed when it is retired and its last request is done.

    Attributes:
        scoring: the model itself where it is in this process and fast; None where the runtime has to be asked.
        admit: refuses so many rows with a deadline, as the runtime would in a moment; None where it never does.
        writer: writes its answers as text.
    """

    def __init__(self, ref: VersionRef, manifest: Manifest, runtime: Runtime, limits: Limits = DEFAULT) -> None:
        self.ref = ref
        self.manifest = manifest
        self.runtime = runtime
        self.binder = Binder(manifest.data_schema, limits)
        self.writer = Writer(manifest.data_schema)
        model = getattr(runtime, "model", None)
        self.scoring = model if isinstance(model, Scoring) else None
        self.admit: Callable[[int, float], None] | None = getattr(runtime, "admit", None)
        self.users = 0


class Snapshot:
    """What one request is answered with. `active` is False on versioned paths to a version that is not the active one.

    Everything that each answer repeats is written here once: it is kept for as long as the version answers.
    """

    def __init__(self, plan: DeploymentPlan, resident: Resident, active: bool = True) -> None:
        self.plan = plan
        self.resident = resident
        self.active = active
        self.keeps = active and plan.role == "main"
        # Kept here by the metrics and the predictor, who find them again without a look-up.
        self.series: Any = None
        self.count: Count | None = None

    @property
    def ref(self) -> VersionRef:
        """The version."""
        return self.resident.ref

    @cached_property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers that name what answered."""
        plan, ref = self.plan, self.ref
        return (
            (b"quarterdeck-model", ref.model.encode()),
            (b"quarterdeck-version", str(ref.version).encode()),
            (b"quarterdeck-digest", ref.digest.encode()),
            (b"quarterdeck-revision", str(plan.revision).encode()),
        )

    @cached_property
    def head(self) -> bytes:
        """The same as lines of a response's head."""
        return b"".join(name + b": " + value + b"\r\n" for name, value in self.headers)

    @cached_property
    def members(self) -> bytes:
        """The members of a JSON answer that name what answered, with a comma behind."""
        plan, ref = self.plan, self.ref
        named = {"deployment": plan.name, "model": ref.model, "version": ref.version, "digest": ref.digest}
        return to_json({**named, "revision": plan.revision})[1:-1] + b","

    @cached_property
    def stamp(self) -> Stamp:
        """The part of a record that is the same for every request."""
        plan, ref = self.plan, self.ref
        return Stamp.of(plan, ref)


@dataclass(frozen=True)
class Live:
    """What a deployment answers with: a version together with the plan that made it active."""

    plan: DeploymentPlan
    resident: Resident

    @cached_property
    def snapshot(self) -> Snapshot:
        """What every request to the active version takes."""
        return Snapshot(self.plan, self.resident)


@dataclass(frozen=True, slots=True)
class Slot:
    """One deployment: the newest wish (who may ask), what answers now, and every version that is ready, by number."""

    plan: DeploymentPlan
    live: Live | None = None
    versions: Mapping[int, Resident] = field(default_factory=dict)


class Context(NamedTuple):
    """Where a request came from. `started` (its arrival) and `deadline` are `time.monotonic()`."""

    request_id: str
    door: str
    started: float
    caller_id: str = ""
    key_id: str = ""
    deadline: float = math.inf


class Predicted:
    """The answers, one per row, what gave them, and how long it took.

    Attributes:
        given: the answers; `answers` lists them.
        began, answered, kept: `time.monotonic()` before the model, after it, and after the record.
    """

    __slots__ = ("answered", "began", "given", "kept", "snapshot")

    def __init__(self, snapshot: Snapshot, given: Answers, began: float, answered: float, kept: float) -> None:
        self.snapshot, self.given = snapshot, given
        self.began, self.answered, self.kept = began, answered, kept

    @property
    def answers(self) -> list[Answer]:
        """One answer per row, in order."""
        return self.given.all()


@dataclass(slots=True)
class Count:
    """One version of one deployment in this boot: rows, and requests that reached it, with those that it failed."""

    answered: int = 0
    failed: int = 0
    requests: int = 0
    failures: int = 0


class Predictor:
    """Answers rows with what is live.

    Args:
        spool: written to before an answer leaves.
        mirroring: offered every recorded request.
    """

    def __init__(self, spool: RecordSpool, mirroring: Mirroring) -> None:
        self.slots: Mapping[str, Slot] = {}
        self.counts: dict[tuple[str, str], Count] = {}
        self._spool = spool
        self._mirroring = mirroring

    def slot(self, deployment: str) -> Slot:
        """One deployment as it is now.

        Raises:
            NotFound: the plan does not name it.
        """
        slot = self.slots.get(deployment)
        if slot is None:
            raise NotFound(
                "There is no deployment of this name on this node.", kind="deployment", hint="GET /deployments lists them."
            )
        return slot

    def at(self, deployment: str, version: int | None = None) -> Snapshot:
        """What a request that starts now is answered with.

        Args:
            deployment: its name.
            version: a version number on versioned paths; None: the active one.

        Raises:
            NotFound: no such deployment, or the version is not held here.
            NotReady: nothing is active yet.
        """
        slot = self.slot(deployment)
        if slot.live is None:
            raise NotReady(
                f"{deployment} has no active version.",
                kind="deployment",
                name=deployment,
                hint="GET /ready says what it waits for.",
            )
        # From here on only this reference is used: a swap replaces it, and never changes what it points to.
        live = slot.live
        if version is None or version == live.resident.ref.version:
            return live.snapshot
        if version not in slot.versions:
            held = ", ".join(str(number) for number in sorted({*slot.versions, live.resident.ref.version}))
            raise NotFound(f"{deployment} does not hold this version.", kind="version", hint=f"It holds {held}.")
        return Snapshot(live.plan, slot.versions[version], active=False)

    def answered(self, snapshot: Snapshot, rows: Sequence[Row], context: Context, text: bytes = b"") -> Predicted | None:
        """As `predict`, for one row of a model that never waits; None for everything else, and where that model failed.

        Raises:
            Overloaded: shed before any work.
        """
        resident = snapshot.resident
        if resident.scoring is None or len(rows) != 1:
            return None
        began = _in_time(context)
        answers = _one(resident, resident.scoring, rows[0])
        return None if answers is None else self._done(snapshot, rows, answers, context, text, began)

    async def predict(self, snapshot: Snapshot, rows: Sequence[Row], context: Context, text: bytes = b"") -> Predicted:
        """Answer rows that were bound to the snapshot's schema, and have them recorded and mirrored.

        Args:
            snapshot: from `at`.
            rows: at least one.
            context: where they came from; its deadline is kept by refusing, never by an answer that comes late.
            text: the rows as the JSON text of an array, where the door has it: records and mirrors take it as it is.

        Raises:
            ModelFailed: none of the rows is answered; nothing is recorded. ValueRefused is no failure of the version.
            Overloaded: shed before any work.
        """
        found = self.answered(snapshot, rows, context, text)
        if found is not None:
            return found
        resident, began = snapshot.resident, _in_time(context)
        # Before the first await: a version must not be closed under its last request.
        resident.users += 1
        try:
            # One row that is still not answered has failed, and only the runtime can say why.
            ask = _scored if resident.scoring is not None and len(rows) > 1 else _asked
            answers = await ask(resident, rows, context.deadline)
        except ModelFailed as error:
            count = self._count(snapshot)
            count.requests += 1
            # What a model refuses is its caller's matter; a challenger's refusal is a difference to main all the same.
            if not isinstance(error, ValueRefused) or snapshot.plan.role == "challenger":
                count.failed += len(rows)
                count.failures += 1
            raise
        finally:
            resident.users -= 1
        return self._done(snapshot, rows, answers, context, text, began)

    def _count(self, snapshot: Snapshot) -> Count:
        found = snapshot.count
        if found is None:
            found = snapshot.count = self.counts.setdefault((snapshot.plan.name, snapshot.ref.digest), Count())
        return found

    def _done(
        self, snapshot: Snapshot, rows: Sequence[Row], answers: Answers, context: Context, text: bytes, began: float
    ) -> Predicted:
        """Count the answers, have them recorded and mirrored."""
        answered = kept = time.monotonic()
        # Counted before it is recorded: answered rows are what written and dropped must add up to.
        count = snapshot.count or self._count(snapshot)
        count.answered += len(rows)
        count.requests += 1
        if snapshot.keeps:
            self._keep(snapshot, rows, answers, context, text, answered)
            kept = time.monotonic()
        return Predicted(snapshot, answers, began, answered, kept)

    def _keep(
        self, snapshot: Snapshot, rows: Sequence[Row], answers: Answers, context: Context, text: bytes, answered: float
    ) -> None:
        plan = snapshot.plan
        if plan.records == "spooled":
            # A full or broken disk costs the record, never the answer: the spool counts what it had to drop.
            self._spool.write_main(
                snapshot.stamp,
                context.request_id,
                context.door,
                int((answered - context.started) * 1e6),
                text or _text(rows, columns=True),
                answers.kept(),
                len(rows),
                context.caller_id,
                context.key_id,
            )
        if plan.mirror is not None:
            self._mirroring.offer(plan, context.request_id, text or _text(rows), len(rows))


def _in_time(context: Context) -> float:
    """Now, unless the caller's deadline has passed."""
    now = time.monotonic()
    if now > context.deadline:
        raise Overloaded("The deadline passed before the model was asked.", code="deadline-exceeded")
    return now


async def _asked(resident: Resident, rows: Sequence[Row], deadline: float) -> Answers:
    answers = await resident.runtime.predict(rows, deadline)
    # A runtime that forgets a row would shift every answer after it to its neighbour.
    if len(answers) != len(rows):
        raise ModelFailed(f"The model answered {len(answers)} rows for {len(rows)}.")
    return Answers.listed(resident.writer, answers)


def _one(resident: Resident, model: Scoring, row: Row) -> Answers | None:
    """One row, which never waits for anything; None where it failed, and the runtime has to say why."""
    try:
        return resident.writer.one(model.scores(row))
    except Exception:
        return None


async def _scored(resident: Resident, rows: Sequence[Row], deadline: float) -> Answers:
    """Many rows, which take turns with whoever else is there."""
    model = resident.scoring
    assert model is not None
    try:
        scores = await _in_turns(model, rows) if len(rows) > CHUNK_ROWS else model.many(rows)
        if len(scores) == len(rows):
            return resident.writer.many(scores)
    # Whatever it was, the runtime asks again and names the row, or finds that nothing is wrong with any.
    except Exception:
        pass
    return await _asked(resident, rows, deadline)


async def _in_turns(model: Scoring, rows: Sequence[Row]) -> np.ndarray[Any, Any]:
    parts = []
    for start in range(0, len(rows), CHUNK_ROWS):
        parts.append(model.many(rows[start : start + CHUNK_ROWS]))
        await asyncio.sleep(0)
    return np.concatenate(parts)


def _text(rows: Sequence[Row], columns: bool = False) -> bytes:
    """Rows as JSON where their door has no text of them; by column where that is how they came and it may be."""
    if columns and isinstance(rows, ColumnRows):
        return msgspec.json.encode({"columns": rows.lists()})
    return to_json(list(rows))
