"""Where a step back leads, by tables of histories; and how a clock that jumps cannot make a silent node look alive."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import Conflict, NotFound
from quarterdeck.plan import NodeReport, VersionRef
from quarterdeck_deployer.nodes import LIVE_SECONDS, Heard, Nodes
from quarterdeck_deployer.revisions import RevisionView, RollbackInput, pair, rollback_target, way_back


def digest(version: int) -> str:
    """The digest of a version."""
    return f"sha256:{version:064x}"


def ref(version: int) -> VersionRef:
    """A version of the one model."""
    return VersionRef(model="flights", version=version, digest=digest(version))


def history(*steps: str) -> list[RevisionView]:
    """Revisions, newest first, from steps such as ``v1`` (main), ``v2/3`` (with a challenger), ``back v1`` and ``delete``.

    As the service does it, a rollback remembers what it left until main is chosen otherwise.
    """
    found: list[RevisionView] = []
    leaving: str | None = None
    for number, step in enumerate(steps, 1):
        kind, _, versions = step.rpartition(" ")
        before = found[0] if found else None
        if step == "delete":
            assert before is not None
            main, challenger, kind = before.main, before.challenger, "delete"
        else:
            names = versions.removeprefix("v").split("/")
            main, challenger = ref(int(names[0])), ref(int(names[1])) if len(names) > 1 else None
        if before is None or before.main.digest != main.digest or before.kind == "delete":
            leaving = before.main.digest if before and kind == "back" else None
        found.insert(0, RevisionView(
            deployment="late", number=number, kind={"back": "rollback", "delete": "delete"}.get(kind, "change"),
            description="", project="default", main=main, challenger=challenger, access="public", records="spooled",
            running=True, chosen=number, leaving=leaving, restored=None, who="ana", why="", created=datetime.now(UTC),
        ))  # fmt: skip
    return found


WAYS: list[tuple[list[str], int | None]] = [
    (["v1"], None),
    (["v1", "v1"], None),
    (["v1", "v2"], 1),
    (["v1", "v1/2", "v2"], 2),
    (["v1", "v2", "v2/1"], 1),
    (["v1", "v2", "v3"], 2),
    (["v1", "v2", "back v1"], None),
    (["v1", "v2", "back v1", "v1/3"], None),
    (["v9", "v1", "v2", "back v1"], 1),
    (["v9", "v1", "v2", "back v1", "back v9"], None),
    (["v1", "v2", "back v1", "v3"], 3),
    (["v1", "v2", "back v1", "v2"], 3),
    (["v1", "v2", "back v1", "v2", "v3"], 4),
    (["v1", "v2", "delete", "v3"], None),
    (["v1", "delete", "v2", "v3"], 3),
]


@pytest.mark.parametrize(("steps", "number"), WAYS, ids=lambda value: ", ".join(value) if isinstance(value, list) else str(value))
def test_the_way_back_leads_to_the_last_good_main(steps: list[str], number: int | None) -> None:
    """Never to what a rollback has left, unless somebody chose it by name since; never beyond a deletion."""
    found = way_back(history(*steps))
    assert (found.number if found else None) == number


@pytest.mark.parametrize(("steps", "number"), [way for way in WAYS if not way[0][-1].startswith("back")])
def test_a_rollback_without_a_number_takes_the_way_back(steps: list[str], number: int | None) -> None:
    """Or says that there is none, with the code that programs know."""
    past = history(*steps)
    if number is None:
        with pytest.raises(Conflict) as caught:
            rollback_target(past, RollbackInput())
        assert caught.value.code == "nothing-to-go-back-to"
    else:
        target = rollback_target(past, RollbackInput(leaving=past[0].main.digest))
        assert target is not None
        assert target.number == number


ASKED: list[tuple[RollbackInput, int | None]] = [
    (RollbackInput(), None),
    (RollbackInput(leaving=digest(2)), None),
    (RollbackInput(leaving=digest(1), revision=2), 2),
    (RollbackInput(revision=1), None),
    (RollbackInput(revision=2), 2),
    (RollbackInput(revision=3), None),
]


@pytest.mark.parametrize(("asked", "number"), ASKED)
def test_after_a_rollback_only_a_new_wish_moves_anything(asked: RollbackInput, number: int | None) -> None:
    """The second click of two, in whatever form it comes, is fulfilled already; a number is a wish of its own."""
    target = rollback_target(history("v1", "v2", "back v1"), asked)
    assert (target.number if target else None) == number


@pytest.mark.parametrize("number", [4, 99])
def test_an_unknown_revision_is_not_found(number: int) -> None:
    """The sentence names the newest one."""
    with pytest.raises(NotFound, match="its newest is 3"):
        rollback_target(history("v1", "v2", "v3"), RollbackInput(revision=number))


STEPS = st.lists(st.sampled_from(["v1", "v2", "v3", "v1/2", "v2/1", "back v1", "back v2", "back v3"]), min_size=1, max_size=8)


@given(steps=STEPS)
def test_a_way_back_is_always_another_main_of_the_past(steps: list[str]) -> None:
    """Never the present main, never what the present main was rolled back from."""
    past = history(*steps)
    found = way_back(past)
    if found is not None:
        assert found in past[1:]
        assert found.main.digest not in {past[0].main.digest, past[0].leaving}


@given(steps=STEPS, number=st.integers(1, 8))
def test_a_rollback_by_number_restores_that_pair_or_nothing(steps: list[str], number: int) -> None:
    """None exactly where the pair is wished already."""
    past = history(*steps)
    if number > len(past):
        return
    wanted = past[len(past) - number]
    target = rollback_target(past, RollbackInput(revision=number))
    assert (target is None) == (pair(wanted) == pair(past[0]))
    assert target is None or target == wanted


@dataclass
class Clock:
    """A clock that can be set."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def report(**more: Any) -> NodeReport:
    """The main node's word."""
    return NodeReport(**{"node": "main", "boot": "b", "role": "main", "url": "u", "sequence": 1, "ready": True, **more})


JUMPS = [(0.0, True), (LIVE_SECONDS, True), (LIVE_SECONDS + 0.1, False), (3600.0, False), (-1.0, True), (-3600.0, False)]


@pytest.mark.parametrize(("seconds", "alive"), JUMPS)
def test_a_node_is_alive_only_while_its_word_is_fresh(seconds: float, alive: bool) -> None:
    """A clock set back by an hour must not keep a dead node alive for that hour; its next report makes it fresh again."""
    clock = Clock()
    nodes = Nodes(clock)
    nodes.take("main", report())
    clock.now += seconds
    assert bool(nodes.live()) == alive
    assert (nodes.age("main") or 0.0) >= 0.0
    nodes.take("main", report())
    assert nodes.live()


def test_what_an_earlier_process_heard_is_no_life() -> None:
    """Good for "last seen"; alive is only who spoke to this process, whose word then stands."""
    clock = Clock()
    nodes = Nodes(clock)
    nodes.remember("main", report(boot="old"), clock.now)
    assert nodes.live() == []
    nodes.take("main", report(boot="new"))
    nodes.remember("main", report(boot="old"), clock.now)
    assert [one.boot for one in nodes.live()] == ["new"]
    assert not Heard(report(), clock.now, present=False).live(clock.now)


def test_a_word_is_not_lost_to_a_memory_that_comes_at_the_same_moment() -> None:
    """A node that joins has its infrastructure's nodes remembered again, in another thread than the one that takes reports."""
    at_once: list[threading.Thread] = []

    def clock() -> float:
        # Asked in the middle of taking a report over.
        at_once.append(threading.Thread(target=nodes.remember, args=("challenger", report(node="challenger"), 1.0)))
        at_once[-1].start()
        at_once[-1].join(0.2)
        return 2.0

    nodes = Nodes(clock)
    nodes.take("main", report())
    at_once[0].join()
    assert [one.report.node for one in (nodes.heard("main"), nodes.heard("challenger")) if one] == ["main", "challenger"]
