"""Curves of the last day as SVG made on the server: they need no script, and print."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from quarterdeck_deployer.console import words
from quarterdeck_deployer.usage import SPELL_SECONDS, RoleUsage

WIDTH, HEIGHT = 1000, 100
_DAY = 86_400
_TICKS = 6 * 3600
_FRESH = 3 * SPELL_SECONDS


@dataclass(frozen=True)
class Curve:
    """One line; gaps in what is known are gaps in the line."""

    role: str
    path: str
    words: str


@dataclass(frozen=True)
class Chart:
    """Some lines over the same day; `top` stands at the upper edge, 0 at the lower one."""

    title: str
    top: str
    curves: list[Curve]


@dataclass(frozen=True)
class Hour:
    """A line of the table behind the charts: the largest values of one hour."""

    at: datetime
    role: str
    nodes: int
    memory: str
    processors: str


@dataclass(frozen=True)
class Day:
    """What was used in the last 24 hours; `ticks` are (place from left to right, time, whether there is room for it)."""

    charts: list[Chart]
    hours: list[Hour]
    ticks: list[tuple[int, datetime, bool]]
    width: int = WIDTH
    height: int = HEIGHT


def day(points: Sequence[RoleUsage], now: datetime) -> Day | None:
    """The charts of a day's points; None where there are none."""
    if not points:
        return None
    end = now.timestamp()
    memory = _chart("Memory", points, end, lambda one: float(one.rss_bytes), words.size)
    processors = _chart("Processors busy", points, end, lambda one: one.cpu_cores, words.cores)
    first = math.ceil((end - _DAY) / _TICKS) * _TICKS
    times = range(first, int(end) + 1, _TICKS)
    places = [(round(WIDTH * (1 - (end - at) / _DAY)), datetime.fromtimestamp(at, UTC)) for at in times]
    # At both ends stand words already.
    ticks = [(place, at, 0.2 * WIDTH <= place <= 0.75 * WIDTH) for place, at in places]
    return Day([memory, processors], _hours(points), ticks)


def _chart(
    title: str, points: Sequence[RoleUsage], end: float, value: Callable[[RoleUsage], float | None], told: Callable[[float], str]
) -> Chart:
    known: dict[str, list[tuple[float, float]]] = {}
    for one in points:
        if (found := value(one)) is not None:
            known.setdefault(one.role, []).append((one.at.timestamp(), found))
    top = _round_up(max((found for line in known.values() for _, found in line), default=0.0))
    # Those that answer callers first.
    lines = sorted(known.items(), reverse=True)
    return Chart(title, told(top), [Curve(role, _path(line, end, top), _told(line, end, told)) for role, line in lines])


def _path(line: Sequence[tuple[float, float]], end: float, top: float) -> str:
    steps, before = [], -math.inf
    for at, found in line:
        x, y = WIDTH * (1 - (end - at) / _DAY), HEIGHT * (1 - found / top)
        # Half a step of grace: spells follow each other exactly, and a missing one is a gap.
        steps.append(f"{'L' if at - before <= 1.5 * SPELL_SECONDS else 'M'}{max(0.0, x):.1f} {y:.1f}")
        before = at
    # A point with nothing on either side would not be drawn at all without a length.
    return " ".join(f"{step} h0.1" if step.startswith("M") else step for step in steps)


def _told(line: Sequence[tuple[float, float]], end: float, told: Callable[[float], str]) -> str:
    at, newest = line[-1]
    most = told(max(found for _, found in line))
    since = "now" if end - at <= _FRESH else f"last, {words.stamp(datetime.fromtimestamp(at, UTC))} UTC"
    return f"{told(newest)} {since}, {most} at most"


def _hours(points: Sequence[RoleUsage]) -> list[Hour]:
    grouped: dict[tuple[datetime, str], list[RoleUsage]] = {}
    for one in points:
        grouped.setdefault((one.at.replace(minute=0, second=0, microsecond=0), one.role), []).append(one)
    found = []
    for (at, role), group in sorted(grouped.items(), key=lambda item: (-item[0][0].timestamp(), item[0][1])):
        cores = [one.cpu_cores for one in group if one.cpu_cores is not None]
        memory = words.size(max(one.rss_bytes for one in group))
        found.append(Hour(at, role, max(one.nodes for one in group), memory, words.cores(max(cores)) if cores else "–"))
    return found


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 … that is not smaller; 1 for nothing."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 5, 10) if step * unit >= value * 0.999)
