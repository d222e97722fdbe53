"""The database, SQLite or PostgreSQL: migrated at start, with two ways in (reading and writing)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from quarterdeck.errors import Conflict, NotReady
from quarterdeck_deployer.engines import postgresql_engine, sqlite_engine

_MIGRATIONS = Path(__file__).parent / "migrations"
_WRITER_SECONDS = 5.0
_MIGRATION_SECONDS = 120.0


class Database:
    """Sessions on one SQLite file, or on one database of a PostgreSQL server; both promise the same.

    `sessions` is for reading: all questions of one transaction see the same moment, and wait for no writer. `writing` takes
    the write lock at once, so that what a transaction has read cannot change before it commits, and two writers queue
    instead of failing half way. A session that cannot go on (busy, server away) raises sqlalchemy's OperationalError, and
    nothing of it is kept.

    Args:
        where: the file, or ``postgresql://…``.
        password_file: PostgreSQL only: a file with the password, in place of one in the URL.
    """

    def __init__(self, where: Path | URL, password_file: Path | None = None) -> None:
        self._where, self._password_file = where, password_file
        self.engine = self._engine(_WRITER_SECONDS)
        reading = self.engine
        if isinstance(where, URL):
            # As SQLite does by itself. The lock comes first in a writing transaction, so each of its questions must see what
            # was committed before the question, not before the lock.
            reading = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self.sessions: sessionmaker[Session] = sessionmaker(reading, expire_on_commit=False)
        self.writing: sessionmaker[Session] = sessionmaker(_writer(self.engine), expire_on_commit=False)

    @property
    def name(self) -> str:
        """What to call it in messages: no path of this machine, and no password."""
        if isinstance(self._where, URL):
            return f"{self._where.host or 'localhost'}:{self._where.port or 5432}/{self._where.database or ''}"
        return self._where.name

    def migrate(self) -> None:
        """Bring the schema to this program's number. Of several programs that start at once, one does it and the others wait.

        Raises:
            Conflict: ``database-newer`` where a newer program has migrated it already, ``database-encoding`` where it cannot
                keep every text.
            NotReady: ``database-unreachable`` where it cannot be used.
        """
        engine = self._engine(_MIGRATION_SECONDS)
        try:
            # One transaction for all steps: a start that dies half way leaves the old schema, not a mixture.
            with _writer(engine).begin() as connection:
                self._refuse_encoding(connection)
                config = migration_config()
                self._refuse_newer(connection, config)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except OperationalError as error:
            raise self._unreachable(error) from None
        finally:
            engine.dispose()

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()

    def _engine(self, patience: float) -> Engine:
        if isinstance(self._where, URL):
            return postgresql_engine(self._where, self._password_file, patience)
        return sqlite_engine(self._where, patience)

    def _refuse_newer(self, connection: Connection, config: Config) -> None:
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise Conflict(
                f"The database has schema {current}, which this program does not know.",
                code="database-newer",
                kind="database",
                name=self.name,
                hint="Start the newer program that wrote it, or restore a backup made before the upgrade.",
            )

    def _refuse_encoding(self, connection: Connection) -> None:
        if connection.dialect.name != "postgresql":
            return
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise Conflict(
                f"The database keeps its texts as {encoding}, in which not every text can be written.",
                code="database-encoding",
                kind="database",
                name=self.name,
                hint="Create one with encoding UTF8: `createdb --encoding UTF8 --template template0 NAME`.",
            )

    def _unreachable(self, error: OperationalError) -> NotReady:
        # The first line says which address and why; what follows are guesses and other addresses.
        reason = str(error.orig).strip().partition("\n")[0].removesuffix(".")
        return NotReady(
            f"The database {self.name} cannot be used: {reason}.",
            code="database-unreachable",
            kind="database",
            name=self.name,
            hint="See that it runs, and that QUARTERDECK_DATABASE and the password are right.",
        )


def migration_config() -> Config:
    """Alembic's configuration for the packaged migrations; the caller adds the connection to its attributes."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def upsert(session: Session, table: type[Any], keys: Sequence[str], values: Sequence[str]) -> Any:
    """The statement that inserts a row, or changes `values` of the one that has the same `keys`; for this session's database.

    Args:
        table: the mapped class.
        keys: columns with a unique constraint, or the primary key.
        values: columns that the new row brings along; the others keep what they had.
    """
    statement: Any = _INSERTS[session.get_bind().dialect.name](table)
    return statement.on_conflict_do_update(
        index_elements=[getattr(table, key) for key in keys], set_={name: statement.excluded[name] for name in values}
    )


def utc_now() -> datetime:
    """The present, in UTC, aware."""
    return datetime.now(UTC)


_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def _writer(engine: Engine) -> Engine:
    options: dict[str, Any] = {"quarterdeck_write": True}
    if engine.dialect.name == "postgresql":
        # Whatever the server's default is: the first question would otherwise fix what all others see, before the lock is held.
        options["isolation_level"] = "READ COMMITTED"
    return engine.execution_options(**options)
