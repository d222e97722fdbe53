"""Processes of this machine, named by pid and start time together, so that a reused pid is never mistaken for ours."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# The kernel's number for a listening socket, as /proc/net/tcp writes it.
_LISTEN = "0A"


class Process(NamedTuple):
    """One process for all time: `started` is the boot's id and the start in clock ticks since that boot."""

    pid: int
    started: str


def identify(pid: int) -> Process | None:
    """The living process with this pid; None where there is none, or where only its zombie is left."""
    try:
        # Bytes, because a program may give itself any name, be it text or not.
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The command's name stands in brackets and may hold anything, so fields are counted from its last bracket.
    fields = stat.rpartition(b")")[2].decode().split()
    return None if fields[0] in "ZX" else Process(pid, f"{boot}:{fields[19]}")


def alive(process: Process) -> bool:
    """Whether exactly this process lives."""
    return identify(process.pid) == process


def send(process: Process, what: signal.Signals) -> bool:
    """Signal exactly this process; False where it has ended. The pidfd closes the gap between looking and signalling."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not alive(process):
            return False
        signal.pidfd_send_signal(handle, what)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def wait_gone(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Wait until all of them have ended; those that live on after `seconds`."""
    # They need not be our children, so there is nothing to wait on but their entries in /proc.
    left, deadline = list(processes), time.monotonic() + seconds
    while (left := [process for process in left if alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def end(processes: Iterable[Process], seconds: float = 5.0) -> list[Process]:
    """Kill what is left of these processes; those that could not be ended within `seconds`."""
    # One round of signals first: ending them one after the other would add up the waits.
    killed = [process for process in processes if send(process, signal.SIGKILL)]
    return wait_gone(killed, seconds)


def command(pid: int) -> str:
    """The command line of a process, at most 80 characters of it; empty where it is not to be seen."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()[:80]


def listener(port: int) -> int | None:
    """The pid that listens on a TCP port; None where nobody does, or where the process belongs to somebody else."""
    inodes = set(_listening_inodes(port))
    for folder in Path("/proc").glob("[0-9]*/fd") if inodes else ():
        if inodes.intersection(_open_files(folder)):
            return int(folder.parent.name)
    return None


def _open_files(folder: Path) -> Iterator[str]:
    """What the descriptors of a process lead to; those that close meanwhile, or are not ours to see, are left out."""
    try:
        entries = os.listdir(folder)
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):
            yield os.readlink(folder / entry)


def _listening_inodes(port: int) -> Iterator[str]:
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            # A connection of a client may have the same local port; only a listener is in the way.
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{fields[9]}]"
