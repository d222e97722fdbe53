"""Backup and restore of a SQLite database: of one moment, whole or not at all, and never under somebody who works with it."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select

from quarterdeck.errors import Conflict, InvalidInput, NotFound
from quarterdeck_cli.saving import put_back, save
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.models import Model
from tests.unit.cli_shell import ok, run


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A deployer's database, in use."""
    with closing(Database(tmp_path / "data" / "deployer.db")) as found:
        found.migrate()
        yield found


def add(database: Database, *names: str) -> None:
    """Models by these names, in one transaction."""
    with database.writing.begin() as session:
        session.add_all(Model(name=name, created=utc_now()) for name in names)


def models(path: Path) -> list[str]:
    """Names of the models in a file."""
    with closing(Database(path)) as found, found.sessions() as session:
        return sorted(session.scalars(select(Model.name)))


def test_what_was_committed_comes_back_and_nothing_else(database: Database, tmp_path: Path) -> None:
    """Also what still lies in the write-ahead log; and afterwards the file is nobody else's to read."""
    add(database, "one")
    size = save(tmp_path / "data" / "deployer.db", tmp_path / "saved")
    add(database, "two")
    database.close()
    assert size == (tmp_path / "saved").stat().st_size
    assert stat.S_IMODE((tmp_path / "saved").stat().st_mode) == 0o600
    before = put_back(tmp_path / "saved", tmp_path / "data" / "deployer.db")
    assert models(tmp_path / "data" / "deployer.db") == ["one"]
    assert before is not None
    assert models(before) == ["one", "two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "saved"]


def test_a_backup_is_of_one_moment_although_writers_go_on(database: Database, tmp_path: Path) -> None:
    """Each transaction writes two models: never is one of them there without the other."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            add(database, f"a{number}", f"b{number}")
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            save(tmp_path / "data" / "deployer.db", tmp_path / str(number))
    finally:
        stop.set()
        thread.join()
    for number in range(5):
        names = models(tmp_path / str(number))
        assert sorted(name[1:] for name in names if name[0] == "a") == sorted(name[1:] for name in names if name[0] == "b")


def test_a_fresh_host_gets_its_database_back(database: Database, tmp_path: Path) -> None:
    """Folder and file are made, for their owner only."""
    add(database, "one")
    save(tmp_path / "data" / "deployer.db", tmp_path / "saved")
    place = tmp_path / "other" / "deployer.db"
    assert put_back(tmp_path / "saved", place) is None
    assert models(place) == ["one"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_a_damaged_database_is_replaced_with_everything_beside_it(database: Database, tmp_path: Path) -> None:
    """That is what backups are for; a log that belonged to the damaged one must not be read into the new one."""
    place = tmp_path / "data" / "deployer.db"
    add(database, "one")
    save(place, tmp_path / "saved")
    database.close()
    place.write_bytes(b"not a database" * 1_000)
    (tmp_path / "data" / "deployer.db-wal").write_bytes(b"left over")
    before = put_back(tmp_path / "saved", place)
    assert not (tmp_path / "data" / "deployer.db-wal").exists()
    assert models(place) == ["one"]
    assert before is not None
    assert before.read_bytes().startswith(b"not a database")


def test_nothing_is_put_under_a_deployer_that_runs(database: Database, tmp_path: Path) -> None:
    """Refused, and everything is as it was."""
    add(database, "one")
    save(tmp_path / "data" / "deployer.db", tmp_path / "saved")
    add(database, "two")
    with pytest.raises(Conflict) as caught:
        put_back(tmp_path / "saved", tmp_path / "data" / "deployer.db")
    assert caught.value.code == "database-in-use"
    with database.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Model)) == 2


def test_refusals_name_what_is_wrong_and_touch_nothing(database: Database, tmp_path: Path) -> None:
    """No database, a file that is there, no backup, one that is damaged, one of something else."""
    place = tmp_path / "data" / "deployer.db"
    add(database, "one")
    with pytest.raises(NotFound):
        save(tmp_path / "deployer.db", tmp_path / "saved")
    save(place, tmp_path / "saved")
    with pytest.raises(Conflict):
        save(place, tmp_path / "saved")
    database.close()
    with pytest.raises(NotFound):
        put_back(tmp_path / "nowhere", place)
    whole = (tmp_path / "saved").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "other").touch()
    with closing(sqlite3.connect(tmp_path / "foreign")) as foreign:
        foreign.execute("CREATE TABLE alembic_version (version_num)")
    for name in ("cut", "other", "foreign"):
        with pytest.raises(InvalidInput) as caught:
            put_back(tmp_path / name, place)
        assert caught.value.code == "backup-unusable"
    assert models(place) == ["one"]


def test_the_commands_say_where_everything_lies(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the system's folder, or by a deployer's own data folder; statuses are those of every other command."""
    monkeypatch.chdir(tmp_path)
    add(database, "one")
    assert run("backup", "saved").code == 3
    said = run("backup", "saved", "--data", "data")
    assert (said.code, said.out) == (0, f"saved: {(tmp_path / 'saved').stat().st_size:,} bytes\n")
    assert run("backup", "saved", "--data", "data").code == 5
    assert run("restore", "saved", "--data", "data").code == 5
    assert ok("restore", "saved") == {"restored": "saved", "before": None}
    assert models(tmp_path / ".quarterdeck" / "deployer.db") == ["one"]
    said = run("restore", "saved")
    assert (said.code, said.out, "deployer.db.before-restore" in said.err) == (0, "restored saved\n", True)
    (tmp_path / "other").write_text("no database")
    assert run("restore", "other").code == 2
