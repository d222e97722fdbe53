"""Model texts of anybody's: what is not as LightGBM writes it is refused before its library reads it."""

from __future__ import annotations

import re

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.compiled.model_text import DEEPEST, sound
from quarterdeck.compiled.trees import Booster
from quarterdeck.errors import ModelFailed
from tests.unit.compiled_programs import FEATURES, trained

TEXT = trained("multiclass").model_to_string()
WORDS = ["-1", "99999", "-99999", "1e308", "nan", "x", "", "2147483647", "-2147483648", "3", "0", "0 0"]
STRUCTURE = re.compile(
    r"^(Tree|num_\w+|max_feature_idx|objective|feature_\w+|split_feature|decision_type|left_child|right_child|threshold|cat_\w+)="
)


def with_word(line: int, place: int, word: str) -> bytes:
    """The text with one word of one line of its head or trees exchanged."""
    lines = TEXT.partition("end of trees")[0].split("\n")
    places = [number for number, one in enumerate(lines) if STRUCTURE.match(one)]
    name, _, words = lines[places[line % len(places)]].partition("=")
    parts = words.split(" ")
    parts[place % len(parts)] = word
    lines[places[line % len(places)]] = f"{name}={' '.join(parts)}"
    return "\n".join(lines).encode() + b"end of trees\n"


@given(line=st.integers(0, 10_000), place=st.integers(0, 50), word=st.sampled_from(WORDS))
def test_a_text_that_was_tampered_with_is_refused_or_answers(line: int, place: int, word: str) -> None:
    """Sizes, children, features and kinds of nodes: the process lives on, whatever they say."""
    try:
        booster = Booster(with_word(line, place, word))
    except ModelFailed:
        return
    rows = np.linspace(-3, 3, 40 * FEATURES).reshape(-1, FEATURES)
    assert booster.features == FEATURES
    assert booster.predict(rows, transform=True).shape == (40, 3)
    assert booster.contributions(rows).shape == (40, 3, FEATURES + 1)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("split_feature=", f"split_feature={FEATURES} ", "the lists of tree 0"),
        (r"split_feature=\d+", f"split_feature={FEATURES}", "tree 0 names a feature"),
        (r"left_child=-?\d+", "left_child=0", "tree 0 names a feature, a child"),
        (r"right_child=-?\d+", "right_child=-99", "tree 0 names a feature, a child"),
        (r"decision_type=\d+", "decision_type=1", "a category that is not there"),
        (r"num_leaves=\d+", "num_leaves=2", "the lists of tree 0"),
        ("num_class=3", "num_class=4", "do not fit together"),
        ("max_feature_idx=2", "max_feature_idx=1", "do not fit together"),
        ("num_class:3", "num_class:7", "its objective"),
        ("objective=multiclass", "objective=nobody", "its objective"),
        ("Tree=1", "Tree=7", "tree 1 is not where"),
        ("is_linear=0", "is_linear=1", "tree 0 names"),
        ("shrinkage=", "charm=", "members that are unknown"),
        ("end of trees", "end", "it has no trees"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, words: str) -> None:
    """The tree or the head, never a value."""
    with pytest.raises(ModelFailed, match=words):
        sound(re.sub(old, new, TEXT, count=1).encode())


def test_trees_that_are_too_deep_are_refused() -> None:
    """The library goes down by recursion, to the end of its stack."""
    inner = DEEPEST + 2
    lists = {
        "split_feature": ["0"] * inner,
        "threshold": ["1"] * inner,
        "decision_type": ["2"] * inner,
        "left_child": [*map(str, range(1, inner)), "-1"],
        "right_child": [str(-2 - node) for node in range(inner)],
        "leaf_value": ["1"] * (inner + 1),
    }
    tree = "".join(f"{name}={' '.join(words)}\n" for name, words in lists.items())
    head = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=0\nfeature_names=a\nfeature_infos=none\n"
    with pytest.raises(ModelFailed, match="tree 0 names"):
        sound(f"{head}\nTree=0\nnum_leaves={inner + 1}\nnum_cat=0\n{tree}\nend of trees\n".encode())


@pytest.mark.parametrize("linear", [True, False], ids=["linear leaves", "categories"])
def test_texts_of_lightgbm_are_sound(linear: bool) -> None:
    """Linear leaves, categories, monotone constraints: the library answers as before, bit by bit."""
    random = np.random.default_rng(1)
    X = np.column_stack([random.normal(size=400), random.integers(0, 40, 400)])
    settings = {"objective": "regression", "verbose": -1, "num_threads": 1, "linear_tree": linear}
    extra = {} if linear else {"monotone_constraints": [1, 0]}
    data = lightgbm.Dataset(X, X[:, 0] + X[:, 1] % 3, categorical_feature=[] if linear else [1])
    booster = lightgbm.train({**settings, **extra}, data, num_boost_round=5)
    ours = Booster(booster.model_to_string().encode())
    assert np.array_equal(ours.predict(X, transform=True)[:, 0], booster.predict(X))
