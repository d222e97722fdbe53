"""What we want of ourselves, as ratios inside one run, and what a run found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.rows import Results
from bench.servers import BATCHING, NOT_BATCHING

OURS = "quarterdeck"
_Cell = tuple[str, str, int]


@dataclass(frozen=True)
class Goal:
    """One figure that is wanted: at least, or at most, `wanted`."""

    what: str
    wanted: float
    figure: Callable[[Results], float | None]
    bound: Literal["at least", "at most"] = "at least"
    unit: str = "×"


@dataclass(frozen=True)
class Judged:
    """A goal with what was found; None: it was not measured."""

    goal: Goal
    found: float | None

    @property
    def missed(self) -> bool:
        """Whether it was measured and not met."""
        if self.found is None:
            return False
        return self.found < self.goal.wanted if self.goal.bound == "at least" else self.found > self.goal.wanted

    @property
    def verdict(self) -> str:
        """In a word or two."""
        return "not measured" if self.found is None else "missed" if self.missed else "met"


def judge(results: Results) -> list[Judged]:
    """Every goal with its figure."""
    return [Judged(goal, goal.figure(results)) for goal in GOALS]


def _bare(server: str, connections: int, name: str = "rps") -> Callable[[Results], float | None]:
    return lambda results: results.ratio(server, "bare", "single", connections, name)


def _best(mine: _Cell, peers: tuple[str, ...], cell: str, connections: int) -> Callable[[Results], float | None]:
    return lambda results: results.best_ratio(mine, [(peer, cell, connections) for peer in peers])


def _single(connections: int, peers: tuple[str, ...], server: str = OURS) -> Callable[[Results], float | None]:
    return _best((server, "single", connections), peers, "single", connections)


def _in_process(server: str) -> Callable[[Results], float | None]:
    limit = ("in-process", "LightGBM, batch", 256)
    return lambda results: results.best_ratio((server, "batch", 4), [limit], "rows_per_s")


def _own(cell: _Cell, name: str) -> Callable[[Results], float | None]:
    return lambda results: results.median(*cell, name)


def _worst(results: Results, name: str) -> float | None:
    found = [row.figures[name] for row in results.rows if row.server.startswith(OURS) and name in row.figures]
    return max(found) if found else None


_EVERY_PEER = (*BATCHING, *NOT_BATCHING)
GOALS: tuple[Goal, ...] = (
    Goal("single, 1 connection: of bare uvicorn", 0.75, _bare(OURS, 1)),
    Goal("single, 16 connections: of bare uvicorn", 0.65, _bare(OURS, 16)),
    Goal("single, 64 connections: of bare uvicorn", 0.65, _bare(OURS, 64)),
    Goal("single, 16 connections: of bare's p99", 3.0, _bare(OURS, 16, "p99_ms"), "at most"),
    *(Goal(f"single, {count} connections: the best peer with its batching", 25, _single(count, BATCHING)) for count in (16, 64)),
    *(Goal(f"single, {count} connections: the best peer without it", 80, _single(count, NOT_BATCHING)) for count in (16, 64)),
    Goal("single as Open Inference Protocol, 16 connections: of bare uvicorn", 0.45, _bare("quarterdeck-oip", 16)),
    Goal("single as Open Inference Protocol, 64 connections: of bare uvicorn", 0.45, _bare("quarterdeck-oip", 64)),
    Goal("20 floats, 16 connections: the best peer", 9, _best((OURS, "booster", 16), _EVERY_PEER, "booster", 16)),
    Goal("mirroring everything: main's throughput kept", 0.85, _own((OURS, "mirroring", 16), "kept")),
    Goal("256 records as JSON: the best peer", 4, _best((OURS, "batch", 4), _EVERY_PEER, "batch", 4)),
    Goal("256 records as JSON: of LightGBM in process", 0.60, _in_process(OURS)),
    Goal("256 records as Arrow: of LightGBM in process", 0.80, _in_process("quarterdeck-arrow")),
    Goal("not compiled, 1 connection: naive", 1.0, _single(1, ("naive",), "quarterdeck-skops")),
    Goal("not compiled, 16 connections: the best peer", 3.5, _single(16, _EVERY_PEER, "quarterdeck-skops")),
    Goal("not compiled, 64 connections: the best peer", 6, _single(64, _EVERY_PEER, "quarterdeck-skops")),
    Goal("first good answer after the start of both programs", 1.5, _own((OURS, "start", 0), "both_s"), "at most", "s"),
    Goal("resident memory of serve", 120, _own((OURS, "start", 0), "rss_mb"), "at most", "MB"),
    Goal("10,000 idle connections: a good caller's p99", 2, _own((OURS, "idle", 16), "p99_ratio"), "at most"),
    Goal("10,000 idle connections: held", 10_000, _own((OURS, "idle", 16), "open"), "at least", ""),
    Goal("ten times its capacity, computing model: goodput kept", 0.95, _own(("quarterdeck-slow", "overload", 512), "kept")),
    Goal("ten times its capacity, waiting model: goodput kept", 0.95, _own(("quarterdeck-waiting", "overload", 512), "kept")),
    Goal("answers other than 2xx", 0, lambda results: _worst(results, "errors"), "at most", ""),
    Goal("answered rows that were not recorded", 0, lambda results: _worst(results, "not_recorded"), "at most", ""),
)
"""In the order in which they are told."""
