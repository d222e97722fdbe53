"""What is adopted where nodes know more than the database: which deployments, which version, and what may not move by it."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck.plan import DeploymentPlan, DeploymentReport, Mirror, NodeReport, Plan, Role, VersionRef
from quarterdeck.rollout import Record, decide
from quarterdeck_deployer.adopting import ahead, content, record, served, untold
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.revisions import Content, RevisionView
from tests.stored_records import ref

NOW = 1_000.0
ONE, TWO, THREE = ref(1), ref(2), ref(3)


def plan(role: Role = "main", generation: int = 5, active: VersionRef | None = TWO, **more: Any) -> DeploymentPlan:
    """What a node was told about `late`."""
    resident = [active, ONE] if active else []
    fields = {"resident": resident, "revision": 7, "access": "project", "project": "taxi", **more}
    return DeploymentPlan(name="late", role=role, generation=generation, active=active, **fields)


def node(name: str, told: DeploymentPlan | None, role: Role = "main", **said: Any) -> NodeReport:
    """A node that does what it was told, but for what is `said` otherwise."""
    deployments = []
    if told is not None:
        active = told.active.digest if told.active else None
        mirroring = told.mirror.version.digest if told.mirror else None
        fields = {"generation": told.generation, "revision": told.revision, "active": active, "mirroring": mirroring, **said}
        deployments = [DeploymentReport(name=told.name, role=role, **fields)]
    words = [told] if told else []
    return NodeReport(
        node=name, boot=name, role=role, url="http://x", sequence=9, ready=True, deployments=deployments, told=words
    )


def known(number: int = 2, **more: Any) -> RevisionView:
    """What the database has as the newest revision."""
    fields = {
        "description": "words", "project": "default", "stage": "prod", "service": "lateness", "main": ONE, "challenger": THREE,
        "access": "public", "records": "off", "running": True, "progress_seconds": 77, **more,
    }  # fmt: skip
    rest = {"kind": "change", "chosen": 1, "leaving": None, "restored": None, "who": "x", "why": "", "created": utc_now()}
    return RevisionView(**fields, deployment="late", number=number, **rest)


AHEAD = [
    ("the database knows as much", {"late": 5}, set()),
    ("the database knows more", {"late": 6}, set()),
    ("the database knows less", {"late": 4}, {"late"}),
    ("the database never heard of it", {}, {"late"}),
]


@pytest.mark.parametrize(("title", "numbers", "expected"), AHEAD, ids=[row[0] for row in AHEAD])
def test_only_what_nodes_know_more_of_is_ahead(title: str, numbers: dict[str, int], expected: set[str]) -> None:
    """By the number of the revision; a node without deployments says nothing."""
    assert ahead(numbers, [node("main", plan()), node("empty", None)]) == expected


def test_who_has_not_told_is_asked() -> None:
    """Only nodes that hold it, and only until they have."""
    silent = node("silent", plan()).model_copy(update={"told": []})
    assert untold({"late"}, [node("main", plan()), silent, node("empty", None)]) == {"silent"}
    assert untold({"other"}, [silent]) == set()


def test_the_node_with_the_newest_wish_counts_and_among_those_one_that_answers() -> None:
    """A node that was away during a change, or still loads, does not decide what is adopted."""
    late = node("late", plan(generation=4, active=ONE))
    loading = node("loading", plan(), active=None)
    found = served("late", [late, loading, node("up", plan(revision=8))])
    assert found is not None
    assert (found.active, found.generation, found.revision) == (TWO, 5, 8)


def test_without_a_main_node_that_tells_nothing_is_adopted() -> None:
    """A challenger node alone does not know who answers."""
    assert served("late", [node("challenger", plan("challenger"), "challenger")]) is None
    assert served("late", [node("main", None)]) is None


def test_in_the_middle_of_a_rollout_what_answers_is_adopted() -> None:
    """The plan wants three and the node still answers with two: two it is."""
    told = plan(active=THREE, resident=[THREE, TWO])
    found = served("late", [node("main", told, active=TWO.digest)])
    assert found is not None
    wanted = content(found, known(), "prod")
    assert wanted is not None
    assert wanted.main == TWO


def test_a_known_deployment_takes_over_what_ran_and_keeps_the_rest() -> None:
    """Pair, access, project and records as nodes had them; words, stage, service and patience as the database has them."""
    mirror = Mirror(url="http://x", version=THREE, token="")
    reports = [node("main", plan(mirror=mirror)), node("challenger", plan("challenger", active=THREE), "challenger")]
    found = served("late", reports)
    assert found is not None
    assert (
        content(found, known(challenger=None), "prod")
        == known(main=TWO, challenger=THREE, access="project", project="taxi", records="spooled").content
    )


def test_a_forgotten_deployment_comes_back_as_the_nodes_have_it() -> None:
    """With defaults where nobody can tell."""
    found = served("late", [node("main", plan(service="lateness"))])
    assert found is not None
    assert content(found, None, "dev") == Content(
        description="", project="taxi", stage="dev", service="lateness", main=TWO, challenger=None, access="project",
        records="spooled", running=True,
    )  # fmt: skip


def test_a_stopped_deployment_stays_stopped_and_one_that_nobody_knows_stays_away() -> None:
    """Nothing answers and nothing is loaded: which version it had can only be what the database knows."""
    found = served("late", [node("main", plan(active=None))])
    assert found is not None
    wanted = content(found, known(), "prod")
    assert wanted is not None
    assert (wanted.main, wanted.challenger, wanted.running) == (ONE, THREE, False)
    assert content(found, None, "prod") is None


@pytest.mark.parametrize("mirrored", [True, False], ids=["mirrored", "not yet mirrored"])
def test_nothing_moves_by_the_adoption(mirrored: bool) -> None:
    """The first decision after it keeps what answers, keeps the way back in memory, and mirrors on if it was mirrored."""
    mirror = Mirror(url="http://x", version=THREE, token="") if mirrored else None
    reports = [node("main", plan(mirror=mirror)), node("challenger", plan("challenger", active=THREE), "challenger")]
    found = served("late", reports)
    assert found is not None
    old = Record(revision=3, generation=2, active=ONE, active_since=1.0, rejected=[TWO.digest], challenger=THREE)
    wanted = content(found, known(), "prod")
    assert wanted is not None
    wish = RevisionView(**{**known(number=6).model_dump(), **wanted.model_dump(), "chosen": 6})
    decision = decide(wish.spec(), record(found, old, NOW), reports, NOW)
    assert (decision.active, decision.resident[:2], decision.challenger) == (TWO, [TWO, ONE], THREE)
    assert decision.mirror == (THREE if mirrored else None)
    assert (decision.record.revision, decision.record.generation, decision.record.rejected) == (7, 6, [])


def test_what_a_node_tells_holds_no_token() -> None:
    """The mirror's address and version, and nothing that opens it."""
    mirror = Mirror(url="http://x", version=THREE, token="secret")
    whole = Plan(node="main", sequence=1, store="s", deployments=[plan(mirror=mirror), plan().model_copy(update={"name": "b"})])
    assert "secret" not in str([one.model_dump() for one in whole.told()])
    assert [one.name for one in whole.told()] == ["late", "b"]
    assert whole.told()[0].mirror == Mirror(url="http://x", version=THREE, token="")
