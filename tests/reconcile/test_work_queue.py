"""The queue by a told clock: one entry per deployment, backoff of its own, nobody waits for another."""

from __future__ import annotations

import asyncio

import pytest

from quarterdeck_operator.work_queue import LONGEST_SECONDS, Workers, WorkQueue
from quarterdeck_operator.world import ResourceKey
from tests.virtual_time import run

A, B = ResourceKey("n", "a"), ResourceKey("n", "b")


def _queue() -> WorkQueue:
    return WorkQueue(jitter=lambda: 1.0)


def test_a_deployment_is_given_out_once_however_often_it_was_asked_for() -> None:
    """Ten events before it is looked at are one look."""
    queue = _queue()
    for _ in range(10):
        queue.add(A, 0.0)
    assert queue.take(0.0) == A
    assert queue.take(0.0) is None
    queue.done(A, 1.0)
    assert queue.take(1.0) is None
    assert len(queue) == 0


def test_an_event_during_the_look_leads_to_another_look() -> None:
    """What was read before the event may be old."""
    queue = _queue()
    queue.add(A, 0.0)
    queue.take(0.0)
    queue.add(A, 0.5)
    assert queue.take(0.5) is None
    queue.done(A, 1.0, again_in=60.0)
    assert queue.take(1.0) == A


@pytest.mark.parametrize(
    ("failures", "wait"), [(1, 0.2), (2, 0.4), (3, 0.8), (8, 25.6), (9, 51.2), (10, 60.0), (50, LONGEST_SECONDS)]
)
def test_each_failure_doubles_the_wait_up_to_a_minute(failures: int, wait: float) -> None:
    """0.2 s, 0.4 s … 60 s."""
    queue, now, told = _queue(), 0.0, 0.0
    queue.add(A, now)
    for _ in range(failures):
        assert queue.take(now) == A
        told = queue.failed(A, now)
        now += told
    assert told == pytest.approx(wait)
    assert queue.failing() == [A]


def test_half_of_the_wait_is_drawn() -> None:
    """Many that failed together come back apart, and never at once."""
    queue = WorkQueue(jitter=lambda: 0.0)
    queue.add(A, 0.0)
    queue.take(0.0)
    assert queue.failed(A, 0.0) == pytest.approx(0.1)


def test_a_success_ends_the_backoff() -> None:
    """The next failure waits as the first one did."""
    queue = _queue()
    queue.add(A, 0.0)
    for now in (0.0, 10.0, 20.0):
        queue.take(now)
        queue.failed(A, now)
    queue.take(100.0)
    queue.done(A, 100.0, again_in=0.0)
    queue.take(100.0)
    assert queue.failed(A, 100.0) == pytest.approx(0.2)


def test_events_do_not_undo_the_backoff_and_a_persons_change_does() -> None:
    """A storm of pod events is no reason why it should work now; a corrected spec is."""
    queue = _queue()
    queue.add(A, 0.0)
    queue.take(0.0)
    queue.failed(A, 0.0)
    queue.add(A, 0.1)
    assert queue.take(0.1) is None
    queue.retry(A, 0.1)
    assert queue.take(0.1) == A


def test_a_persons_change_during_a_look_that_fails_is_looked_at_at_once() -> None:
    """What failed was the wish before; without this the corrected spec would wait out a backoff of up to a minute."""
    queue = _queue()
    queue.add(A, 0.0)
    for _ in range(10):
        queue.take(100.0)
        queue.failed(A, 0.0)
    queue.take(100.0)
    queue.retry(A, 100.5)
    assert queue.failed(A, 101.0) == 0.0
    assert queue.take(101.0) == A
    assert queue.failed(A, 101.0) == pytest.approx(0.2)


def test_a_look_that_is_due_later_is_brought_forward_by_an_event() -> None:
    """`again_in` is the latest moment, not the only one."""
    queue = _queue()
    queue.add(A, 0.0)
    queue.take(0.0)
    queue.done(A, 0.0, again_in=600.0)
    assert queue.next_due() == 600.0
    queue.add(A, 5.0)
    assert queue.next_due() == 5.0


def test_who_has_waited_longest_is_next() -> None:
    """A busy deployment does not starve a quiet one."""
    queue = _queue()
    queue.add(B, 0.0)
    queue.add(A, 1.0)
    assert queue.take(2.0) == B


def test_a_poisoned_deployment_backs_off_alone() -> None:
    """Over ten minutes one that always fails is tried some twenty times, and the others are looked at when they ask."""
    tried: dict[ResourceKey, list[float]] = {A: [], B: []}

    async def look(key: ResourceKey) -> float | None:
        tried[key].append(asyncio.get_running_loop().time())
        if key == A:
            raise RuntimeError("poison")
        return None

    async def scenario() -> None:
        workers = Workers(look, 2, _queue())
        task = asyncio.create_task(workers.run())
        await asyncio.sleep(0)
        workers.add(A)
        for _ in range(60):
            workers.add(B)
            await asyncio.sleep(10.0)
        task.cancel()

    run(scenario())
    assert 15 <= len(tried[A]) <= 25
    assert len(tried[B]) == 60


def test_as_many_are_worked_on_at_once_as_there_are_workers_and_none_twice() -> None:
    """Four workers, ten deployments, each asked for three times."""
    at_once: list[int] = []
    running: set[ResourceKey] = set()

    async def look(key: ResourceKey) -> float | None:
        assert key not in running
        running.add(key)
        at_once.append(len(running))
        await asyncio.sleep(1.0)
        running.discard(key)
        return None

    async def scenario() -> None:
        workers = Workers(look, 4, _queue())
        task = asyncio.create_task(workers.run())
        await asyncio.sleep(0)
        for number in range(30):
            workers.add(ResourceKey("n", str(number % 10)))
        await asyncio.sleep(30.0)
        task.cancel()

    run(scenario())
    assert max(at_once) == 4
    assert len(at_once) == 10
