"""Estimators around other estimators: pipelines and searches, calibration, votes, stacks, transformed targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, RANSACRegressor
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, RadiusNeighborsClassifier, RadiusNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, SVR, NuSVC, NuSVR

from quarterdeck.compiled.program import Apply, Arithmetic, Arithmetics, Function, Link, Mean
from quarterdeck.compiling.draft import Column, Draft, NotCompilable
from quarterdeck.compiling.linear import curve
from quarterdeck.compiling.registry import (
    beside,
    decision,
    finite,
    likeliest,
    pair,
    refused,
    scores,
    scoring,
    take,
    wrapping,
)
from quarterdeck.compiling.transform import transform
from quarterdeck.compiling.trees import SINGLE_TREES, average

_FUNCTIONS: dict[str, Function] = {
    "absolute": "abs", "cbrt": "cbrt", "exp": "exp", "expm1": "expm1", "log": "log", "log10": "log10", "log1p": "log1p",
    "log2": "log2", "negative": "negative", "reciprocal": "reciprocal", "sqrt": "sqrt", "square": "square",
}  # fmt: skip
_INVERSES: dict[type, tuple[tuple[Arithmetic, str], ...]] = {
    StandardScaler: (("multiply", "scale_"), ("add", "mean_")),
    MinMaxScaler: (("subtract", "min_"), ("divide", "scale_")),
    MaxAbsScaler: (("multiply", "scale_"),),
    RobustScaler: (("multiply", "scale_"), ("add", "center_")),
}
# Calibration keeps the logarithm of 0 finite with this.
_EPSILON = 1e-12

refused(
    "it decides by a threshold of its own, so its label is not the class of the highest score",
    FixedThresholdClassifier,
    TunedThresholdClassifierCV,
)
refused(
    "it compares with its training rows at every prediction, and a program holds none",
    *(KNeighborsClassifier, KNeighborsRegressor, RadiusNeighborsClassifier, RadiusNeighborsRegressor),
    *(SVC, SVR, NuSVC, NuSVR, KernelRidge, GaussianProcessClassifier, GaussianProcessRegressor),
)


@wrapping(Pipeline)
def pipeline(estimator: Any, columns: Sequence[Column], draft: Draft) -> tuple[Any, Sequence[Column]]:
    """The last step, and what the others make of the columns."""
    for _, step in estimator.steps[:-1]:
        if step is not None and step != "passthrough":
            columns = transform(step, columns, draft)
    return estimator.steps[-1][1], columns


@wrapping(GridSearchCV, RandomizedSearchCV)
def search(estimator: Any, columns: Sequence[Column], draft: Draft) -> tuple[Any, Sequence[Column]]:
    """The best one, fitted again on everything."""
    return estimator.best_estimator_, columns


@wrapping(FrozenEstimator, RANSACRegressor)
def inner(estimator: Any, columns: Sequence[Column], draft: Draft) -> tuple[Any, Sequence[Column]]:
    """The estimator inside."""
    return getattr(estimator, "estimator_", None) or estimator.estimator, columns


@scoring(CalibratedClassifierCV)
def calibrated(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """The mean of the folds' calibrated scores."""
    return _mean([_calibrated(member, columns, draft) for member in estimator.calibrated_classifiers_], None, draft)


@scoring(VotingClassifier, VotingRegressor)
def voting(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """The weighted mean of the members' scores."""
    if getattr(estimator, "voting", "soft") != "soft":
        raise NotCompilable("VotingClassifier: votes that are counted give no scores")
    places = [scores(member, columns, draft) for member in estimator.estimators_]
    return _mean(places, estimator._weights_not_none, draft)


@scoring(BaggingClassifier, BaggingRegressor)
def bagging(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """The mean of members that see some of the columns each."""
    members, inputs = estimator.estimators_, [list(places) for places in estimator.estimators_features_]
    if any(len(member.classes_) != len(estimator.classes_) for member in members if hasattr(estimator, "classes_")):
        raise NotCompilable(f"{type(estimator).__name__}: a member never saw one of the classes")
    if any(hasattr(estimator, "classes_") and not hasattr(member, "predict_proba") for member in members):
        raise NotCompilable(f"{type(estimator).__name__}: its members have no probabilities")
    if all(type(member) in SINGLE_TREES for member in members):
        return average(estimator, members, inputs, columns, draft)
    places = [scores(member, [columns[place] for place in chosen], draft) for member, chosen in zip(members, inputs, strict=True)]
    return _mean(places, None, draft)


@scoring(StackingClassifier, StackingRegressor)
def stacking(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """A last estimator on the members' answers, and on the columns themselves where they are passed through."""
    meta: list[Column] = []
    for member, method in zip(estimator.estimators_, estimator.stack_method_, strict=True):
        meta += _answers(estimator, member, method, columns, draft)
    passed = list(columns) if estimator.passthrough else []
    return scores(estimator.final_estimator_, [*meta, *passed], draft)


@scoring(OneVsRestClassifier)
def one_against_rest(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """One model for each class, asked for itself; the row is brought to 1."""
    if estimator.multilabel_:
        raise NotCompilable("OneVsRestClassifier: it gives several labels")
    # Where no class is likely at all its scores stay 0, which trees bring about and logistic models do not.
    if len(estimator.estimators_) > 1 and not all(type(member) is LogisticRegression for member in estimator.estimators_):
        raise NotCompilable("OneVsRestClassifier: only of logistic regressions")
    found = [take(scores(member, columns, draft), 1, draft) for member in estimator.estimators_]
    if len(found) == 1:
        return pair(found[0], draft)
    decided = beside([decision(member, columns, draft) for member in estimator.estimators_], draft)
    # Its label goes by the members' decisions, whose probabilities may all be 1.
    return likeliest(draft.add(Link(input=beside(found, draft), function="normalize"), len(found)), decided, draft)


@scoring(TransformedTargetRegressor)
def transformed(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """A regressor's number, taken back to the scale of the target."""
    place, transformer = scores(estimator.regressor_, columns, draft), estimator.transformer_
    if type(transformer) is FunctionTransformer:
        function = transformer.inverse_func
        if function is None:
            return place
        name = getattr(function, "__name__", "")
        # By identity with numpy's own function: a function of somebody's own may have the same name.
        if name not in _FUNCTIONS or function is not getattr(np, name) or transformer.inv_kw_args:
            raise NotCompilable("TransformedTargetRegressor: the inverse is a function that has no compiled form")
        return draft.add(Apply(input=place, function=_FUNCTIONS[name]), 1)
    if type(transformer) not in _INVERSES:
        raise NotCompilable(f"TransformedTargetRegressor: the inverse of {type(transformer).__name__} has no compiled form")
    for function, attribute in _INVERSES[type(transformer)]:
        value = getattr(transformer, attribute, None)
        if value is not None:
            place = draft.add(Arithmetics(input=place, function=function, by=[float(value[0])]), 1)
    return place


def _answers(estimator: Any, member: Any, method: str, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """What one member of a stack hands on."""
    classifier = hasattr(estimator, "classes_")
    if method == "decision_function":
        return draft.columns(decision(member, columns, draft))
    if classifier and method != "predict_proba":
        raise NotCompilable("StackingClassifier: a member hands on labels")
    place = scores(member, columns, draft)
    found = draft.columns(place)
    # Of two classes' scores the first says what the second says.
    return found[1:] if classifier and draft.widths[place] == 2 else found


def _calibrated(member: Any, columns: Sequence[Column], draft: Draft) -> int:
    count = len(member.classes)
    if len(member.estimator.classes_) != count:
        raise NotCompilable("CalibratedClassifierCV: a fold never saw one of the classes")
    decides = hasattr(member.estimator, "decision_function")
    place = (decision if decides else scores)(member.estimator, columns, draft)
    if member.method == "temperature":
        return _temperature(member.calibrators[0], place, count, draft, decides=decides)
    # With two classes only the second one is calibrated.
    if not decides and count == 2:
        place = take(place, 1, draft)
    found = _sigmoid(member, place, draft) if member.method == "sigmoid" else _isotonic(member, place, draft)
    return pair(found, draft) if count == 2 else draft.add(Link(input=found, function="normalize"), count)


def _sigmoid(member: Any, place: int, draft: Draft) -> int:
    width = draft.widths[place]
    slopes = [-float(calibrator.a_) for calibrator in member.calibrators]
    offsets = [float(calibrator.b_) for calibrator in member.calibrators]
    place = draft.add(Arithmetics(input=place, function="multiply", by=slopes), width)
    place = draft.add(Arithmetics(input=place, function="subtract", by=offsets), width)
    return draft.add(Link(input=place, function="sigmoid"), width)


def _isotonic(member: Any, place: int, draft: Draft) -> int:
    return beside([curve(one, take(place, column, draft), draft) for column, one in enumerate(member.calibrators)], draft)


def _temperature(calibrator: Any, place: int, count: int, draft: Draft, *, decides: bool) -> int:
    place, by = finite(place, draft), [float(calibrator.beta_)] * count
    if not decides:
        place = draft.add(Arithmetics(input=place, function="add", by=[_EPSILON] * count), count)
        place = draft.add(Apply(input=place, function="log"), count)
    elif count == 2:
        place, by[0] = beside([place, place], draft), -by[0]
    place = draft.add(Arithmetics(input=place, function="multiply", by=by), count)
    return draft.add(Link(input=place, function="softmax"), count)


def _mean(places: Sequence[int], weights: Any, draft: Draft) -> int:
    if len(places) == 1:
        return places[0]
    found = [1.0] * len(places) if weights is None else [float(weight) for weight in weights]
    return draft.add(Mean(inputs=list(places), weights=found), draft.widths[places[0]])
