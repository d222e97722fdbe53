"""Backups of a SQLite database that somebody works with: taken without stopping anybody, put back only where nobody works."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from quarterdeck.errors import Conflict, InvalidInput, NotFound

BEFORE = ".before-restore"
"""Ending of the name of what a restore has replaced."""
_TABLES = {"alembic_version", "deployments", "revisions", "audit"}
_PAGES = 2_000
_BUSY_SECONDS = 5.0


def save(database: Path, file: Path) -> int:
    """Write a database as of one moment to a new file, which appears whole or not at all; gives back its bytes.

    Raises:
        NotFound: there is no database.
        Conflict: the file is there already.
    """
    if not database.is_file():
        raise NotFound(
            f"There is no database in {database.parent}.",
            kind="database",
            name=database.name,
            hint="Name the system's folder with --dir, or a deployer's own with --data.",
        )
    if file.exists():
        raise Conflict(f"{file} is there already.", kind="file", name=file.name, hint="Name a file that does not exist.")
    _copied(database, file)
    return file.stat().st_size


def put_back(file: Path, database: Path) -> Path | None:
    """Make a database what a backup says; gives back where lies what it was before, None where there was nothing.

    Raises:
        NotFound: there is no such file.
        InvalidInput: ``backup-unusable`` where it is damaged, or no backup of a deployer.
        Conflict: ``database-in-use``.
    """
    if not file.is_file():
        raise NotFound("There is no such file.", kind="file", name=file.name, hint="Name one that `quarterdeck backup` wrote.")
    _require_backup(file)
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    before = None
    if database.exists():
        _require_idle(database)
        before = _keep(database)
    _copied(file, database)
    return before


def _copied(source: Path, target: Path) -> None:
    """Make `target` what `source` is at one moment: whole or not at all, whoever works with the source meanwhile."""
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    # It holds digests of secrets: nobody else on the machine needs to read them.
    part.touch(mode=0o600)
    try:
        with _opened(source) as read, _opened(part) as written:
            # In pieces: writers wait for one piece, not for the whole.
            read.backup(written, pages=_PAGES)
            # One file, without a write-ahead log beside it.
            written.execute("PRAGMA journal_mode=DELETE")
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _keep(database: Path) -> Path:
    """A second name for the file, whose first one is about to be taken; a log that lies beside it goes along."""
    before = database.with_name(database.name + BEFORE)
    for end in ("", "-wal", "-shm"):
        before.with_name(before.name + end).unlink(missing_ok=True)
    os.link(database, before)
    for end in ("-wal", "-shm"):
        # Left behind by a damaged file only: SQLite would read it into the new one.
        beside = database.with_name(database.name + end)
        if beside.exists():
            beside.replace(before.with_name(before.name + end))
    return before


def _require_backup(file: Path) -> None:
    try:
        with _opened(file) as source:
            tables = {name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            whole = source.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except sqlite3.DatabaseError:
        tables, whole = set(), False
    if not whole or _TABLES - tables:
        raise InvalidInput(
            f"{file.name} is damaged, or it is no backup of a deployer's SQLite database.",
            code="backup-unusable",
            kind="file",
            name=file.name,
            hint="Take another one; dumps of PostgreSQL are put back by pg_restore.",
        )


def _require_idle(database: Path) -> None:
    """Nobody else has the database open: only then SQLite lets it leave write-ahead logging."""
    try:
        with _opened(database, patience=0.0) as target:
            target.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError:
        raise Conflict(
            "A deployer works with this database.",
            code="database-in-use",
            kind="database",
            name=database.name,
            hint="Stop it first: `quarterdeck down`.",
        ) from None
    except sqlite3.DatabaseError:
        # Damaged beyond reading, which is what backups are for.
        return


@contextmanager
def _opened(path: Path, patience: float = _BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
    # By URI, so that a mistyped name makes no new file; without transactions that nobody asked for.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None)) as connection:
        yield connection
