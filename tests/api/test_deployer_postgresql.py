"""PostgreSQL alone: how it is named, restarts under a deployer that works, what it cannot keep, and that no password shows."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import URL, make_url, select
from sqlalchemy.exc import InternalError, OperationalError

from quarterdeck.errors import Conflict, InvalidInput, NotReady
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.models import Model
from quarterdeck_deployer.settings import Settings
from tests import deployer_world
from tests.deployer_process import DeployerProcess, prepare, start
from tests.deployer_world import ADMIN, World, world
from tests.postgres import PostgresServer
from tests.support import eventually, free_port


@pytest.fixture
def place(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh database, which this test's deployers keep everything in."""
    url = postgres.database()
    monkeypatch.setattr(deployer_world, "database_of", lambda folder: url)
    return url


SETTINGS = [
    ("with everything", {"DATABASE": "postgresql://me:pw@db.example.org:5433/quarterdeck?sslmode=verify-full"}, True),
    ("short", {"DATABASE": "postgresql://db/quarterdeck"}, True),
    ("another spelling", {"DATABASE": "postgres://db/quarterdeck"}, True),
    ("password in a file", {"DATABASE": "postgresql://me@db/quarterdeck", "DATABASE_PASSWORD_FILE": "/secret"}, True),
    ("two passwords", {"DATABASE": "postgresql://me:hidden@db/quarterdeck", "DATABASE_PASSWORD_FILE": "/secret"}, False),
    ("a password for a file", {"DATABASE_PASSWORD_FILE": "/secret"}, False),
    ("no database", {"DATABASE": "postgresql://me:hidden@db"}, False),
    ("another server", {"DATABASE": "mysql://me:hidden@db/quarterdeck"}, False),
    ("a driver", {"DATABASE": "postgresql+asyncpg://me:hidden@db/quarterdeck"}, False),
    ("no port", {"DATABASE": "postgresql://me:hidden@db:port/quarterdeck"}, False),
    ("words", {"DATABASE": "hidden words"}, False),
]


@pytest.mark.parametrize(("title", "given", "usable"), SETTINGS, ids=[row[0] for row in SETTINGS])
def test_settings_name_a_database_and_never_show_its_password(title: str, given: dict[str, str], usable: bool) -> None:
    """What cannot be used is refused by the variable's name, without its value."""
    environ = {f"QUARTERDECK_{name}": value for name, value in given.items()}
    if usable:
        settings = Settings.from_environment(environ)
        assert "pw" not in repr(settings)
        assert not isinstance(settings.database_place, Path)
        return
    with pytest.raises(InvalidInput, match="QUARTERDECK_DATABASE") as caught:
        Settings.from_environment(environ)
    assert "hidden" not in str(caught.value)


def test_reading_sessions_cannot_write(place: str) -> None:
    """What goes past the write lock is refused by the server, not only by good manners."""
    with closing(Database(make_url(place))) as database:
        database.migrate()
        with database.sessions() as session:
            session.add(Model(name="one", created=utc_now()))
            with pytest.raises(InternalError, match="read-only"):
                session.flush()


def test_a_database_that_cannot_keep_every_text_is_refused(postgres: PostgresServer) -> None:
    """Named at the start, not with the first name that has an accent."""
    url = postgres.database(ENCODING="'LATIN1'", LOCALE_PROVIDER="libc", LOCALE="'C'", TEMPLATE="template0")
    with closing(Database(make_url(url))) as database, pytest.raises(Conflict) as caught:
        database.migrate()
    assert (caught.value.code, "LATIN1" in caught.value.detail) == ("database-encoding", True)


def test_a_server_that_restarts_costs_503_and_nothing_else(tmp_path: Path, postgres: PostgresServer, place: str) -> None:
    """While it is away every call is a 503 that may be tried again; afterwards everything goes on, with the same plans."""
    with world(tmp_path) as here:
        here.register(1)
        here.put()
        here.settled()
        plan = here.main.plan
        assert plan is not None
        # Whom a token is of is asked before anything else.
        token = here.ok(here.http.post("/api/token", json={}))["token"]
        postgres.stop()
        by_token = here.http.get("/api/models", headers={"authorization": f"Bearer {token}"})
        for answer in (here.http.get("/api/models"), here.http.put("/api/deployments/other", json=_wish(1)), by_token):
            assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "database-busy", "1")
            assert postgres.password not in answer.text
        postgres.start()
        # At once: connections that lay in the pool are of the server that is gone.
        assert [one["name"] for one in here.http.get("/api/models").json()] == ["flights"]
        here.settled()
        assert here.main.sequence == plan.sequence
        assert here.put("other")["revision"] == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restarted", "crashed"])
def test_what_was_acknowledged_survives_restarts_in_the_middle(
    tmp_path: Path, postgres: PostgresServer, place: str, how: signal.Signals
) -> None:
    """Writers go on while the server restarts: every acknowledged action is there once, every other one not at all or once."""
    acknowledged: list[str] = []
    with world(tmp_path) as here:
        here.register(1)
        stop = threading.Event()
        thread = threading.Thread(target=_deploy_on_and_on, args=(here, stop, acknowledged))
        thread.start()
        try:
            for _ in range(3):
                reached = len(acknowledged) + 3
                eventually(partial(_as_many, acknowledged, reached))
                postgres.restart(how)
        finally:
            stop.set()
            thread.join(60)
        found = {one["wish"]["deployment"]: one["wish"]["number"] for one in _all(here, "/api/deployments")}
        trail = [one["object"] for one in _all(here, "/api/audit") if one["verb"] == "create"]
    assert set(acknowledged) <= set(found)
    assert set(found.values()) == {1}
    assert sorted(trail) == sorted(f"deployment/{name}" for name in found)


def test_what_the_database_cannot_keep_is_refused_and_changes_nothing(tmp_path: Path, place: str) -> None:
    """A NUL in a text is the caller's mistake, not the program's."""
    with world(tmp_path) as here:
        here.register(1)
        answer = here.http.put("/api/deployments/late", json={**_wish(1), "why": "a\u0000b"})
        assert (answer.status_code, answer.json()["code"]) == (422, "unstorable")
        assert here.http.get("/api/deployments").json() == []
        assert here.put()["revision"] == 1


def _wish(version: int) -> dict[str, Any]:
    return {"main": {"model": "flights", "version": version}}


def _deploy_on_and_on(here: World, stop: threading.Event, acknowledged: list[str]) -> None:
    number = 0
    with httpx.Client(base_url=here.http.base_url, headers=here.http.headers, timeout=60) as http:
        while not stop.is_set():
            number += 1
            if http.put(f"/api/deployments/d{number}", json=_wish(1)).status_code in (200, 201):
                acknowledged.append(f"d{number}")


def _as_many(names: list[str], wanted: int) -> bool:
    return len(names) >= wanted


def _all(here: World, path: str) -> list[dict[str, Any]]:
    """Every page of a list."""
    found: list[dict[str, Any]] = []
    answer = here.http.get(path, params={"limit": 1000})
    while True:
        found += answer.json()
        if "next" not in answer.links:
            return found
        answer = here.http.get(answer.links["next"]["url"])


def test_a_rotated_password_needs_no_restart(tmp_path: Path, postgres: PostgresServer) -> None:
    """The file is read for every new connection."""
    name, secret = make_url(postgres.database()).database, tmp_path / "password"
    postgres.execute("CREATE ROLE rotating LOGIN SUPERUSER PASSWORD 'first'")
    try:
        secret.write_text("first\n")
        with closing(Database(URL.create("postgresql", "rotating", None, "127.0.0.1", postgres.port, name), secret)) as database:
            database.migrate()
            assert _reads(database)
            postgres.execute("ALTER ROLE rotating PASSWORD 'second'")
            postgres.restart()
            with pytest.raises(OperationalError):
                _reads(database)
            secret.write_text("second\n")
            assert _reads(database)
            secret.unlink()
            postgres.restart()
            with pytest.raises(NotReady, match="cannot be read"):
                _reads(database)
    finally:
        postgres.drop()
        postgres.execute("DROP ROLE rotating")


def _reads(database: Database) -> bool:
    with database.sessions() as session:
        return session.scalars(select(Model)).all() == []


def _wrong(server: PostgresServer) -> str:
    return make_url(server.url()).set(password="hidden").render_as_string(hide_password=False)


def _away(server: PostgresServer) -> str:
    return make_url(server.url()).set(password="hidden", port=free_port()).render_as_string(hide_password=False)


def _elsewhere(server: PostgresServer) -> str:
    return server.url("nowhere")


REFUSALS: list[tuple[str, Callable[[PostgresServer], str], str]] = [
    ("a wrong password", _wrong, "password authentication failed"),
    ("nobody there", _away, "refused"),
    ("no such database", _elsewhere, "nowhere"),
]


@pytest.mark.parametrize(("title", "url", "words"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_does_not_start_without_its_database(
    tmp_path: Path, postgres: PostgresServer, title: str, url: Callable[[PostgresServer], str], words: str
) -> None:
    """Exit status 2, one line with host, port, name and reason, another with the next step; no password."""
    prepare(tmp_path)
    assert start(tmp_path, 0, DATABASE=url(postgres)).wait(60) == 2
    said = (tmp_path / "stderr").read_text()
    assert [line.split(":")[0] for line in said.splitlines()] == ["error", "hint"]
    assert words in said
    assert "127.0.0.1:" in said
    assert "hidden" not in said
    assert postgres.password not in said


def test_the_program_keeps_nothing_in_its_folder_and_shows_no_password(tmp_path: Path, postgres: PostgresServer) -> None:
    """What it knows is in PostgreSQL; killed and started again it goes on; its log at the most talkative level says no secret."""
    prepare(tmp_path)
    secret = tmp_path / "password"
    secret.write_text(postgres.password)
    url = postgres.url(str(make_url(postgres.database()).database), password=False)
    settings = {"DATABASE": url, "DATABASE_PASSWORD_FILE": str(secret), "LOG_LEVEL": "debug"}
    deployer = DeployerProcess(tmp_path, settings=settings)
    headers = {"authorization": f"Bearer {ADMIN}"}
    deployer.up()
    made = httpx.post(f"{deployer.url}/api/keys", json={"name": "kept"}, headers=headers).json()["id"]
    instance = httpx.get(f"{deployer.url}/api/instance", headers=headers).text
    deployer.kill()
    deployer.up()
    assert [one["id"] for one in httpx.get(f"{deployer.url}/api/keys", headers=headers).json()] == [made]
    postgres.restart()
    httpx.get(f"{deployer.url}/api/keys", headers=headers)
    assert deployer.stop() == 0
    said = (tmp_path / "stderr").read_text()
    assert "listening" in said
    for text in (said, instance):
        assert postgres.password not in text
    assert list(tmp_path.glob("deployer.db*")) == []
