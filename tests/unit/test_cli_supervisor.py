"""The supervisor over small programs of the tests' own: order of start, deaths, failure, and what children are told."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quarterdeck.client import TOKEN
from quarterdeck_cli import programs, start
from quarterdeck_cli.children import Child, Program
from quarterdeck_cli.errors import NotStarted
from quarterdeck_cli.home import NODE_TOKEN, Home, Note
from quarterdeck_cli.ports import Ports
from quarterdeck_cli.processes import Process, identify
from quarterdeck_cli.supervisor import StartFailed, Supervisor, Told
from tests.support import eventually, free_port
from tests.unit.cli_shell import variables

SERVER = """
import http.server, os, pathlib, sys
place = pathlib.Path("order")
with place.open("a") as order:
    order.write(os.environ["NAME"] + " started\\n")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with place.open("a") as order:
            order.write(os.environ["NAME"] + " answered\\n")
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
BROKEN = "raise SystemExit('no such setting')"
PATIENT = "import signal; signal.pause()"


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """A supervisor takes the signals of its process; the tests get theirs back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A folder that is ready for a supervisor."""
    made = Home(tmp_path)
    made.folder.mkdir()
    (made.folder / "logs").mkdir()
    return made


def program(home: Home, name: str, code: str, *, stage: int = 0, after: str = "", health: bool = True) -> Program:
    """A program of one module, which lies in the folder."""
    (home.place / f"{name}_twin.py").write_text(code)
    port = free_port()
    environ = {"NAME": name, "PORT": str(port), "PYTHONPATH": str(home.place)}
    url = f"http://127.0.0.1:{port}/" if health else ""
    return Program(name, f"{name}_twin", home.place, home.log(name), environ, stage, url, after)


def supervise(home: Home, ready: Callable[[], None], *children: Program) -> list[str]:
    """Run a supervisor until `ready` has stopped it; what it told."""
    told: list[str] = []
    me = identify(os.getpid())
    assert me is not None
    note = Note(me, {}, {}, "store")
    Supervisor(home, children, note, Told(lambda names: told.append(",".join(names)), told.append)).run(ready)
    return told


def stop_me() -> None:
    """What Ctrl-C, `quarterdeck down` or a closed terminal do."""
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_program_that_follows_another_is_started_once_that_one_answers(home: Home) -> None:
    """Its first words would otherwise be complaints that nobody is there."""
    second = program(home, "second", SERVER, after="first")
    first = program(home, "first", SERVER, stage=2)
    told = supervise(home, stop_me, second, first)
    order = (home.place / "order").read_text().split("\n")
    assert order.index("first started") < order.index("first answered") < order.index("second started")
    assert told[:3] == ["second,first", "second", ""]


def test_everything_is_ended_and_the_note_is_gone(home: Home) -> None:
    """Each child by its stage; nothing is left running, and nobody is named any more."""
    seen: list[Process] = []

    def ready() -> None:
        note = home.note()
        assert note is not None
        assert note.ready
        seen.extend(note.children.values())
        stop_me()

    supervise(home, ready, program(home, "one", SERVER), program(home, "two", PATIENT, stage=1, health=False))
    assert len(seen) == 2
    assert not any(identify(child.pid) == child for child in seen)
    assert home.note() is None


def test_a_program_that_cannot_start_is_named_with_its_last_words_and_its_log(home: Home) -> None:
    """And what waits for it is never started."""
    follower = program(home, "second", SERVER, after="first")
    with pytest.raises(StartFailed, match="first does not come up: no such setting") as caught:
        supervise(home, stop_me, program(home, "first", BROKEN), follower)
    assert "first.log" in caught.value.hint
    assert not (home.place / "order").exists()


def test_a_stop_during_the_start_is_obeyed(home: Home) -> None:
    """Nobody is told that the system is up, for it never was."""

    def never() -> None:
        raise AssertionError("it was never up")

    told: list[str] = []

    def waiting(names: object) -> None:
        stop_me()

    me = identify(os.getpid())
    assert me is not None
    patient = program(home, "patient", PATIENT)
    Supervisor(home, [patient], Note(me, {}, {}, ""), Told(waiting, told.append)).run(never)
    assert told == ["stopping: requests end, records are shipped; Ctrl-C again kills"]


def test_a_child_pauses_longer_after_each_death(home: Home) -> None:
    """0.1 s, then twice as long each time, so that a broken program does not keep the machine busy."""
    child = Child(program(home, "broken", BROKEN))
    reading, writing = os.pipe()
    pauses = []
    try:
        for _ in range(3):
            child.start(reading)
            before = child.due
            status = eventually(child.died)
            assert status == 1
            assert child.due > before
            pauses.append(child._pause)
    finally:
        os.close(reading)
        os.close(writing)
    assert pauses == [0.2, 0.4, 0.8]
    assert child.deaths == 3
    assert child.last_words() == "no such setting"


def test_children_are_told_nothing_that_speaks_to_clients(home: Home) -> None:
    """A client's URL would mislead a node, and its secrets are none of a server's business."""
    dump = "import json, os; print(json.dumps(dict(os.environ)))"
    child = Child(program(home, "dump", dump))
    reading, writing = os.pipe()
    try:
        with variables(
            QUARTERDECK_URL="http://elsewhere", QUARTERDECK_TOKEN="secret-one", QUARTERDECK_KEY="secret-two", KEPT="yes"
        ):
            child.start(reading)
        eventually(lambda: child.died() is not None)
    finally:
        os.close(reading)
        os.close(writing)
    told = json.loads(home.log("dump").read_text())
    assert told["KEPT"] == "yes"
    assert told["PYTHONSAFEPATH"] == "1"
    assert not {"QUARTERDECK_URL", "QUARTERDECK_TOKEN", "QUARTERDECK_KEY"} & told.keys()
    assert "secret" not in home.log("dump").read_text()


def test_no_secret_stands_in_an_environment_or_on_a_command_line(home: Home) -> None:
    """Programs read them from files that only their user may read."""
    tokens = {name: f"secret of {name}" for name in (TOKEN, NODE_TOKEN)}
    for name, secret in tokens.items():
        (home.folder / name).write_text(secret)
    made = programs.programs(home, Ports(1, 2, 3), home.store, 5.0)
    told = json.dumps([dict(each.environ) for each in made])
    assert not any(secret in told for secret in tokens.values())
    assert {each.name for each in made if each.after} == {"main", "challenger"}
    assert {each.stage for each in made} == {0, 1, 2}


def test_a_grpc_port_of_the_terminal_is_mains_alone(home: Home) -> None:
    """The challenger's node would want the very same port."""
    told = {
        each.name: each.environ.get("QUARTERDECK_GRPC_PORT") for each in programs.programs(home, Ports(1, 2, 3), home.store, 5.0)
    }
    assert (told["main"], told["challenger"]) == (None, "0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_way_of_saying_stop_is_heard(home: Home, number: signal.Signals) -> None:
    """Ctrl-C, `down` and a closed terminal end it in order."""
    told = supervise(home, lambda: os.kill(os.getpid(), number), program(home, "one", SERVER))
    assert told[-1].startswith("stopping")


def test_a_child_that_dies_is_started_again_and_that_is_told(home: Home) -> None:
    """With the signal that ended it; the note names the new one."""
    seen: list[Process] = []
    told: list[str] = []

    def happened(sentence: str) -> None:
        told.append(sentence)
        if "starting it again" in sentence:
            stop_me()

    def ready() -> None:
        note = home.note()
        assert note is not None
        seen.append(note.children["one"])
        os.kill(seen[0].pid, signal.SIGKILL)

    me = identify(os.getpid())
    assert me is not None
    one = program(home, "one", SERVER)
    Supervisor(home, [one], Note(me, {}, {}, ""), Told(lambda names: None, happened)).run(ready)
    assert told[0] == "one ended (signal 9); starting it again"


def test_a_store_in_memory_is_refused(tmp_path: Path) -> None:
    """Five programs would each have one of their own; nothing is started and nothing left behind."""
    with pytest.raises(NotStarted, match="memory cannot be shared") as caught:
        start.up(Home(tmp_path), start.Wanted(0, "memory://here", 5.0), Told(print, print), print)
    assert caught.value.code == "store-refused"
    assert list(tmp_path.iterdir()) == []


def test_a_process_with_an_unreadable_name_is_known_all_the_same(tmp_path: Path) -> None:
    """A program may call itself anything, and a reused pid may be such a program's."""
    odd = os.fsencode(tmp_path) + b"/\xff) \xfe"
    os.symlink(os.path.realpath(sys.executable), odd)
    child = os.posix_spawn(odd, [b"odd", b"-S", b"-c", b"import time; time.sleep(60)"], os.environ)
    try:
        found = identify(child)
        assert found is not None
        assert found.pid == child
        assert identify(child) == found
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_new_home_is_closed_to_others(tmp_path: Path) -> None:
    """Logs, plans and records in it are nobody else's business."""
    home = Home(tmp_path)
    home.take()
    assert home.folder.stat().st_mode & 0o077 == 0
    home.release()
