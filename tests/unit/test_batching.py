"""The queue in front of a model: who travels together, who is refused, who pays for a row that makes the model fail."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import Awaitable, Callable, Generator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import ModelFailed, Overloaded
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.runtimes import Budget, guilty
from quarterdeck_node.runtimes.batching import Batcher, NotStarted
from quarterdeck_node.runtimes.cost import BATCH_ROWS, Cost
from quarterdeck_node.runtimes.figures import BATCH_BUCKETS
from quarterdeck_node.runtimes.inprocess import InProcess
from tests.virtual_time import run

BAD, DEADLY, CURSED = -1.0, -2.0, -3.0


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
        if CURSED in numbers:
            raise NotStarted("There is no memory left.", code="model-died")
        if DEADLY in numbers:
            raise ModelFailed("It died.", code="model-died")
        if BAD in numbers:
            raise ModelFailed("It raised.")
        return [Answer(number, []) for number in numbers]


def rows(*numbers: float) -> list[Row]:
    """Rows of one feature."""
    return [{"n": number} for number in numbers]


def story(tell: Callable[[Batcher, Model], Awaitable[None]], model: Model | None = None, **budget: float) -> None:
    """A batcher in a loop of its own whose time is told, closed at the end."""

    async def told(model: Model) -> None:
        batcher = Batcher(model.ask, Budget(**budget), asyncio.get_running_loop().time)  # type: ignore[arg-type]
        batcher.start()
        try:
            await tell(batcher, model)
        finally:
            await batcher.close()

    run(told(model or Model()))


def now() -> float:
    """The batcher's time."""
    return asyncio.get_running_loop().time()


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
        began = now()
        with pytest.raises(Overloaded) as refused:
            await batcher.predict(rows(1), began + 0.01)
        assert refused.value.code == "deadline-exceeded"
        asked = len(model.batches)
        assert await batcher.predict(rows(1), began + 60) == [Answer(1, [])]
        assert len(model.batches) == asked + 1

    story(tell)


def test_a_look_ahead_refuses_what_asking_would_refuse_and_nothing_else() -> None:
    """Without a place in the queue: by its rows and by its deadline, counted once each; an idle model lets everybody in."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.seconds = 0.05
        batcher.admit(1_000)
        await batcher.predict(rows(1))
        batcher.admit(1, now() + 1)
        for deadline in (now() + 0.01, float("nan")):
            running = asyncio.ensure_future(batcher.predict(rows(*range(5))))
            await turns()
            waiting = asyncio.ensure_future(batcher.predict(rows(*range(5))))
            await turns()
            with pytest.raises(Overloaded) as refused:
                batcher.admit(1, deadline)
            with pytest.raises(Overloaded) as asked:
                await batcher.predict(rows(1), deadline)
            assert (refused.value.code, refused.value.detail) == (asked.value.code, asked.value.detail)
            await asyncio.gather(running, waiting)
        assert sum(batcher.figures.shed.values()) == 4
        batcher.admit(0)

    story(tell, queue_rows=5)


def test_a_refusal_leaves_nothing_for_the_garbage_collector() -> None:
    """A flood of them would otherwise spend its time on collections, and the model's with it."""

    def refused(batcher: Batcher) -> weakref.ref[Overloaded]:
        try:
            batcher.admit(1, now() - 1)
        except Overloaded as error:
            return weakref.ref(error)
        raise AssertionError("it was let in")

    async def tell(batcher: Batcher, model: Model) -> None:
        await batcher.predict(rows(1))
        gc.disable()
        try:
            left = refused(batcher)
            assert left() is None
        finally:
            gc.enable()

    story(tell)


def test_who_has_waited_too_long_is_told_while_a_batch_still_runs() -> None:
    """A model that hangs must not hold its callers: in the queue by the setting, anywhere by a deadline of their own."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.gate = asyncio.Event()
        began = now()
        running = asyncio.ensure_future(batcher.predict(rows(1)))
        hurried = asyncio.ensure_future(batcher.predict(rows(2), began + 0.4))
        await turns()
        waiting = asyncio.ensure_future(batcher.predict(rows(3)))
        patient = asyncio.ensure_future(batcher.predict(rows(4), began + 60))
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


def test_one_slow_batch_does_not_close_a_model_for_ever() -> None:
    """Who is refused teaches nothing: an idle model is tried once a second, and believed when it is fast again."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.seconds = 30.0
        await batcher.predict(rows(1))
        model.seconds = 0.01
        with pytest.raises(Overloaded, match="after the request's deadline"):
            await batcher.predict(rows(2), now() + 1)
        await asyncio.sleep(1.1)
        # One at a time: whoever comes with the one that tries it is refused as before.
        tried, beside = await asyncio.gather(*(batcher.predict(rows(3), now() + 1) for _ in range(2)), return_exceptions=True)
        assert tried == [Answer(3, [])]
        assert isinstance(beside, Overloaded)
        for _ in range(3):
            assert await batcher.predict(rows(4), now() + 1) == [Answer(4, [])]

    story(tell)


def test_a_slow_model_that_is_tried_again_tells_its_caller_in_time() -> None:
    """The one who tries it has a deadline too; a model that is still slow stays closed to such callers."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.seconds = 30.0
        await batcher.predict(rows(1))
        await asyncio.sleep(1.1)
        began = now()
        with pytest.raises(Overloaded, match="after the request's deadline"):
            await batcher.predict(rows(2), began + 1)
        assert 1 <= now() - began < 1.5
        # It is still at it.
        with pytest.raises(Overloaded):
            await batcher.predict(rows(3), now() + 1)
        assert len(model.batches) == 2

    story(tell)


def test_where_no_process_can_be_started_everybody_is_told_at_once() -> None:
    """Nobody is to blame, so nobody is asked for alone; the next batch tries again."""

    async def tell(batcher: Batcher, model: Model) -> None:
        found = await asyncio.gather(*(batcher.predict(rows(number)) for number in (1, CURSED, 3)), return_exceptions=True)
        assert [isinstance(one, NotStarted) for one in found] == [True, True, True]
        assert len(model.batches) == 1
        assert await batcher.predict(rows(1)) == [Answer(1, [])]

    story(tell)


def test_where_none_can_be_started_after_a_death_the_rest_is_told_at_once() -> None:
    """The process died of one request, and there is no other: who has no answer yet is not asked for one by one."""

    async def tell(batcher: Batcher, model: Model) -> None:
        numbers = (1, DEADLY, CURSED, 3, 4)
        found = await asyncio.gather(*(batcher.predict(rows(number)) for number in numbers), return_exceptions=True)
        assert found[0] == [Answer(1, [])]
        assert [getattr(one, "detail", "") for one in found[1:]] == ["It died.", *["There is no memory left."] * 3]
        assert model.batches[-1] == [CURSED]

    # The whole is said to die, each alone does what it does.
    class Once(Model):
        async def ask(self, parts: Sequence[Sequence[Row]]) -> list[Answer]:
            if len(parts) > 1:
                self.batches.append([])
                raise ModelFailed("It died.", code="model-died")
            return await super().ask(parts)

    story(tell, Once())


@pytest.mark.parametrize("deadline", [math.nan, math.inf, 1e300])
def test_odd_deadlines_are_none(deadline: float) -> None:
    """No number, or one that never comes: such a request is answered."""

    async def tell(batcher: Batcher, model: Model) -> None:
        assert await batcher.predict(rows(1), deadline) == [Answer(1, [])]

    story(tell)


@pytest.mark.parametrize("deadline", [-math.inf, -1.0, 0.0])
def test_deadlines_in_the_past_are_over(deadline: float) -> None:
    """Before any work, for a model that nothing is known of as well."""

    async def tell(batcher: Batcher, model: Model) -> None:
        with pytest.raises(Overloaded, match="deadline"):
            await batcher.predict(rows(1), deadline)
        assert model.batches == []

    story(tell)


def test_no_rows_have_no_answers() -> None:
    """Nothing is asked, alone or beside others, and nothing is learnt from it."""

    async def tell(batcher: Batcher, model: Model) -> None:
        nothing, one, none = await asyncio.gather(*(batcher.predict(asked) for asked in ([], rows(1), [])))
        assert (nothing, one, none) == ([], [Answer(1, [])], [])
        assert model.batches == [[1]]

    story(tell)


def test_batches_and_refusals_are_counted() -> None:
    """Batches by their rows, those asked again included; each refusal once by its code; who waits, and nobody at the end."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.gate = asyncio.Event()
        running = asyncio.ensure_future(batcher.predict(rows(1, 2, 3)))
        await turns()
        waiting = asyncio.ensure_future(batcher.predict(rows(4, 5)))
        hurried = asyncio.ensure_future(batcher.predict(rows(6), now() + 0.3))
        await turns()
        assert batcher.figures.waiting_rows == 3
        with pytest.raises(Overloaded):
            await batcher.predict(rows(*range(10)))
        with pytest.raises(Overloaded):
            await hurried
        model.gate.set()
        await asyncio.gather(running, waiting)
        figures = batcher.figures
        assert (figures.waiting_rows, figures.rows, sum(figures.batches)) == (0, 5, 2)
        assert [figures.batches[BATCH_BUCKETS.index(bound)] for bound in (2, 4)] == [1, 1]
        assert figures.shed == {"queue-full": 1, "deadline-exceeded": 1}

    story(tell, queue_rows=5)


def test_closing_tells_everybody_who_waits() -> None:
    """Those in the running batch, those in the queue, and whoever comes later."""

    async def tell(batcher: Batcher, model: Model) -> None:
        model.gate = asyncio.Event()
        running = asyncio.ensure_future(batcher.predict(rows(1)))
        await turns()
        waiting = asyncio.ensure_future(batcher.predict(rows(2)))
        await turns()
        await batcher.close()
        for each in (running, waiting, batcher.predict(rows(3))):
            with pytest.raises(ModelFailed, match="unloaded"):
                await each

    story(tell)


def test_a_batch_does_not_grow_beyond_what_growing_gains() -> None:
    """Where rows cost and batches do not, large batches only make everybody wait for all."""
    cost = Cost()
    assert cost.most_rows == BATCH_ROWS
    for count in (1, 2, 4, 8) * 5:
        cost.add(count, 0.005 * count)
    assert cost.per_row == pytest.approx(0.005)
    assert cost.most_rows == 2
    assert cost.of_queue(10, 10) == pytest.approx(0.05)


def test_an_idle_model_takes_a_large_request_whatever_it_has_learnt() -> None:
    """A request is one batch however large it is: nobody waits for others before it, so nothing is too long."""

    async def tell(batcher: Batcher, model: Model) -> None:
        # A machine that stood still for a moment: rows look dear and batches as well, so that one row would be a batch.
        for count, model.seconds in ((1, 0.3), (2, 0.4)) * 5:
            await batcher.predict(rows(*range(count)))
        batcher.admit(1_000)
        assert len(await batcher.predict(rows(*range(1_000)))) == 1_000
        batcher.admit(1_000, now() + 200)

    story(tell)


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
