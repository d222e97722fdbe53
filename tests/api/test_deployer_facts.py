"""Lists: what they show, that they read no manifest for it, and that they are of one moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import event, inspect, text

from quarterdeck.manifest import Proof
from quarterdeck_deployer.database import Database, migration_config
from tests.deployer_world import World, manifest, world

PROOF = Proof(rows=1000, labels_different=0, largest_difference=1e-12, tolerance=1e-9)
PACKAGES: list[dict[str, Any]] = [
    {},
    {"trust": "code", "form": "joblib"},
    {"metrics": {"brier": 0.1, "auc": 1 / 3}, "description": 'with "quotes" and ü'},
    {"metrics": {}, "run": "", "parent": "sha256:" + "a" * 64},
    {"proof": PROOF, "hyperparameters": {"depth": 3}},
]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A deployer with one model of five versions, and one of one."""
    with world(tmp_path) as found:
        for number, more in enumerate(PACKAGES, 1):
            found.register(number, **more)
        found.register(1, model="delays")
        yield found


def statements(found: World, path: str) -> list[str]:
    """What a GET asks the database."""
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    engine = found.deployer.database.engine
    event.listen(engine, "before_cursor_execute", note)
    assert found.http.get(path).status_code == 200
    event.remove(engine, "before_cursor_execute", note)
    return asked


@pytest.mark.parametrize("path", ["/api/models", "/api/models/flights", "/models", "/models/flights"])
def test_no_list_reads_a_manifest(here: World, path: str) -> None:
    """They may be megabytes each: neither their text nor its parsing belongs into a list."""
    asked = statements(here, path)
    assert any("FROM models" in one for one in asked)
    assert [one for one in asked if "manifest" in one] == []


def test_a_list_asks_as_much_for_many_as_for_one(here: World) -> None:
    """No question per model or per version."""

    def questions(path: str) -> int:
        # The loop steps meanwhile; its own questions are not the list's.
        return len([one for one in statements(here, path) if "FROM models" in one or "FROM versions" in one])

    before = {path: questions(path) for path in ("/api/models", "/api/models/flights")}
    for number in range(6, 26):
        here.register(number)
    here.register(1, model="taxi")
    assert {path: questions(path) for path in before} == before


def test_facts_are_the_manifests_own(here: World) -> None:
    """What the list says of a version is what its manifest says."""
    detail = here.ok(here.http.get("/api/models/flights"))
    assert [one["version"] for one in detail["items"]] == [5, 4, 3, 2, 1]
    for listed in detail["items"]:
        whole = here.ok(here.http.get(f"/api/models/flights/versions/{listed['version']}"))
        package = whole.pop("manifest")
        assert [whole.pop(name) for name in ("notes", "deprecated_why", "deleted")] == ["", "", None]
        assert listed == whole
        assert listed["form"] == package["form"]
        assert listed["task"] == package["schema"]["task"]
        assert listed["size_bytes"] == sum(one["size"] for one in package["files"])
        assert listed["golden_rows"] == len(package["golden"])
        for name in ("trust", "metrics", "description", "parent", "proof"):
            assert listed[name] == package.get(name), name
        assert listed["run"] == (package["run"] or None)
        assert listed["active"] == (listed["version"] == 1)


def test_the_list_of_models_counts_their_versions(here: World) -> None:
    """By name, with the newest and the active one."""
    here.ok(here.http.put("/api/models/flights/active", json={"version": 3}))
    shown = [(one["name"], one["versions"], one["newest"], one["active_version"]) for one in here.http.get("/api/models").json()]
    assert shown == [("delays", 1, 1, 1), ("flights", 5, 5, 3)]


def test_versions_from_before_the_column_get_their_facts(tmp_path: Path) -> None:
    """The migration reads them out of the manifests, exactly as a registration would; afterwards they are immutable again."""
    with world(tmp_path) as found:
        for number, more in enumerate(PACKAGES, 1):
            found.register(number, **more)
        before = found.http.get("/api/models/flights").json()
    database, config = Database(tmp_path / "deployer.db"), migration_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    with database.engine.begin() as connection:
        assert "facts" not in {column["name"] for column in inspect(connection).get_columns("versions")}
    database.migrate()
    with database.engine.connect() as connection, pytest.raises(Exception, match="versions are immutable"):
        connection.execute(text("UPDATE versions SET facts = '{}'"))
    database.close()
    with world(tmp_path) as found:
        assert found.http.get("/api/models/flights").json() == before


def test_lists_stand_while_deployments_come_and_go(here: World) -> None:
    """A deletion between two questions must not turn the list, the metrics or a page into an error."""
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            here.put("restless")
            here.http.delete("/api/deployments/restless")

    here.put("steady")
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(12):
            for path in ("/api/deployments", "/metrics", "/deployments", "/models/flights"):
                answer = here.http.get(path)
                assert (answer.status_code, "steady" in answer.text) == (200, True)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("salt", [1, 2])
def test_a_damaged_manifest_is_handed_out_to_nobody(tmp_path: Path, salt: int) -> None:
    """The list still stands on its facts; the version itself and every deployment of it are refused by the digest."""
    with world(tmp_path) as found:
        found.register(1)
        found.register(2)
        with found.deployer.database.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER versions_no_update")
            other = manifest(salt=9).canonical().decode()
            connection.execute(
                text("UPDATE versions SET manifest = :other WHERE version = :salt"), {"other": other, "salt": salt}
            )
        assert len(found.http.get("/api/models/flights").json()["items"]) == 2
        answer = found.http.get(f"/api/models/flights/versions/{salt}")
        assert (answer.status_code, answer.json()["code"]) == (422, "digest-mismatch")
        refused = found.http.put("/api/deployments/late", json={"main": {"model": "flights", "version": salt}})
        assert (refused.status_code, refused.json()["code"]) == (422, "digest-mismatch")
