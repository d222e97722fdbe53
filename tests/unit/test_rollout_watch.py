"""Automatic rollback: what is taken back, when, by which figures, and that it never comes back by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.placement import Rollback
from quarterdeck.rollout import Record
from tests.unit.rollout_nodes import V1, V2, V3, Node, World, condition, ref, spec, swapped

WRONG = "a score differs by 0.5."


@pytest.mark.parametrize(
    ("before", "since", "taken"),
    [
        pytest.param((200, 0), (50, 3), True, id="enough requests, more than five points above nothing"),
        pytest.param((200, 0), (49, 49), False, id="too few requests, all of them failed"),
        pytest.param((200, 0), (100, 5), False, id="just the margin is allowed"),
        pytest.param((200, 0), (100, 6), True, id="one more is not"),
        pytest.param((200, 20), (100, 15), False, id="the version before failed as well: just the margin above it"),
        pytest.param((200, 20), (100, 16), True, id="more than the margin above it"),
        pytest.param((200, 200), (100, 100), False, id="nothing is worse than everything"),
        pytest.param((0, 0), (50, 3), True, id="nobody asked the version before"),
        pytest.param((200, 0), (100_000, 0), False, id="no failure at all"),
    ],
)
def test_an_error_rate_above_the_former_one_is_taken_back(before: tuple[int, int], since: tuple[int, int], taken: bool) -> None:
    """Given figures before and since the flip, then the version goes on or the one before answers again."""
    world = swapped(before=before)
    world.nodes[0].serve(*since)

    decision = world.settle(2)

    assert world.answering() == [1 if taken else 2]
    assert (world.record.hold is not None) is taken
    assert world.record.rejected == ([V2.digest] if taken else [])
    assert condition(decision, "RolledBack").status == ("True" if taken else "False")


def test_the_condition_names_version_figures_reason_and_next_step() -> None:
    """A person can act on it without looking elsewhere."""
    world = swapped()
    world.nodes[0].serve(60, 30)

    decision = world.settle(12)

    said = condition(decision, "RolledBack")
    assert (said.status, said.reason) == ("True", "ErrorRate")
    assert said.message == (
        "m v2 was taken back after 12 s. m v2 failed 30 of 60 requests (50.0 %) since it became active; m v1 before it 0 of 200 "
        "requests (0.0 %). Allowed is no more than 5 percentage points above that. Deploy a better version; whoever wants this "
        "one again deploys it by name."
    )
    assert condition(decision, "Progressing").reason == "RolledBack"
    assert condition(decision, "ModelLoaded").reason == "Rejected"
    assert condition(decision, "Ready").status == "True"
    assert V2 not in decision.resident


def test_a_golden_row_is_enough() -> None:
    """Without a single request: what the package itself promised is not what it answers."""
    world = swapped("a", "b", "c")
    world.nodes[1].wrong = WRONG

    decision = world.settle(1)

    assert world.answering() == [1, 1, 1]
    said = condition(decision, "RolledBack")
    assert said.reason == "GoldenRow"
    assert "m v2 fails its golden row on node b: a score differs by 0.5." in said.message


def test_a_golden_row_of_the_version_before_says_nothing_of_the_new_one() -> None:
    """A node that has not followed the flip yet speaks of what it still answers with."""
    world = World("a", "b")
    world.settle()
    world.wishes(V2)
    world.step()
    world.nodes[1].wrong = WRONG
    world.step(follow=world.nodes[:1])

    decision = world.step(5, follow=world.nodes[:1])

    assert decision.active == V2
    assert (world.answering(), world.record.rejected) == ([2, 1], [])


def test_counters_are_taken_from_the_flip_on() -> None:
    """A version that was asked by number before it became active brings its figures along, and they do not count."""
    world = World()
    world.settle()
    world.wishes(V2)
    world.step()
    world.nodes[0].requests[V2.digest], world.nodes[0].failures[V2.digest] = 500, 500
    world.settle()
    world.nodes[0].serve(100)

    world.settle(5)

    assert (world.answering(), world.record.rejected) == ([2], [])


def test_a_restart_begins_at_zero_and_never_below() -> None:
    """Figures of an earlier boot are gone; the new boot's own count from its first request."""
    world = swapped("a", "b")
    for node in world.nodes:
        node.serve(40, 40)
    world.nodes[0].restart()
    world.settle(1)
    assert world.answering() == [2, 2], "40 requests are not enough"

    world.nodes[0].serve(10, 10)
    world.settle(1)

    assert world.answering() == [1, 1]


def test_figures_of_all_nodes_are_added_up() -> None:
    """No node alone has seen enough."""
    world = swapped("a", "b", "c", "d")
    for node in world.nodes:
        node.serve(13, 2)

    world.settle(2)

    assert world.answering() == [1, 1, 1, 1]


def test_nodes_of_a_new_template_know_the_rate_from_the_record() -> None:
    """Given a version that always failed a tenth, when it is replaced by nodes that never served it, then that tenth counts."""
    world = swapped(before=(200, 0))
    world.nodes[0].serve(1_000, 40)
    world.step(601)
    assert (world.record.watch, world.record.counted.requests) == (None, 1_000)
    world.nodes = [Node("fresh")]
    world.step()
    world.wishes(V3)
    world.settle()
    world.nodes[0].serve(100, 9)
    world.settle(5)

    assert world.answering() == [3]
    world.nodes[0].serve(100, 20)
    world.settle(5)
    assert world.answering() == [2]


@pytest.mark.parametrize(("seconds", "taken"), [(599, True), (601, False)])
def test_only_within_the_window(seconds: float, taken: bool) -> None:
    """Afterwards a version that fails is a person's matter, and nothing is watched any more."""
    world = swapped()
    world.step(seconds)
    world.nodes[0].serve(1_000, 1_000)
    world.nodes[0].wrong = WRONG

    decision = world.settle()

    assert world.answering() == [1 if taken else 2]
    assert world.record.watch is None
    assert taken or condition(decision, "RolledBack").reason == "Never"


def test_switched_off_it_only_says_so() -> None:
    """The figures are shown; a person decides. Switching it on within the window takes the version back at once."""
    off = Rollback(automatic=False)
    world = swapped(rollback=off)
    world.nodes[0].serve(60, 30)

    decision = world.settle(1)

    assert world.answering() == [2]
    said = condition(decision, "RolledBack")
    assert (said.status, said.reason) == ("False", "NotAutomatic")
    assert "30 of 60 requests (50.0 %)" in said.message
    world.wishes(V2)
    world.settle(1)
    assert world.answering() == [1]


def test_the_first_version_has_nothing_before_it() -> None:
    """It goes on answering; the condition names the figures and that there is no way back."""
    world = World()
    world.settle()
    world.nodes[0].serve(60, 60)

    decision = world.settle(5)

    assert world.answering() == [1]
    said = condition(decision, "RolledBack")
    assert (said.status, said.reason) == ("False", "NothingToGoBackTo")
    assert "60 of 60 requests (100.0 %)" in said.message
    assert "deploy another one" in said.message


def test_there_and_back_is_done_once() -> None:
    """Given a version that was taken back, then through ten minutes and any number of restarts nothing flips again."""
    world = swapped("a", "b", "c")
    for node in world.nodes:
        node.serve(30, 30)
    world.settle(2)
    revision = world.record.revision

    for second in range(600):
        world.nodes[second % 3].serve(5, 5)
        if second % 50 == 0:
            world.nodes[second % 3].restart()
        # An operator that restarts knows the record and nothing else.
        world.record = Record.model_validate_json(world.record.model_dump_json())
        world.step(1)

    assert world.answering() == [1, 1, 1]
    assert world.record.revision == revision


@pytest.mark.parametrize(("chosen", "again"), [(2, False), (3, True)], ids=["an edit of something else", "chosen again"])
def test_the_next_generation_tries_again_only_where_a_person_chose_it(chosen: int, again: bool) -> None:
    """A rejection outlives edits of other fields; a choice by name lifts it, and the version is on trial anew."""
    world = swapped()
    world.nodes[0].serve(60, 60)
    world.settle(1)
    world.wishes(V2, chosen=chosen)

    decision = world.settle()

    assert world.answering() == [2 if again else 1]
    assert (world.record.taken_back is None) is again
    assert condition(decision, "RolledBack").reason == ("Never" if again else "ErrorRate")
    if again:
        world.nodes[0].serve(60, 60)
        world.settle(1)
        assert world.answering() == [1]


def test_a_newer_wish_is_not_held_by_it() -> None:
    """Given that version 3 is being loaded when 2 is taken back, then 3 follows on 1 and nothing is held."""
    world = swapped()
    world.nodes[0].loads = False
    world.wishes(V3)
    world.step()
    world.nodes[0].serve(60, 60)

    decision = world.step(1)

    assert (decision.active, decision.record.target, decision.record.hold) == (V1, V3, None)
    world.nodes[0].loads = True
    world.settle()
    assert world.answering() == [3]


def test_two_bad_versions_in_a_row_lead_back_to_the_good_one() -> None:
    """What was taken back is never a way back."""
    world = swapped()
    world.nodes[0].serve(60, 60)
    world.settle(1)
    world.wishes(V3)
    world.settle()
    assert world.answering() == [3]
    world.nodes[0].serve(60, 60)

    world.settle(1)

    assert world.answering() == [1]
    assert world.record.rejected == [V2.digest, V3.digest]


def test_stopping_ends_the_trial() -> None:
    """Whoever starts it again later starts what was active."""
    world = swapped()
    world.wishes(V2, running=False)
    world.step()
    assert world.record.watch is None
    world.wishes(V2)

    world.settle(1)

    assert world.answering() == [2]


COUNTS = st.tuples(st.integers(0, 120), st.integers(0, 120)).map(lambda pair: (max(pair), min(pair)))


@given(st.lists(st.tuples(st.integers(0, 2), COUNTS, st.booleans(), st.integers(0, 200)), max_size=12))
def test_it_goes_back_at_most_once_and_only_to_what_served(steps: list[tuple[int, tuple[int, int], bool, int]]) -> None:
    """Whatever is counted, restarted and waited for: one flip back at most, and never to a rejected version."""
    world = swapped("a", "b", "c")
    revision = world.record.revision
    for index, counts, restart, seconds in steps:
        node = world.nodes[index]
        node.serve(*counts)
        if restart:
            node.restart()
        decision = world.step(float(seconds))
        assert decision.active in (V1, V2)
        assert decision.active is None or decision.active.digest not in decision.record.rejected
        assert decision.record.revision - revision == (decision.active == ref(1))


def test_the_wish_is_never_written() -> None:
    """What people asked for stays theirs, word for word."""
    world = swapped()
    wish = world.wish.model_dump_json()
    world.nodes[0].serve(60, 60)
    world.settle(1)

    assert world.wish.model_dump_json() == wish
    assert world.wish == spec(2, V2, chosen=2)
