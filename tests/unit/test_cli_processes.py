"""Processes by pid and start time, ports, and the folder's lock."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck_cli import ports, processes
from quarterdeck_cli.errors import NotStarted
from quarterdeck_cli.home import Home, Note
from quarterdeck_cli.processes import Process
from tests.support import free_ports


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing until it is ended."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as started:
        yield started
        started.kill()


def test_a_process_is_known_by_its_start(sleeper: subprocess.Popen[bytes]) -> None:
    """The same pid with another start is somebody else, and is never signalled."""
    found = processes.identify(sleeper.pid)
    assert found is not None
    stranger = found._replace(started="another-boot:1")
    assert processes.alive(found)
    assert not processes.alive(stranger)
    assert not processes.send(stranger, signal.SIGKILL)
    assert processes.end([stranger]) == []
    assert processes.alive(found)


def test_ending_waits_until_it_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    """A zombie counts as gone: it holds no port and no lock."""
    found = processes.identify(sleeper.pid)
    assert found is not None
    assert processes.end([found]) == []
    assert not processes.alive(found)
    assert processes.identify(sleeper.pid) is None


def test_a_listener_is_found() -> None:
    """By its port; with the command that it runs."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        assert processes.listener(port) is None
        holder.listen()
        assert processes.listener(port) == os.getpid()
    assert "python" in processes.command(os.getpid())


def test_free_ports_differ() -> None:
    """Three of them, none taken twice."""
    assert len(set(ports.choose(0))) == 3


def test_ports_follow_each_other() -> None:
    """From the one that was asked for."""
    first = free_ports(3)
    assert ports.choose(first) == (first, first + 1, first + 2)


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_each_of_the_three_ports_is_checked(offset: int) -> None:
    """The one in use is named."""
    first = free_ports(3)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", first + offset))
        holder.listen()
        with pytest.raises(NotStarted, match=f"Port {first + offset} is in use") as caught:
            ports.choose(first)
    assert caught.value.code == "port-in-use"


@pytest.mark.parametrize("port", [-1, 65534, 70000])
def test_impossible_ports_are_refused(port: int) -> None:
    """Three in a row must exist."""
    with pytest.raises(NotStarted, match="is not a port"):
        ports.choose(port)


def test_a_lock_is_given_back(tmp_path: Path) -> None:
    """Held, it refuses; released, it can be taken again; undone, nothing is left."""
    first, second = Home(tmp_path), Home(tmp_path)
    first.take()
    with pytest.raises(NotStarted, match=f"pid {os.getpid()}"):
        second.take()
    first.release()
    second.take()
    second.release(undo=True)
    assert (tmp_path / ".quarterdeck").is_dir(), "it was there before the second one came"
    third = Home(tmp_path / "other")
    third.place.mkdir()
    third.take()
    third.release(undo=True)
    assert list(third.place.iterdir()) == []


def test_a_note_is_read_back(tmp_path: Path) -> None:
    """And a damaged one is none."""
    home = Home(tmp_path)
    home.take()
    note = Note(Process(1, "b:2"), {"main": 1}, {"console": "u"}, "s", ready=True, children={"main": Process(3, "b:4")})
    home.write_note(note)
    assert home.note() == note
    (home.folder / "supervisor.json").write_text("{")
    assert home.note() is None
    home.release()


def test_tokens_stay_the_same(tmp_path: Path) -> None:
    """A second start must not lock out who holds one; each is long and its own."""
    home = Home(tmp_path)
    home.take()
    first = home.prepare()
    assert home.prepare() == first
    assert len(set(first.values())) == 3
    assert all(len(token) >= 32 for token in first.values())
    home.release()
