"""Requests that wait for a model travel together.

An idle model starts at once with what is there: everything that was read from connections in the same turn of the event loop.
While it runs, requests gather for the next batch. Callers who were there when it ended, most of them being answered just then,
get a moment to be in the next one too, the longer the more a batch costs by itself: else two crowds would take turns for ever,
each in a batch that has room for both.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from quarterdeck.errors import ModelFailed, Overloaded, QuarterdeckError
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.runtimes import Budget, guilty
from quarterdeck_node.runtimes.cost import Cost
from quarterdeck_node.runtimes.figures import Figures

OF_A_ROW = frozenset({"model-failed", "value-refused"})
"""Codes of what a model says itself; any other means that its process is gone."""
_PATIENCE = 0.25
_LONGEST_PATIENCE = 0.005
"""Share of a batch's fixed cost, and seconds at most, that are spent on waiting for callers who are expected."""
_TICK = 0.25
"""Seconds between looks at who has waited too long, while a batch runs that takes longer than that."""
_DOUBT = 1.0
"""Seconds without a batch after which an idle model is asked although, by what is known, it would be too slow."""

_log = logging.getLogger(__name__)

Ask = Callable[[Sequence[Sequence[Row]]], Awaitable[list[Answer]]]


class NotStarted(ModelFailed):
    """There is no process to ask, and none could be started: nobody's rows are to blame."""


class Waiting:
    """One request in the queue. `since` and `deadline` are `time.monotonic()`; a `trial` shows what the model really takes."""

    __slots__ = ("count", "deadline", "done", "rows", "since", "trial")

    def __init__(self, rows: Sequence[Row], since: float, deadline: float) -> None:
        self.rows, self.since, self.deadline = rows, since, deadline
        self.count = len(rows)
        self.trial = False
        self.done: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()

    def fail(self, error: QuarterdeckError) -> None:
        """Tell the caller, who may have left."""
        if not self.done.done():
            self.done.set_exception(error)


class Batcher:
    """The queue in front of one model, and the task that empties it.

    Args:
        ask: gives the answers to the rows of some requests, or raises ModelFailed; called again only when it is done.
        budget: bounds of the queue.
        clock: monotonic seconds; deadlines are told by it.
    """

    def __init__(self, ask: Ask, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self.figures = Figures()
        self._ask = ask
        self._budget = budget
        self._clock = clock
        self._queue: deque[Waiting] = deque()
        self._batch: list[Waiting] = []
        # Callers who were there when the last batch ended: those in it and those in the queue.
        self._expected = 0
        self._cost = Cost()
        # When the model was asked last, with whatever success.
        self._asked_at = -math.inf
        # When the running batch will be done, by what is known.
        self._busy_until = 0.0
        # Nobody's wait counts from before this moment, when the model came to life; infinite while it is being replaced.
        self._up_since = 0.0
        self._sleeping: asyncio.Future[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to empty the queue."""
        self._up_since = self._clock()
        self._runner = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; whoever still waits gets ModelFailed."""
        self._closed = True
        if self._runner is not None:
            self._runner.cancel()
            with suppress(asyncio.CancelledError):
                await self._runner
        if self._watch is not None:
            self._watch.cancel()
        for waiting in (*self._batch, *self._queue):
            waiting.fail(_unloaded())
        self._queue.clear()
        self.figures.waiting_rows = 0

    def interrupted(self) -> None:
        """The model is being replaced: who waits for that keeps the place in the queue, up to a deadline of its own."""
        self._up_since = math.inf

    def revived(self) -> None:
        """The model is there again: waiting counts from now."""
        self._up_since = self._clock()

    async def predict(self, rows: Sequence[Row], deadline: float = math.inf) -> list[Answer]:
        """See `Runtime.predict`."""
        # Nobody would ever answer it: its caller would wait for ever.
        if self._closed:
            raise _unloaded()
        # No row has no answer; and there is no batch of nothing.
        if not rows:
            return []
        waiting = self._admitted(rows, deadline)
        self._queue.append(waiting)
        self.figures.waiting_rows += waiting.count
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)
        return await waiting.done

    def admit(self, count: int, deadline: float = math.inf) -> None:
        """Refuse now what `predict` would refuse: for callers to whom even getting there costs more than a refusal may.

        Raises:
            Overloaded: as `predict`.
        """
        if count and not self._closed:
            self._trial(count, self._clock(), deadline)

    def _admitted(self, rows: Sequence[Row], deadline: float) -> Waiting:
        now = self._clock()
        trial = self._trial(len(rows), now, deadline)
        # A deadline that is no number would be kept by no comparison.
        waiting = Waiting(rows, now, math.inf if math.isnan(deadline) else deadline)
        waiting.trial = trial
        return waiting

    def _trial(self, count: int, now: float, deadline: float) -> bool:
        """Whether a request is let in only to show what the model really takes; who is not let in is refused and counted."""
        error, trial = self._judged(count, now, math.inf if math.isnan(deadline) else deadline)
        if error is not None:
            self.figures.shed[error.code] += 1
            try:
                raise error
            finally:
                # Its traceback holds this frame: still named here, every refusal would be garbage that only a collection finds.
                del error
        return trial

    def _judged(self, count: int, now: float, deadline: float) -> tuple[Overloaded | None, bool]:
        """Refuse now what would be dropped later: a refusal costs microseconds, a place in the queue costs everybody."""
        rows = self.figures.waiting_rows + count
        # An empty queue takes any request, so the bound never refuses what fits the row limit.
        if self.figures.waiting_rows and rows > self._budget.queue_rows:
            return _full(), False
        ahead = self._running(now) + self._cost.of_queue(rows, len(self._queue) + 1)
        if now + ahead > deadline:
            # One batch that took unusually long must not close a model for ever: who is refused teaches nothing.
            trial = not (self._batch or self._queue) and now - self._asked_at > _DOUBT and now < deadline
            return None if trial else _late(), trial
        wait = ahead - self._cost.of(count)
        # Who names a deadline says how long waiting is of use; for all others it is the setting that does.
        if deadline == math.inf and wait > self._budget.queue_seconds and self._up_since <= now:
            return _full(), False
        return None, False

    def _running(self, now: float) -> float:
        """Seconds until the running batch is done: one that is late is expected to be late as much again."""
        return abs(self._busy_until - now) if self._batch else 0.0

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:
                self._sleeping = loop.create_future()
                await self._sleeping
            await self._gather()
            self._batch = self._take()
            if self._batch:
                if self._watch is None:
                    self._watch = loop.call_later(_TICK, self._tick)
                await self._answer_safely(self._batch)
                self._expected = len(self._batch) + len(self._queue)
                self._batch = []

    def _tick(self) -> None:
        """Tell who has waited too long while a batch takes its time; the batch itself goes on. Idle models have no ticks."""
        now = self._clock()
        for waiting in self._batch:
            if waiting.deadline < now:
                self._shed(waiting, _late())
        waited, self._queue, self.figures.waiting_rows = self._queue, deque(), 0
        for waiting in waited:
            if error := self._too_late(waiting, now):
                self._shed(waiting, error)
            if not waiting.done.done():
                self._queue.append(waiting)
                self.figures.waiting_rows += waiting.count
        self._watch = asyncio.get_running_loop().call_later(_TICK, self._tick) if self._batch or self._queue else None

    async def _gather(self) -> None:
        """Let join who was there a moment ago."""
        until = self._clock() + min(_LONGEST_PATIENCE, _PATIENCE * self._cost.fixed)
        # By turns of the loop and not by a timer, whose shortest is a millisecond: in each turn whoever can be read is read.
        while len(self._queue) < self._expected and self.figures.waiting_rows < self._cost.most_rows and self._clock() < until:
            await asyncio.sleep(0)

    def _take(self) -> list[Waiting]:
        """Whole requests, at least one, in the order they came; who left is passed over, who waited too long is told."""
        batch: list[Waiting] = []
        taken, most, now, soonest = 0, self._cost.most_rows, self._clock(), math.inf
        while self._queue:
            waiting = self._queue[0]
            end = now + self._cost.of(taken + waiting.count)
            # A batch does not grow at the price of a deadline that it would have kept.
            if batch and (taken + waiting.count > most or end > soonest):
                break
            self._queue.popleft()
            self.figures.waiting_rows -= waiting.count
            if waiting.done.done():
                continue
            if error := self._too_late(waiting, now):
                self._shed(waiting, error)
                continue
            batch.append(waiting)
            taken += waiting.count
            soonest = min(soonest, waiting.deadline)
        return batch

    def _too_late(self, waiting: Waiting, now: float) -> Overloaded | None:
        if now + (0.0 if waiting.trial else self._cost.of(waiting.count)) > waiting.deadline:
            return _late()
        waited = now - max(waiting.since, self._up_since)
        return _full() if waiting.deadline == math.inf and waited > self._budget.queue_seconds else None

    def _shed(self, waiting: Waiting, error: Overloaded) -> None:
        if not waiting.done.done():
            self.figures.shed[error.code] += 1
            waiting.fail(error)

    async def _answer_safely(self, batch: Sequence[Waiting]) -> None:
        try:
            await self._answer(batch)
        # Asking each alone would only be told the same, and each time only after as long as loading may take.
        except NotStarted as error:
            for waiting in batch:
                waiting.fail(error)
        # Ours, not the model's; but a queue that nobody empties any more would hang every caller.
        except Exception as error:
            _log.exception("a batch could not be asked")
            for waiting in batch:
                waiting.fail(ModelFailed(f"The model could not be asked: {type(error).__name__}."))

    async def _answer(self, batch: Sequence[Waiting]) -> None:
        try:
            await self._ask_for(batch)
        except NotStarted:
            raise
        except ModelFailed as error:
            if len(batch) > 1:
                await self._apart(batch, error)
            elif error.code in OF_A_ROW:
                batch[0].fail(await self._with_row(batch[0], error))
            else:
                batch[0].fail(error)

    async def _ask_for(self, batch: Sequence[Waiting]) -> None:
        rows = sum(waiting.count for waiting in batch)
        began = self._asked_at = self._clock()
        self._busy_until = began + self._cost.of(rows)
        answers = await self._put([waiting.rows for waiting in batch])
        self._asked_at = self._clock()
        # Where the model was replaced meanwhile, the time was that of loading.
        if self._up_since <= began:
            if batch[0].trial and self._asked_at < self._busy_until:
                self._cost = Cost()
            self._cost.add(rows, self._asked_at - began)
        place = 0
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_result(answers[place : place + waiting.count])
            place += waiting.count

    async def _apart(self, batch: Sequence[Waiting], error: ModelFailed) -> None:
        """One request made all of them fail: the others get their answers without it."""
        # What raised is found by halving. Who made a process die is not worth several processes: each is asked alone, once.
        middle = len(batch) // 2
        parts = [batch[:middle], batch[middle:]] if error.code in OF_A_ROW else [[waiting] for waiting in batch]
        for part in parts:
            now = self._clock()
            for waiting in part:
                if waiting.deadline < now:
                    self._shed(waiting, _late())
            if left := [waiting for waiting in part if not waiting.done.done()]:
                await self._answer(left)

    async def _put(self, parts: Sequence[Sequence[Row]]) -> list[Answer]:
        self.figures.batch(sum(map(len, parts)))
        return await self._ask(parts)

    async def _with_row(self, waiting: Waiting, error: ModelFailed) -> ModelFailed:
        """The failure of a request with its row, which is found by asking again for as long as somebody wants to know."""
        rows = waiting.rows
        search = guilty.search(len(rows))
        part = next(search)
        while True:
            failed = False
            if waiting.done.done():
                return error
            # A single row has just been asked.
            if part != (0, len(rows)):
                try:
                    await self._put([rows[part[0] : part[1]]])
                except ModelFailed as again:
                    error, failed = again, True
            else:
                failed = True
            # It died of what it first only raised at: nothing more is asked.
            if error.code not in OF_A_ROW:
                return error
            try:
                part = search.send(failed)
            except StopIteration as end:
                return error if end.value is None else guilty.named(error, end.value)


def _unloaded() -> ModelFailed:
    return ModelFailed("The version was unloaded.")


def _full() -> Overloaded:
    return Overloaded("Too many rows wait for this model already.", code="queue-full", hint="Try again in a second.")


def _late() -> Overloaded:
    return Overloaded(
        "The answer would come after the request's deadline.",
        code="deadline-exceeded",
        hint="Allow more time, or try again when less is waiting.",
    )
