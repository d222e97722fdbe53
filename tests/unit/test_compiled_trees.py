"""Trees: LightGBM's C library by row and by matrix, and its numpy counterpart for many rows, which gives the same bits."""

from __future__ import annotations

import gc
import threading
import weakref
from functools import cache
from struct import Struct
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.compiled.entries import Entries
from quarterdeck.compiled.forest import parse
from quarterdeck.compiled.quick_trees import QuickTrees, as_searched, quick_trees
from quarterdeck.compiled.segments import Columns, Segments, Table
from quarterdeck.compiled.trees import Booster
from quarterdeck.errors import ModelFailed

WIDTH = 6
"""Columns of the test data; the last holds categories."""
CODES = 40


class Kind(NamedTuple):
    """Settings of a booster, and whether the last column holds categories."""

    settings: dict[str, Any]
    categories: bool = False


KINDS = {
    "binary": Kind({"objective": "binary", "num_leaves": 31}),
    "multiclass": Kind({"objective": "multiclass", "num_class": 3, "num_leaves": 8}),
    "one against all": Kind({"objective": "multiclassova", "num_class": 3, "num_leaves": 15, "sigmoid": 2.0}),
    "regression": Kind({"objective": "regression", "num_leaves": 64, "min_data_in_leaf": 2}),
    "poisson": Kind({"objective": "poisson", "num_leaves": 5}),
    "categories": Kind({"objective": "binary", "num_leaves": 31, "min_data_per_group": 5, "cat_smooth": 1}, categories=True),
    "few categories": Kind({"objective": "regression", "num_leaves": 16, "max_cat_to_onehot": 64}, categories=True),
    "average": Kind({"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6, "num_leaves": 20}),
    "stumps": Kind({"objective": "binary", "num_leaves": 2}),
    "deep": Kind({"objective": "regression", "num_leaves": 200, "min_data_in_leaf": 1}),
    "zero as missing": Kind({"objective": "regression", "num_leaves": 8, "zero_as_missing": True}),
    "constant": Kind({"objective": "regression", "num_leaves": 8, "min_data_in_leaf": 10_000}),
    "cross entropy": Kind({"objective": "cross_entropy", "num_leaves": 8}),
}
QUICK = [name for name in KINDS if name not in ("deep", "zero as missing", "cross entropy")]


def matrix(rows: int, seed: int) -> Any:
    """Numbers with NaN, infinities and zeros among them, and category codes in the last column."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(rows, WIDTH)).round(2)
    found[:, 1] = np.where(random.random(rows) < 0.3, 0.0, found[:, 1])
    found[:, -1] = random.integers(-1, CODES + 5, rows)
    found[random.random(found.shape) < 0.1] = np.nan
    found[random.random(found.shape) < 0.02] = np.inf
    found[random.random(found.shape) < 0.02] = -np.inf
    found[random.random(found.shape) < 0.02] = 1e-36
    return found


@cache
def trained(kind: str) -> Any:
    """A booster of LightGBM's own."""
    X = matrix(3000, 1)
    finite = np.nan_to_num(X, posinf=3, neginf=-3)
    score = finite[:, 0] + finite[:, 1] * finite[:, 2] + (finite[:, -1] % 7 > 3) * 2.0
    settings, categories = KINDS[kind]
    objective = settings["objective"]
    target = (
        np.digitize(score, [0.0, 2.0]) if "num_class" in settings else score > 0.5 if objective == "binary" else np.abs(score)
    )
    target = np.clip(target, 0, 1) if objective == "cross_entropy" else target
    data = lightgbm.Dataset(X, target, categorical_feature=[WIDTH - 1] if categories else [])
    return lightgbm.train({"verbose": -1, "num_threads": 1, "seed": 0, **settings}, data, num_boost_round=12)


@cache
def booster(kind: str) -> Booster:
    """The same from its text."""
    return Booster(trained(kind).model_to_string().encode())


def segments(kind: str) -> Segments:
    """All columns as numbers, but the last of boosters with categories, whose codes come from a lookup."""
    if not KINDS[kind].categories:
        return (Columns(0, tuple(range(WIDTH))),)
    codes = np.array([[float(code)] for code in range(-1, CODES + 5)] + [[np.nan], [1e300], [2.0**31], [-0.5]])
    return (Columns(0, tuple(range(WIDTH - 1))), Table(0, codes))


def quick_scores(made: QuickTrees, kind: str, X: Any, precision: str) -> Any:
    """What the numpy counterpart gives, columns being handed over as a program does."""
    numbers = X.T
    table = segments(kind)[-1]
    entries: Any = None
    if isinstance(table, Table):
        known = Entries({code: entry for entry, (code,) in enumerate(table.rows.tolist()) if code == code}, None, CODES + 6)
        entries = np.array([known[code] for code in X[:, -1].tolist()])
    with np.errstate(all="ignore"):
        return made.predict(len(X), lambda part: as_searched(numbers[list(part.places)], precision), lambda _: entries).T


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("transform", [False, True], ids=["raw", "transformed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [2, 700, 513])
def test_every_road_gives_the_bits_of_lightgbm(kind: str, transform: bool, precision: Any, rows: int) -> None:
    """Row by row, as a matrix, and by tables where the forest has them: equal to LightGBM's own package, NaN and edges too."""
    X = matrix(rows, 2)
    if KINDS[kind].categories:
        # Infinities are no codes.
        X[np.isinf(X[:, -1]), -1] = np.nan
        X[X[:, -1] == 1e-36, -1] = 0.0
    # Values that are thresholds themselves must go left.
    forest = parse(trained(kind).model_to_string().encode())
    for tree in forest.trees if forest else []:
        for node in range(min(rows, 3, len(tree.features))):
            if node not in tree.categories:
                X[node, tree.features[node]] = tree.thresholds[node]
    given = X.astype(precision)
    expected = trained(kind).predict(given, raw_score=not transform, num_threads=1).reshape(rows, -1)
    ours = booster(kind)
    assert np.array_equal(ours.predict(given, transform=transform), expected)
    score = ours.row_function(transform=transform, precision=precision)
    pack = Struct(f"={WIDTH}{'d' if precision == 'float64' else 'f'}").pack
    assert np.array_equal([score(pack(*row)) for row in given.tolist()], expected)
    made = quick_trees(ours.forest, transform, precision, segments(kind))
    if made is not None:
        assert np.array_equal(quick_scores(made, kind, given.astype(np.float64), precision), expected)
    assert (made is not None) == (kind in QUICK or (kind == "cross entropy" and not transform))


@given(rows=st.lists(st.lists(st.floats(width=64), min_size=WIDTH, max_size=WIDTH), min_size=2, max_size=5))
def test_any_numbers_fall_into_the_same_leaves(rows: list[list[float]]) -> None:
    """Whatever floats come, tables and the C library agree."""
    X = np.array(rows)
    ours = booster("binary")
    made = quick_trees(ours.forest, False, "float64", segments("binary"))
    assert made is not None
    assert np.array_equal(quick_scores(made, "binary", X, "float64"), ours.predict(X, transform=False))


def test_categories_in_plain_numbers_are_left_to_the_library() -> None:
    """Codes that no lookup has settled may be anything, so no table is made for them."""
    assert quick_trees(booster("categories").forest, True, "float64", (Columns(0, tuple(range(WIDTH))),)) is None


@pytest.mark.parametrize("kind", ["binary", "multiclass", "average", "categories"])
def test_contributions_and_the_expected_score_add_up(kind: str) -> None:
    """The features' contributions and the base are the raw score of every output to 1e-6."""
    X = matrix(200, 3)
    parts = booster(kind).contributions(X)
    assert parts.shape == (200, booster(kind).outputs, WIDTH + 1)
    assert np.abs(parts.sum(axis=2) - booster(kind).raw(X)).max() <= 1e-6


@pytest.mark.parametrize("text", [b"", b"tree\nversion=v4\n"], ids=["empty", "head only"])
def test_text_that_is_no_model_is_refused(text: bytes) -> None:
    """An error with a name, before the C library sees it."""
    with pytest.raises(ModelFailed, match="not as LightGBM writes it: it has no trees"):
        Booster(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("left_child=", "left_child=0 "),
        ("leaf_value=", "leaf_value=x "),
        ("num_tree_per_iteration=", "other="),
        ("Tree=", "Bush="),
    ],
)
def test_text_that_cannot_be_read_has_no_tables(old: str, new: str) -> None:
    """Circles, words for numbers and missing members are left to the library, without an error of their own."""
    text = trained("binary").model_to_string().replace(old, new)
    assert parse(text.encode()) is None


def test_rows_of_another_width_are_refused() -> None:
    """The library would read past the end of a short row."""
    with pytest.raises(ModelFailed, match=f"5 numbers instead of {WIDTH}"):
        booster("binary").predict(np.zeros((2, 5)), transform=True)


def test_a_booster_lives_as_long_as_its_functions_are_used() -> None:
    """Dropping the last name for a booster while threads predict with it, by row and by matrix, frees nothing under them."""
    ours = Booster(trained("multiclass").model_to_string().encode())
    score = ours.row_function(transform=True)
    X = matrix(300, 4)
    rows = [row.tobytes() for row in X]
    expected = trained("multiclass").predict(X)
    alive = weakref.ref(ours)
    started = threading.Barrier(7)
    found: list[Any] = []

    def single(ask: Any) -> None:
        started.wait()
        found.append(np.array([[ask(row) for row in rows] for _ in range(5)])[-1])

    def many(ask: Any) -> None:
        started.wait()
        found.append([ask(X, transform=True) for _ in range(5)][-1])

    threads = [threading.Thread(target=single, args=[score]) for _ in range(4)]
    threads += [threading.Thread(target=many, args=[ours.predict]) for _ in range(2)]
    for thread in threads:
        thread.start()
    del ours, score
    started.wait()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(np.array_equal(scores, expected) for scores in found)
    del threads, thread
    gc.collect()
    assert alive() is None
