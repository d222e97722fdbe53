"""Connections to the two databases that can be used, SQLite and PostgreSQL, prepared so that both promise the same.

A transaction begun under the execution option ``quarterdeck_write`` holds the one write lock of its database from its
beginning; see `database.Database` for what follows from that.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from quarterdeck.errors import NotReady

_POOL = {"pool_size": 16, "pool_timeout": 10}
"""Enough connections for the requests that are busy with the database at once; the others wait a little for theirs."""
_WRITE_LOCK = 0x7175_6172_7465_7264
"""Number of the advisory lock, "quarterd" in ASCII: nobody else in the same database should take it by chance."""
_STATEMENT_SECONDS = 30
_IDLE_SECONDS = 60
_LOST_CONNECTION = {
    "connect_timeout": 5,
    # A server whose host is gone answers nothing, not even "no": without these a request would wait for a quarter of an hour.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def sqlite_engine(path: Path, patience: float) -> Engine:
    """An engine on a file, which is made where it is not there.

    Args:
        path: the file; its folder is made too.
        patience: seconds that a writer waits for the one before it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Errors reach the log with their statement, never with the values: those hold labels, reasons and digests.
    engine = create_engine(URL.create("sqlite", database=str(path)), hide_parameters=True, **_POOL)

    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        _prepare_sqlite(connection, patience)

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def postgresql_engine(url: URL, password_file: Path | None, patience: float) -> Engine:
    """An engine on a server; it connects when it is first used, and anew after the server was away.

    Args:
        url: what SQLAlchemy takes; parameters of libpq, such as ``sslmode``, in its query.
        password_file: read for every new connection, so that a rotated password needs no restart.
        patience: seconds that a writer waits for the one before it.
    """
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        hide_parameters=True,
        # A connection that died while it lay in the pool is replaced before anybody's statement meets it.
        pool_pre_ping=True,
        connect_args={name: value for name, value in _LOST_CONNECTION.items() if name not in url.query},
        **_POOL,
    )

    def add_password(_dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
        if password_file is not None:
            parameters["password"] = read_password(password_file)

    def prepare(connection: Any, _: Any) -> None:
        _prepare_postgresql(connection, patience)

    event.listen(engine, "do_connect", add_password)
    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def read_password(path: Path) -> str:
    """The password in a file, without the line end that editors add.

    Raises:
        NotReady: ``database-unreachable`` where it cannot be read or is empty.
    """
    try:
        password = path.read_text().strip()
        reason = "is empty"
    except OSError as error:
        password, reason = "", f"cannot be read: {error.strerror}"
    if not password:
        raise NotReady(
            f"The file with the database's password {reason}.",
            code="database-unreachable",
            kind="file",
            name=path.name,
            hint="Write it to the file that QUARTERDECK_DATABASE_PASSWORD_FILE names.",
        )
    return password


def _prepare_sqlite(connection: sqlite3.Connection, patience: float) -> None:
    # The driver's own transaction control begins late and skips DDL; ours begins where SQLAlchemy says so.
    connection.isolation_level = None
    cursor = connection.cursor()
    # Writers queue for so long; then the caller gets a 503 and nothing has been changed.
    cursor.execute(f"PRAGMA busy_timeout={round(patience * 1000)}")
    # Readers (the console, the loop) never wait for a writer.
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: a commit that was acknowledged survives power loss, not only the death of the process.
    cursor.execute("PRAGMA synchronous=FULL")
    # SQLite ignores foreign keys unless every connection asks for them.
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later could find its snapshot outdated and fail.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")


def _prepare_postgresql(connection: Any, patience: float) -> None:
    limits = {
        "lock_timeout": patience,
        # A migration waits long and works long.
        "statement_timeout": max(patience, _STATEMENT_SECONDS),
        # A deployer whose host is gone must not keep the write lock from the one that takes its place.
        "idle_in_transaction_session_timeout": max(patience, _IDLE_SECONDS),
    }
    for name, seconds in limits.items():
        connection.execute(f"SET {name} = {round(seconds * 1000)}")
    # Also where the server was set up to acknowledge sooner: what was acknowledged survives the server's power loss.
    connection.execute("SET synchronous_commit = 'on'")
    connection.execute("SET client_encoding = 'UTF8'")
    connection.commit()


def _begin_postgresql(connection: Connection) -> None:
    # The server lets writers work side by side, and one would then decide upon what another is about to change.
    if _writes(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("quarterdeck_write", False))
