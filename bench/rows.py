"""What was measured, one cell at a time: a row per server, cell, number of connections and repetition; stored as JSON lines."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One cell of one server in one repetition.

    `figures` by name: `rps` good answers a second, `rows_per_s`, `p50_ms`, `p99_ms`, `max_ms`, `requests`, `errors`,
    `difference` to the original model's scores, `start_s`, `rss_mb` and `pss_mb`; cores used: `server_cpu`, `helper_cpu`,
    `load_cpu`, `foreign_cpu`; `cpu_us` of the server per good answer; and what special cells say of themselves.
    """

    server: str
    cell: str
    connections: int
    repetition: int
    figures: dict[str, float]

    @property
    def disturbed(self) -> bool:
        """Whether others took part of the processor in every attempt."""
        return bool(self.figures.get("disturbed", 0.0))


@dataclass(frozen=True)
class Results:
    """A whole run: what it was made with, and its rows. Disturbed cells are left out of every figure."""

    about: dict[str, Any]
    rows: tuple[Row, ...]

    def of(self, server: str, cell: str, connections: int) -> list[Row]:
        """Its undisturbed rows, in the order of the repetitions."""
        wanted = (server, cell, connections)
        return [row for row in self.rows if (row.server, row.cell, row.connections) == wanted and not row.disturbed]

    def values(self, server: str, cell: str, connections: int, name: str) -> list[float]:
        """One figure in all repetitions."""
        return [row.figures[name] for row in self.of(server, cell, connections) if name in row.figures]

    def median(self, server: str, cell: str, connections: int, name: str) -> float | None:
        """The median of the repetitions; None where there is none."""
        found = self.values(server, cell, connections, name)
        return statistics.median(found) if found else None

    def spread(self, server: str, cell: str, connections: int, name: str) -> float | None:
        """(largest - smallest) / median of the repetitions."""
        found = self.values(server, cell, connections, name)
        middle = statistics.median(found) if found else 0.0
        return (max(found) - min(found)) / middle if middle else None

    def ratio(self, server: str, base: str, cell: str, connections: int, name: str = "rps") -> float | None:
        """How many times the base's figure a server has: the median of the ratios taken inside one repetition."""
        return self.best_ratio((server, cell, connections), [(base, cell, connections)], name)

    def best_ratio(self, wanted: tuple[str, str, int], others: Iterable[tuple[str, str, int]], name: str = "rps") -> float | None:
        """The same against the best of several (server, cell, connections) in each repetition."""
        mine = self._by_repetition(wanted, name)
        theirs = [self._by_repetition(other, name) for other in others]
        ratios = []
        for repetition, value in mine.items():
            found = [other[repetition] for other in theirs if repetition in other]
            if found and max(found) > 0:
                ratios.append(value / max(found))
        return statistics.median(ratios) if ratios else None

    @property
    def disturbed(self) -> list[Row]:
        """Rows that are left out."""
        return [row for row in self.rows if row.disturbed]

    def servers(self, cell: str) -> list[str]:
        """Who has rows of this cell, in the order of measuring."""
        return list(dict.fromkeys(row.server for row in self.rows if row.cell == cell))

    def connections(self, cell: str) -> list[int]:
        """Numbers of connections that a cell was measured with, ascending."""
        return sorted({row.connections for row in self.rows if row.cell == cell})

    def _by_repetition(self, wanted: tuple[str, str, int], name: str) -> dict[int, float]:
        return {row.repetition: row.figures[name] for row in self.of(*wanted) if name in row.figures}


class Journal:
    """Appends to a file of JSON lines: first what the run was made with, then a line per row.

    Args:
        path: made anew.
        about: machine, versions, options.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"about": about}) + "\n")
        self.path = path

    def add(self, row: Row) -> None:
        """Write one row, at once: a run that is broken off keeps what it has."""
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def read(paths: Sequence[Path]) -> Results:
    """The results of files of one run each; repetitions of later files are counted on.

    Raises:
        ValueError: a file holds something else.
    """
    about: dict[str, Any] = {}
    rows: list[Row] = []
    for path in paths:
        first, *others = [json.loads(line) for line in path.read_text().splitlines()]
        about = {**about, **first["about"]}
        before = max((row.repetition for row in rows), default=-1) + 1
        rows += [Row(**{**line, "repetition": line["repetition"] + before}) for line in others]
    return Results(about, tuple(rows))
