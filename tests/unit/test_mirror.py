"""The mirror against challenger nodes of every temper: main is never held up and every row is accounted for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import uvloop

from quarterdeck.plan import DeploymentPlan, MirrorReport
from quarterdeck.records import ChallengerRecord
from quarterdeck.schema import Feature, Schema
from quarterdeck_node.mirror import Mirror
from quarterdeck_node.spool import MemorySpool
from tests.agents import text
from tests.support import free_port
from tests.unit.challengers import DIGEST, OTHER_DIGEST, Challenger, deployment

SCHEMA = Schema(task="binary", classes=["no", "yes"], positive="yes", features=[Feature(name="hour", type="int")])


def exact(report: MirrorReport) -> bool:
    """The identity."""
    return report.mirrored == report.answered + report.failed + report.expired + report.dropped + report.pending


def results(spool: MemorySpool) -> Counter[tuple[str, str]]:
    """How many rows were recorded by (result, error code)."""
    records = [record for record in spool.records if isinstance(record, ChallengerRecord)]
    return Counter((row.result, row.error_code) for record in records for row in record.rows)


async def until(check: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait inside a loop for a condition."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.01)


def run(plan: DeploymentPlan | None, story: Callable[[Mirror], Awaitable[None]]) -> MemorySpool:
    """Live through a story with a running mirror; the identity is looked at in every millisecond of it."""
    spool = MemorySpool()

    async def watch(mirror: Mirror) -> None:
        while True:
            assert exact(mirror.report("flights"))
            await asyncio.sleep(0.001)

    async def main() -> None:
        mirror = Mirror(spool, lambda name: SCHEMA)
        mirror.apply([plan] if plan else [])
        mirror.start()
        watcher = asyncio.create_task(watch(mirror))
        await story(mirror)
        await mirror.stop(0.2)
        assert exact(mirror.report("flights"))
        assert not mirror.report("flights").pending
        watcher.cancel()
        outcome = await asyncio.gather(watcher, return_exceptions=True)
        assert isinstance(outcome[0], asyncio.CancelledError)

    uvloop.run(main())
    return spool


def offer(mirror: Mirror, plan: DeploymentPlan, requests: int, rows: int = 1) -> None:
    """Offer so many requests at once; none of them may take long enough to be a wait."""
    batch = text([{"hour": number} for number in range(rows)])
    for number in range(requests):
        mirror.offer(plan, f"{number:032x}", batch, rows)


def settled(mirror: Mirror) -> bool:
    """Nothing is pending any more."""
    return not mirror.report("flights").pending


def answers(mirror: Mirror, rows: int) -> bool:
    """Whether so many rows are answered."""
    return mirror.report("flights").answered == rows


def test_a_healthy_challenger_answers_every_row() -> None:
    """Rows of many requests travel in few batches, and each row's answer is recorded under its own id."""
    with Challenger() as challenger:
        plan = deployment(challenger.url)

        async def story(mirror: Mirror) -> None:
            offer(mirror, plan, 300, rows=3)
            await until(lambda: settled(mirror))
            assert mirror.report("flights").answered == 900

        spool = run(plan, story)
    records = [record for record in spool.records if isinstance(record, ChallengerRecord)]
    assert results(spool) == {("answered", ""): 900}
    assert {row.row_id for record in records for row in record.rows} == {
        f"{n:032x}-{row}" for n in range(300) for row in range(3)
    }
    assert {(record.digest, record.version, record.revision) for record in records} == {(DIGEST, 2, 4)}
    assert len(challenger.rows) == 900
    assert challenger.connections <= 2


@pytest.mark.parametrize(
    ("temper", "code"),
    [
        ("bytes", "challenger-protocol"),
        ("nan", "challenger-garbage"),
        ("short", "challenger-garbage"),
        ("label", "challenger-garbage"),
        ("huge", "challenger-too-large"),
        ("other", "challenger-other-version"),
        ("error-500", "challenger-http-500"),
        ("hung", "challenger-timeout"),
        ("slow", "challenger-timeout"),
    ],
)
def test_a_sick_challenger_fails_rows_by_name(temper: Any, code: str) -> None:
    """What is not an answer becomes a failed row with its code."""
    # Only those that never answer are given up on by the clock: all others have the time that a busy machine needs.
    seconds = 0.3 if code == "challenger-timeout" else 60.0
    with Challenger(temper) as challenger:
        # Three batches: the circuit opens with the last one and keeps nothing back.
        plan = deployment(challenger.url, timeout_seconds=seconds, max_age_seconds=60.0, batch_rows=200)

        async def story(mirror: Mirror) -> None:
            offer(mirror, plan, 500)
            await until(lambda: settled(mirror))
            report = mirror.report("flights")
            assert (report.failed, report.answered) == (500, 0)
            assert report.last_error.startswith(code)

        assert results(run(plan, story)) == {("failed", code): 500}


def test_a_dead_challenger_costs_rows_only() -> None:
    """Nobody listens: the circuit opens, few batches are tried, the rest expires; all of it is counted and recorded."""
    plan = deployment(f"http://127.0.0.1:{free_port()}", max_age_seconds=0.5, batch_rows=10)

    async def story(mirror: Mirror) -> None:
        offer(mirror, plan, 400)
        await until(lambda: settled(mirror))
        assert mirror.report("flights").expired > 300

    assert {code for _, code in results(run(plan, story))} == {"challenger-unreachable", "expired"}


def test_a_challenger_that_comes_back_is_found_again() -> None:
    """Sick, then healthy: after the back-off rows are answered again."""
    with Challenger("error-500") as challenger:
        plan = deployment(challenger.url, batch_rows=5)

        async def story(mirror: Mirror) -> None:
            offer(mirror, plan, 30)
            await until(lambda: mirror.report("flights").failed >= 15)
            challenger.temper = "healthy"
            await until(lambda: settled(mirror))
            offer(mirror, plan, 40)
            await until(lambda: mirror.report("flights").answered >= 40)

        run(plan, story)


def test_a_row_that_the_challenger_refuses_fails_alone() -> None:
    """An error entry is that row's; the others of its batch are answered."""
    with Challenger("refuses-rows") as challenger:
        plan = deployment(challenger.url)

        async def story(mirror: Mirror) -> None:
            offer(mirror, plan, 1, rows=10)
            await until(lambda: settled(mirror))

        found = results(run(plan, story))
    assert found == {("answered", ""): 9, ("failed", "model-failed"): 1}


@pytest.mark.parametrize(("bound", "kept"), [({"queue_rows": 100}, 100), ({"queue_bytes": 14_000}, 100)])
def test_a_full_queue_drops_and_counts(bound: dict[str, Any], kept: int) -> None:
    """Rows and bytes are bounded; what does not fit is dropped, counted and not recorded."""
    with Challenger() as challenger:
        plan = deployment(challenger.url, **bound)

        async def story(mirror: Mirror) -> None:
            offer(mirror, plan, 1000)
            report = mirror.report("flights")
            assert (report.dropped, report.pending) == (1000 - kept, kept)
            await until(lambda: settled(mirror))

        assert results(run(plan, story)).total() == kept


def test_another_version_in_the_plan_keeps_the_ledger() -> None:
    """Rows queued for the former version are dropped; the new target gets the rows offered with the new plan."""
    with Challenger("hung") as former, Challenger() as new:
        before = deployment(former.url, batch_rows=5, timeout_seconds=2.0)
        after = deployment(new.url)

        async def story(mirror: Mirror) -> None:
            offer(mirror, before, 50)
            await until(lambda: len(former.rows) == 10)
            mirror.apply([after])
            assert mirror.report("flights").dropped == 40
            offer(mirror, before, 3)
            offer(mirror, after, 20)
            await until(lambda: settled(mirror))
            mirror.apply([deployment(new.url, digest=OTHER_DIGEST)])
            mirror.apply([])
            offer(mirror, after, 7)
            report = mirror.report("flights")
            assert (report.mirrored, report.answered, report.failed, report.dropped) == (80, 20, 10, 50)

        run(before, story)


def test_connections_are_renewed() -> None:
    """A connection that is old enough is not used again, and nothing is lost over that."""
    with Challenger() as challenger:
        plan = deployment(challenger.url)

        async def main() -> None:
            mirror = Mirror(MemorySpool(), lambda name: SCHEMA, connection_seconds=0.0)
            mirror.apply([plan])
            mirror.start()
            for answered in (1, 2, 3):
                offer(mirror, plan, 1)
                await until(partial(answers, mirror, answered))
            await mirror.stop()

        uvloop.run(main())
    assert challenger.connections == 3


def test_a_connection_that_the_other_side_closed_costs_nothing() -> None:
    """Idle connections end at any time; rows that meet one are sent again over a new one."""
    with Challenger("closes") as challenger:
        plan = deployment(challenger.url)

        async def story(mirror: Mirror) -> None:
            for answered in (1, 2, 3):
                offer(mirror, plan, 1)
                await until(partial(answers, mirror, answered))

        run(plan, story)
    assert challenger.connections == 3


def test_stopping_leaves_nothing_pending() -> None:
    """What is on its way when the node stops is failed by name, what is queued is dropped."""
    with Challenger("hung") as challenger:
        plan = deployment(challenger.url, batch_rows=5)

        async def story(mirror: Mirror) -> None:
            offer(mirror, plan, 30)
            await until(lambda: len(challenger.rows) == 10)

        assert results(run(plan, story)) == {("failed", "node-stopped"): 10}


def test_without_records_nothing_is_written() -> None:
    """A deployment whose records are off is mirrored and counted, not recorded."""
    with Challenger() as challenger:
        plan = deployment(challenger.url).model_copy(update={"records": "off"})

        async def story(mirror: Mirror) -> None:
            offer(mirror, plan, 5)
            await until(lambda: mirror.report("flights").answered == 5)

        assert run(plan, story).records == []


def test_without_a_mirror_nothing_is_counted() -> None:
    """Offers of a deployment that mirrors nowhere are no business of the ledger."""
    plan = deployment("http://127.0.0.1:9").model_copy(update={"mirror": None})

    async def story(mirror: Mirror) -> None:
        offer(mirror, plan, 5)

    run(plan, story)
