"""The queue in front of a model: who travels together, who is refused, who pays for a row that makes the model fail."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Generator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import ModelFailed, Overloaded
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.runtimes import Budget, guilty
from quarterdeck_node.runtimes.batching import Batcher
from quarterdeck_node.runtimes.cost import BATCH_ROWS, Cost
from quarterdeck_node.runtimes.inprocess import InProcess

BAD, DEADLY = -1.0, -2.0


class Model:
    """Answers each row's number, remembers every batch, and waits at a gate where there is one."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.gate: asyncio.Event | None = None
        self.seconds = 0.0

    async def ask(self, parts: Sequence[Sequence[Row]]) -> list[Answer]:
        """One batch."""
        numbers = [float(str(row["n"])) for part in parts for row in part]
        self.batches.append(numbers)
        if self.gate is not None:
            await self.gate.wait()
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if DEADLY in numbers:
            raise ModelFailed("It died.", code="model-died")
        if BAD in numbers:
            raise ModelFailed("It raised.")
        return [Answer(number, []) for number in numbers]


def rows(*numbers: float) -> list[Row]:
    """Rows of one feature."""
    return [{"n": number} for number in numbers]


def story(tell: Callable[[Batcher, Model], Awaitable[None]], **budget: float) -> None:
    """A batcher in a loop of its own, closed at the end."""

    async def told() -> None:
        model = Model()
        batcher = Batcher(model.ask, Budget(**budget))  # type: ignore[arg-type]
        batcher.start()
        try:
            await tell(batcher, model)
        finally:
            await batcher.close()

    asyncio.run(told())


async def turns(count: int = 20) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_an_idle_model_starts_at_once_with_everybody_who_is_there() -> None:
    """Requests of one turn of the loop are one batch, in their order, and each gets its own rows' answers."""

    async def tell(batcher: Batcher, model: Model) -> None:
        asked = [batcher.predict(rows(1)), batcher.predict(rows(2, 3)), batcher.predict(rows(4))]
        assert await asyncio.gather(*asked) == [[Answer(1, [])], [Answer(2, []), Answer(3, [])], [Answer(4, [])]]
        assert model.batches == [[1, 2, 3, 4]]

    story(tell)


def test_requests_gather_while_a_batch_runs() -> None:
    """They are the next batch together."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.gate = asyncio.Event()
        first = asyncio.ensure_future(batcher.predict(rows(1)))
        await turns()
        others = [asyncio.ensure_future(batcher.predict(rows(number))) for number in (2, 3, 4)]
        await turns()
        assert model.batches == [[1]]
        model.gate.set()
        await asyncio.gather(first, *others)
        assert model.batches == [[1], [2, 3, 4]]

    story(tell)


def test_two_crowds_become_one() -> None:
    """Callers who are answered and ask again join those who waited meanwhile, where a batch costs much by itself."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.seconds = 0.02

        async def caller(number: float) -> None:
            for _ in range(10):
                await batcher.predict(rows(number))

        early = [asyncio.ensure_future(caller(number)) for number in (1, 2)]
        await turns()
        await asyncio.gather(*early, *(caller(number) for number in (3, 4)))
        assert sorted(model.batches[0]) == [1, 2]
        # Apart, forty questions of four callers would be twenty batches.
        assert len(model.batches) < 15
        assert [1, 2, 3, 4] in [sorted(batch) for batch in model.batches]

    story(tell)


def test_whoever_left_is_not_computed() -> None:
    """A caller that is gone before its batch begins costs nothing."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.gate = asyncio.Event()
        first, gone, last = [asyncio.ensure_future(batcher.predict(rows(number))) for number in (1, 2, 3)]
        await turns()
        later = asyncio.ensure_future(batcher.predict(rows(4)))
        left = asyncio.ensure_future(batcher.predict(rows(5)))
        await turns()
        left.cancel()
        model.gate.set()
        await asyncio.gather(first, gone, last, later)
        assert model.batches == [[1, 2, 3], [4]]

    story(tell)


@given(st.lists(st.lists(st.sampled_from([BAD, 1.0, 2.0]), min_size=1, max_size=4), min_size=1, max_size=8))
def test_a_row_that_makes_the_model_raise_costs_its_own_request_only(requests: list[list[float]]) -> None:
    """Whoever travels together: requests without such a row are answered, the others name a row that is one."""

    async def tell(batcher: Batcher, model: Model) -> None:
        found = await asyncio.gather(*(batcher.predict(rows(*numbers)) for numbers in requests), return_exceptions=True)
        for numbers, answer in zip(requests, found, strict=True):
            if BAD in numbers:
                assert isinstance(answer, ModelFailed)
                assert numbers[answer.extra["row"]] == BAD
                assert answer.detail == f"Row {answer.extra['row']}: It raised."
            else:
                assert answer == [Answer(number, []) for number in numbers]

    story(tell)


def test_the_guilty_of_a_crowd_is_found_by_halving() -> None:
    """Sixty-four requests: not sixty-four questions."""

    async def tell(batcher: Batcher, model: Model) -> None:
        numbers = [BAD if place == 21 else float(place) for place in range(64)]
        found = await asyncio.gather(*(batcher.predict(rows(number)) for number in numbers), return_exceptions=True)
        assert [place for place, answer in enumerate(found) if isinstance(answer, Exception)] == [21]
        assert len(model.batches) <= 2 * math.log2(64) + 1

    story(tell)


def test_whoever_makes_the_process_die_is_asked_alone_and_the_innocent_are_answered() -> None:
    """Each request of such a batch is tried once more, by itself."""

    async def tell(batcher: Batcher, model: Model) -> None:
        found = await asyncio.gather(*(batcher.predict(rows(number)) for number in (1, DEADLY, 3)), return_exceptions=True)
        assert model.batches == [[1, DEADLY, 3], [1], [DEADLY], [3]]
        assert isinstance(found[1], ModelFailed)
        assert found[1].code == "model-died"
        assert [found[0], found[2]] == [[Answer(1, [])], [Answer(3, [])]]

    story(tell)


def test_a_failure_that_is_ours_fails_the_batch_and_not_the_queue() -> None:
    """Whatever is raised, callers are told and the next batch is asked."""

    async def tell(batcher: Batcher, model: Model) -> None:
        broken: list[Row] = [{"other": 1.0}]
        with pytest.raises(ModelFailed, match="could not be asked: KeyError"):
            await batcher.predict(broken)
        assert await batcher.predict(rows(1)) == [Answer(1, [])]

    story(tell)


def test_more_rows_than_may_wait_are_refused_but_an_empty_queue_takes_any_request() -> None:
    """With a code of its own, before any work."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.gate = asyncio.Event()
        running = asyncio.ensure_future(batcher.predict(rows(1)))
        await turns()
        large = asyncio.ensure_future(batcher.predict(rows(*range(10))))
        await turns()
        with pytest.raises(Overloaded) as refused:
            await batcher.predict(rows(1))
        assert refused.value.code == "queue-full"
        model.gate.set()
        assert len(await large) == 10
        await running

    story(tell, queue_rows=5)


def test_what_cannot_be_there_in_time_is_refused_at_once() -> None:
    """By what batches were measured to take; a caller with more time is answered."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.seconds = 0.05
        for _ in range(5):
            await batcher.predict(rows(1))
        began = time.monotonic()
        with pytest.raises(Overloaded) as refused:
            await batcher.predict(rows(1), began + 0.01)
        assert refused.value.code == "deadline-exceeded"
        asked = len(model.batches)
        assert await batcher.predict(rows(1), began + 60) == [Answer(1, [])]
        assert len(model.batches) == asked + 1

    story(tell)


def test_who_has_waited_too_long_is_told_while_a_batch_still_runs() -> None:
    """A model that hangs must not hold its callers: in the queue by the setting, anywhere by a deadline of their own."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.gate = asyncio.Event()
        now = time.monotonic()
        running = asyncio.ensure_future(batcher.predict(rows(1)))
        hurried = asyncio.ensure_future(batcher.predict(rows(2), now + 0.4))
        await turns()
        waiting = asyncio.ensure_future(batcher.predict(rows(3)))
        patient = asyncio.ensure_future(batcher.predict(rows(4), now + 60))
        for task, code in ((hurried, "deadline-exceeded"), (waiting, "queue-full")):
            with pytest.raises(Overloaded) as told:
                await task
            assert told.value.code == code
        model.gate.set()
        assert (await running, await patient) == ([Answer(1, [])], [Answer(4, [])])
        assert model.batches == [[1, 2], [4]]

    story(tell, queue_seconds=0.1)


def test_waiting_for_a_model_that_is_being_replaced_is_not_waiting_too_long() -> None:
    """It counts from when the model is there again."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.gate = asyncio.Event()
        batcher.interrupted()
        running = asyncio.ensure_future(batcher.predict(rows(1)))
        await turns()
        waiting = asyncio.ensure_future(batcher.predict(rows(2)))
        # Longer than the setting allows, and longer than the look at who waits too long takes to come.
        await asyncio.sleep(0.6)
        batcher.revived()
        model.gate.set()
        assert (await running, await waiting) == ([Answer(1, [])], [Answer(2, [])])

    story(tell, queue_seconds=0.1)


def test_a_batch_does_not_grow_beyond_what_growing_gains() -> None:
    """Where rows cost and batches do not, large batches only make everybody wait for all."""
    cost = Cost()
    assert cost.most_rows == BATCH_ROWS
    for count in (1, 2, 4, 8) * 5:
        cost.add(count, 0.005 * count)
    assert cost.per_row == pytest.approx(0.005)
    assert cost.most_rows == 2
    assert cost.of_queue(10) == pytest.approx(0.05)


@given(
    st.floats(0, 1, allow_nan=False), st.floats(0, 0.01, allow_nan=False),
    st.lists(st.integers(1, 2_000), min_size=2, max_size=60),
)  # fmt: skip
def test_cost_is_learnt_from_what_was_measured(fixed: float, per_row: float, counts: list[int]) -> None:
    """A line through the batches: right where they lie, never negative anywhere."""
    cost = Cost()
    for count in counts:
        cost.add(count, fixed + per_row * count)
    assert cost.fixed >= -1e-9
    assert cost.per_row >= 0
    assert 1 <= cost.most_rows <= BATCH_ROWS
    if len(set(counts)) == 1:
        assert cost.of(counts[0]) == pytest.approx(fixed + per_row * counts[0], abs=1e-9)


@given(st.integers(1, 1_000), st.data())
def test_search_finds_a_row_that_fails_alone(count: int, data: st.DataObject) -> None:
    """In a dozen questions for a thousand rows; none where rows fail in company only."""
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=5))
    asked: list[tuple[int, int]] = []

    def ask(search: Generator[tuple[int, int], bool, int | None]) -> int | None:
        part = next(search)
        while True:
            asked.append(part)
            try:
                part = search.send(any(part[0] <= row < part[1] for row in bad))
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    found = ask(guilty.search(count))
    assert found in bad if bad else found is None
    assert len(asked) <= math.ceil(math.log2(count)) + 1


def test_a_model_in_this_process_names_the_row_as_well() -> None:
    """Chunk by chunk: the row's place is that in the request."""

    class Picky:
        def predict(self, given: Sequence[Row]) -> list[Answer]:
            if any(row["n"] == BAD for row in given):
                raise ModelFailed("It raised.", kind="feature", name="n")
            return [Answer(1, []) for _ in given]

    async def ask(count: int, bad: int) -> int:
        numbers = [float(place) for place in range(count)]
        numbers[bad] = BAD
        with pytest.raises(ModelFailed, match=f"Row {bad}: It raised") as failed:
            await InProcess(Picky()).predict(rows(*numbers))
        assert failed.value.name == "n"
        return int(failed.value.extra["row"])

    assert [asyncio.run(ask(count, bad)) for count, bad in ((1, 0), (50, 49), (900, 700))] == [0, 49, 700]
