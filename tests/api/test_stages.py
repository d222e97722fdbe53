"""Stages and test queries through the API: defaults, changes, what stays where it is, and who is counted where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployer_world import World, world


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A deployer with version 1 registered."""
    with world(tmp_path) as found:
        found.register(1)
        yield found


def put(here: World, name: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """Status and document of a change."""
    answer = here.http.put(f"/api/stages/{name}", json=body)
    return answer.status_code, answer.json()


def test_every_instance_begins_with_three_stages(here: World, tmp_path: Path) -> None:
    """From free to strict, all on the local infrastructure; a stage that was deleted does not come back by itself."""
    found = here.http.get("/api/stages").json()
    assert [(one["name"], [gate["gate"] for gate in one["gates"]]) for one in found] == [
        ("dev", []),
        ("staging", ["package", "golden"]),
        ("prod", ["package", "golden", "scenarios", "schema", "replay"]),
    ]
    assert {(one["infrastructure"], one["approval"], one["deployments"]) for one in found} == {("local", False, 0)}
    assert here.http.delete("/api/stages/staging").status_code == 204
    with world(tmp_path / "again") as other:
        assert len(other.http.get("/api/stages").json()) == 3
    here.deployer.stages.ensure()
    assert [one["name"] for one in here.http.get("/api/stages").json()] == ["dev", "prod"]


def test_stages_are_made_and_changed(here: World) -> None:
    """Gates come back in the order in which they are asked, with their defaults; an equal stage leaves no trace."""
    wanted = {"position": 1, "gates": [{"gate": "replay", "rows": 10}, {"gate": "golden"}], "approval": True}
    assert put(here, "canary", **wanted)[0] == 201
    status, found = put(here, "canary", **wanted)
    assert (status, found["approval"]) == (200, True)
    assert found["gates"][0] == {"gate": "golden"}
    assert (found["gates"][1]["rows"], found["gates"][1]["days"]) == (10, 7)
    assert put(here, "canary", position=9)[1]["gates"] == []
    trail = here.http.get("/api/audit", params={"object": "stage/canary"}).json()
    assert [entry["verb"] for entry in trail] == ["change", "create"]
    assert [one["name"] for one in here.http.get("/api/stages", params={"limit": 2}).json()] == ["dev", "staging"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"gates": [{"gate": "luck"}]}, 422),
        ({"gates": [{"gate": "golden"}, {"gate": "golden"}]}, 422),
        ({"gates": [{"gate": "replay", "max_changed": 2}]}, 422),
        ({"gates": [{"gate": "schema", "rows": 2}]}, 422),
        ({"infrastructure": "moon"}, 404),
        ({"position": -1}, 422),
    ],
)
def test_impossible_stages_are_refused(here: World, body: dict[str, Any], status: int) -> None:
    """And nothing is changed."""
    assert put(here, "prod", **body)[0] == status
    assert len(here.ok(here.http.get("/api/stages/prod"))["gates"]) == 5


def test_a_stage_with_deployments_stays_where_it_is(here: World, tmp_path: Path) -> None:
    """Neither moved nor deleted; its gates may change. An empty one may do both."""
    assert here.http.put("/api/infrastructures/edge", json={"kind": "static", "store": str(tmp_path / "edge")}).status_code == 201
    here.put(stage="prod")
    assert here.ok(here.http.get("/api/stages/prod"))["deployments"] == 1
    status, told = put(here, "prod", infrastructure="edge")
    assert (status, told["code"]) == (409, "stage-in-use")
    assert "1 deployments live there" in told["detail"]
    assert here.http.delete("/api/stages/prod").json()["code"] == "stage-in-use"
    assert put(here, "prod", gates=[])[0] == 200
    here.ok(here.http.delete("/api/deployments/late"))
    assert put(here, "prod", infrastructure="edge")[1]["infrastructure"] == "edge"
    assert here.deployer.infrastructures.placed("prod") == "edge"
    assert here.http.delete("/api/stages/prod").status_code == 204
    assert here.http.get("/api/stages/prod").status_code == 404


def test_a_deployment_lives_in_one_stage_for_good(here: World) -> None:
    """It is created in a stage that there is, and stays there; lists can be cut to a stage."""
    body = {"main": {"model": "flights", "version": 1}}
    assert here.http.put("/api/deployments/late", json={**body, "stage": "moon"}).status_code == 404
    here.put(stage="staging")
    told = here.http.put("/api/deployments/late", json={**body, "stage": "prod"})
    assert (told.status_code, told.json()["code"]) == (409, "stage-fixed")
    here.put("other")
    assert [one["name"] for one in here.http.get("/api/deployments", params={"stage": "staging"}).json()] == ["late"]


QUERY: dict[str, Any] = {
    "rows": [{"hour": 1.0, "distance": 2.0}],
    "expect": [{"prediction": "yes"}],
    "description": "an early one",
}


def test_test_queries_begin_as_golden_rows(here: World) -> None:
    """They expect an answer, not a certain one; deleting all of them and coming back brings them again."""
    here.put()
    [seeded] = here.http.get("/api/deployments/late/test-queries").json()
    assert (seeded["name"], seeded["seeded"], seeded["expect"]) == ("golden-1", True, [])
    assert seeded["rows"] == [{"hour": 1.0, "distance": 1.0}]
    here.put(description="a change seeds nothing anew")
    assert here.http.delete("/api/deployments/late/test-queries/golden-1").status_code == 204
    assert here.http.get("/api/deployments/late/test-queries").json() == []


def test_test_queries_are_saved_and_forgotten(here: World) -> None:
    """Under their names, in place of what was there; the trail tells how many rows, and none of them."""
    here.put()
    path = "/api/deployments/late/test-queries/early"
    assert here.http.put(path, json=QUERY).status_code == 201
    assert here.http.put(path, json={**QUERY, "expect": []}).status_code == 200
    assert here.ok(here.http.get(path))["expect"] == []
    assert here.http.delete(path).status_code == 204
    gone = here.http.get(path)
    assert (gone.status_code, "golden-1" in gone.json()["detail"]) == (404, True)
    trail = here.http.get("/api/audit", params={"object": "deployment/late", "verb": "test-query"}).json()
    assert [entry["after"] for entry in trail] == [
        None,
        {"query": "early", "rows": 1, "expect": 0},
        {"query": "early", "rows": 1, "expect": 1},
    ]


@pytest.mark.parametrize(
    "body", [{"rows": []}, {**QUERY, "expect": QUERY["expect"] * 2}, {**QUERY, "tolerance": -1}, {"rows": [{"hour": [1]}]}]
)
def test_impossible_queries_are_refused(here: World, body: dict[str, Any]) -> None:
    """One answer for each row, or none at all."""
    here.put()
    assert here.http.put("/api/deployments/late/test-queries/odd", json=body).status_code == 422
    assert here.http.put("/api/deployments/nobody/test-queries/odd", json=QUERY).status_code == 404
