"""The rollout decision over several nodes: who is waited for, who is not, and what an answer to an older wish is worth."""

from __future__ import annotations

import pytest

from tests.unit.rollout_nodes import V1, V2, V3, Node, World, condition


def served(*names: str) -> World:
    """Nodes that answer with version 1, as they have done for long."""
    world = World(*names)
    world.settle()
    world.step(3_600)
    return world


@pytest.mark.parametrize("ready", range(4))
def test_nothing_moves_before_the_last_of_three(ready: int) -> None:
    """Given three pods of which so many have the version proven, then all flip together or none does."""
    world = served("a", "b", "c")
    for node in world.nodes[ready:]:
        node.loads = False
    world.wishes(V2)

    decision = world.settle()

    assert world.answering() == ([2, 2, 2] if ready == 3 else [1, 1, 1])
    if ready < 3:
        assert f"{ready} of 3 nodes have it ready" in condition(decision, "Progressing").message


def test_one_refusal_of_three_stops_the_move() -> None:
    """And the condition names the pod; the others let go of what they had loaded."""
    world = served("a", "b", "c")
    world.nodes[1].refuses.add(2)
    world.wishes(V2)

    decision = world.settle()

    assert world.answering() == [1, 1, 1]
    assert condition(decision, "ModelLoaded").message.startswith("m v2 on node b: row 3 differs")
    assert decision.resident == [V1]


@pytest.mark.parametrize("told", [False, True], ids=["has not reported anything", "has taken the plan over"])
def test_a_node_that_joins_is_waited_for(told: bool) -> None:
    """A pod that is ready without the new version would answer with it first when it has loaded it: too late."""
    world = served("a", "b")
    world.wishes(V2)
    world.step()
    joined = Node("c", loads=False)
    world.nodes.append(joined)

    decision = world.step(follow=world.nodes if told else world.nodes[:2])
    world.settle() if told else world.step(follow=world.nodes[:2])

    assert decision.active == V1
    assert world.answering()[:2] == [1, 1]
    joined.loads = True
    world.settle()
    assert world.answering() == [2, 2, 2]


def test_a_node_that_joins_after_the_flip_answers_with_what_is_active() -> None:
    """Nobody goes back for it, and it never answers with the version before."""
    world = served("a", "b")
    world.wishes(V2)
    world.settle()
    world.nodes.append(Node("c"))

    decision = world.settle()

    assert world.answering() == [2, 2, 2]
    assert condition(decision, "Ready").message == "3 of 3 nodes answer with m v2."


@pytest.mark.parametrize("how", ["leaves", "drains"])
def test_a_node_that_goes_is_not_waited_for(how: str) -> None:
    """The slowest pod is deleted in the middle of it."""
    world = served("a", "b", "c")
    world.nodes[2].loads = False
    world.wishes(V2)
    world.settle()
    assert world.answering() == [1, 1, 1]

    if how == "leaves":
        world.nodes.pop()
    else:
        world.nodes[2].draining = True
    world.settle()

    assert world.answering()[:2] == [2, 2]


def test_all_nodes_gone_moves_nothing() -> None:
    """Scaled to none, or an operator that has just started: nobody has proven anything."""
    world = served("a", "b")
    world.wishes(V2)
    world.nodes.clear()

    decision = world.settle()

    assert decision.active == V1
    assert condition(decision, "Ready").status == "Unknown"


def test_an_echo_of_an_older_generation_is_no_word_about_the_present_one() -> None:
    """Given a node that refused the version under the last wish, when that is renewed, then its old word does not abort it."""
    world = served("a", "b", "c")
    world.nodes[0].refuses.add(2)
    world.wishes(V2)
    world.settle()
    assert world.record.hold is not None
    world.nodes[0].refuses.clear()
    world.wishes(V2)

    decision = world.step(follow=world.nodes[1:])

    assert (decision.record.hold, decision.record.target) == (None, V2)
    world.step(follow=world.nodes[1:])
    assert world.answering() == [1, 1, 1], "node a has not spoken about this wish"
    world.settle()
    assert world.answering() == [2, 2, 2]


def test_a_step_back_waits_for_no_echo() -> None:
    """Every node held the version before all the time: one pass flips all, whatever generation they speak of."""
    world = served("a", "b", "c")
    world.wishes(V2)
    world.settle()
    world.wishes(V1, leaving=V2.digest)

    decision = world.step()

    assert decision.active == V1
    assert world.answering() == [1, 1, 1]


def test_a_newer_wish_in_the_middle_replaces_the_target() -> None:
    """Version 2 is never served; its half-loaded copies are let go of."""
    world = served("a", "b", "c")
    world.nodes[0].loads = False
    world.wishes(V2)
    world.settle()
    world.wishes(V3)
    world.nodes[0].loads = True

    decision = world.settle()

    assert world.answering() == [3, 3, 3]
    assert V2 not in decision.resident


def test_a_late_follower_keeps_the_deployment_from_being_ready() -> None:
    """The flip is decided, one pod has not heard of it: the condition counts."""
    world = served("a", "b", "c")
    world.wishes(V2)
    world.step()
    world.step(follow=world.nodes[:2])

    decision = world.step(follow=world.nodes[:2])

    assert world.answering() == [2, 2, 1]
    assert condition(decision, "Ready").message == "2 of 3 nodes answer with m v2."
