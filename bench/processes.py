"""Processes that are measured: pinned to a core, watched through /proc, ended with everything that they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

Process = subprocess.Popen[bytes]
_TICKS = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Resident and proportional set size of some processes together, in MB."""

    rss: float
    pss: float


def start(
    command: Sequence[str | Path], *, core: int, folder: Path, log: Path, variables: Mapping[str, str], idle: bool = False
) -> Process:
    """Start a program that stays on one core with all its children; what it says goes to `log`.

    With `idle` it runs only while nothing else wants the core. The lowest nice value would not do: it still takes milliseconds at
    a time from whoever shares the core. Nor would a session of its own: Linux groups processes by session (autogroup) and gives
    each group an equal share, so an idle process would compete with the load generator like any other.
    """
    words = ["taskset", "-c", str(core), *(["chrt", "--idle", "0"] if idle else []), *map(str, command)]
    with log.open("ab") as target:
        return subprocess.Popen(words, cwd=folder, env={**os.environ, **variables}, stdout=target, stderr=target, process_group=0)


def stop(processes: Iterable[Process], seconds: float = 5.0) -> None:
    """Ask these to end, wait `seconds` for all that they started, and kill what stays."""
    roots = list(processes)
    everyone = [pid for process in roots for pid in tree(process.pid)]
    _signal([process.pid for process in roots if process.poll() is None], signal.SIGTERM)
    if not _gone(roots, everyone, seconds):
        _signal(everyone, signal.SIGKILL)
        _gone(roots, everyone, seconds)


def tree(root: int) -> list[int]:
    """A process and everything below it."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """CPU time of these processes, everything below them, and what below them has ended and was waited for."""
    return sum(own_seconds(pid) for root in roots for pid in tree(root))


def own_seconds(pid: int) -> float:
    """CPU time of one process and of its ended children."""
    return sum(map(int, _stat(pid)[11:15])) / _TICKS


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    fields = _stat(pid)
    return bool(fields) and fields[0] != "Z"


def machine_seconds() -> float:
    """CPU time of the whole machine, idle and waiting left out."""
    user, nice, system, _, _, interrupts, soft, stolen = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + interrupts + soft + stolen) / _TICKS


def memory(roots: Iterable[int]) -> Memory:
    """Memory of these processes and everything below them."""
    totals = {"Rss:": 0, "Pss:": 0}
    for root in roots:
        for pid in tree(root):
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    name, _, value = line.partition(" ")
                    if name in totals:
                        totals[name] += int(value.split()[0])
    return Memory(totals["Rss:"] / 1024, totals["Pss:"] / 1024)


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _gone(roots: Iterable[Process], pids: Sequence[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for process in roots:
            process.poll()
        if not any(map(alive, pids)):
            return True
        time.sleep(0.05)
    return False
