"""The audit trail on a real database: sealed as it is written, refused to be changed, and verified against whoever changed it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import delete, text, update
from sqlalchemy.exc import IntegrityError

from quarterdeck.audit_chain import Chain
from quarterdeck_deployer.database import migration_config
from quarterdeck_deployer.models import AuditEntry
from tests.deployer_world import World, database, world

pytestmark = pytest.mark.usefixtures("each_database")
ENTRIES = 6


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A deployer with six entries in its trail."""
    with world(tmp_path) as found:
        found.register(1)
        found.register(2)
        found.put(main=1)
        found.put(main=2, why="better")
        found.do("stop", why="a pause — “now”")
        found.do("run")
        yield found


def verdict(here: World, **known: Any) -> dict[str, Any]:
    """What verifying says."""
    return here.ok(here.http.get("/api/audit/verify", params=known))


def without_triggers(here: World) -> None:
    """Take away what stands in the way of changing history; whoever owns the database can."""
    postgresql = here.deployer.database.engine.dialect.name == "postgresql"
    with here.deployer.writing.begin() as session:
        if postgresql:
            session.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
            return
        for name in session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'")).all():
            session.execute(text(f"DROP TRIGGER {name}"))


def test_what_was_written_is_whole(here: World) -> None:
    """Each action adds an entry whose seal builds on the one before; verifying gives the head to note."""
    found = verdict(here)
    newest = here.http.get("/api/audit").json()[0]
    assert found == {"whole": True, "entries": ENTRIES, "sequence": None, "reason": "", "head": newest["sha256"]}
    assert verdict(here, sequence=ENTRIES, sha256=newest["sha256"])["whole"]


def other(column: str, entry: AuditEntry) -> Any:
    """Another value for a column."""
    if column == "at":
        return entry.at + timedelta(microseconds=1)
    if column in ("before", "after"):
        return {"somebody": "else"}
    return entry.sequence + 100 if column == "sequence" else f"{getattr(entry, column)}!"


def test_every_changed_column_of_every_entry_is_named(here: World) -> None:
    """With the triggers gone, too; put back as it was, the trail is whole again."""
    without_triggers(here)
    for sequence in range(1, ENTRIES + 1):
        for column in AuditEntry.__table__.columns.keys():  # noqa: SIM118
            with here.deployer.writing.begin() as session:
                entry = session.get_one(AuditEntry, sequence)
                kept, changed = getattr(entry, column), other(column, entry)
                session.execute(update(AuditEntry).where(AuditEntry.sequence == sequence).values({column: changed}))
            found = verdict(here)
            assert (found["whole"], found["sequence"], found["entries"]) == (False, sequence, sequence - 1), column
            place = changed if column == "sequence" else sequence
            with here.deployer.writing.begin() as session:
                session.execute(update(AuditEntry).where(AuditEntry.sequence == place).values({column: kept}))
    assert verdict(here)["whole"]


@pytest.mark.parametrize("sequence", [1, 3, ENTRIES])
def test_a_missing_entry_is_named(here: World, sequence: int) -> None:
    """One cut off the end is missed by whoever noted it, and by nobody else."""
    noted = here.http.get("/api/audit").json()[0]
    without_triggers(here)
    with here.deployer.writing.begin() as session:
        session.execute(delete(AuditEntry).where(AuditEntry.sequence == sequence))
    found = verdict(here, sequence=noted["sequence"], sha256=noted["sha256"])
    assert (found["whole"], found["sequence"]) == (False, sequence)
    assert verdict(here)["whole"] == (sequence == ENTRIES)


def test_a_trail_written_anew_is_not_the_one_that_was_noted(here: World) -> None:
    """Seals that fit each other prove nothing to whoever has noted one of the old ones."""
    found = verdict(here, sequence=4, sha256="0" * 64)
    assert (found["whole"], found["sequence"]) == (False, 4)


@pytest.mark.parametrize("statement", ["UPDATE audit SET reason = 'x'", "DELETE FROM audit WHERE sequence = 2"])
def test_the_database_itself_refuses_to_change_an_entry(here: World, statement: str) -> None:
    """Whoever is no owner of the database gets no further than this."""
    with pytest.raises(IntegrityError), here.deployer.writing.begin() as session:
        session.execute(text(statement))


def test_an_export_is_verified_by_itself(here: World) -> None:
    """All of it, oldest first, as it stands in lists; the chain needs nothing else."""
    answer = here.http.get("/api/audit/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert rows == here.http.get("/api/audit").json()[::-1]
    chain = Chain()
    assert [chain.fault(row) for row in rows] == [""] * ENTRIES


FILTERS: list[tuple[dict[str, str], set[str]]] = [
    ({"object": "model/flights"}, {"register"}),
    ({"verb": "stop"}, {"stop"}),
    ({"who": "nobody"}, set()),
    ({"who": "admin", "object": "deployment/late"}, {"create", "change", "stop", "run"}),
    ({"since": "2100-01-01T00:00:00Z"}, set()),
    ({"until": "2020-01-01T00:00:00Z"}, set()),
    # Before the first moment that there is, in the zone that everything is kept in.
    ({"until": "0001-01-01T00:00:00+14:00"}, set()),
]


@pytest.mark.parametrize(("wanted", "verbs"), FILTERS)
def test_lists_hold_what_is_asked_for(here: World, wanted: dict[str, str], verbs: set[str]) -> None:
    """By object, by author, by kind and by time."""
    assert {one["verb"] for one in here.http.get("/api/audit", params=wanted).json()} == verbs


def test_parts_are_read_as_one(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many entries one question gives, the trail is the same."""
    whole = here.http.get("/api/audit/export").text
    monkeypatch.setattr("quarterdeck_deployer.audit._AT_ONCE", 2)
    assert here.http.get("/api/audit/export").text == whole
    assert verdict(here)["entries"] == ENTRIES


def test_history_from_before_is_sealed_by_the_upgrade(tmp_path: Path) -> None:
    """A database that knew neither chain nor actions gets both: the trail is whole, and each revision has its action."""
    with world(tmp_path) as before:
        before.register(1)
        before.put(why="ü")
        before.put(description="other")
        trail = before.http.get("/api/audit/export").text
    with closing(database(tmp_path)) as older, older.engine.begin() as connection:
        config = migration_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
        command.upgrade(config, "head")
    with world(tmp_path) as after:
        assert after.http.get("/api/audit/export").text == trail
        assert verdict(after)["whole"]
        assert [one["id"] for one in after.http.get("/api/actions").json()] == ["late-2", "late-1"]
        after.until(lambda: not after.http.get("/api/actions", params={"state": "accepted"}).json())
        assert [one["state"] for one in after.http.get("/api/actions").json()] == ["applied", "overtaken"]
