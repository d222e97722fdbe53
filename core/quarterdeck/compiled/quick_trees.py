"""Trees on many rows in numpy, several times as fast as walking them, row by row: after QuickScorer (Lucchese et al., 2015).

The leaves of a tree are bits from left to right. A node whose row goes right rules out the leaves under its left child, so of
the leaves that all nodes leave over, the lowest bit is the one that the row ends in. What the nodes that read one feature
rule out, in every tree, depends only on where its value lies among their thresholds: that is worked out when a package is
loaded. A row then costs one search, one row of a table and one AND for each feature, whatever the number of trees' nodes;
and columns that one lookup settles share a table by its entries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from quarterdeck.compiled import kernels
from quarterdeck.compiled.forest import ZERO, Array, Forest, Tree
from quarterdeck.compiled.kernels import Block
from quarterdeck.compiled.segments import Columns, Hot, Segments, Table

# Below, the C library's walk is faster than numpy's fixed costs of some five calls per feature.
FEWEST_ROWS = 32
# The leaves of so many rows lie in the processor's second cache while all features pass over them.
_CHUNK = 512
_LARGEST_TABLES = 32_000_000
_WORDS = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


@dataclass(frozen=True, slots=True)
class Searched:
    """A column of numbers: what is left over by the number of thresholds below its value, and in the last row for NaN."""

    segment: Columns
    column: int
    thresholds: Block
    left_over: Array


@dataclass(frozen=True, slots=True)
class Settled:
    """A lookup: what its entries leave over."""

    source: int
    left_over: Array


class QuickTrees:
    """Scores rows by a forest's tables; the numbers are those of the C library, added up in its order.

    Args:
        forest: whose trees have 64 leaves at most.
        transform: whether the objective's own link is applied.
        groups: what each column leaves over.
    """

    def __init__(self, forest: Forest, transform: bool, groups: list[Searched | Settled]) -> None:
        self._groups = groups
        self._outputs = forest.outputs
        self._rounds = len(forest.trees) // forest.outputs if forest.averaged and transform else 1
        self._link = forest.link if transform else "identity"
        self._slope = forest.slope
        self._word = groups[0].left_over.dtype if groups else np.dtype(np.uint8)
        widest = max(len(tree.values) for tree in forest.trees)
        leaves = np.zeros((len(forest.trees), widest))
        for place, tree in enumerate(forest.trees):
            leaves[place, : len(tree.values)] = tree.values
        self._leaves = leaves.ravel()
        # One less, as bits are counted up to and with the lowest.
        self._starts = (np.arange(len(forest.trees), dtype=np.intp) * widest - 1)[:, None]

    def predict(self, rows: int, columns: Callable[[Columns], Block], found: Callable[[int], Array]) -> Block:
        """Scores of shape (outputs, rows). Infinities may warn: the caller has numpy's warnings off.

        Args:
            rows: two or more.
            columns: gives a segment's numbers: shape (columns, rows).
            found: gives a lookup's entries: shape (rows,).
        """
        places = [self._places(group, columns, found) for group in self._groups]
        starts = range(0, rows, _CHUNK)
        # A last part of one row would be added up in another order.
        ends = [rows if start + _CHUNK + 1 >= rows else start + _CHUNK for start in starts]
        parts = [self._sums(places, start, end) for start, end in zip(starts, ends, strict=True) if end - start > 1]
        scores = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return self._linked(scores / self._rounds if self._rounds > 1 else scores)

    def _places(self, group: Searched | Settled, columns: Callable[[Columns], Block], found: Callable[[int], Array]) -> Array:
        if isinstance(group, Settled):
            return found(group.source)
        values = columns(group.segment)[group.column]
        places: Array = group.thresholds.searchsorted(values)
        # NaN is beyond all thresholds for numpy; for trees it is a side of its own. No NaN, no NaN as their sum.
        if not np.isnan(np.add.reduce(values)):
            return places
        return np.where(np.isnan(values), len(group.thresholds) + 1, places)

    def _sums(self, places: list[Array], start: int, end: int) -> Block:
        left = np.full((end - start, len(self._starts)), ~self._word.type(0))
        for group, place in zip(self._groups, places, strict=True):
            left &= group.left_over.take(place[start:end], axis=0)
        up_to_lowest = np.bitwise_count(left ^ (left - self._word.type(1)))
        leaf = np.empty((len(self._starts), end - start), dtype=np.intp)
        np.add(up_to_lowest.T, self._starts, out=leaf)
        # Tree after tree, as the library adds: numpy adds along the first axis in order.
        values = self._leaves.take(leaf).reshape(-1, self._outputs, end - start)
        total: Block = np.add.reduce(values, axis=0)
        return total

    def _linked(self, scores: Block) -> Block:
        if self._link == "identity":
            return scores
        return kernels.link(self._link, scores * self._slope if self._slope != 1.0 else scores)


def quick_trees(forest: Forest | None, transform: bool, precision: str, block: Segments) -> QuickTrees | None:
    """The tables of a forest for the columns that it is given.

    Returns:
        None where the forest does not fit: no forest, more than 64 leaves, categories in plain numbers, tables too large.
    """
    if forest is None or (transform and not forest.link):
        return None
    leaves = max(len(tree.values) for tree in forest.trees)
    if leaves > max(_WORDS):
        return None
    word = _WORDS[next(size for size in _WORDS if size >= leaves)]
    maker = _Maker(forest, np.dtype(word), precision)
    with np.errstate(all="ignore"):
        groups = maker.groups(block)
    return None if groups is None else QuickTrees(forest, transform, groups)


class _Maker:
    def __init__(self, forest: Forest, word: np.dtype[Any], precision: str) -> None:
        self._word = word
        self._precision = precision
        self._count = len(forest.trees)
        self._room = _LARGEST_TABLES // (word.itemsize * self._count)
        # (tree's number, tree, node) by the column that the node reads.
        self._nodes: dict[int, list[tuple[int, Tree, int]]] = defaultdict(list)
        for number, tree in enumerate(forest.trees):
            for node, feature in enumerate(tree.features.tolist()):
                self._nodes[feature].append((number, tree, node))

    def groups(self, block: Segments) -> list[Searched | Settled] | None:
        found: list[Searched | Settled] = []
        tables: dict[int, Array] = {}
        start = 0
        for segment in block:
            for column in range(segment.width):
                nodes = self._nodes.get(start + column, [])
                if not isinstance(segment, Columns):
                    self._settle(tables, segment, column, nodes)
                elif any(node in tree.categories for _, tree, node in nodes):
                    return None
                elif nodes:
                    found.append(self._searched(segment, column, nodes))
                if self._room < 0:
                    return None
            start += segment.width
        return [*found, *(Settled(source, table) for source, table in tables.items())]

    def _searched(self, segment: Columns, column: int, nodes: list[tuple[int, Tree, int]]) -> Searched:
        thresholds = np.unique([tree.thresholds[node] for _, tree, node in nodes])
        left_over = self._all(len(thresholds) + 2)
        for number, tree, node in nodes:
            mask = self._mask(tree, node)
            left_over[int(np.searchsorted(thresholds, tree.thresholds[node])) + 1, number] &= mask
        # A value above a threshold is above all that are smaller.
        np.bitwise_and.accumulate(left_over[:-1], axis=0, out=left_over[:-1])
        for number, tree, node in nodes:
            if not tree.nan_left[node]:
                left_over[-1, number] &= self._mask(tree, node)
        return Searched(segment, column, thresholds, left_over)

    def _settle(self, tables: dict[int, Array], segment: Table | Hot, column: int, nodes: list[tuple[int, Tree, int]]) -> None:
        if not nodes:
            return
        values = as_searched(segment.column(column), self._precision)
        if segment.source not in tables:
            tables[segment.source] = self._all(len(values))
        for number, tree, node in nodes:
            tables[segment.source][~_goes_left(tree, node, values), number] &= self._mask(tree, node)

    def _all(self, rows: int) -> Array:
        self._room -= rows
        return np.full((max(rows, 0) if self._room >= 0 else 1, self._count), ~self._word.type(0))

    def _mask(self, tree: Tree, node: int) -> Any:
        """All leaves but those under the node's left child."""
        first, last = tree.under[node].tolist()
        return self._word.type(((1 << self._word.itemsize * 8) - 1) ^ ((1 << last) - (1 << first)))


def as_searched(values: Block, precision: str) -> Block:
    """Numbers as the C library sees them: rounded first where it is given float32, and 0 where they are next to it."""
    seen = values.astype(np.float32).astype(np.float64) if precision == "float32" else values
    return np.where(np.abs(seen) <= ZERO, 0.0, seen)


def _goes_left(tree: Tree, node: int, values: Block) -> Array:
    nan = np.isnan(values)
    if node not in tree.categories:
        numeric: Array = np.where(nan, tree.nan_left[node], values <= tree.thresholds[node])
        return numeric
    left = tree.categories[node]
    codes = np.trunc(np.where(nan, -1.0, values))
    inside: Array = (codes >= 0) & (codes < len(left))
    goes: Array = inside & left[np.where(inside, codes, 0).astype(np.intp)]
    return goes
