"""A real PostgreSQL server on the loopback for tests, from Debian's package, and a fresh database for each test.

`postgres` is the fixture: one server for the whole run. The server refuses to run as root, so a root user's tests run it as
the package's own user.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, make_url

from quarterdeck_deployer.database import Database
from tests import deployer_world
from tests.support import eventually, free_port

USER = "quarterdeck"
_OWNER = "postgres"
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Nobody cuts the power of a test; what the program itself asks for is looked at where it matters.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "log_statement": "none",
}


def binary(name: str) -> Path:
    """A program of the server's package, the newest where there are several; Debian keeps them off the PATH."""
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parent.parent.name))
    found = str(packaged[-1]) if packaged else shutil.which(name)
    assert found, f"{name} is not here: tools/test-needs installs it"
    return Path(found)


@dataclass
class PostgresServer:
    """A server that may be stopped and started again; `password` is that of its only user.

    Attributes:
        databases: names of those that were made and are still there.
        migrated: name of an empty database of the newest schema, which others are copies of; empty while there is none.
    """

    folder: Path
    port: int
    password: str
    process: subprocess.Popen[bytes] | None = None
    databases: list[str] = field(default_factory=list)
    migrated: str = ""

    @property
    def log(self) -> Path:
        """What the server has written."""
        return self.folder / "log"

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = [text for name, value in {**_OPTIONS, "port": str(self.port)}.items() for text in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            command = [str(binary("postgres")), "-D", str(self.folder / "data"), *options]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **_owner())
        eventually(self._answers)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT breaks off every connection, SIGQUIT does so without putting anything away, as a crash would."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(60)

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop and start."""
        self.stop(how)
        self.start()

    def url(self, database: str = "postgres", *, password: bool = True, port: int | None = None) -> str:
        """The URL of one of its databases, as QUARTERDECK_DATABASE takes it; `port` for a proxy in between."""
        secret = self.password if password else None
        url = URL.create("postgresql", USER, secret, "127.0.0.1", port or self.port, database)
        return url.render_as_string(hide_password=False)

    def database(self, **options: str) -> str:
        """The URL of a fresh, empty database; `options` are further words of CREATE DATABASE."""
        name = f"test_{secrets.token_hex(6)}"
        words = " ".join(f"{word} {value}" for word, value in options.items())
        self.execute(f"CREATE DATABASE {name} {words}")
        self.databases.append(name)
        return self.url(name)

    def laid_out(self) -> str:
        """The URL of a fresh database that holds the newest schema and nothing else."""
        if not self.migrated:
            name = "migrated"
            self.execute(f"CREATE DATABASE {name}")
            with closing(Database(make_url(self.url(name)))) as made:
                made.migrate()
            self.migrated = name
        return self.database(TEMPLATE=self.migrated)

    def run(self, command: list[str]) -> None:
        """Run one of the package's programs, which must succeed."""
        done = subprocess.run([str(binary(command[0])), *command[1:]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def drop(self) -> None:
        """Remove all databases that were made, whoever still uses them."""
        while self.databases:
            self.execute(f"DROP DATABASE {self.databases.pop()} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement by itself, as the server's only user."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with psycopg.connect(self.url(), connect_timeout=2):
            return True


def _owner() -> dict[str, Any]:
    """How to run something as somebody who is not root."""
    return {"user": _OWNER, "group": _OWNER, "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def running() -> Iterator[PostgresServer]:
    """A server in a folder of its own, ended and removed with the block."""
    # Not pytest's folder: nobody but the tests' user may enter that one.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        # Signs that mean something in a URL: whoever puts one together by hand is found out.
        server = PostgresServer(folder, free_port(), "p@ss/w:rd%" + secrets.token_hex(8))
        (folder / "password").write_text(server.password)
        if os.geteuid() == 0:
            shutil.chown(folder, _OWNER, _OWNER)
            shutil.chown(folder / "password", _OWNER, _OWNER)
        # Sorted as people do, not by bytes: what relies on the order of a database must not rely on that.
        locale = ["--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
        access = [f"--username={USER}", "--auth=scram-sha-256", f"--pwfile={folder}/password"]
        command = [str(binary("initdb")), "-D", str(folder / "data"), *locale, *access, "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **_owner())
        server.start()
        try:
            yield server
        finally:
            if server.process is not None and server.process.poll() is None:
                # Nothing of it is kept, so nothing has to be written down.
                server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the whole run; every test takes a database of its own."""
    with running() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """The server, up, whatever an earlier test has done to it; the test's databases go with the test."""
    if postgres_server.process is None or postgres_server.process.poll() is not None:
        postgres_server.start()
    yield postgres_server
    if postgres_server.process is not None and postgres_server.process.poll() is None:
        postgres_server.drop()


@pytest.fixture(params=["sqlite", "postgresql"])
def each_database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs twice: its deployers keep what they know in SQLite, and in PostgreSQL. Gives the name of it.

    A folder has one database, so that the same folder again is a restart on both.
    """
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        monkeypatch.setattr(deployer_world, "database_of", cache(lambda folder: server.laid_out()))
    return str(request.param)
