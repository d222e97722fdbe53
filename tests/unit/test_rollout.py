"""The rollout decision by tables of worlds: what is wanted, what was decided, what nodes say → what is decided now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.plan import DeploymentReport, LoadState, NodeReport, Role, VersionRef, VersionReport
from quarterdeck.rollout import Condition, Decision, Hold, Record, Spec, decide

NOW = 1_000.0


def ref(version: int) -> VersionRef:
    return VersionRef(model="m", version=version, digest="sha256:" + f"{version:064x}")


V1, V2, V3 = ref(1), ref(2), ref(3)
V1_CUDA = V1.model_copy(update={"accelerator": "cuda"})


def spec(generation: int = 1, main: VersionRef | None = V1, **more: Any) -> Spec:
    return Spec(deployment="d", generation=generation, main=main, **more)


def node(
    name: str = "n1",
    role: Role = "main",
    generation: int = 1,
    revision: int = 0,
    active: VersionRef | None = None,
    **states: LoadState,
) -> NodeReport:
    """A report; states are given as v1="ready", v2="failed", v1_cuda="loading" …"""
    versions = [_version(key, state) for key, state in states.items()]
    report = DeploymentReport(
        name="d", role=role, revision=revision, generation=generation, active=active.digest if active else None, versions=versions
    )
    return NodeReport(node=name, boot="b", role=role, url="http://127.0.0.1:1", sequence=1, ready=True, deployments=[report])


def _version(key: str, state: LoadState) -> VersionReport:
    number, _, accelerator = key[1:].partition("_")
    return VersionReport(
        digest=ref(int(number)).digest,
        version=int(number),
        accelerator="cuda" if accelerator == "cuda" else "none",
        state=state,
        code="golden-mismatch" if state == "failed" else "",
        reason="row 3 differs" if state == "failed" else "",
    )


def serving(active: VersionRef = V1, generation: int = 1, **more: Any) -> Record:
    return Record(**{"revision": generation, "generation": generation, "active": active, "active_since": 0.0, **more})


def condition(decision: Decision, kind: str) -> Condition:
    return next(one for one in decision.conditions if one.type == kind)


@dataclass
class World:
    """One row of the table: a world, and what must come out."""

    name: str
    spec: Spec
    record: Record
    nodes: list[NodeReport]
    active: VersionRef | None
    resident: list[VersionRef]
    revision: int
    conditions: dict[str, tuple[str, str]] = field(default_factory=dict)
    mirror: VersionRef | None = None
    previous: VersionRef | None = None
    hold: str | None = None
    rejected: list[VersionRef] = field(default_factory=list)


WORLDS = [
    World(
        "nothing wanted, nothing done", spec(main=None), Record(), [node()], None, [], 0, {"Ready": ("False", "NothingProven")}
    ),
    World(
        "first deploy waits for nodes",
        spec(),
        Record(),
        [],
        None,
        [V1],
        0,
        {"Ready": ("Unknown", "NoNodes"), "Progressing": ("True", "Loading")},
    ),
    World(
        "first deploy is loading", spec(), Record(), [node(v1="loading")], None, [V1], 0, {"ModelLoaded": ("Unknown", "Loading")}
    ),
    World("first deploy is proven", spec(), Record(), [node(v1="ready")], V1, [V1], 1, {"ModelLoaded": ("True", "Proven")}),
    World(
        "first deploy refused: nothing serves, and it says why",
        spec(),
        Record(),
        [node(v1="failed")],
        None,
        [],
        0,
        {"ModelLoaded": ("False", "GoldenMismatch"), "Progressing": ("False", "Held")},
        hold="golden-mismatch",
    ),
    World(
        "steady",
        spec(),
        serving(),
        [node(active=V1, v1="ready")],
        V1,
        [V1],
        1,
        {"Ready": ("True", "Answering"), "Progressing": ("False", "Settled"), "RollbackReady": ("False", "NothingBefore")},
    ),
    World(
        "one node of two still loads: active stays",
        spec(2, V2),
        serving(),
        [
            node("a", generation=2, active=V1, v1="ready", v2="ready"),
            node("b", generation=2, active=V1, v1="ready", v2="loading"),
        ],
        V1,
        [V1, V2],
        1,
        {"Ready": ("True", "Answering"), "Progressing": ("True", "Loading")},
    ),
    World(
        "all nodes acknowledged: flip, the old one stays as previous",
        spec(2, V2),
        serving(),
        [node("a", generation=2, active=V1, v1="ready", v2="ready"), node("b", generation=2, active=V1, v1="ready", v2="ready")],
        V2,
        [V2, V1],
        2,
        {"RollbackReady": ("True", "Resident"), "Ready": ("False", "NodesBehind")},
        previous=V1,
    ),
    World(
        "one refusal aborts with its reason, the old one serves on",
        spec(2, V2),
        serving(),
        [node("a", generation=2, active=V1, v1="ready", v2="ready"), node("b", generation=2, active=V1, v1="ready", v2="failed")],
        V1,
        [V1],
        1,
        {"Ready": ("True", "Answering"), "ModelLoaded": ("False", "GoldenMismatch")},
        hold="golden-mismatch",
    ),
    World(
        "an acknowledgement of an older wish does not count",
        spec(2, V2),
        serving(),
        [node(generation=1, active=V1, v1="ready", v2="ready")],
        V1,
        [V1, V2],
        1,
    ),
    World(
        "a refusal of an older wish does not count",
        spec(2, V2),
        serving(),
        [node(generation=1, active=V1, v1="ready", v2="failed")],
        V1,
        [V1, V2],
        1,
    ),
    World(
        "too late: aborted by the deadline",
        spec(2, V2),
        serving(target=V2, target_since=NOW - 601, generation=2, revision=1),
        [node(generation=2, active=V1, v1="ready", v2="fetching")],
        V1,
        [V1],
        1,
        {"Progressing": ("False", "Held")},
        hold="progress-deadline",
    ),
    World(
        "a hold lasts through its generation",
        spec(2, V2),
        serving(generation=2, revision=1, hold=Hold(generation=2, reason="x", code="c")),
        [node(generation=2, active=V1, v1="ready", v2="ready")],
        V1,
        [V1],
        1,
        {"Progressing": ("False", "Held")},
        hold="c",
    ),
    World(
        "the next generation ends a hold",
        spec(3, V2),
        serving(generation=2, revision=1, hold=Hold(generation=2, reason="x", code="c")),
        [node(generation=3, active=V1, v1="ready", v2="ready")],
        V2,
        [V2, V1],
        3,
        previous=V1,
    ),
    World(
        "a short-lived version does not become previous",
        spec(3, V3),
        serving(V2, 2, active_since=NOW - 5, previous=V1, left=V1),
        [node(generation=3, active=V2, v1="ready", v2="ready", v3="ready")],
        V3,
        [V3, V1, V2],
        3,
        previous=V1,
    ),
    World(
        "a short-lived version is a way back where there is no other",
        spec(2, V2),
        serving(active_since=NOW - 5),
        [node(generation=2, active=V1, v1="ready", v2="ready")],
        V2,
        [V2, V1],
        2,
        previous=V1,
    ),
    World(
        "rollback flips to the resident previous without waiting for a new word",
        spec(3, V1, leaving=V2.digest),
        serving(V2, 2, previous=V1, left=V1),
        [node(generation=2, active=V2, v1="ready", v2="ready")],
        V1,
        [V1, V2],
        3,
        {"RolledBack": ("False", "RejectedBefore")},
        previous=V2,
        rejected=[V2],
    ),
    World(
        "a rejected version is not taken up by an edit of something else",
        spec(4, V2, chosen=2),
        serving(V1, 3, rejected=[V2.digest]),
        [node(generation=4, active=V1, v1="ready", v2="ready")],
        V1,
        [V1],
        3,
        {"RolledBack": ("True", "Rejected"), "ModelLoaded": ("False", "Rejected")},
        rejected=[V2],
    ),
    World(
        "a person may choose a rejected version again",
        spec(4, V2, chosen=4),
        serving(V1, 3, rejected=[V2.digest]),
        [node(generation=4, active=V1, v1="ready", v2="ready")],
        V2,
        [V2, V1],
        4,
        previous=V1,
    ),
    World(
        "a pin overrides main",
        spec(2, V2, pin=V1),
        serving(),
        [node(generation=2, active=V1, v1="ready")],
        V1,
        [V1],
        1,
        {"Progressing": ("False", "Settled")},
    ),
    World(
        "a node that has seen a higher revision raises the floor",
        spec(2, V2),
        serving(),
        [node(generation=2, revision=41, active=V1, v1="ready", v2="ready")],
        V2,
        [V2, V1],
        42,
        previous=V1,
    ),
    World(
        "an older wish than the decided one changes nothing",
        spec(1, V1),
        serving(V2, 5),
        [node(generation=5, active=V2, v1="ready", v2="ready")],
        V2,
        [V2],
        5,
        {"Progressing": ("False", "OlderGeneration")},
    ),
    World(
        "a draining node is not waited for",
        spec(2, V2),
        serving(),
        [
            node("a", generation=2, active=V1, v1="ready", v2="ready"),
            node("b", generation=1, active=V1, v1="ready").model_copy(update={"draining": True}),
        ],
        V2,
        [V2, V1],
        2,
        previous=V1,
    ),
    World(
        "stopped: nothing resident, nothing mirrored",
        spec(2, V1, running=False, challenger=V2),
        serving(challenger=V2),
        [node(generation=2)],
        None,
        [],
        1,
        {"Ready": ("False", "Stopped"), "ChallengerReceiving": ("False", "Stopped")},
    ),
    World(
        "the challenger is not ready: nothing is mirrored",
        spec(challenger=V2),
        serving(),
        [node(active=V1, v1="ready"), node("c", "challenger", v2="loading")],
        V1,
        [V1],
        1,
        {"ChallengerReady": ("False", "Loading"), "ChallengerReceiving": ("False", "NotReady")},
    ),
    World(
        "the challenger is ready, and nothing leads to it yet: nothing is mirrored",
        spec(challenger=V2, reachable=False),
        serving(),
        [node(active=V1, v1="ready"), node("c", "challenger", v2="ready")],
        V1,
        [V1],
        1,
        {"ChallengerReady": ("True", "Proven"), "ChallengerReceiving": ("False", "NotReachable")},
    ),
    World(
        "nothing leads to the challenger for a moment: rows are mirrored on",
        spec(challenger=V2, reachable=False),
        serving(challenger=V2),
        [node(active=V1, v1="ready"), node("c", "challenger", v2="ready")],
        V1,
        [V1],
        1,
        {"ChallengerReceiving": ("True", "Mirroring")},
        mirror=V2,
    ),
    World(
        "the challenger is ready: rows are mirrored",
        spec(challenger=V2),
        serving(),
        [node(active=V1, v1="ready"), node("c", "challenger", v2="ready")],
        V1,
        [V1],
        1,
        {"ChallengerReady": ("True", "Proven"), "ChallengerReceiving": ("True", "Mirroring")},
        mirror=V2,
    ),
    World(
        "the challenger was refused: main never feels it",
        spec(challenger=V2),
        serving(),
        [node(active=V1, v1="ready"), node("c", "challenger", v2="failed")],
        V1,
        [V1],
        1,
        {"Ready": ("True", "Answering"), "ChallengerReady": ("False", "GoldenMismatch")},
    ),
    World(
        "challenger equal to main pauses mirroring and says so",
        spec(challenger=V1),
        serving(challenger=V1),
        [node(active=V1, v1="ready"), node("c", "challenger", v1="ready")],
        V1,
        [V1],
        1,
        {"ChallengerReceiving": ("False", "SameAsMain")},
    ),
    World(
        "the same digest in two roles: promotion prepares main first",
        spec(2, V2, challenger=V1),
        serving(challenger=V2),
        [node(generation=2, active=V1, v1="ready", v2="loading"), node("c", "challenger", generation=2, v1="ready", v2="ready")],
        V1,
        [V1, V2],
        1,
        {"ChallengerReceiving": ("False", "SameAsMain")},
    ),
    World(
        "after the flip of a swap the pair is mirrored the other way",
        spec(2, V2, challenger=V1),
        serving(challenger=V1),
        [node(generation=2, active=V1, v1="ready", v2="ready"), node("c", "challenger", generation=2, v1="ready")],
        V2,
        [V2, V1],
        2,
        mirror=V1,
        previous=V1,
    ),
    World(
        "the same bytes for another accelerator are loaded beside those that serve",
        spec(2, V1_CUDA),
        serving(),
        [node(generation=2, active=V1, v1="ready")],
        V1,
        [V1, V1_CUDA],
        1,
        {"Progressing": ("True", "Loading"), "ModelLoaded": ("Unknown", "Loading")},
    ),
    World(
        "the same bytes for another accelerator answer once they are proven on it",
        spec(2, V1_CUDA),
        serving(),
        [node(generation=2, active=V1, v1="ready", v1_cuda="ready")],
        V1_CUDA,
        [V1_CUDA, V1],
        2,
        {"ModelLoaded": ("True", "Proven"), "RollbackReady": ("True", "Resident")},
        previous=V1,
    ),
    World(
        "an accelerator that a node does not have leaves the processor answering",
        spec(2, V1_CUDA),
        serving(),
        [node(generation=2, active=V1, v1="ready", v1_cuda="failed")],
        V1,
        [V1],
        1,
        {"ModelLoaded": ("False", "GoldenMismatch"), "Progressing": ("False", "Held")},
        hold="golden-mismatch",
    ),
    World(
        "back from the accelerator to the processor rejects nothing",
        spec(3, V1, leaving=V1.digest),
        serving(V1_CUDA, 2, previous=V1, left=V1),
        [node(generation=3, active=V1, v1="ready", v1_cuda="ready")],
        V1,
        [V1, V1_CUDA],
        3,
        previous=V1_CUDA,
    ),
    World(
        "a challenger of main's bytes is not mirrored to, whatever scores it",
        spec(challenger=V1_CUDA),
        serving(challenger=V1_CUDA),
        [node(active=V1, v1="ready"), node("c", "challenger", v1_cuda="ready")],
        V1,
        [V1],
        1,
        {"ChallengerReady": ("True", "Proven"), "ChallengerReceiving": ("False", "SameAsMain")},
    ),
]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_world_is_decided_as_the_table_says(world: World) -> None:
    """Given a world, when it is decided, then exactly this is served, held, mirrored and said."""
    decision = decide(world.spec, world.record, world.nodes, NOW)

    assert decision.active == world.active
    assert decision.resident == world.resident
    assert decision.record.revision == world.revision
    assert decision.mirror == world.mirror
    assert decision.record.previous == (world.previous or world.record.previous)
    assert (decision.record.hold.code if decision.record.hold else None) == world.hold
    assert decision.record.rejected == [one.digest for one in world.rejected]
    for kind, expected in world.conditions.items():
        found = condition(decision, kind)
        assert (found.status, found.reason) == expected, found.message


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_deciding_again_in_the_same_world_changes_nothing(world: World) -> None:
    """A decision is a fixed point: restarts and repeated passes write nothing new."""
    first = decide(world.spec, world.record, world.nodes, NOW)
    again = decide(world.spec, first.record, world.nodes, NOW)

    assert again.record == first.record
    assert (again.active, again.resident, again.mirror) == (first.active, first.resident, first.mirror)


def test_a_second_click_on_rollback_is_a_no_op() -> None:
    """Given a finished rollback, when the same wish is decided again, then revision and active stay."""
    wish = spec(3, V1, leaving=V2.digest)
    nodes = [node(generation=3, active=V1, v1="ready", v2="ready")]
    once = decide(wish, serving(V2, 2, previous=V1), nodes, NOW).record

    assert decide(wish, once, nodes, NOW + 100).record == once


def test_messages_name_the_node_and_the_reason() -> None:
    """A refusal reaches the condition in the node's own words."""
    decision = decide(spec(2, V2), serving(), [node("n7", generation=2, active=V1, v1="ready", v2="failed")], NOW)

    assert "n7" in condition(decision, "ModelLoaded").message
    assert "row 3 differs" in condition(decision, "ModelLoaded").message


def test_a_node_that_tries_on_in_vain_says_why() -> None:
    """A store that is not reached is no refusal: the move goes on, and the condition has the store's own reason."""
    report = node("a", generation=2, active=V1, v1="ready", v2="fetching")
    hindered = report.deployments[0].versions[1].model_copy(update={"code": "wrong-credentials", "reason": "Nobody is let in."})
    versions = [report.deployments[0].versions[0], hindered]
    report = report.model_copy(update={"deployments": [report.deployments[0].model_copy(update={"versions": versions})]})
    decision = decide(spec(2, V2), serving(), [report], NOW)
    loaded = condition(decision, "ModelLoaded")
    assert (loaded.status, loaded.reason, loaded.message) == ("Unknown", "WrongCredentials", "m v2 on node a: Nobody is let in.")
    assert condition(decision, "Progressing").message == "m v2: a: Nobody is let in."


STATES = st.sampled_from(["fetching", "loading", "ready", "failed"])
EVENTS = st.one_of(
    st.tuples(st.just("want"), st.integers(1, 3)),
    st.tuples(st.just("rollback"), st.integers(1, 3)),
    st.tuples(st.just("report"), st.tuples(STATES, STATES, STATES)),
    st.tuples(st.just("gone"), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 700)),
)


@given(st.lists(EVENTS, max_size=40))
def test_whatever_happens_active_moves_only_to_a_version_that_every_node_has_proven(events: list[tuple[str, Any]]) -> None:
    """Property: the revision never falls, a rejected version is never taken by automation, and moves need all nodes."""
    wish, record, nodes, now = spec(), Record(), [], NOW
    for kind, value in events:
        generation = wish.generation + 1
        if kind == "want":
            wish = spec(generation, ref(value), chosen=generation)
        elif kind == "rollback":
            wish = spec(generation, ref(value), chosen=generation, leaving=record.active.digest if record.active else None)
        elif kind == "report":
            states = dict(zip(("v1", "v2", "v3"), value, strict=True))
            nodes = [node("a", generation=wish.generation, active=record.active, **states)]
        elif kind == "gone":
            nodes = []
        else:
            now += value
        after = decide(wish, record, nodes, now).record
        assert after.revision >= record.revision
        if after.active != record.active:
            assert after.active is not None
            assert after.active.digest not in after.rejected
            assert after.revision > record.revision
            assert any(one.digest == after.active.digest and one.state == "ready" for one in nodes[0].deployments[0].versions)
        if record.active is not None:
            assert after.active is not None
        record = after
