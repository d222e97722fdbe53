"""Who may ask the plan server: tokens are reviewed once a minute, and a pod gets what is its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from quarterdeck.errors import Forbidden, NotReady, QuarterdeckError, Unauthenticated
from quarterdeck_operator.identity import MOST_ASKED, Guard, Identity, ReviewerTwin, require_node, require_plan
from quarterdeck_operator.names import labels
from quarterdeck_operator.world import ResourceKey

POD = Identity("shop", "p-1", "default", labels("late-flights", "challenger", "aaaaaaaaaa"))
TOKEN = "a.b.c"


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Now."""
        return self.now


def identify(guard: Guard, *headers: str) -> list[Identity | BaseException]:
    """What several requests at once are told."""

    async def ask() -> list[Identity | BaseException]:
        return await asyncio.gather(*(guard.identify(header) for header in headers), return_exceptions=True)

    return asyncio.run(ask())


def test_a_good_token_is_asked_about_once_a_minute() -> None:
    """The API server is not asked by every poll and report of every node."""
    reviewer, clock = ReviewerTwin({TOKEN: POD}), Clock()
    with ThreadPoolExecutor(1) as pool:
        guard = Guard(reviewer, pool, clock)
        assert identify(guard, f"Bearer {TOKEN}") == [POD]
        clock.now += 59
        assert identify(guard, f"bearer  {TOKEN} ") == [POD]
        assert reviewer.asked == 1
        clock.now += 2
        assert identify(guard, f"Bearer {TOKEN}") == [POD]
    assert reviewer.asked == 2


def test_a_token_that_was_taken_back_is_refused_within_a_minute() -> None:
    """What was found good is not good for ever."""
    reviewer, clock = ReviewerTwin({TOKEN: POD}), Clock()
    with ThreadPoolExecutor(1) as pool:
        guard = Guard(reviewer, pool, clock)
        identify(guard, f"Bearer {TOKEN}")
        del reviewer.known[TOKEN]
        clock.now += 61
        (refusal,) = identify(guard, f"Bearer {TOKEN}")
    assert isinstance(refusal, Unauthenticated)


def test_requests_that_come_together_ask_once() -> None:
    """A node polls and reports with one token at the same time."""
    reviewer = ReviewerTwin({TOKEN: POD})
    with ThreadPoolExecutor(4) as pool:
        assert identify(Guard(reviewer, pool), *[f"Bearer {TOKEN}"] * 20) == [POD] * 20
    assert reviewer.asked == 1


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", f"Bearer {'x' * 20_000}", "Bearer unknown"])
def test_without_a_good_token_nobody_is_let_in(header: str) -> None:
    """And what is plainly none is not asked about."""
    reviewer = ReviewerTwin({TOKEN: POD})
    with ThreadPoolExecutor(1) as pool:
        (refusal,) = identify(Guard(reviewer, pool), header)
    assert isinstance(refusal, Unauthenticated)
    assert reviewer.asked == (header == "Bearer unknown")


def test_while_the_api_server_is_gone_known_pods_go_on() -> None:
    """Others are told to come again; it is not their fault."""
    reviewer = ReviewerTwin({TOKEN: POD})
    with ThreadPoolExecutor(1) as pool:
        guard = Guard(reviewer, pool)
        identify(guard, f"Bearer {TOKEN}")
        reviewer.failure = QuarterdeckError("The API server did not answer.")
        known, refusal = identify(guard, f"Bearer {TOKEN}", "Bearer new")
        assert known == POD
        assert isinstance(refusal, NotReady)
        reviewer.failure = None
        reviewer.known["new"] = POD
        assert identify(guard, "Bearer new") == [POD]


def test_a_flood_of_tokens_is_told_to_come_again() -> None:
    """Before it fills memory and the API server's time; those who were first are let in."""
    go = threading.Event()

    class Slow(ReviewerTwin):
        def review(self, token: str) -> Identity | None:
            """After the test says so."""
            go.wait(60)
            return super().review(token)

    async def scene(guard: Guard) -> list[Identity | BaseException]:
        asking = [asyncio.create_task(guard.identify(f"Bearer {number}")) for number in range(MOST_ASKED)]
        await asyncio.sleep(0)
        with pytest.raises(NotReady):
            await guard.identify("Bearer one-more")
        go.set()
        return await asyncio.gather(*asking)

    known = {str(number): POD for number in range(MOST_ASKED)}
    with ThreadPoolExecutor(4) as pool:
        assert asyncio.run(scene(Guard(Slow(known), pool))) == [POD] * MOST_ASKED


def test_one_who_hangs_up_takes_nothing_from_the_others() -> None:
    """The answer that several wait for outlives the first of them."""
    go = threading.Event()

    class Slow(ReviewerTwin):
        def review(self, token: str) -> Identity | None:
            """After the test says so."""
            go.wait(60)
            return super().review(token)

    reviewer = Slow({TOKEN: POD})

    async def scene(guard: Guard) -> Identity:
        first = asyncio.create_task(guard.identify(f"Bearer {TOKEN}"))
        second = asyncio.create_task(guard.identify(f"Bearer {TOKEN}"))
        await asyncio.sleep(0)
        first.cancel()
        go.set()
        return await second

    with ThreadPoolExecutor(1) as pool:
        assert asyncio.run(scene(Guard(reviewer, pool))) == POD
    assert reviewer.asked == 1


def test_a_pod_gets_its_own_plan_and_reports_as_itself() -> None:
    """By the labels that it has in the cluster, not by what it says."""
    assert (POD.deployment, POD.role) == (ResourceKey("shop", "late-flights"), "challenger")
    require_plan(POD, "late-flights-challenger-aaaaaaaaaa")
    require_node(POD, "p-1")
    for plan in ("late-flights-main-aaaaaaaaaa", "late-flights-challenger-bbbbbbbbbb", "other-challenger-aaaaaaaaaa", ""):
        with pytest.raises(Forbidden):
            require_plan(POD, plan)
    with pytest.raises(Forbidden):
        require_node(POD, "p-2")
