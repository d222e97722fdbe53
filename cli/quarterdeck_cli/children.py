"""One child of the supervisor: how it is started, and how it is kept from outliving the supervisor."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from quarterdeck import lifeline as ties
from quarterdeck_cli.processes import Process, identify

LIFELINE = "QUARTERDECK_LIFELINE_FD"
FIRST_PAUSE, LONGEST_PAUSE, SETTLED = 0.1, 5.0, 10.0
"""Back-off in seconds: the first pause, the longest, and the life after which the next pause is the first again."""

_NOT_FOR_CHILDREN = ("QUARTERDECK_URL", "QUARTERDECK_TOKEN", "QUARTERDECK_KEY")
"""Variables that speak to clients: two are secrets, and to a node QUARTERDECK_URL would mean its own address."""


@dataclass(frozen=True)
class Program:
    """What to run: `python -m module` in `folder`, told everything by `environ`.

    `stage` orders the stop: 0 goes first. `after` names the program that must have answered before the first start.
    """

    name: str
    module: str
    folder: Path
    log: Path
    environ: Mapping[str, str]
    stage: int
    health: str = ""
    after: str = ""


class Child:
    """A program that is kept alive. Start it from the main thread: the kernel ties the death signal to the thread that forks."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = 0
        # Later starts do not wait: a node serves on from its own disk, whatever has become of the deployer.
        self.due = math.inf if program.after else 0.0
        self._born = 0.0
        self._pause = FIRST_PAUSE

    def start(self, lifeline: int) -> None:
        """Fork it. `lifeline` is the reading end of the pipe whose writing end only the supervisor holds."""
        inherited = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
        environ = {**inherited, **self.program.environ, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", LIFELINE: str(lifeline)}
        # Appended: the reason of the last death stands above the new start.
        with self.program.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.program.module],
                cwd=self.program.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lifeline],
                preexec_fn=partial(ties.die_with_parent, os.getpid()),
                # Away from the terminal's group: Ctrl-C reaches the supervisor alone, which then stops them in order.
                start_new_session=True,
            )
        self._born = time.monotonic()

    def died(self) -> int | None:
        """Reap it: the exit status where it has just ended, and then `due` is when to start it again; else None."""
        if self.process is None or (status := self.process.poll()) is None:
            return None
        self.process = None
        self.deaths += 1
        # A program that lived for a while has not failed at start: it deserves a quick second chance.
        now = time.monotonic()
        if now - self._born > SETTLED:
            self._pause = FIRST_PAUSE
        self.due = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return status

    @property
    def identity(self) -> Process | None:
        """Its pid and start time; None while it does not run."""
        return identify(self.process.pid) if self.process else None

    def signal(self, what: signal.Signals) -> None:
        """Signal it, where it runs. Its pid is ours until it is reaped, so it cannot be somebody else's."""
        if self.process is not None:
            self.process.send_signal(what)

    def last_words(self) -> str:
        """The last line of its log that says something."""
        try:
            with self.program.log.open("rb") as log:
                # Only the end: a log may have grown for months.
                log.seek(max(0, self.program.log.stat().st_size - 4096))
                said = log.read().decode(errors="replace").strip()
        except OSError:
            return ""
        return said.splitlines()[-1].strip() if said else ""
