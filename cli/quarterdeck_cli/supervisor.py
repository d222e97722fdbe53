"""Local mode's supervisor: five children, flat, kept alive while it lives and gone when it is gone.

It runs in one thread that sleeps until a signal arrives or something is due. The thread that forks must be the main
one, and live as long as the program: the kernel sends the parent-death signal when the forking *thread* ends.
"""

from __future__ import annotations

import http.client
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from quarterdeck.errors import QuarterdeckError
from quarterdeck_cli.children import Child, Program
from quarterdeck_cli.home import Home, Note

START_SECONDS = 90.0
START_DEATHS = 3
PATIENCE = (20.0, 30.0, 10.0)
"""Seconds that serve nodes, agents and the deployer get to end after SIGTERM."""

# Health can only be asked for again and again; a tenth of a second is not felt and costs nothing.
_TICK = 0.1
_PROBE_SECONDS = 1.0


class StartFailed(QuarterdeckError):
    """A child does not come up; everything has been stopped again."""

    default_code = "start-failed"


class Told(NamedTuple):
    """Whom the supervisor tells: `waiting` for which children still (on every change), `happened` a sentence."""

    waiting: Callable[[Sequence[str]], None]
    happened: Callable[[str], None]


class Supervisor:
    """Starts the programs, restarts what dies, stops all in order. `run` blocks until a signal says stop."""

    def __init__(self, home: Home, programs: Sequence[Program], note: Note, told: Told) -> None:
        self._home = home
        self._children = [Child(program) for program in programs]
        self._note = note
        self._told = told
        self._stops = 0
        self._lifeline = -1
        self._wake = -1

    def run(self, ready: Callable[[], None]) -> None:
        """Start everything, call `ready` once all of it answers, and keep it so until SIGINT, SIGTERM or SIGHUP.

        Raises:
            StartFailed: naming the child that does not come up, and its log.
        """
        # Nobody ever writes to this pipe: its one writing end closes when this process ends, however it ends.
        self._lifeline, _held_open = os.pipe()
        self._listen_to_signals()
        try:
            self._start_due()
            if self._wait_until_answering():
                self._note.ready = True
                self._home.write_note(self._note)
                ready()
            # Deaths wake it; the five seconds only bound how long a lost wake-up could matter.
            while not self._stops:
                self._sleep(5.0)
                self._look_after()
        finally:
            self._stop()
            self._home.forget_note()

    def _listen_to_signals(self) -> None:
        self._wake, waker = os.pipe()
        for end in (self._wake, waker):
            os.set_blocking(end, False)
        # Python runs handlers between bytecodes only; the descriptor ends the sleep itself.
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _asked_to_stop(self, number: int, frame: object) -> None:
        self._stops += 1

    def _sleep(self, most: float) -> None:
        """Sleep until a signal arrives, a restart is due, or `most` seconds have gone."""
        now = time.monotonic()
        due = [child.due - now for child in self._children if child.process is None]
        if select.select([self._wake], [], [], max(0.0, min([most, *due])))[0]:
            os.read(self._wake, 512)

    def _look_after(self) -> None:
        """Reap what has died and start what is due."""
        for child in self._children:
            status = child.died()
            if status is not None:
                self._told.happened(f"{child.program.name} ended ({_how(status)}); starting it again")
        self._start_due()

    def _start_due(self) -> None:
        now, started = time.monotonic(), False
        for child in self._children:
            if child.process is None and child.due <= now:
                child.start(self._lifeline)
                started = True
        # Written after each start, so that a killed supervisor's successor knows whom to look for.
        if started:
            living = {child.program.name: child.identity for child in self._children}
            self._note.children = {name: identity for name, identity in living.items() if identity}
            self._home.write_note(self._note)

    def _wait_until_answering(self) -> bool:
        """True once each program with a health URL has answered; False where a stop was asked for meanwhile."""
        waiting = [child for child in self._children if child.program.health]
        self._told.waiting([child.program.name for child in waiting])
        deadline = time.monotonic() + START_SECONDS
        while waiting and not self._stops:
            self._sleep(_TICK)
            self._look_after()
            self._fail_where_hopeless(waiting, deadline)
            # What waits to be started cannot answer; asking it would only cost a connection.
            left = [child for child in waiting if child.process is None or not _answers(child.program.health)]
            if len(left) < len(waiting):
                self._told.waiting([child.program.name for child in left])
                self._allow({child.program.name for child in waiting} - {child.program.name for child in left})
            waiting = left
        return not waiting

    def _allow(self, answering: Collection[str]) -> None:
        """Start those that waited for one of these programs to answer."""
        for child in self._children:
            if child.program.after in answering:
                child.due = 0.0
        self._start_due()

    def _fail_where_hopeless(self, waiting: Sequence[Child], deadline: float) -> None:
        # A crash at start shows in a second or two; nobody should wait for the deadline to hear of it.
        bad = next((child for child in self._children if child.deaths >= START_DEATHS), None)
        if bad is None and time.monotonic() > deadline:
            bad = waiting[0]
        if bad is not None:
            raise StartFailed(
                f"{bad.program.name} does not come up: {bad.last_words() or 'it says nothing'}",
                kind="program",
                name=bad.program.name,
                hint=f"Read {bad.program.log}; everything has been stopped again.",
            )

    def _stop(self) -> None:
        """End the children stage by stage; a second request to stop, or impatience, kills what is left."""
        asked = self._stops
        self._told.happened("stopping: requests end, records are shipped; Ctrl-C again kills")
        # Serve nodes first, so that agents see the last records, and the deployer last, so that reports still arrive.
        for stage, patience in enumerate(PATIENCE):
            members = [child for child in self._children if child.program.stage == stage]
            for child in members:
                child.signal(signal.SIGTERM)
            deadline = time.monotonic() + patience
            while _living(members) and self._stops <= asked and time.monotonic() < deadline:
                self._sleep_in_stop()
            # Patience ends for each stage on its own: a hung node must not cost the agents their time to ship.
            for child in _living(members):
                self._told.happened(f"killing {child.program.name}")
                child.signal(signal.SIGKILL)
        # Killed ones are reaped as well: what is left behind is nothing, not even a zombie.
        for child in self._children:
            if child.process is not None:
                child.process.wait()

    def _sleep_in_stop(self) -> None:
        if select.select([self._wake], [], [], _TICK)[0]:
            os.read(self._wake, 512)


def _living(children: Sequence[Child]) -> list[Child]:
    return [child for child in children if child.process is not None and child.process.poll() is None]


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


def _answers(url: str) -> bool:
    """Whether GET answers 200. A plain HTTP client: the supervisor stays small for the weeks that it may run."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", place.path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
