"""Registry, keys and audit through the API: what is registered, what is refused, what leaves a trace."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deployer_world import World, manifest, publish, world


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A deployer with nothing registered."""
    with world(tmp_path) as found:
        yield found


def post(here: World, version: int, digest: str, model: str = "flights", **more: Any) -> httpx.Response:
    return here.http.post(f"/api/models/{model}/versions", json={"version": version, "digest": digest, **more})


def verbs(here: World, object: str = "") -> list[str]:
    """Verbs of the audit trail, oldest first."""
    found: list[dict[str, Any]] = here.http.get("/api/audit", params={"object": object}).json()
    return [entry["verb"] for entry in reversed(found)]


def test_registered_version_shows_what_its_manifest_says(here: World) -> None:
    """Facts, manifest and golden rows come from the package; the first version becomes active; its run is known."""
    digest = here.register(1)
    found = here.ok(here.http.get("/api/models/flights/versions/1"))
    assert (found["digest"], found["form"], found["active"], found["run"]) == (digest, "compiled", True, "run 1")
    assert found["manifest"]["golden"][0]["expected"]["prediction"] == "no"
    model = here.ok(here.http.get("/api/models/flights"))
    assert (model["active_version"], model["newest"], [run["name"] for run in model["runs"]]) == (1, 1, ["run 1"])
    assert [one["name"] for one in here.http.get("/api/models").json()] == ["flights"]


def test_registering_twice_is_once(here: World) -> None:
    """The same number and digest again: 200, no second audit row."""
    digest = here.register(1)
    assert post(here, 1, digest).status_code == 200
    assert verbs(here, "model/flights") == ["register"]


def test_versions_of_one_run_share_it(here: World) -> None:
    """A run named at registration is made once and carries its metrics."""
    for version in (1, 2):
        package = manifest(salt=version)
        publish(here.deployer.storage, version, package)
        assert post(here, version, package.digest, run={"name": "night", "metrics": {"brier": 0.2}}).status_code == 201
    runs = here.ok(here.http.get("/api/models/flights"))["runs"]
    assert [(run["name"], run["metrics"]) for run in runs] == [("night", {"brier": 0.2})]


def test_refused_registrations_name_the_reason_and_write_nothing(here: World) -> None:
    """Not in the store, another digest, another model's package, taken number, twin digest: each by its code."""
    first = here.register(1)
    second = manifest(salt=2)
    publish(here.deployer.storage, 3, second)
    publish(here.deployer.storage, 4, manifest(salt=1))
    here.deployer.storage.put("models/trains/1/manifest.json", second.canonical())
    table = [
        (post(here, 9, second.digest), 404, "not-found"),
        (post(here, 3, first), 422, "digest-mismatch"),
        (post(here, 1, second.digest, model="trains"), 422, "invalid-input"),
        (post(here, 4, first), 409, "conflict"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer, _, _ in table] == [
        (status, code) for _, status, code in table
    ]
    assert table[3][0].json()["version"] == 1
    assert verbs(here) == ["register"]


def test_active_version_is_moved_by_name_and_leaves_a_trace(here: World) -> None:
    """PUT active moves it once; the audit row tells before and after; an unknown version is 404 with those there are."""
    here.register(1)
    here.register(2)
    for _ in range(2):
        assert here.ok(here.http.put("/api/models/flights/active", json={"version": 2, "why": "better"}))["active_version"] == 2
    entry = here.http.get("/api/audit").json()[0]
    assert (entry["verb"], entry["before"], entry["after"], entry["reason"]) == (
        "activate",
        {"version": 1},
        {"version": 2},
        "better",
    )
    assert verbs(here).count("activate") == 1
    answer = here.http.put("/api/models/flights/active", json={"version": 7})
    assert answer.status_code == 404
    assert "2, 1" in answer.json()["detail"]


def test_secret_of_a_key_is_in_exactly_one_answer(here: World) -> None:
    """POST shows it in the documented form; list, revoke, audit and the database never hold it."""
    made = here.ok(here.http.post("/api/keys", json={"name": "booking", "project": "default", "scopes": ["predict"], "days": 1}))
    assert re.fullmatch(r"qdk_[a-z0-9]{8}_[A-Za-z0-9_-]{43}_[0-9a-f]{8}", made["secret"])
    listed = here.http.get("/api/keys")
    assert (listed.json()[0]["id"], listed.json()[0]["revoked"]) == (made["id"], None)
    revoked = here.http.delete(f"/api/keys/{made['id']}")
    trail = here.http.get("/api/audit")
    raw = b"".join(path.read_bytes() for path in here.deployer.settings.data.glob("deployer.db*"))
    assert not any(made["secret"] in text for text in (listed.text, revoked.text, trail.text))
    assert made["secret"].encode() not in raw


def test_key_is_in_the_plan_by_digest_until_it_is_revoked(here: World) -> None:
    """Create → keyring with project, scopes and expiry; revoke → gone with the next plan; twice is once in the audit."""
    here.ok(here.http.post("/api/projects", json={"name": "travel"}))
    made = here.ok(
        here.http.post("/api/keys", json={"name": "booking", "project": "travel", "scopes": ["predict", "read"], "days": 2})
    )

    def entry() -> Any:
        return next((key for key in here.main.plan.keyring if key.id == made["id"]), None) if here.main.plan else None

    key = here.until(entry)
    assert key.sha256 == hashlib.sha256(made["secret"].encode()).hexdigest()
    assert (key.project, key.scopes) == ("travel", ["predict", "read"])
    assert key.expires == pytest.approx(datetime.fromisoformat(made["expires"]).timestamp())
    for _ in range(2):
        assert here.ok(here.http.delete(f"/api/keys/{made['id']}"))["revoked"]
    here.until(lambda: entry() is None)
    assert verbs(here, f"key/{made['id']}") == ["create", "revoke"]
    assert here.http.delete("/api/keys/unknown1").status_code == 404


def test_every_action_leaves_one_row_with_its_author_and_reason(here: World) -> None:
    """Each verb once, in order, with who and why; before and after hold the wish."""
    for version in (1, 2):
        here.register(version)
    here.put(why="start")
    here.do("challenger", version=2, why="try it")
    here.do("swap", why="better")
    here.do("rollback", why="worse")
    here.ok(here.http.delete("/api/deployments/late/challenger", params={"why": "enough"}))
    here.do("stop", why="night")
    here.do("run", why="day")
    here.put(access="public", why="open")
    here.ok(here.http.delete("/api/deployments/late", params={"why": "over"}))
    trail = list(reversed(here.http.get("/api/audit", params={"object": "deployment/late"}).json()))
    assert [(entry["verb"], entry["reason"]) for entry in trail] == [
        ("create", "start"),
        ("challenger", "try it"),
        ("swap", "better"),
        ("rollback", "worse"),
        ("clear", "enough"),
        ("stop", "night"),
        ("run", "day"),
        ("change", "open"),
        ("delete", "over"),
    ]
    assert {entry["who"] for entry in trail} == {"admin"}
    assert trail[2]["before"]["main"]["version"] == 1
    assert trail[2]["after"]["main"]["version"] == 2
    assert (trail[0]["before"], trail[-1]["after"]) == (None, None)


def test_concurrent_changes_get_gapless_numbers(here: World) -> None:
    """20 changes at once: every one is a revision of its own, numbered without gap, each with its audit row."""
    here.register(1)
    here.put()
    answers: list[dict[str, Any]] = []

    def change(number: int) -> None:
        answers.append(here.put(description=f"change {number}"))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer["revision"] for answer in answers) == list(range(2, 22))
    history = here.http.get("/api/deployments/late/revisions").json()
    assert [one["number"] for one in history] == list(range(21, 0, -1))
    assert verbs(here, "deployment/late").count("change") == 20


def test_of_two_changes_that_expect_the_same_revision_one_wins(here: World) -> None:
    """If-Match from ten hands at once: one revision, nine conflicts."""
    here.register(1)
    here.put()
    statuses: list[int] = []

    def change(number: int) -> None:
        body = {"main": {"model": "flights", "version": 1}, "description": str(number)}
        statuses.append(here.http.put("/api/deployments/late", json=body, headers={"if-match": '"1"'}).status_code)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + 9 * [409]
