"""Blocks of columns before any row comes: columns of a node, and columns that one lookup settles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Places = np.ndarray[Any, np.dtype[np.intp]]


class Unfit(Exception):
    """The program, the schema and the files do not fit together; the text says where."""


def must(holds: bool, what: str) -> None:
    """Raise `Unfit` where something does not hold."""
    if not holds:
        raise Unfit(what)


@dataclass(frozen=True, slots=True)
class Columns:
    """Some columns of a node, in any order."""

    node: int
    places: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many."""
        return len(self.places)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Columns that one lookup settles: a row of numbers for each of its entries."""

    source: int
    rows: Array

    @property
    def width(self) -> int:
        """How many columns."""
        return int(self.rows.shape[1])

    @property
    def entries(self) -> int:
        """How many entries."""
        return len(self.rows)

    def column(self, place: int) -> Array:
        """One column's number for each entry."""
        return self.rows[:, place]

    def weighted(self, weights: Sequence[float]) -> Array:
        """For each entry the sum of its row, each number times its column's weight, added up one after the other."""
        # In order, not pairwise as a sum would be: the same bits as the columns of a node give.
        products = self.rows.T * np.array(weights)[:, None]
        found: Array = np.add.accumulate(products, axis=0)[-1]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Hot:
    """A table too wide to be written out: each entry has a number in one column at most, and 0 in all others."""

    source: int
    columns: Places
    """By entry; -1: none."""
    ones: Array
    """By column: the number that stands there."""

    @property
    def width(self) -> int:
        """How many columns."""
        return len(self.ones)

    @property
    def entries(self) -> int:
        """How many entries."""
        return len(self.columns)

    @property
    def numbers(self) -> Array:
        """By entry: the number that it has, 0 where it has none."""
        return np.where(self.columns >= 0, self.ones[self.columns], 0.0)

    def column(self, place: int) -> Array:
        """One column's number for each entry."""
        return np.where(self.columns == place, self.ones[place], 0.0)

    def weighted(self, weights: Sequence[float]) -> Array:
        """For each entry its number times its column's weight."""
        return np.where(self.columns >= 0, self.numbers * np.array(weights)[self.columns], 0.0)

    def table(self) -> Table:
        """The same written out."""
        rows = np.zeros((len(self.columns), self.width))
        entries = np.flatnonzero(self.columns >= 0)
        rows[entries, self.columns[entries]] = self.numbers[entries]
        return Table(self.source, rows)


Segment = Columns | Table | Hot
Segments = tuple[Segment, ...]


def width(segments: Segments) -> int:
    """How many columns a block has."""
    return sum(segment.width for segment in segments)


def at(segments: Segments, column: int) -> tuple[Segment, int]:
    """The segment of a column, and its place there."""
    for segment in segments:
        if column < segment.width:
            return segment, column
        column -= segment.width
    raise IndexError(column)


def pick(segments: Segments, columns: Sequence[int]) -> Segments:
    """Some columns of a block, in the order asked for."""
    cells = [(segment, place) for segment in segments for place in range(segment.width)]
    found: list[Segment] = []
    run: list[int] = []
    last: Segment | None = None
    for column in columns:
        segment, place = cells[column]
        # Neighbours of one segment stay together: each segment costs a pass over all rows.
        if segment is not last and last is not None:
            found.append(_part(last, run))
            run = []
        last = segment
        run.append(place)
    if last is not None:
        found.append(_part(last, run))
    return joined(found)


def joined(segments: Sequence[Segment]) -> Segments:
    """The same columns with neighbours of one node or one lookup put together."""
    found: list[Segment] = []
    for segment in segments:
        last = found[-1] if found else None
        if isinstance(segment, Columns) and isinstance(last, Columns) and segment.node == last.node:
            found[-1] = Columns(last.node, last.places + segment.places)
        elif isinstance(segment, Table) and isinstance(last, Table) and segment.source == last.source:
            found[-1] = Table(last.source, np.hstack([last.rows, segment.rows]))
        else:
            found.append(segment)
    return tuple(found)


def _part(segment: Segment, columns: list[int]) -> Segment:
    if columns == list(range(segment.width)):
        return segment
    if isinstance(segment, Columns):
        return Columns(segment.node, tuple(segment.places[column] for column in columns))
    if isinstance(segment, Table):
        return Table(segment.source, segment.rows[:, columns])
    must(len(set(columns)) == len(columns), "takes a column of a wide encoder twice")
    # One more place than there are columns: entries that have none look there.
    moved = np.full(segment.width + 1, -1)
    moved[columns] = range(len(columns))
    return Hot(segment.source, moved[segment.columns], segment.ones[columns])
