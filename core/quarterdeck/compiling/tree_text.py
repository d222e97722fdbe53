"""Trees of any library as LightGBM model text, so that one C library runs them all.

The text is written such that the library adds up in the order of the original: tree after tree, each output by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quarterdeck.compiling.draft import NotCompilable

# Bits of LightGBM's `decision_type`: categories, the side of what is missing, and that NaN is what is missing.
_CATEGORICAL, _DEFAULT_LEFT, _NAN = 1, 2, 8
LEAST = float(np.nextafter(np.float32(1e-35), np.float32(1)))
"""The smallest float32 that LightGBM does not read as 0: a threshold below would part rows that it cannot tell apart."""
_BITS = 32


@dataclass(frozen=True)
class Tree:
    """A binary tree as arrays by node, the root first. At a leaf `left` is -1.

    A value goes left where it is less than or equal to the threshold, NaN where `default_left` says so.
    """

    feature: Any
    threshold: Any
    left: Any
    right: Any
    default_left: Any
    value: Any
    """What a leaf adds to its output."""
    count: Any
    """Training rows by node: contributions weigh branches by them."""
    categories: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Nodes that part categories: the codes that go left; all others, NaN among them, go right."""


def constant(value: float) -> Tree:
    """A tree that is one leaf."""
    none = np.array([-1])
    return Tree(
        feature=none,
        threshold=np.zeros(1),
        left=none,
        right=none,
        default_left=np.zeros(1, dtype=bool),
        value=np.array([value]),
        count=np.ones(1),
    )


def text(rounds: Sequence[Sequence[Tree]], features: int, *, average: bool = False) -> bytes:
    """A model text.

    Args:
        rounds: trees in the order in which they are added up, one per output in each round.
        features: width of the matrix that the trees read.
        average: whether the sums are divided by the number of rounds.

    Raises:
        NotCompilable: a threshold that LightGBM cannot tell from 0.
    """
    outputs = len(rounds[0])
    head = [
        "tree",
        "version=v4",
        f"num_class={outputs}",
        f"num_tree_per_iteration={outputs}",
        "label_index=0",
        f"max_feature_idx={features - 1}",
        *(["average_output"] if average else []),
        "feature_names=" + " ".join(f"f{place}" for place in range(features)),
        "feature_infos=" + " ".join(["none"] * features),
        "",
    ]
    trees = [_tree(number, tree) for number, tree in enumerate(tree for one in rounds for tree in one)]
    return ("\n".join(head) + "\n" + "".join(trees) + "end of trees\n\nparameters:\nend of parameters\n").encode()


def _tree(number: int, tree: Tree) -> str:
    leaf = tree.left < 0
    lines = [f"Tree={number}", f"num_leaves={int(leaf.sum())}", f"num_cat={len(tree.categories)}"]
    if len(leaf) > 1:
        lines += _nodes(tree, leaf)
    lines += [f"leaf_value={_list(tree.value[leaf])}", "is_linear=0", "shrinkage=1", "", "", ""]
    return "\n".join(lines)


def _nodes(tree: Tree, leaf: Any) -> list[str]:
    inner = ~leaf
    threshold = tree.threshold.astype(np.float64)
    if np.any((np.abs(threshold[inner]) < LEAST) & (threshold[inner] != 0)):
        raise NotCompilable("a threshold is too small for LightGBM's library to tell from 0")
    # LightGBM counts inner nodes and leaves apart, and marks leaves by their complement.
    number = np.where(leaf, ~(np.cumsum(leaf) - 1), np.cumsum(inner) - 1)
    kind = np.where(tree.default_left, _NAN + _DEFAULT_LEFT, _NAN)
    for place, node in enumerate(tree.categories):
        threshold[node], kind[node] = place, _CATEGORICAL + _NAN
    counts = _counts(tree, leaf)
    return [
        f"split_feature={_list(tree.feature[inner])}",
        f"threshold={_list(threshold[inner])}",
        f"decision_type={_list(kind[inner])}",
        f"left_child={_list(number[tree.left[inner]])}",
        f"right_child={_list(number[tree.right[inner]])}",
        f"leaf_count={_list(counts[leaf])}",
        f"internal_count={_list(counts[inner])}",
        *_bitsets(tree),
    ]


def _counts(tree: Tree, leaf: Any) -> Any:
    """Rows by node, at least one in each leaf, every inner node the sum of its children: contributions divide by them."""
    counts = np.maximum(tree.count.astype(np.int64), 1)
    # Children come after their parents, whatever library wrote the tree.
    for node in np.flatnonzero(~leaf)[::-1]:
        counts[node] = counts[tree.left[node]] + counts[tree.right[node]]
    return counts


def _bitsets(tree: Tree) -> list[str]:
    if not tree.categories:
        return []
    boundaries, words = [0], []
    for codes in tree.categories.values():
        bits = [0] * (max(codes, default=0) // _BITS + 1)
        for code in codes:
            bits[code // _BITS] |= 1 << (code % _BITS)
        words += bits
        boundaries.append(len(words))
    return [f"cat_boundaries={_list(np.array(boundaries))}", f"cat_threshold={_list(np.array(words))}"]


def _list(values: Any) -> str:
    # repr gives the shortest text that reads back as the very same float.
    return " ".join(map(repr, values.tolist()))
