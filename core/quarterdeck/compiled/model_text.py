"""LightGBM model texts, looked through before the C library reads them: it trusts whoever wrote them.

What a text says about its own sizes the library believes: a feature, a child or a category beyond the arrays would be read past
their ends, and what it cannot parse in several threads ends the whole process. A digest tells that a text is the one that was
published, not that it is sound; so a text that is not is refused here, and the library never sees it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from quarterdeck.errors import ModelFailed

Members = dict[str, str]
_Integers = np.ndarray[Any, np.dtype[np.int64]]
# The library goes down trees by recursion: deeper ones would exhaust a thread's stack.
DEEPEST = 4_000
_MOST = 10_000_000
_CATEGORICAL, _KINDS, _NO_KIND = 1, 16, 3
_HEAD = {
    "version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective", "average_output",
    "feature_names", "monotone_constraints", "feature_infos", "tree_sizes",
}  # fmt: skip
_TREE = {
    "num_leaves", "num_cat", "split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child",
    "leaf_value", "leaf_weight", "leaf_count", "internal_value", "internal_weight", "internal_count", "cat_boundaries",
    "cat_threshold", "is_linear", "leaf_const", "num_features", "leaf_features", "leaf_coeff", "shrinkage",
}  # fmt: skip
_OBJECTIVES = {
    "regression", "regression_l1", "huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie", "binary", "multiclass",
    "multiclassova", "cross_entropy", "cross_entropy_lambda", "lambdarank", "rank_xendcg", "custom",
}  # fmt: skip
_SETTING = re.compile(r"sqrt|(sigmoid|alpha|tweedie_variance_power|num_class):\d[-+.\de]*")
_WHOLE = re.compile(r"\d{1,9}")


def sound(text: bytes) -> bytes:
    """The same model in a text that the library reads safely.

    Raises:
        ModelFailed: it is no such text, or its parts do not fit together; says which tree.
    """
    trees, end, _ = text.decode(errors="replace").partition("\nend of trees")
    head, *sections = trees.split("\nTree=")
    if not end or not sections:
        raise _unsound("it has no trees")
    facts = _members(head, _HEAD | {"tree"}, "its head")
    width = _head(facts, len(sections))
    for number, section in enumerate(sections):
        first, _, rest = section.partition("\n")
        if first != str(number):
            raise _unsound(f"tree {number} is not where it should be")
        _tree(_members(rest, _TREE, f"tree {number}"), width, number)
    # Without sizes the library reads tree after tree, where an error is an error; in parallel it would be the end of the process.
    kept = "\n".join(line for line in head.splitlines() if not line.startswith("tree_sizes="))
    return "\nTree=".join([kept + "\n", *sections]).encode() + b"\nend of trees\n\nparameters:\nend of parameters\n"


def _members(section: str, known: set[str], place: str) -> Members:
    lines = [line for line in section.splitlines() if line]
    found = {name: value for name, _, value in (line.partition("=") for line in lines)}
    if len(found) != len(lines) or not found.keys() <= known:
        raise _unsound(f"{place} has members that are unknown or twice")
    return found


def _head(facts: Members, trees: int) -> int:
    """How many features a row has, where the head's numbers fit together."""
    outputs, highest = _whole(facts, "num_class"), _whole(facts, "max_feature_idx")
    fits = outputs and outputs == _whole(facts, "num_tree_per_iteration") and trees % outputs == 0
    named = len(facts.get("feature_names", "").split(" ")) == len(facts.get("feature_infos", "").split(" ")) == highest + 1
    if not (fits and named):
        raise _unsound("its numbers of classes, trees and features do not fit together")
    if "objective" in facts:
        name, *settings = facts["objective"].split(" ")
        classes = [setting for setting in settings if setting.startswith("num_class:")]
        expected = [f"num_class:{outputs}"] if name.startswith("multiclass") else []
        if name not in _OBJECTIVES or classes != expected or not all(map(_SETTING.fullmatch, settings)):
            raise _unsound("its objective is none that is known")
    return highest + 1


def _tree(facts: Members, width: int, number: int) -> None:
    leaves = _whole(facts, "num_leaves")
    inner, categories = leaves - 1, _whole(facts, "num_cat")
    lengths = {
        **dict.fromkeys(("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child"), inner),
        **dict.fromkeys(("internal_value", "internal_weight", "internal_count"), inner),
        **dict.fromkeys(("leaf_value", "leaf_weight", "leaf_count", "leaf_const", "num_features"), leaves),
    }
    needed = {"leaf_value"} | ({"split_feature", "threshold", "decision_type", "left_child", "right_child"} if inner else set())
    sizes = all(len(facts[name].split()) == length for name, length in lengths.items() if facts.get(name, "").strip())
    if not (leaves and sizes and all(facts.get(name, "").strip() for name in needed)):
        raise _unsound(f"the lists of tree {number} are not as long as its leaves are many")
    try:
        holds = _nodes(facts, inner, width, categories) and _linear(facts, width)
    except (ValueError, OverflowError):
        holds = False
    if not holds:
        raise _unsound(f"tree {number} names a feature, a child or a category that is not there")


def _nodes(facts: Members, inner: int, width: int, categories: int) -> bool:
    """Whether every node reads a feature that is there, and every node but the first has one parent, which comes before it."""
    if not inner:
        return True
    left, right = _integers(facts, "left_child"), _integers(facts, "right_child")
    children, parents = np.concatenate([left, right]), np.tile(np.arange(inner), 2)
    once = np.array_equal(np.sort(children), np.delete(np.arange(-inner - 1, inner), inner + 1))
    later = bool((children > parents)[children >= 0].all())
    return (
        once
        and later
        and _within(_integers(facts, "split_feature"), width)
        and _splits(facts, categories)
        and (inner <= DEEPEST or _depth(left.tolist(), right.tolist()) <= DEEPEST)
    )


def _splits(facts: Members, categories: int) -> bool:
    kinds = _integers(facts, "decision_type")
    if not _within(kinds, _KINDS) or bool((kinds >> 2 == _NO_KIND).any()):
        return False
    chosen = np.array(facts["threshold"].split(), dtype=np.float64)[kinds & _CATEGORICAL != 0]
    if not categories:
        return len(chosen) == 0
    bounds, words = _integers(facts, "cat_boundaries"), _integers(facts, "cat_threshold")
    whole = bool((chosen == np.floor(chosen)).all()) and _within(chosen, categories)
    ends = len(bounds) == categories + 1 and (bounds[0], bounds[-1]) == (0, len(words)) and bool((np.diff(bounds) >= 0).all())
    return whole and ends and _within(words, 2**32)


def _linear(facts: Members, width: int) -> bool:
    """Whether the leaves that are linear models, if any, read features that are there."""
    if facts.get("is_linear", "0").strip() == "0":
        return True
    counts, features = _integers(facts, "num_features"), _integers(facts, "leaf_features")
    fits = len(features) == len(facts.get("leaf_coeff", "").split()) == counts.sum() and len(counts) > 0
    return bool(fits) and _within(counts, _MOST) and _within(features, width) and "leaf_const" in facts


def _depth(left: list[int], right: list[int]) -> int:
    depths = [0] * len(left)
    for node, children in enumerate(zip(left, right, strict=True)):
        for child in children:
            if child >= 0:
                depths[child] = depths[node] + 1
    return max(depths)


def _within(values: Any, end: int) -> bool:
    return bool(((values >= 0) & (values < end)).all())


def _integers(facts: Mapping[str, str], name: str) -> _Integers:
    return np.array(facts.get(name, "").split(), dtype=np.int64)


def _whole(facts: Mapping[str, str], name: str) -> int:
    value = facts.get(name, "")
    if not _WHOLE.fullmatch(value):
        raise _unsound(f"its {name} is no number")
    return int(value)


def _unsound(why: str) -> ModelFailed:
    return ModelFailed(f"The model text is not as LightGBM writes it: {why}.", hint="Build the package again.")
