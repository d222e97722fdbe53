"""The local system that the demo runs on: `quarterdeck up` in a fresh folder, as a child that ends with the demo."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from quarterdeck import lifeline
from quarterdeck.client import HOME, STATE, Client, connect
from quarterdeck.errors import QuarterdeckError

START_SECONDS = 120.0
STOP_SECONDS = 60.0


class Refused(QuarterdeckError):
    """The system did not come up; the message is its own."""

    default_code = "start-failed"


@contextmanager
def running(folder: Path, port: int) -> Iterator[Client]:
    """Start a system in `folder` and stop it again; gives a client of it.

    Args:
        folder: where it lives; emptied first, so that every demo begins at version 1.
        port: of the deployer; the nodes take the next two.

    Raises:
        Refused: it did not come up, or another one runs in `folder`.
    """
    _empty(folder)
    log = folder / "up.log"
    with log.open("wb") as out:
        # A session of its own: Ctrl-C reaches the demo alone, which then stops the system in order.
        process = subprocess.Popen(
            [Path(sys.executable).with_name("quarterdeck"), "up", "--dir", str(folder), "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=partial(lifeline.die_with_parent, os.getpid()),
        )
    try:
        with _connected(process, folder, log) as client:
            yield client
    finally:
        _stop(process)


def _empty(folder: Path) -> None:
    if (folder / HOME / "lock").exists():
        with (folder / HOME / "lock").open("rb") as lock:
            try:
                # Whoever supervises holds this lock for as long as it lives, and no longer.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(f"A demo runs in {folder} already.", hint="Stop it with Ctrl-C where it was started.") from None
    # Nothing of an earlier demo stays: its labels and records would be counted again.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _connected(process: subprocess.Popen[bytes], folder: Path, log: Path) -> Client:
    note = folder / HOME / STATE
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if note.is_file() and json.loads(note.read_bytes())["ready"]:
            return connect(folder)
        time.sleep(0.05)
    raise Refused(
        log.read_text().strip() or "`quarterdeck up` said nothing.",
        hint=f"Other ports: make demo PORT=9000. Logs: {folder / HOME / 'logs'}",
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    # The supervisor has patience of its own for each stage; killing it is only for one that hangs.
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
