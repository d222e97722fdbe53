"""A program on many rows at once, column by column in numpy. Where the function for one row hesitates, it asks here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from quarterdeck.compiled import kernels
from quarterdeck.compiled import rows as reading
from quarterdeck.compiled.entries import Entries
from quarterdeck.compiled.kernels import Block, Kernel, Refusals
from quarterdeck.compiled.layout import Layout, Node
from quarterdeck.compiled.program import Linear, Mean, Step, Trees
from quarterdeck.compiled.quick_trees import FEWEST_ROWS, as_searched, quick_trees
from quarterdeck.compiled.rows import Places
from quarterdeck.compiled.segments import Columns, Hot, Segment, Segments, Table, width
from quarterdeck.compiled.trees import Booster
from quarterdeck.errors import ValueRefused
from quarterdeck.schema import Row

_HINT = "Send a value that the model was trained to take."


class Batch:
    """Evaluates a layout. Safe to call from several threads: every call keeps its columns to itself.

    Args:
        layout: of the program.
        boosters: by file.
    """

    def __init__(self, layout: Layout, boosters: Mapping[str, Booster]) -> None:
        self.layout = layout
        self.boosters = boosters
        self.nullable = frozenset(feature.name for feature in layout.schema.features if feature.nullable)
        self.entries = [_allowed(source.entries, source.refused) for source in layout.sources]
        steps = {place: node.step for place, node in enumerate(layout.nodes) if node.step is not None}
        each = {place: step for place, step in steps.items() if isinstance(step, kernels.EACH_COLUMN)}
        self.kernels: dict[int, Kernel] = {place: kernels.kernel(step) for place, step in each.items()}
        self.refusals: dict[int, Refusals | None] = {place: kernels.refusals(step) for place, step in each.items()}
        trees = {place: step for place, step in steps.items() if isinstance(step, Trees)}
        self.quick = {
            place: quick_trees(boosters[step.file].forest, step.transform, step.precision, layout.nodes[place].inputs[0])
            for place, step in trees.items()
        }
        self._reached = layout.reached()
        self._refusing = layout.refusing_sources()

    def scores(self, rows: Sequence[Row]) -> Block:
        """The last step's block: shape (rows, columns).

        Raises:
            ValueRefused: a row that the model refuses; `extra["row"]` is its place.
        """
        # Infinities and NaN are the model's business: what they lead to is checked, not warned of.
        with np.errstate(all="ignore"):
            run = Run(self, rows)
            run.advance(self._reached)
            for source in self._refusing:
                run.found(source)
            scores: Block = run.matrix(self.layout.scores)
            return scores

    def inputs(self, rows: Sequence[Row], place: int) -> Any:
        """What a step of the program is given: shape (rows, columns); raises `ValueRefused`."""
        last, node = next((number, node) for number, node in enumerate(self.layout.nodes) if node.place == place)
        with np.errstate(all="ignore"):
            run = Run(self, rows)
            run.advance(number for number in self._reached if number < last)
            return run.matrix(node.inputs[0], getattr(node.step, "precision", "float64"))


class Run:
    """One evaluation: the columns of each node as they are computed."""

    def __init__(self, batch: Batch, rows: Sequence[Row]) -> None:
        self._batch = batch
        self._rows = rows
        self._columns: dict[int, Block] = {}
        self._found: dict[int, Places] = {}

    def advance(self, nodes: Any) -> None:
        """Compute these nodes, in order."""
        for place in nodes:
            node = self._batch.layout.nodes[place]
            if node.step is None:
                self._columns[place] = reading.numbers(self._rows, self._batch.layout.names, self._batch.nullable)
            else:
                self._columns[place] = self._node(place, node, node.step)

    def block(self, segments: Segments) -> Block:
        """Columns side by side: shape (columns, rows)."""
        first = segments[0] if segments else None
        if len(segments) == 1 and isinstance(first, Columns):
            return self._picked(first)
        parts = [self._picked(part) if isinstance(part, Columns) else self._settled(part).T for part in segments]
        return np.concatenate(parts)

    def matrix(self, segments: Segments, precision: str = "float64") -> Any:
        """Columns as a row-major matrix: shape (rows, columns)."""
        made = np.empty((len(self._rows), width(segments)), dtype=precision)
        start = 0
        for segment in segments:
            end = start + segment.width
            made[:, start:end] = self._picked(segment).T if isinstance(segment, Columns) else self._settled(segment)
            start = end
        return made

    def found(self, source: int) -> Places:
        """The entry of each row in a lookup; raises `ValueRefused` where one is refused."""
        if source not in self._found:
            self._found[source] = self._look_up(source)
        return self._found[source]

    def _settled(self, table: Table | Hot) -> Block:
        """The columns of a lookup: shape (rows, columns)."""
        entries = self.found(table.source)
        if isinstance(table, Table):
            return table.rows[entries]
        rows = np.flatnonzero(table.columns[entries] >= 0)
        made = np.zeros((len(self._rows), table.width))
        made[rows, table.columns[entries[rows]]] = table.numbers[entries[rows]]
        return made

    def _picked(self, columns: Columns) -> Block:
        block = self._columns[columns.node]
        if columns.places == tuple(range(len(block))):
            return block
        return block[list(columns.places)]

    def _look_up(self, source: int) -> Places:
        read = self._batch.layout.sources[source]
        keys: Any = self._batch.entries[source]
        given = [] if read.feature else self.block(read.input)[0].tolist()
        try:
            values = reading.keys(self._rows, read.feature) if read.feature else given
            return reading.look_up(values, len(self._rows), keys, read.count - 1)
        except (KeyError, TypeError):
            raise self._unknown(source, keys, reading.values(self._rows, read.feature) if read.feature else given) from None

    def _unknown(self, source: int, keys: Any, given: Sequence[Any]) -> ValueRefused:
        row = next(row for row, value in enumerate(given) if not _known(keys, value))
        names = sorted(self._batch.layout.source_features(source))
        absent = given[row] is None or given[row] != given[row]
        what = "is null" if absent else "has a value that is none of those the model knows"
        return refused(names, f"{what}, and the model refuses that", row)

    def _node(self, place: int, node: Node, step: Step) -> Block:
        if isinstance(step, Mean):
            return kernels.mean(step, [self.block(block) for block in node.inputs])
        if isinstance(step, Linear):
            return self._linear(step, node.inputs[0])
        if isinstance(step, Trees):
            quick = self._batch.quick.get(place)
            if quick is not None and len(self._rows) >= FEWEST_ROWS:
                return quick.predict(len(self._rows), self._searchable(step.precision), self.found)
            booster = self._batch.boosters[step.file]
            return booster.predict(self.matrix(node.inputs[0], step.precision), transform=step.transform).T
        block = self.block(node.inputs[0])
        if place not in self._batch.kernels:
            return kernels.whole(step)(block)
        check = self._batch.refusals[place]
        if check is not None:
            self._check(node, check(block))
        return self._batch.kernels[place](block)

    def _searchable(self, precision: str) -> Callable[[Columns], Block]:
        # Once for all columns of a segment: each of its columns asks.
        return cache(lambda segment: as_searched(self._picked(segment), precision))

    def _linear(self, step: Linear, segments: Segments) -> Block:
        totals: list[Block] = []
        for weights, bias in zip(step.weights, step.bias, strict=True):
            # What a lookup adds is worked out for its entries, which are far fewer than rows.
            terms = [
                kernels.weighted(part, self._picked(segment))
                if isinstance(segment, Columns)
                else segment.weighted(part)[self.found(segment.source)]
                for segment, part in parted(segments, weights)
            ]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            totals.append(total + bias)
        return np.stack(totals)

    def _check(self, node: Node, bad: Any) -> None:
        if bad.any():
            column, row = np.argwhere(bad)[0].tolist()
            raise refused(sorted(node.features[column]), "has a value that the model refuses", row)


def parted(segments: Segments, weights: Sequence[float]) -> list[tuple[Segment, Sequence[float]]]:
    """Each segment with the weights of its columns."""
    found: list[tuple[Segment, Sequence[float]]] = []
    start = 0
    for segment in segments:
        found.append((segment, weights[start : start + segment.width]))
        start += segment.width
    return found


def refused(names: Sequence[str], what: str, row: int) -> ValueRefused:
    """The error of a row that the model does not take."""
    whose = f"Feature {names[0]}" if len(names) == 1 else f"What is computed from {', '.join(names) or 'no feature'}"
    name = names[0] if len(names) == 1 else ""
    kind = "feature" if name else ""
    return ValueRefused(f"{whose} {what}.", kind=kind, name=name, hint=_HINT, extra={"row": row, "column": name})


def _allowed(entries: Entries[int], refused: set[int]) -> Entries[Any]:
    everything = {*entries.values(), *entries.others()}
    return entries.mapped({entry: entry for entry in everything if entry not in refused})


def _known(keys: Any, value: object) -> bool:
    try:
        keys[value]
    except (KeyError, TypeError):
        return False
    return True
