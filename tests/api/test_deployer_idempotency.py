"""Requests that are sent twice: done once under one key, answered twice, and never mixed up with another request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.models import StoredAnswer
from tests.deployer_world import World, manifest, publish, world

on_each_database = pytest.mark.usefixtures("each_database")
"""What is kept under a key is the same few rows whatever the request is: one request of a kind shows it for both."""
MAIN = {"main": {"model": "flights", "version": 1}}
BETTER = {"main": {"model": "flights", "version": 2}, "challenger": {"model": "flights", "version": 1}}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A deployer with a deployment and its challenger; a third version lies in the store."""
    with world(tmp_path) as found:
        found.register(1)
        found.register(2)
        publish(found.deployer.storage, 3, manifest(salt=3))
        found.put(main=1)
        found.put(main=1, challenger=2)
        yield found


ACTS: list[tuple[str, str, Any, int]] = [
    ("PUT", "/api/deployments/other", MAIN, 201),
    ("PUT", "/api/deployments/late", BETTER, 200),
    ("POST", "/api/deployments/late/swap", {"why": "better"}, 200),
    ("POST", "/api/deployments/late/swap", None, 200),
    ("POST", "/api/deployments/late/stop", {}, 200),
    ("POST", "/api/deployments/late/run", {}, 200),
    ("POST", "/api/deployments/late/challenger", {"version": 1}, 200),
    ("DELETE", "/api/deployments/late/challenger", None, 200),
    ("POST", "/api/deployments/late/rollback", {"revision": 1}, 200),
    ("DELETE", "/api/deployments/late", None, 200),
    ("POST", "/api/models/flights/versions", {"version": 3, "digest": manifest(salt=3).digest}, 201),
    ("PUT", "/api/models/flights/active", {"version": 2}, 200),
    ("PATCH", "/api/models/flights", {"notes": "new"}, 200),
    ("PATCH", "/api/models/flights/versions/1", {"deprecated": True}, 200),
    ("PUT", "/api/stages/other", {"position": 7, "infrastructure": "local", "gates": []}, 201),
    ("DELETE", "/api/stages/prod", None, 204),
    ("PUT", "/api/infrastructures/edge", {"kind": "static", "store": "memory://edge"}, 201),
    ("PUT", "/api/deployments/late/test-queries/one", {"rows": [{"hour": 1.0, "distance": 1.0}]}, 201),
    ("POST", "/api/people", {"name": "Ana", "email": "ana@example.org", "role": "viewer"}, 201),
    ("POST", "/api/projects", {"name": "delays"}, 201),
    ("POST", "/api/issuer/rotate", None, 200),
]


def send(here: World, method: str, path: str, body: Any, key: str = "one", **more: Any) -> httpx.Response:
    """A request under a key."""
    return here.http.request(method, path, json=body, headers={"idempotency-key": key, **more})


@pytest.mark.parametrize(("method", "path", "body", "status"), ACTS)
def test_the_same_request_under_one_key_is_done_once(here: World, method: str, path: str, body: Any, status: int) -> None:
    """Both are answered alike, with the status of the first; history and audit trail know of one."""
    first = send(here, method, path, body)
    assert first.status_code == status, first.text
    trail = here.http.get("/api/audit").json()
    second = send(here, method, path, body)
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert here.http.get("/api/audit").json() == trail


MADE: list[tuple[str, Any, str]] = [
    ("/api/people", {"name": "Ana", "email": "ana@example.org", "role": "viewer"}, "id"),
    ("/api/projects", {"name": "delays"}, "name"),
    ("/api/keys", {"name": "booking"}, "id"),
]


@pytest.mark.parametrize(("path", "body", "name"), MADE)
def test_a_deletion_under_one_key_is_done_once(here: World, path: str, body: Any, name: str) -> None:
    """The second time it is answered as the first time, and not as missing."""
    place = f"{path}/{here.ok(here.http.post(path, json=body))[name]}"
    first = send(here, "DELETE", place, None)
    assert first.is_success, first.text
    trail = here.http.get("/api/audit").json()
    second = send(here, "DELETE", place, None)
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert here.http.get("/api/audit").json() == trail


@on_each_database
def test_a_swap_under_two_keys_is_done_twice(here: World) -> None:
    """A new key is a new wish."""
    assert [send(here, "POST", "/api/deployments/late/swap", None, key).json()["revision"] for key in ("one", "two")] == [3, 4]


@on_each_database
def test_a_repeated_answer_stands_when_the_world_has_moved_on(here: World) -> None:
    """The caller learns what became of their own request, not of somebody else's."""
    first = send(here, "POST", "/api/deployments/late/swap", None).json()
    here.do("stop")
    again = send(here, "POST", "/api/deployments/late/swap", None).json()
    assert (again["action"], again["revision"], again["changed"]) == (first["action"], 3, True)
    assert here.get()["wish"]["number"] == 4
    asked = "/api/deployments/late/test-queries/one"
    saved = send(here, "PUT", asked, {"rows": [{"hour": 1.0}]}, "query")
    here.ok(here.http.delete("/api/deployments/late"))
    assert send(here, "PUT", asked, {"rows": [{"hour": 1.0}]}, "query").json() == saved.json()


OTHERS: list[tuple[str, str, Any, dict[str, str]]] = [
    ("POST", "/api/deployments/late/swap", {"why": "another reason"}, {}),
    ("POST", "/api/deployments/late/stop", {}, {}),
    ("POST", "/api/deployments/other/swap", {}, {}),
    ("DELETE", "/api/deployments/late", None, {}),
    ("DELETE", "/api/models/flights/versions/2", None, {}),
    ("POST", "/api/deployments/late/swap", {}, {"if-match": '"3"'}),
]


@pytest.mark.parametrize(("method", "path", "body", "headers"), OTHERS)
def test_a_key_means_one_request(here: World, method: str, path: str, body: Any, headers: dict[str, str]) -> None:
    """Another body, path, method or If-Match under it is refused, and nothing is done."""
    send(here, "POST", "/api/deployments/late/swap", {})
    answer = send(here, method, path, body, **headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-key-reused")
    assert here.get()["wish"]["number"] == 3


@on_each_database
def test_how_long_one_waits_is_no_part_of_the_request(here: World) -> None:
    """Asking again with more patience is the same wish."""
    first = send(here, "POST", "/api/deployments/late/swap", {})
    assert send(here, "POST", "/api/deployments/late/swap?wait=0.1", {}).json()["action"] == first.json()["action"]


@on_each_database
def test_a_refused_request_leaves_its_key_free(here: World) -> None:
    """Nothing was done, so the same request may be right later."""
    body = {"version": 3, "digest": manifest(salt=3).digest}
    wrong = send(here, "PUT", "/api/models/flights/active", {"version": 3})
    assert wrong.status_code == 404
    here.ok(here.http.post("/api/models/flights/versions", json=body))
    assert send(here, "PUT", "/api/models/flights/active", {"version": 3}).status_code == 200


@on_each_database
def test_a_secret_is_answered_once(here: World) -> None:
    """The repeated answer is the same key without its secret, and says why."""
    first = send(here, "POST", "/api/keys", {"name": "booking"})
    assert first.json()["secret"].startswith("qdk_")
    again = send(here, "POST", "/api/keys", {"name": "booking"})
    assert again.status_code == 201
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["secret"] == ""
    assert again.json()["note"]
    assert len(here.http.get("/api/keys").json()) == 1
    with here.deployer.sessions() as session:
        assert first.json()["secret"] not in str([row.answer for row in session.query(StoredAnswer)])


@on_each_database
def test_a_key_is_forgotten_after_a_day(here: World) -> None:
    """The same key then is a new request, and old answers hold no place."""
    send(here, "POST", "/api/deployments/late/swap", None, "old")
    send(here, "POST", "/api/deployments/late/swap", None, "older")
    with here.deployer.writing.begin() as session:
        session.execute(update(StoredAnswer).values(created=utc_now() - timedelta(hours=24, seconds=1)))
    assert send(here, "POST", "/api/deployments/late/swap", None, "old").json()["revision"] == 5
    with here.deployer.sessions() as session:
        assert [row.key for row in session.query(StoredAnswer)] == ["old"]


@on_each_database
def test_keys_are_each_callers_own(here: World) -> None:
    """Somebody else's answer is nobody's business."""
    send(here, "POST", "/api/deployments/late/swap", None)
    with here.deployer.writing.begin() as session:
        session.execute(update(StoredAnswer).values(who="somebody else"))
    assert send(here, "POST", "/api/deployments/late/swap", None).json()["revision"] == 4


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_that_is_none_is_refused(here: World, key: str) -> None:
    """Rather than taken for no key at all."""
    answer = send(here, "POST", "/api/deployments/late/swap", None, key)
    assert answer.status_code == 422
    assert here.get()["wish"]["number"] == 2


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/api/stages/other", {}),
        ("PATCH", "/api/models/flights", {"notes": "new"}),
        ("PUT", "/api/deployments/late/test-queries/one", {"rows": [{"hour": 1.0}]}),
        ("POST", "/api/keys", {"name": "k"}),
    ],
)
def test_if_match_is_refused_where_there_are_no_revisions(here: World, method: str, path: str, body: Any) -> None:
    """Nobody is told that a condition held which nothing has looked at."""
    trail = here.http.get("/api/audit").json()
    answer = here.http.request(method, path, json=body, headers={"if-match": '"2"'})
    assert (answer.status_code, "If-Match" in answer.json()["detail"]) == (422, True)
    assert here.http.get("/api/audit").json() == trail


@on_each_database
def test_etag_and_if_match_meet(here: World) -> None:
    """What GET gives is what a change takes; one that is too old is told the newest."""
    tag = here.http.get("/api/deployments/late").headers["etag"]
    assert tag == '"2"'
    here.ok(here.http.post("/api/deployments/late/swap", headers={"if-match": tag}))
    for method, path in (("POST", "/swap"), ("POST", "/stop"), ("DELETE", ""), ("DELETE", "/challenger"), ("POST", "/rollback")):
        answer = here.http.request(method, f"/api/deployments/late{path}", headers={"if-match": tag})
        assert (answer.status_code, answer.json()["code"], answer.json()["revision"]) == (409, "changed-meanwhile", 3)
