"""The trees of a LightGBM model text as arrays of one size each, which tensor operations can walk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from quarterdeck.compiling.draft import NotCompilable

# Bits of LightGBM's `decision_type`.
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_SHIFT, _MISSING_NONE, _MISSING_ZERO = 2, 0, 1
_SECTION = re.compile(r"^Tree=\d+$", re.MULTILINE)


@dataclass(frozen=True)
class Ensemble:
    """All trees side by side: arrays of shape (trees * nodes); `left` and `right` are places in them.

    A leaf leads to itself, so that walking on from it stays there. `steps` is how many walks reach every leaf.
    """

    trees: int
    outputs: int
    steps: int
    roots: Any
    feature: Any
    threshold: Any
    default_left: Any
    zeroes_missing: Any
    left: Any
    right: Any
    value: Any
    average: bool
    objective: str


def read(text: bytes) -> Ensemble:
    """The trees of a text that LightGBM reads as well.

    Raises:
        NotCompilable: categories part a node, or leaves are linear models.
    """
    document = text.decode("utf-8")
    head, *sections = _SECTION.split(document.split("\nend of trees", 1)[0])
    facts = _facts(head)
    trees = [_Tree.of(_facts(section)) for section in sections]
    # One size for all: a place is then a tree's base plus a number, and no step has to look up where a tree begins.
    nodes = max(tree.size for tree in trees)
    bases = [number * nodes for number in range(len(trees))]
    padded = [tree.padded(nodes, base) for tree, base in zip(trees, bases, strict=True)]
    joined = {name: np.concatenate([one[name] for one in padded]) for name in padded[0]}
    return Ensemble(
        trees=len(trees),
        outputs=int(facts.get("num_tree_per_iteration", "1")),
        steps=max(tree.depth() for tree in trees),
        roots=np.array(bases, dtype=np.int64),
        average="average_output" in head.split(),
        objective=facts.get("objective", ""),
        **joined,
    )


@dataclass(frozen=True)
class _Tree:
    """One tree: its inner nodes first, its leaves after them."""

    inner: int
    feature: Any
    threshold: Any
    kind: Any
    left: Any
    right: Any
    value: Any

    @classmethod
    def of(cls, facts: dict[str, str]) -> _Tree:
        # Sets of categories are as long as they like, and a test by set would need a table for each node.
        if int(facts.get("num_cat", "0")) or int(facts.get("is_linear", "0")):
            raise NotCompilable("trees that part categories, or whose leaves are linear, have no form for a GPU")
        inner = int(facts["num_leaves"]) - 1
        return cls(
            inner=inner,
            feature=_numbers(facts, "split_feature", np.int64, inner),
            threshold=_numbers(facts, "threshold", np.float64, inner),
            kind=_numbers(facts, "decision_type", np.int64, inner),
            left=_numbers(facts, "left_child", np.int64, inner),
            right=_numbers(facts, "right_child", np.int64, inner),
            value=_numbers(facts, "leaf_value", np.float64, inner + 1),
        )

    @property
    def size(self) -> int:
        """Inner nodes and leaves."""
        return 2 * self.inner + 1

    def depth(self) -> int:
        """Walks from the root to the deepest leaf."""
        depths, deepest = {0: 0}, 0
        for node in range(self.inner):
            # Children come after their parents in LightGBM's order of splits.
            for child in (int(self.left[node]), int(self.right[node])):
                deepest = max(deepest, depths[node] + 1)
                if child >= 0:
                    depths[child] = depths[node] + 1
        return deepest

    def padded(self, nodes: int, base: int) -> dict[str, Any]:
        """The arrays with `nodes` places, children counted from the beginning of all trees."""
        places = np.arange(nodes, dtype=np.int64) + base
        left, right = places.copy(), places.copy()
        for target, children in ((left, self.left), (right, self.right)):
            # Leaves are ~number in the text; here they stand behind the inner nodes.
            target[: self.inner] = base + np.where(children >= 0, children, self.inner + ~children)
        # A leaf compares the first column with 0 and stays where it is, whatever comes of it.
        found = {
            "feature": np.zeros(nodes, dtype=np.int64),
            "threshold": np.zeros(nodes),
            "default_left": np.zeros(nodes, dtype=bool),
            "zeroes_missing": np.zeros(nodes, dtype=bool),
            "value": np.zeros(nodes),
        }
        missing = self.kind >> _MISSING_SHIFT & 3
        found["feature"][: self.inner] = self.feature
        found["threshold"][: self.inner] = self.threshold
        # Where nothing is missing by the text's own word, NaN is 0.
        default = np.where(missing == _MISSING_NONE, self.threshold >= 0.0, (self.kind & _DEFAULT_LEFT) != 0)
        found["default_left"][: self.inner] = default
        found["zeroes_missing"][: self.inner] = missing == _MISSING_ZERO
        found["value"][self.inner : self.size] = self.value
        return {**found, "left": left, "right": right}


def _facts(section: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in section.splitlines() if "=" in line)


def _numbers(facts: dict[str, str], name: str, kind: Any, count: int) -> Any:
    found = np.array([float(word) for word in facts.get(name, "").split()], dtype=np.float64)
    if count and len(found) != count:
        raise NotCompilable(f"the trees' {name} is not as LightGBM writes it")
    return found[:count].astype(kind)
