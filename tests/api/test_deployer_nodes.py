"""Infrastructures and the nodes that join them, over the real application: who is let in, with what, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from quarterdeck.plan import NodeReport, Plan
from quarterdeck_deployer.models import NodeUsage
from tests.deployer_world import NODE, World, world

ADDRESS = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A deployer with one static infrastructure, `edge`, on which the stage `edge` is."""
    with world(tmp_path_factory.mktemp("nodes")) as running:
        assert running.http.put("/api/infrastructures/edge", json={"kind": "static"}).status_code == 201
        assert running.http.put("/api/stages/edge", json={"infrastructure": "edge"}).status_code == 201
        yield running


def token(here: World, **given: Any) -> str:
    """A join token."""
    answer = here.http.post("/api/nodes/tokens", json={"infrastructure": "edge", **given})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def joined(here: World, name: str, role: str = "main") -> dict[str, Any]:
    """What joining under that name brings."""
    answer = httpx.post(
        f"{here.http.base_url}/nodes/join", json={"token": token(here, role=role), "url": ADDRESS, "name": name}, trust_env=False
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def as_node(here: World, secret: str, method: str, path: str, **sent: Any) -> httpx.Response:
    """A request with a node's token."""
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.request(method, f"{here.http.base_url}{path}", headers=headers, trust_env=False, **sent)


def report(name: str, **more: Any) -> dict[str, Any]:
    """What a main node says of itself."""
    said = {"node": name, "boot": "b", "role": "main", "url": ADDRESS, "sequence": 0, "ready": True, **more}
    return NodeReport.model_validate(said).model_dump(mode="json")


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("local", {"kind": "static"}, 409, "infrastructure-fixed"),
    ("edge", {"kind": "kubernetes", "settings": {"namespace": "models"}}, 409, "infrastructure-fixed"),
    ("edge", {"kind": "static", "store": "memory://elsewhere"}, 409, "infrastructure-in-use"),
    ("new", {"kind": "static", "settings": {"namespace": "models"}}, 422, "invalid-input"),
    ("new", {"kind": "static", "settings": {"s3Folder": 3}}, 422, "invalid-input"),
    ("new", {"kind": "static", "settings": {"s3Folder": "relative"}}, 422, "invalid-input"),
    ("new", {"kind": "static", "store": "relative"}, 422, "store-refused"),
    ("new", {"kind": "kubernetes", "settings": {}}, 422, "invalid-input"),
    ("new", {"kind": "kubernetes", "settings": {"namespace": "Not A Name"}}, 422, "invalid-input"),
    ("new", {"kind": "local"}, 422, "invalid-input"),
]


@pytest.mark.parametrize(("name", "wanted", "status", "code"), REFUSED)
def test_what_cannot_be_an_infrastructure_is_refused_by_name(
    here: World, name: str, wanted: dict[str, Any], status: int, code: str
) -> None:
    """The refusal names the setting and never repeats its value; nothing is changed by it."""
    before = here.http.get("/api/infrastructures").json()
    answer = here.http.put(f"/api/infrastructures/{name}", json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert "relative" not in answer.text.replace("store-refused", "")
    assert here.http.get("/api/infrastructures").json() == before


def test_an_infrastructure_comes_changes_and_goes(here: World, tmp_path: Any) -> None:
    """Created once; the same again changes nothing; with nothing on it, it takes another store and can be deleted."""
    path, own = "/api/infrastructures/passing", {"kind": "static", "store": str(tmp_path)}
    assert here.http.put(path, json={"kind": "static"}).status_code == 201
    assert here.http.put(path, json={"kind": "static"}).status_code == 200
    assert here.http.put(path, json=own).json()["store"] == str(tmp_path)
    assert here.http.get(path).json()["stages"] == []
    verbs = [one["verb"] for one in here.http.get("/api/audit").json() if one["object"] == "infrastructure/passing"]
    assert verbs == ["change", "create"]
    assert here.http.delete(path).status_code == 204
    assert here.http.get(path).status_code == 404
    assert [one["name"] for one in here.http.get("/api/infrastructures").json()] == ["edge", "local"]


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("edge", 409, "infrastructure-in-use"), ("local", 409, "infrastructure-fixed"), ("none", 404, "not-found")],
)
def test_what_is_needed_is_not_deleted(here: World, name: str, status: int, code: str) -> None:
    """One that a stage is on stays, and so does the local one."""
    answer = here.http.delete(f"/api/infrastructures/{name}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_join_token_lets_one_node_in_once(here: World) -> None:
    """The second time it opens nothing, and neither does one whose time is over; none of them is stored as it was given out."""
    given = token(here)
    body = {"token": given, "url": ADDRESS}
    first = httpx.post(f"{here.http.base_url}/nodes/join", json=body, trust_env=False)
    assert (first.status_code, first.json()["node"], first.json()["role"]) == (201, "edge-main-1", "main")
    late = {"token": token(here, minutes=1e-7), "url": ADDRESS}
    for sent in (body, late, {**body, "token": "x"}):
        again = httpx.post(f"{here.http.base_url}/nodes/join", json=sent, trust_env=False)
        assert (again.status_code, again.json()["code"]) == (401, "join-token-refused")
    assert here.http.get("/api/infrastructures/edge").json()["store"] == first.json()["store"]


@pytest.mark.parametrize("name", ["main", "challenger", "taken"])
def test_names_are_given_once(here: World, name: str) -> None:
    """Those beside the deployer keep theirs, and so does whoever came first; the join token is not used up by the refusal."""
    if name == "taken" and here.http.get("/api/nodes/taken").status_code == 404:
        joined(here, "taken")
    given = token(here)
    answer = httpx.post(f"{here.http.base_url}/nodes/join", json={"token": given, "url": ADDRESS, "name": name}, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (409, "node-exists")
    other = {"token": given, "url": ADDRESS, "name": f"not-{name}"}
    assert httpx.post(f"{here.http.base_url}/nodes/join", json=other, trust_env=False).status_code == 201


@pytest.mark.parametrize("url", ["", "ftp://a", "http://user@a:1", "http://", "http://a:1/?x=1"])
def test_addresses_of_nodes_are_looked_at(here: World, url: str) -> None:
    """Main nodes send copies there, so it must be a plain address."""
    answer = httpx.post(f"{here.http.base_url}/nodes/join", json={"token": "x", "url": url}, trust_env=False)
    assert answer.status_code == 422


def test_nodes_join_static_infrastructures_only(here: World) -> None:
    """The local one has its nodes beside the deployer."""
    answer = here.http.post("/api/nodes/tokens", json={"infrastructure": "local"})
    assert (answer.status_code, answer.json()["code"]) == (409, "infrastructure-not-static")


def test_a_token_opens_its_own_nodes_plan_and_report_only(here: World) -> None:
    """Not another joined node's, not those beside the deployer, not the API; and theirs does not open a joined node's."""
    own, other = joined(here, "own"), joined(here, "other")
    plan = Plan.model_validate_json(as_node(here, own["token"], "GET", "/plans/own?wait=60").content)
    assert (plan.node, plan.store, plan.deployments) == ("own", own["store"], [])
    assert as_node(here, own["token"], "POST", "/nodes/own/report", json=report("own")).status_code == 204
    for method, path in (("GET", "/plans/other"), ("GET", "/plans/main"), ("POST", "/nodes/other/report")):
        sent = {"json": report("other")} if method == "POST" else {}
        answer = as_node(here, own["token"], method, path, **sent)
        assert (answer.status_code, answer.json()["code"]) == (403, "other-node")
    assert as_node(here, own["token"], "GET", "/api/nodes").status_code == 401
    assert as_node(here, NODE, "GET", "/plans/own").status_code == 403
    assert httpx.get(f"{here.http.base_url}/plans/own", trust_env=False).status_code == 401
    assert as_node(here, other["token"], "GET", "/plans/other?wait=60").status_code == 200


def test_a_revoked_node_hears_that_it_was(here: World) -> None:
    """A poll that waits ends at once, and from then on its token opens nothing; its name may be taken by a node that joins."""
    node = joined(here, "leaving")
    first = Plan.model_validate_json(as_node(here, node["token"], "GET", "/plans/leaving?wait=60").content)
    assert here.http.delete("/api/nodes/leaving").json()["node"] == "leaving"
    assert here.http.delete("/api/nodes/leaving").status_code == 200
    for method, path in (("GET", f"/plans/leaving?after={first.sequence}&wait=60"), ("POST", "/nodes/leaving/report")):
        sent = {"json": report("leaving")} if method == "POST" else {}
        answer = as_node(here, node["token"], method, path, **sent)
        assert (answer.status_code, answer.json()["code"]) == (401, "node-revoked")
    shown = here.http.get("/api/nodes/leaving").json()
    assert (shown["live"], shown["revoked"] is not None) == (False, True)
    again = joined(here, "leaving")
    plan = Plan.model_validate_json(as_node(here, again["token"], "GET", "/plans/leaving?wait=60").content)
    assert plan.node == "leaving"
    assert as_node(here, node["token"], "GET", "/plans/leaving").json()["code"] == "unauthenticated"


def test_nobody_is_revoked_who_has_not_joined(here: World) -> None:
    """The nodes beside the deployer are stopped with it, not sent away."""
    assert here.http.delete("/api/nodes/main").status_code == 404


def test_the_trail_tells_who_let_whom_in(here: World) -> None:
    """Token, joining and revocation each have an entry, and none of them a secret."""
    node = joined(here, "traced")
    here.http.delete("/api/nodes/traced")
    entries = here.http.get("/api/audit", params={"object": "node/traced"}).json()
    assert [one["verb"] for one in entries] == ["revoke", "join"]
    assert node["token"] not in here.http.get("/api/audit").text


def test_usage_is_sampled_kept_for_a_day_and_shown(here: World) -> None:
    """Processors come from the difference of two samples of one boot; a node that is silent is not sampled."""
    node, usage = joined(here, "measured"), here.deployer.usage
    now = [1_000_000.0]
    usage._clock = lambda: now[0]
    try:
        for seconds, boot, cpu in ((0, "b", 1.0), (15, "b", 8.5), (30, "c", 0.5)):
            now[0] = 1_000_000.0 + seconds
            body = report("measured", boot=boot, rss_bytes=7 * 2**20, cpu_seconds=cpu)
            assert as_node(here, node["token"], "POST", "/nodes/measured/report", json=body).status_code == 204
            usage.sample()
        shown = here.http.get("/api/nodes/measured").json()
        assert (shown["rss_bytes"], shown["role"], shown["infrastructure"]) == (7 * 2**20, "main", "edge")
        points = here.http.get("/api/nodes/measured/usage").json()
        assert [one["cpu_cores"] for one in points] == [None, 0.5, None]
        page = here.http.get("/api/nodes/measured/usage", params={"limit": 2})
        assert [one["cpu_cores"] for one in here.http.get(page.links["next"]["url"]).json()] == [None]
        now[0] += 24 * 3600 - 10
        usage.sample()
        with here.deployer.sessions() as session:
            assert session.get(NodeUsage, ("measured", 1_000_000)) is None
            assert session.get(NodeUsage, ("measured", 1_000_030)) is not None
    finally:
        usage._clock = time.time


def test_nodes_are_listed_page_by_page(here: World) -> None:
    """By infrastructure and name, the revoked ones last; a filter leaves one infrastructure's."""
    everybody = [one["node"] for one in here.http.get("/api/nodes").json()]
    assert {"main", "challenger"} <= set(everybody)
    page, found = here.http.get("/api/nodes", params={"limit": 2}), []
    while True:
        found += [one["node"] for one in page.json()]
        if "next" not in page.links:
            break
        page = here.http.get(page.links["next"]["url"])
    assert found == everybody
    local = here.http.get("/api/nodes", params={"infrastructure": "local"}).json()
    assert [one["node"] for one in local] == ["challenger", "main"]
    assert here.http.get("/api/nodes/nobody").status_code == 404


def test_deployments_are_told_to_the_nodes_of_their_stage(here: World) -> None:
    """One in the stage `edge` reaches the joined nodes and not those beside the deployer; one in `dev` the other way round."""
    here.register(1)
    for name, stage in (("there", "edge"), ("beside", "dev")):
        body = {"main": {"model": "flights", "version": 1}, "stage": stage}
        assert here.http.put(f"/api/deployments/{name}", json=body).status_code in (200, 201)
    node = joined(here, "planned")
    plan = Plan.model_validate_json(as_node(here, node["token"], "GET", "/plans/planned?wait=60").content)
    assert [one.name for one in plan.deployments] == ["there"]
    local = Plan.model_validate_json(as_node(here, NODE, "GET", "/plans/main?wait=60").content)
    assert [one.name for one in local.deployments] == ["beside"]
    assert here.http.get("/api/deployments/there").json()["urls"]["predict"].startswith(ADDRESS)
