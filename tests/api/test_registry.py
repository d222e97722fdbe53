"""The registry beyond numbers and digests: runs, lineage, the active version, marks, comparison, deletion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.client import Client
from quarterdeck.errors import Conflict, NotFound, StorageError
from quarterdeck.manifest import DataSummary, FileEntry
from quarterdeck.package_files import pull, versions
from quarterdeck.storage.keys import blob_key, manifest_key
from tests.deployer_world import ADMIN, World, manifest, publish, world

SHARED = "b" * 64


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A deployer with nothing registered."""
    with world(tmp_path) as found:
        yield found


@pytest.fixture
def client(here: World) -> Iterator[Client]:
    """Its Python client, with the admin's token."""
    with Client(str(here.http.base_url), ADMIN) as found:
        yield found


def files(here: World, salt: int) -> list[FileEntry]:
    """One file of its own and one that all versions have, both in the store."""
    for sha256, size in ((f"{salt:064x}", salt), (SHARED, 7)):
        here.deployer.storage.put(blob_key(sha256), bytes(size))
    return [FileEntry(path="model.txt", size=salt, sha256=f"{salt:064x}"), FileEntry(path="shared.txt", size=7, sha256=SHARED)]


def there(here: World, sha256: str) -> bool:
    return here.deployer.storage.size(blob_key(sha256)) is not None


def test_a_run_groups_its_candidates_with_metrics_and_parameters(here: World, client: Client) -> None:
    """Two versions of one run: figures of the run, and of each candidate beside its hyperparameters."""
    for salt, rate in ((1, 0.1), (2, 0.3)):
        package = manifest(salt=salt, metrics={"brier": rate}, hyperparameters={"learning_rate": rate, "leaves": 31})
        publish(here.deployer.storage, salt, package)
        body = {"name": "night", "metrics": {"seconds": 60.0 * salt}, "parameters": {"seed": 7, "search": "random"}}
        answer = here.http.post("/api/models/flights/versions", json={"version": salt, "digest": package.digest, "run": body})
        assert answer.status_code == 201
    (run,) = client.runs("flights")
    assert (run["name"], run["versions"], run["parameters"]) == ("night", [1, 2], {"seed": 7, "search": "random"})
    # What was said first stays.
    assert run["metrics"] == {"seconds": 60.0}
    candidates = client.run("flights", "night")["candidates"]
    assert [(one["version"], one["metrics"], one["hyperparameters"]["learning_rate"]) for one in candidates] == [
        (2, {"brier": 0.3}, 0.3),
        (1, {"brier": 0.1}, 0.1),
    ]
    with pytest.raises(NotFound, match="no such run"):
        client.run("flights", "day")


def test_lineage_goes_up_and_down_by_digest(here: World, client: Client) -> None:
    """Data, recipe, commit, producer and environment of the manifest; parents to the oldest, children to the youngest."""
    told: dict[str, Any] = {
        "training": DataSummary(rows=1000, digest="sha256:" + "d" * 64, columns=["hour"], source="train.parquet"),
        "recipe": "train.py",
        "commit": "c0ffee",
        "producer": "nightly",
        "card": "# Card",
    }
    stranger = "sha256:" + "e" * 64
    first = here.register(1, parent=stranger)
    second = here.register(2, parent=first, **told)
    third = here.register(3, parent=second)
    here.register(4, parent=second)
    other = here.register(1, model="delays", parent=third)
    found = client.lineage("flights", 2)
    assert {name: found[name] for name in ("recipe", "commit", "producer", "card")} == {
        name: told[name] for name in ("recipe", "commit", "producer", "card")
    }
    assert (found["training"]["rows"], found["environment"]["python"]) == (1000, "3.11.7")
    assert [(one["model"], one["version"], one["steps"]) for one in found["parents"]] == [("flights", 1, 1)]
    assert found["unknown_parent"] == stranger
    assert [(one["model"], one["version"], one["steps"]) for one in found["children"]] == [
        ("flights", 3, 1),
        ("flights", 4, 1),
        ("delays", 1, 2),
    ]
    above = client.lineage("delays", 1)["parents"]
    assert (other, [one["version"] for one in above]) == (found["children"][2]["digest"], [3, 2, 1])


def test_activation_names_the_one_before_and_marks_the_new_one_everywhere(here: World, client: Client) -> None:
    """The answer has the version before; again is no change; a deprecated one is chosen with a warning."""
    for number in (1, 2):
        here.register(number)
    assert client.activate("flights", 2, "better")["before"] == 1
    assert client.activate("flights", 2)["before"] is None
    assert [(one["version"], one["active"]) for one in client.versions("flights")] == [(2, True), (1, False)]
    assert client.models()[0]["active_version"] == 2
    client.mark("flights", 1, deprecated=True, why="wrong month")
    assert "wrong month" in client.activate("flights", 1)["note"]


def test_marks_are_merged_filtered_and_audited_once(here: World, client: Client) -> None:
    """Labels of versions and models choose them in lists; null takes one away; the same again leaves no trace."""
    for number in (1, 2, 3):
        here.register(number)
    here.register(1, model="delays")
    client.mark("flights", 1, labels={"team": "ops", "reviewed": "yes"}, notes="first")
    client.mark("flights", 2, labels={"team": "sales"})
    client.mark("flights", labels={"area": "air"}, notes="all flights")
    assert client.mark("flights", 1, labels={"reviewed": None})["labels"] == {"team": "ops"}
    assert [one["version"] for one in client.versions("flights", ["team=ops"])] == [1]
    assert [one["version"] for one in client.versions("flights", ["team"])] == [2, 1]
    assert client.versions("flights", ["team=ops", "reviewed"]) == []
    assert [one["name"] for one in client.models(["area=air"])] == ["flights"]
    assert (client.model("flights")["notes"], client.version("flights", 1)["notes"]) == ("all flights", "first")
    before = len(here.http.get("/api/audit").json())
    client.mark("flights", 1, labels={"team": "ops"}, notes="first")
    assert len(here.http.get("/api/audit").json()) == before
    entry = here.http.get("/api/audit").json()[0]
    assert (entry["verb"], entry["before"]["labels"], entry["after"]["labels"]) == (
        "annotate",
        {"reviewed": "yes", "team": "ops"},
        {"team": "ops"},
    )


@pytest.mark.parametrize(
    "body",
    [
        {"labels": {"Team": "x"}},
        {"labels": {"team": "x" * 201}},
        {"notes": "x" * 20_001},
        {"deprecated": True},
        {"labels": {"": ""}},
    ],
    ids=["capital", "long-value", "long-notes", "model-deprecated", "empty-key"],
)
def test_marks_that_do_not_fit_are_refused(here: World, client: Client, body: dict[str, Any]) -> None:
    """422, and nothing is written."""
    here.register(1)
    assert here.http.patch("/api/models/flights", json=body).status_code == 422
    assert client.model("flights")["labels"] == {}


def test_a_deprecated_version_serves_on_and_warns_whoever_deploys_it_again(here: World, client: Client) -> None:
    """The answer to the deployment has a warning; undeprecated it has none; lists choose by it."""
    for number in (1, 2):
        here.register(number)
    here.put(main=2)
    client.mark("flights", 1, deprecated=True, why="wrong month")
    assert client.versions("flights", deprecated=True)[0]["version"] == 1
    assert [one["version"] for one in client.versions("flights", deprecated=False)] == [2]
    (warning,) = here.put(main=1)["warnings"]
    assert "flights v1 is deprecated" in warning
    assert "wrong month" in warning
    assert here.put(main=1, description="still there")["warnings"] == []
    client.mark("flights", 1, deprecated=False)
    here.put(main=2)
    assert here.put(main=1)["warnings"] == []


def refused(client: Client, version: int) -> list[str]:
    """Kinds of the uses that forbid a deletion."""
    with pytest.raises(Conflict) as caught:
        client.delete_version("flights", version)
    assert caught.value.code == "version-in-use"
    assert caught.value.hint
    found = [use["kind"] for use in caught.value.extra["uses"]]
    assert found == [use["kind"] for use in client.uses("flights", version)]
    return found


def test_a_version_that_is_needed_cannot_be_deleted(here: World, client: Client) -> None:
    """Active, main, challenger, held by nodes, one of the last ten revisions: each by its name."""
    for number in range(1, 6):
        here.register(number)
    here.put(main=2, challenger=3)
    here.put(main=4)
    assert refused(client, 1) == ["active"]
    assert refused(client, 2) == ["rollback"]
    assert refused(client, 3) == ["rollback"]
    here.settled()
    assert refused(client, 4) == ["main", "held"]
    for count in range(10):
        here.put(main=4, description=str(count))
    # However long ago it was: a rollback without a number restores that pair.
    assert refused(client, 2) == ["rollback"]
    assert refused(client, 3) == ["rollback"]
    for count in range(11):
        here.put(main=5, description=str(count))
    assert client.uses("flights", 3) == []
    assert client.delete_version("flights", 3, "never used")["version"] == 3
    assert here.do("rollback")["changed"]
    here.ok(here.http.delete("/api/deployments/late"))
    assert client.delete_version("flights", 4)["version"] == 4


def test_a_deleted_version_leaves_a_tombstone(here: World, client: Client) -> None:
    """Its own files go, shared ones stay; the number stays taken; the manifest stays here; nobody can deploy it."""
    for salt in (1, 2, 3):
        package = manifest(salt=salt, files=files(here, salt))
        publish(here.deployer.storage, salt, package)
        here.ok(here.http.post("/api/models/flights/versions", json={"version": salt, "digest": package.digest}))
    # Lies in the store and was never registered: its file is needed all the same.
    unknown = manifest("taxi", salt=9, files=[FileEntry(path="model.txt", size=2, sha256=f"{2:064x}")])
    publish(here.deployer.storage, 1, unknown)
    gone = client.delete_version("flights", 3, "never used")
    assert (gone["removed"], gone["freed_bytes"]) == ([f"{3:064x}"], 3)
    assert client.delete_version("flights", 3)["removed"] == []
    assert client.delete_version("flights", 2)["removed"] == []
    assert (there(here, f"{3:064x}"), there(here, SHARED), there(here, f"{2:064x}")) == (False, True, True)
    assert versions(here.deployer.storage, "flights") == [1, 2, 3]
    kept = client.version("flights", 3)
    assert kept["deleted"]
    assert kept["manifest"]["model"] == "flights"
    assert [one["version"] for one in client.model("flights")["items"]] == [1]
    assert (client.models()[0]["versions"], client.models()[0]["newest"]) == (1, 1)
    for answer in (
        here.http.put("/api/deployments/late", json={"main": {"model": "flights", "version": 3}}),
        here.http.put("/api/models/flights/active", json={"version": 3}),
        here.http.patch("/api/models/flights/versions/3", json={"notes": "x"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "version-deleted")
    with pytest.raises(NotFound, match="was deleted"):
        pull(here.deployer.storage, "flights", 3, here.deployer.settings.data / "pulled")
    verbs = [entry["verb"] for entry in here.http.get("/api/audit", params={"object": "model/flights"}).json()]
    assert verbs.count("delete") == 2


def test_an_interrupted_deletion_is_finished_by_the_next(here: World, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store fails after the decision: the version is gone for everybody, and the same command again removes its files."""
    for salt in (1, 2):
        package = manifest(salt=salt, files=files(here, salt))
        publish(here.deployer.storage, salt, package)
        here.ok(here.http.post("/api/models/flights/versions", json={"version": salt, "digest": package.digest}))

    def fails(*_: object, **__: object) -> bool:
        raise StorageError("The store cannot be reached.", code="unreachable")

    with monkeypatch.context() as broken:
        broken.setattr(here.deployer.storage, "put", fails)
        with pytest.raises(StorageError):
            client.delete_version("flights", 2)
    assert client.version("flights", 2)["deleted"]
    assert there(here, f"{2:064x}")
    assert client.delete_version("flights", 2)["removed"] == [f"{2:064x}"]


def test_a_rollback_to_a_deleted_version_is_refused(here: World, client: Client) -> None:
    """Beyond the last ten revisions a version may be gone; the revision stays readable."""
    for number in (1, 2, 3, 4):
        here.register(number)
    here.put(main=2)
    here.put(main=4)
    for count in range(10):
        here.put(main=3, description=str(count))
    client.delete_version("flights", 2)
    answer = here.http.post("/api/deployments/late/rollback", json={"revision": 1})
    assert (answer.status_code, answer.json()["code"]) == (404, "version-deleted")
    assert here.http.get("/api/deployments/late/revisions").json()[-1]["main"]["version"] == 2


def test_a_deleted_package_does_not_come_back(here: World, client: Client) -> None:
    """The same bytes under another number are refused with the reason, for digests would be ambiguous."""
    here.register(1)
    digest = here.register(2)
    client.delete_version("flights", 2)
    publish(here.deployer.storage, 3, manifest(salt=2))
    answer = here.http.post("/api/models/flights/versions", json={"version": 3, "digest": digest})
    assert (answer.status_code, "which was deleted" in answer.json()["detail"]) == (409, True)
    assert here.deployer.storage.get(manifest_key("flights", 2)) == b'{"deleted":true}'


def test_comparison_of_two_versions_comes_from_their_manifests(here: World, client: Client) -> None:
    """Metrics and hyperparameters that differ, by name; an unknown version is 404."""
    here.register(1, metrics={"brier": 0.2}, hyperparameters={"leaves": 31, "seed": 1})
    here.register(2, metrics={"brier": 0.1}, hyperparameters={"leaves": 63, "seed": 1})
    found = client.compare("flights", 1, 2)
    assert [(one["name"], one["a"], one["b"], one["change"]) for one in found["hyperparameters"]] == [("leaves", 31, 63, 32)]
    assert found["metrics"][0]["change"] == pytest.approx(-0.1)
    with pytest.raises(NotFound):
        client.compare("flights", 1, 9)


def test_lists_come_page_by_page(here: World) -> None:
    """Every version once over pages of two, newest first."""
    for number in range(1, 6):
        here.register(number)
    seen, path = [], "/api/models/flights/versions?limit=2"
    while path:
        answer = here.http.get(path)
        seen += [one["version"] for one in answer.json()]
        path = answer.links.get("next", {}).get("url", "")
    assert seen == [5, 4, 3, 2, 1]


def test_an_act_with_a_key_is_done_once(here: World, client: Client) -> None:
    """The same Idempotency-Key gives the same answer, whatever happened since."""
    for number in (1, 2):
        here.register(number)
    headers = {"idempotency-key": "abc"}
    first = here.http.put("/api/models/flights/active", json={"version": 2}, headers=headers).json()
    client.activate("flights", 1)
    assert here.http.put("/api/models/flights/active", json={"version": 2}, headers=headers).json() == first
    assert client.model("flights")["active_version"] == 1
