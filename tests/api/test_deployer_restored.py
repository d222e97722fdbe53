"""A database that was restored from an older backup takes nothing back: what serves is adopted above every number given out."""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.plan import Plan
from quarterdeck_cli.saving import put_back, save
from quarterdeck_deployer.reconciler import Reconciler
from tests import deployer_world
from tests.deployer_world import World, world
from tests.node_twin import NodeTwin
from tests.postgres import PostgresServer
from tests.support import ROOT, eventually

WHY = "the database was older than what ran"


GUIDE = ROOT / "docs" / "guides" / "backup.md"


def guided(program: str, url: str, file: Path) -> list[str]:
    """The command that the guide says, with this database and this file in the place of its own."""
    (command,) = re.findall(rf"^\$ {program} .*$", GUIDE.read_text(), re.MULTILINE)
    there = command.replace("postgresql://quarterdeck@db.example.org/quarterdeck", url).replace("quarterdeck.dump", str(file))
    return shlex.split(there.removeprefix("$ "))


class Backup:
    """A backup of the deployer's database, by what its kind comes with."""

    def __init__(self, folder: Path, server: PostgresServer | None) -> None:
        self._folder, self._server, self._file = folder, server, folder / "saved"

    def take(self) -> None:
        """While the deployer runs."""
        if self._server is None:
            save(self._folder / "deployer.db", self._file)
        else:
            self._server.run(guided("pg_dump", deployer_world.database_of(self._folder), self._file))

    def put_back(self) -> None:
        """While it does not."""
        if self._server is None:
            put_back(self._file, self._folder / "deployer.db")
        else:
            self._server.run(guided("pg_restore", deployer_world.database_of(self._folder), self._file))


@pytest.fixture
def backup(request: pytest.FixtureRequest, tmp_path: Path, each_database: str) -> Backup:
    """Of whichever database it is."""
    return Backup(tmp_path, request.getfixturevalue("postgres") if each_database == "postgresql" else None)


@pytest.fixture
def restored(tmp_path: Path, backup: Backup) -> Iterator[Callable[[Callable[[World], None], Callable[[World], None]], World]]:
    """(what happens before the backup, what happens after it) → the deployer on the restored database, with the same nodes."""
    entered: list[Any] = []

    def run(before: Callable[[World], None], after: Callable[[World], None]) -> World:
        with world(tmp_path) as here:
            for version in (1, 2, 3):
                here.register(version)
            before(here)
            backup.take()
            after(here)
        backup.put_back()
        opened = world(tmp_path)
        again = opened.__enter__()
        entered.append(opened)
        # The nodes never stopped: they only speak with another process now.
        again.main, again.challenger = _moved(here.main, again), _moved(here.challenger, again)
        return again

    yield run
    for opened in entered:
        opened.__exit__(None, None, None)


def _moved(twin: NodeTwin, again: World) -> NodeTwin:
    twin.http = again.http
    return twin


def kinds(here: World, name: str = "late") -> list[tuple[int, str]]:
    """Numbers and kinds of its revisions, newest first."""
    return [(one["number"], one["kind"]) for one in here.http.get(f"/api/deployments/{name}/revisions").json()]


def first(here: World) -> None:
    """Version 1 serves."""
    here.put()
    here.settled()


def test_what_was_deployed_after_the_backup_goes_on_serving(restored: Callable[..., World]) -> None:
    """Version 2 answers without a moment of version 1; revisions go on above the number that was lost; the trail says why."""

    def second(here: World) -> None:
        here.put(main=2)
        here.settled()
        here.put(main=2, challenger=3)
        here.settled()

    again = restored(first, second)
    before = list(again.main.history["late"])
    again.until(lambda: kinds(again)[0] == (4, "adopt"))
    assert again.settled()["main"]["ref"]["version"] == 2
    assert (again.main.history["late"], kinds(again)) == (before, [(4, "adopt"), (1, "create")])
    wish = again.get()["wish"]
    assert (wish["main"]["version"], wish["challenger"]["version"], wish["why"]) == (2, 3, WHY)
    entry = again.http.get("/api/audit").json()[0]
    assert (entry["verb"], entry["object"], entry["reason"]) == ("adopt", "deployment/late", WHY)
    # And it is a deployment like any other: the next change is the next number.
    assert again.put(main=3)["revision"] == 5
    assert again.settled()["main"]["ref"]["version"] == 3


def test_a_deployment_that_the_backup_does_not_know_comes_back(restored: Callable[..., World]) -> None:
    """With its version, its access and its project; nothing else is touched by it."""

    def another(here: World) -> None:
        here.put("new", main=2, access="public")
        here.settled("new")

    again = restored(first, another)
    again.until(lambda: again.http.get("/api/deployments/new").status_code == 200)
    assert again.settled("new")["main"]["ref"]["version"] == 2
    wish = again.get("new")["wish"]
    assert (wish["access"], wish["main"]["version"], kinds(again, "new")) == ("public", 2, [(2, "adopt")])
    assert (len(again.main.history["new"]), kinds(again)) == (1, [(1, "create")])


def test_a_deployment_that_was_stopped_after_the_backup_stays_stopped(restored: Callable[..., World]) -> None:
    """Nothing answers requests that was told not to."""

    def stop(here: World) -> None:
        here.do("stop")
        here.settled()

    again = restored(first, stop)
    before = list(again.main.history["late"])
    again.until(lambda: kinds(again)[0] == (3, "adopt"))
    again.settled()
    assert (again.get()["wish"]["running"], again.main.answering["late"], again.main.history["late"]) == (False, None, before)


def _offered(here: World, after: int) -> int:
    """The status of the answer to the main node's question for a newer plan."""
    token = {"authorization": f"Bearer {deployer_world.NODE}"}
    return here.http.get("/plans/main", params={"after": after, "wait": 0}, headers=token).status_code


@contextmanager
def _held(loop: Reconciler) -> Iterator[None]:
    """No step begins as long as this lasts."""
    released, step = threading.Event(), loop.step

    def late() -> dict[str, Plan]:
        released.wait()
        return step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "step", late)
        try:
            yield
        finally:
            released.set()


def test_as_long_as_a_node_has_not_spoken_it_gets_no_plan(restored: Callable[..., World]) -> None:
    """However many plans the restored deployer has numbered by then: only its report shows what it serves."""

    def second(here: World) -> None:
        here.put(main=2)
        here.settled()

    again = restored(first, second)
    for number in range(6):
        again.put(f"other-{number}")
    before, serving = list(again.main.history["late"]), again.main.plan
    assert serving is not None
    place = again.deployer.infrastructures.of_node("main")

    def published() -> bool:
        again.challenger.step()
        return (place.plan("main") or serving).sequence > serving.sequence

    # Each of these is another plan, so their numbers pass the one that the node has.
    eventually(published)
    assert _offered(again, serving.sequence) == 204
    # Nor what was published before its report came, while the step that reads it is still to come.
    with _held(place.reconciler):
        again.main.report()
        assert _offered(again, serving.sequence) == 204
    again.until(lambda: kinds(again)[0] == (3, "adopt"))
    assert again.settled()["main"]["ref"]["version"] == 2
    assert again.main.history["late"] == before


def test_a_database_as_new_as_its_nodes_adopts_nothing(restored: Callable[..., World]) -> None:
    """A restore of the very state, or a restart: the same numbers, the same plans, no new revision."""
    again = restored(first, lambda here: None)
    plan = again.main.plan
    again.settled()
    for _ in range(3):
        again.step()
    assert plan is not None
    assert (kinds(again), again.main.sequence) == ([(1, "create")], plan.sequence)
