"""LightGBM's model text as arrays: what the numpy evaluation of trees is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# Longer texts are not read: the tables made from them would not fit the processor's cache.
_LONGEST = 8_000_000
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_ZERO_IS_MISSING, _NAN_IS_MISSING = 1, 2
# What the C library takes for 0 in its rows: 1e-35 as a float32.
ZERO = float(np.float32(1e-35))

_IDENTITY = {"", "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg"}
_EXPONENTIAL = {"poisson", "gamma", "tweedie"}
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree. Nodes are numbered as in the text; leaves from left to right, as `values` has them."""

    features: Array
    thresholds: Array
    nan_left: Array
    """Where NaN goes, by node."""
    categories: dict[int, Array]
    """Nodes that part categories: whether each code goes left; all beyond them go right."""
    under: Array
    """Leaves under the left child of each node: the first, and one past the last; shape (nodes, 2)."""
    values: Array


@dataclass(frozen=True, slots=True)
class Forest:
    """All trees of a model in the order in which the library adds them up, output after output."""

    trees: list[Tree]
    outputs: int
    averaged: bool
    link: str
    """What the objective does to raw scores: ``identity``, ``sigmoid``, ``softmax`` or ``exp``; empty for any other."""
    slope: float
    """What a sigmoid's score is multiplied with."""


def parse(text: bytes) -> Forest | None:
    """Read a model text that the C library has accepted.

    Returns:
        None where it holds what only the library knows: linear leaves, zeros that stand for missing values, damage.
    """
    try:
        return _parse(text) if len(text) <= _LONGEST else None
    except (IndexError, KeyError, ValueError):
        return None


def _parse(text: bytes) -> Forest | None:
    head, *sections = text.decode(errors="replace").partition("\nend of trees")[0].split("\nTree=")
    trees = [_tree(_members(section)) for section in sections]
    if not trees or any(tree is None for tree in trees):
        return None
    members = _members(head)
    link, slope = _link(members.get("objective", ""))
    return Forest(
        [tree for tree in trees if tree], int(members["num_tree_per_iteration"]), "average_output" in members, link, slope
    )


def _members(section: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in section.splitlines())}


def _link(objective: str) -> tuple[str, float]:
    name, *settings = objective.split(" ")
    named = dict(setting.partition(":")[::2] for setting in settings)
    if name == "binary" or name == "multiclassova":
        return "sigmoid", float(named.get("sigmoid", 1.0))
    if name in _IDENTITY and "sqrt" not in named:
        return "identity", 1.0
    return ("softmax" if name == "multiclass" else "exp" if name in _EXPONENTIAL else ""), 1.0


def _numbers(members: dict[str, str], name: str, kind: type) -> Array:
    return np.array(members.get(name, "").split(), dtype=kind)


def _tree(members: dict[str, str]) -> Tree | None:
    kinds = _numbers(members, "decision_type", np.int64)
    missing = kinds >> 2 & 3
    if members.get("is_linear", "0") == "1" or (missing == _ZERO_IS_MISSING).any():
        return None
    values = _numbers(members, "leaf_value", np.float64)
    left, right = _numbers(members, "left_child", np.int64), _numbers(members, "right_child", np.int64)
    order, under = _leaves(left.tolist(), right.tolist())
    thresholds = _numbers(members, "threshold", np.float64)
    by_default = np.where(missing == _NAN_IS_MISSING, kinds & _DEFAULT_LEFT != 0, thresholds >= 0.0)
    # NaN is no category.
    parts = kinds & _CATEGORICAL != 0
    categories = {node: _codes(members, int(thresholds[node])) for node in np.flatnonzero(parts).tolist()}
    features = _numbers(members, "split_feature", np.int64)
    return Tree(features, thresholds, by_default & ~parts, categories, under, values[order])


def _leaves(left: list[int], right: list[int]) -> tuple[list[int], Array]:
    """The leaves from left to right, and those under each node's left child."""
    under = np.zeros((len(left), 2), dtype=np.int64)
    order: list[int] = []
    # Children that are leaves are written as their number's complement. A node comes back, as ~node beyond all leaves, when
    # its left side is done: deep trees would exhaust recursion.
    waiting: list[tuple[int, bool]] = [(0 if left else -1, False)]
    # Every node is taken up twice, every leaf once: more is a circle.
    for _ in range(3 * len(left) + 1):
        node, half_done = waiting.pop()
        if half_done:
            under[node, 1] = len(order)
        elif node < 0:
            order.append(~node)
        else:
            under[node, 0] = len(order)
            waiting += [(right[node], False), (node, True), (left[node], False)]
    if waiting:
        raise ValueError("no tree")
    return order, under


def _codes(members: dict[str, str], which: int) -> Array:
    bounds = _numbers(members, "cat_boundaries", np.int64)
    words = _numbers(members, "cat_threshold", np.int64)[bounds[which] : bounds[which + 1]].astype("<u4")
    return np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)
