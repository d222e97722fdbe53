"""What this node uses: memory and processor time of its own process and of its model processes."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def used(models: Iterable[int | None]) -> tuple[int, float]:
    """Resident bytes, and seconds of processor time since this process began.

    Args:
        models: pids of the model processes that live; those that ended are counted in the time by themselves.
    """
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    rss, cpu = _rss(os.getpid()), own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    for pid in models:
        if pid is not None:
            rss, cpu = rss + _rss(pid), cpu + _cpu(pid)
    return rss, cpu


def _rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    # It has ended since it was named.
    except (OSError, IndexError):
        return 0


def _cpu(pid: int) -> float:
    try:
        # The name in brackets may hold anything, so fields are counted from its last bracket.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError):
        return 0.0
