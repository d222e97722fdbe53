"""Tree models: LightGBM's own text, and scikit-learn's trees written as such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

from quarterdeck.compiled.program import Apply, Arithmetics, Bins, Link, Lookup, Trees
from quarterdeck.compiling.draft import Column, Draft, NotCompilable, Raw, Ref
from quarterdeck.compiling.encoders import tabled
from quarterdeck.compiling.registry import checked, deciding, nudged, pair, probabilities, scoring
from quarterdeck.compiling.tree_text import LEAST, Tree, constant, text
from quarterdeck.infer import booster_task
from quarterdeck.schema import Scalar

SINGLE_TREES = (DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor)
"""Classes that are one tree each."""
_FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
_BOOSTED = (GradientBoostingClassifier, GradientBoostingRegressor)
_HISTOGRAM = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_LIGHTGBM = ("lightgbm.sklearn.LGBMClassifier", "lightgbm.sklearn.LGBMRegressor")
_BOOSTER = "lightgbm.basic.Booster"


@scoring(*_LIGHTGBM)
def lightgbm_scores(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """A LightGBM estimator, in its own text."""
    if callable(estimator.objective):
        raise NotCompilable(f"{type(estimator).__name__}: its objective is a function, and its scores are no probabilities")
    stopped = [name for name, value in estimator.get_params().items() if name.startswith("pred") and value]
    if stopped:
        raise NotCompilable(f"{type(estimator).__name__}: {stopped[0]} changes what it predicts")
    place = _lightgbm(estimator.booster_, columns, draft)
    two = type(estimator).__name__ == "LGBMClassifier" and draft.widths[place] == 1
    return pair(place, draft) if two else place


@scoring(_BOOSTER)
def booster_scores(booster: Any, columns: Sequence[Column], draft: Draft) -> int:
    """A bare Booster: two classes have both their scores, as in every other model."""
    place = _lightgbm(booster, columns, draft)
    return pair(place, draft) if booster_task(booster.model_to_string()) == "binary" else place


@scoring(*SINGLE_TREES, *_FORESTS)
def forest_scores(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """A decision tree or a forest: the mean of its trees' leaves."""
    members = getattr(estimator, "estimators_", [estimator])
    return average(estimator, members, [range(len(columns))] * len(members), columns, draft)


def average(
    estimator: Any, members: Sequence[Any], inputs: Sequence[Sequence[int]], columns: Sequence[Column], draft: Draft
) -> int:
    """The mean of some trees of scikit-learn's.

    Args:
        estimator: what holds them: names the outputs.
        members: fitted trees.
        inputs: for each tree the columns that it reads, by their place.
        columns: what the estimator takes.
        draft: where the steps go.
    """
    if getattr(estimator, "n_outputs_", 1) != 1:
        raise NotCompilable(f"{type(estimator).__name__}: it has several targets")
    values = [_leaves(member) for member in members]
    # Leaves of one class each give sums that are whole numbers: then the second class says all about the first.
    pure = values[0].shape[1] == 2 and all(np.isin(value, (0.0, 1.0)).all() for value in values)
    outputs = [1] if pure else range(values[0].shape[1])
    rounds = [
        [_tree(member, value[:, output], places) for output in outputs]
        for member, value, places in zip(members, values, inputs, strict=True)
    ]
    nan = bool(members[0].__sklearn_tags__().input_tags.allow_nan)
    place = _trees(rounds, checked(columns, draft, nan=nan, float32=True), draft, float32=True, average=len(rounds) > 1)
    return pair(place, draft) if pure else place


@deciding(*_BOOSTED)
def boosted_decision(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Gradient boosting: the prior, then each tree's leaves times the learning rate."""
    rate = float(estimator.learning_rate)
    start = [constant(value) for value in _prior(estimator, len(columns))]
    everything = range(len(columns))
    rounds = [
        [_tree(member, rate * _leaves(member)[:, 0], everything) for member in members] for members in estimator.estimators_
    ]
    return _trees([start, *rounds], checked(columns, draft, float32=True), draft, float32=True)


@scoring(GradientBoostingRegressor)
def boosted_numbers(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """The sum is the answer: none of its losses has a link."""
    return boosted_decision(estimator, columns, draft)


@scoring(GradientBoostingClassifier)
def boosted_scores(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Probabilities by the loss."""
    raw = boosted_decision(estimator, columns, draft)
    link = raw
    # The exponential loss has half the logarithm of the odds as its raw score.
    if estimator.loss == "exponential":
        link = draft.add(Arithmetics(input=raw, function="multiply", by=[2.0]), 1)
    found = probabilities(link, draft)
    # From a prior of exactly 0 leaves may lead nowhere: an even chance, which is the second class by its own rule.
    if draft.widths[raw] == 1 and _prior(estimator, len(columns)) == [0.0]:
        second = pair(draft.add(Bins(input=raw, edges=[[0.0]]), 1), draft)
        return nudged(found, second, draft)
    return found


@deciding(*_HISTOGRAM)
def histogram_decision(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Histogram gradient boosting: the baseline, then tree after tree."""
    block = draft.block(_encoded(estimator, columns, draft))
    known = estimator._bin_mapper.bin_thresholds_
    start = [constant(float(value)) for value in np.ravel(estimator._baseline_prediction)]
    rounds = [[_histogram_tree(member, known) for member in members] for members in estimator._predictors]
    return _trees([start, *rounds], block, draft)


@scoring(HistGradientBoostingRegressor)
def histogram_numbers(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Numbers by the loss's link: the logarithm, or none."""
    raw = histogram_decision(estimator, columns, draft)
    link = type(estimator._loss.link).__name__
    if link == "IdentityLink":
        return raw
    if link == "LogLink":
        return draft.add(Link(input=raw, function="exp"), 1)
    raise NotCompilable(f"{type(estimator).__name__}: its loss {estimator.loss} has a link of its own")


@scoring(HistGradientBoostingClassifier)
def histogram_scores(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Probabilities: the only loss of the classifier is the logarithmic one."""
    return probabilities(histogram_decision(estimator, columns, draft), draft)


@deciding(AdaBoostClassifier)
def adaboost_decision(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Weighted votes of single trees: each leaf says its tree's vote; two classes share one column."""
    if not all(type(member) in SINGLE_TREES for member in estimator.estimators_):
        raise NotCompilable("AdaBoostClassifier: only of decision trees")
    rounds = [_votes(estimator, place) for place in range(len(estimator.estimators_))]
    place = _trees(rounds, checked(columns, draft, float32=True), draft, float32=True)
    weights = float(estimator.estimator_weights_.sum())
    return draft.add(Arithmetics(input=place, function="divide", by=[weights] * draft.widths[place]), draft.widths[place])


@scoring(AdaBoostClassifier)
def adaboost_scores(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """The softmax of the votes; of two classes it is the sigmoid of their difference."""
    raw = adaboost_decision(estimator, columns, draft)
    if draft.widths[raw] == 1:
        return probabilities(raw, draft)
    count = draft.widths[raw]
    return probabilities(draft.add(Arithmetics(input=raw, function="divide", by=[count - 1.0] * count), count), draft)


def _lightgbm(booster: Any, columns: Sequence[Column], draft: Draft) -> int:
    block = draft.block(_coded(columns, booster.pandas_categorical or [], draft))
    # The text ends with the best iteration, as its predictions do.
    name = f"trees-{len(draft.files)}.txt"
    draft.files[name] = booster.model_to_string().encode()
    outputs = int(booster.num_model_per_iteration())
    return draft.add(Trees(input=block, file=name, outputs=outputs, transform=True), outputs)


def _coded(columns: Sequence[Column], lists: Sequence[Sequence[Scalar]], draft: Draft) -> list[Column]:
    """The columns with the codes of categories in their place: LightGBM names none, but has one list for each, in order."""
    coded = [
        place
        for place, column in enumerate(columns)
        if isinstance(column.source, Raw) and (column.source.categories is not None or column.source.type == "string")
    ]
    if len(coded) != len(lists):
        raise NotCompilable(f"LightGBM was trained on {len(lists)} category columns, and gets {len(coded)} here")
    found = list(columns)
    for place, values in zip(coded, lists, strict=True):
        found[place] = _codes(columns[place], list(values), draft)
    return found


def _codes(column: Column, values: Sequence[Scalar], draft: Draft) -> Column:
    """A column of the values' places; NaN for missing and for other ones."""
    source = column.source
    if isinstance(source, Ref):
        raise NotCompilable("LightGBM gets categories that an earlier step made")
    if source.swaps or source.refuses_null or source.type == "datetime" or source.dtype in ("float32", "float16"):
        raise NotCompilable(f"{source.feature} is a category of a kind that has no compiled form")
    rows: list[list[float | None]] = [[float(code)] for code in range(len(values))]
    filled = source.is_filled and source.filled in values
    missing = rows[values.index(source.filled)] if filled else [None]
    step = Lookup(feature=source.feature, values=list(values), rows=rows, unseen=[None], missing=missing)
    return draft.columns(draft.add(step, 1), [column.name])[0]


def _encoded(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """The columns as the trees read them: categories as codes, and ahead of the numbers."""
    if estimator._preprocessor is None:
        return list(columns)
    encoder = estimator._preprocessor.named_transformers_["encoder"]
    held = [column for column, is_category in zip(columns, estimator.is_categorical_, strict=True) if is_category]
    numbers = [column for column, is_category in zip(columns, estimator.is_categorical_, strict=True) if not is_category]
    return [*tabled(encoder, held, draft), *numbers]


def _trees(rounds: Sequence[Sequence[Tree]], block: int, draft: Draft, *, float32: bool = False, average: bool = False) -> int:
    name, outputs = f"trees-{len(draft.files)}.txt", len(rounds[0])
    draft.files[name] = text(rounds, draft.widths[block], average=average)
    block = _lifted(rounds, block, draft, float32=float32)
    precision: Any = "float32" if float32 else "float64"
    # Texts without an objective transform nothing, but LightGBM divides averages only where it is asked for answers.
    step = Trees(input=block, file=name, outputs=outputs, precision=precision, transform=average)
    return draft.add(step, outputs)


def _lifted(rounds: Sequence[Sequence[Tree]], block: int, draft: Draft, *, float32: bool) -> int:
    """The block with the smallest positive numbers lifted above what LightGBM takes for 0, where a threshold of 0 parts them."""
    trees = [tree for one in rounds for tree in one]
    parted = {int(feature) for tree in trees for feature in tree.feature[(tree.left >= 0) & (tree.threshold == 0)]}
    columns = [place for place in range(draft.widths[block]) if place in parted]
    if not columns:
        return block
    chosen = draft.block([Column("", Ref(block, place)) for place in columns])
    # Rounded first: what float32 takes for 0 is 0.
    rounded = draft.add(Apply(input=chosen, function="float32"), len(columns)) if float32 else chosen
    lifted = draft.add(Arithmetics(input=rounded, function="lift", by=[LEAST] * len(columns)), len(columns))
    places = dict(zip(columns, draft.columns(lifted), strict=True))
    return draft.block([places.get(place, Column("", Ref(block, place))) for place in range(draft.widths[block])])


def _leaves(member: Any) -> Any:
    """Values by node and output: class shares, or one number."""
    return member.tree_.value[:, 0, :]


def _tree(member: Any, value: Any, inputs: Sequence[int]) -> Tree:
    tree = member.tree_
    inner = tree.children_left >= 0
    return Tree(
        feature=np.where(inner, np.asarray(inputs)[np.where(inner, tree.feature, 0)], -1),
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        default_left=tree.__getstate__()["nodes"]["missing_go_to_left"].astype(bool),
        value=value,
        count=tree.n_node_samples,
    )


def _prior(estimator: Any, width: int) -> list[float]:
    """Raw scores before the first tree, the same for every row."""
    kind = "" if isinstance(estimator.init_, str) else type(estimator.init_).__module__
    if kind not in ("", "sklearn.dummy"):
        raise NotCompilable(f"{type(estimator).__name__}: it starts from a model of its own ({type(estimator.init_).__name__})")
    found = estimator._raw_predict_init(np.zeros((1, width), dtype=np.float32))[0]
    return [float(value) for value in found]


def _votes(estimator: Any, place: int) -> list[Tree]:
    member, weight = estimator.estimators_[place], float(estimator.estimator_weights_[place])
    count = int(estimator.n_classes_)
    leaves = _leaves(member)
    # A member that never saw a class has fewer columns; its votes are for the classes that it knows.
    voted = np.searchsorted(estimator.classes_, member.classes_)[leaves.argmax(axis=1)]
    other = -1 / (count - 1) * weight
    votes = [np.where(voted == output, weight, other) for output in range(count)]
    if count == 2:
        votes = [votes[1] - votes[0]]
    everything = range(int(member.n_features_in_))
    return [_tree(member, vote, everything) for vote in votes]


def _histogram_tree(member: Any, known: Sequence[Any]) -> Tree:
    nodes = member.nodes
    leaf = nodes["is_leaf"].astype(bool)
    tree = Tree(
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"],
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        default_left=nodes["missing_go_to_left"].astype(bool),
        value=nodes["value"],
        count=nodes["count"],
    )
    split = np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf)
    return _with_categories(tree, member, known, split) if len(split) else tree


def _with_categories(tree: Tree, member: Any, known: Sequence[Any], split: Any) -> Tree:
    """Nodes that part categories. LightGBM sends what it does not know to the right, so sides change where it goes left."""
    left, right, categories = tree.left.copy(), tree.right.copy(), {}
    for node in split.tolist():
        bits = member.raw_left_cat_bitsets[member.nodes["bitset_idx"][node]]
        codes = [int(code) for code in known[tree.feature[node]]]
        chosen = [code for code in codes if int(bits[code // 32]) >> (code % 32) & 1]
        if tree.default_left[node]:
            left[node], right[node] = tree.right[node], tree.left[node]
            chosen = [code for code in codes if code not in set(chosen)]
        categories[node] = chosen
    return replace(tree, left=left, right=right, categories=categories)
