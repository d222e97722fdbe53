"""Estimators that are matrices: linear models with their links, Bayes' rule on normal distributions, neural networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.cross_decomposition import CCA, PLSCanonical, PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    GammaRegressor,
    HuberRegressor,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLars,
    LassoLarsCV,
    LassoLarsIC,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    OrthogonalMatchingPursuit,
    OrthogonalMatchingPursuitCV,
    PassiveAggressiveClassifier,
    PassiveAggressiveRegressor,
    Perceptron,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
    TheilSenRegressor,
    TweedieRegressor,
)
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import LinearSVC, LinearSVR

from quarterdeck.compiled.program import Apply, Arithmetic, Arithmetics, Bins, Interpolate, Linear, Link, Lookup
from quarterdeck.compiling.blocks import doubles
from quarterdeck.compiling.draft import Column, Draft, NotCompilable
from quarterdeck.compiling.registry import beside, checked, deciding, finite, likeliest, pair, probabilities, scoring

_REGRESSORS = (
    ARDRegression, BayesianRidge, ElasticNet, ElasticNetCV, HuberRegressor, Lars, LarsCV, Lasso, LassoCV, LassoLars, LassoLarsCV,
    LassoLarsIC, LinearRegression, LinearSVR, OrthogonalMatchingPursuit, OrthogonalMatchingPursuitCV, PassiveAggressiveRegressor,
    QuantileRegressor, Ridge, RidgeCV, SGDRegressor, TheilSenRegressor,
)  # fmt: skip
_CLASSIFIERS = (
    LinearDiscriminantAnalysis, LinearSVC, LogisticRegression, LogisticRegressionCV, PassiveAggressiveClassifier, Perceptron,
    RidgeClassifier, RidgeClassifierCV, SGDClassifier,
)  # fmt: skip
_CLIPPED: tuple[tuple[Arithmetic, float], ...] = (("maximum", -1.0), ("minimum", 1.0), ("add", 1.0), ("divide", 2.0))
_ACTIVATIONS: dict[str, Callable[[int, int], Any]] = {
    "relu": lambda place, width: Arithmetics(input=place, function="maximum", by=[0.0] * width),
    "tanh": lambda place, width: Apply(input=place, function="tanh"),
    "logistic": lambda place, width: Link(input=place, function="sigmoid"),
    "softmax": lambda place, width: Link(input=place, function="softmax"),
}


@scoring(*_REGRESSORS)
@deciding(*_CLASSIFIERS)
def weighted(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """The columns times the coefficients, plus the intercept."""
    return _weighted(estimator, estimator.coef_, estimator.intercept_, columns, draft)


@scoring(LinearDiscriminantAnalysis, LogisticRegression, LogisticRegressionCV)
def logistic(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Logistic models of two classes, multinomial ones of more."""
    return probabilities(weighted(estimator, columns, draft), draft)


@scoring(SGDClassifier)
def stochastic(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Linear classifiers with probabilities; of several classes each is asked for itself, and the row brought to 1."""
    raw = weighted(estimator, columns, draft)
    width = draft.widths[raw]
    if estimator.loss == "log_loss":
        each = draft.add(Link(input=raw, function="sigmoid"), width)
    elif estimator.loss == "modified_huber":
        each = raw
        for function, by in _CLIPPED:
            each = draft.add(Arithmetics(input=each, function=function, by=[by] * width), width)
    else:
        raise NotCompilable(f"SGDClassifier: its loss {estimator.loss} has no probabilities")
    if width == 1:
        return pair(each, draft)
    # Its label goes by what was clipped or rounded away here.
    return likeliest(draft.add(Link(input=each, function="normalize"), width), raw, draft)


@scoring(GammaRegressor, PoissonRegressor, TweedieRegressor)
def generalised(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Generalised linear models, by the link of their loss."""
    raw = weighted(estimator, columns, draft)
    link = type(estimator._base_loss.link).__name__
    if link not in ("IdentityLink", "LogLink"):
        raise NotCompilable(f"{type(estimator).__name__}: its link has no compiled form")
    return raw if link == "IdentityLink" else draft.add(Link(input=raw, function="exp"), 1)


@scoring(CCA, PLSCanonical, PLSRegression)
def partial(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Partial least squares: linear about the mean of the training data."""
    doubles(estimator, columns)
    place = checked(columns, draft)
    centred = draft.add(Arithmetics(input=place, function="subtract", by=_floats(estimator._x_mean)), len(columns))
    return _product(estimator, estimator.coef_, estimator.intercept_, centred, draft)


@scoring(GaussianNB)
def gaussian(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Naive Bayes: for each class the squared distances from its means, weighted by its variances."""
    doubles(estimator, columns)
    place, found = checked(columns, draft), []
    for mean, variance, prior in zip(estimator.theta_, estimator.var_, estimator.class_prior_, strict=True):
        constant = float(np.log(prior) - 0.5 * np.sum(np.log(2.0 * np.pi * variance)))
        found.append(_squares(place, mean, [_floats(-0.5 / variance)], constant, draft))
    return draft.add(Link(input=beside(found, draft), function="bayes"), len(found))


@scoring(QuadraticDiscriminantAnalysis)
def quadratic(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Discriminant analysis: squared distances along each class's own axes."""
    doubles(estimator, columns)
    place, found = checked(columns, draft), []
    for axes, scale, mean, prior in zip(
        estimator.rotations_, estimator.scalings_, estimator.means_, estimator.priors_, strict=True
    ):
        centred = draft.add(Arithmetics(input=place, function="subtract", by=_floats(mean)), len(columns))
        weights = (axes * scale**-0.5).T
        turned = draft.add(Linear(input=centred, weights=weights.tolist(), bias=[0.0] * len(weights)), len(weights))
        constant = float(np.log(prior) - 0.5 * np.sum(np.log(scale)))
        found.append(_squares(turned, np.zeros(len(weights)), [[-0.5] * len(weights)], constant, draft))
    return probabilities(beside(found, draft), draft)


@scoring(BernoulliNB)
def bernoulli(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Naive Bayes of yes and no, which a threshold makes of numbers."""
    place, width = checked(columns, draft), len(columns)
    if estimator.binarize is not None:
        # Above the threshold is the same as at least the next number after it, which is how edges are counted.
        edge = float(np.nextafter(estimator.binarize, np.inf))
        place = draft.add(Bins(input=place, edges=[[edge]] * width), width)
    yes = estimator.feature_log_prob_
    no = np.log(1 - np.exp(yes))
    bias = estimator.class_log_prior_ + no.sum(axis=1)
    raw = draft.add(Linear(input=place, weights=(yes - no).tolist(), bias=_floats(bias)), len(yes))
    return probabilities(raw, draft)


@scoring(MLPRegressor)
def network(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Layers of a neural network, each a product and a function."""
    doubles(estimator, columns)
    place = checked(columns, draft)
    layers = len(estimator.coefs_)
    for number, (weights, bias) in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True), start=1):
        width = len(bias)
        place = draft.add(Linear(input=place, weights=weights.T.tolist(), bias=_floats(bias)), width)
        name = estimator.activation if number < layers else estimator.out_activation_
        if name != "identity":
            if name not in _ACTIVATIONS:
                raise NotCompilable(f"{type(estimator).__name__}: its activation {name} has no compiled form")
            place = draft.add(_ACTIVATIONS[name](place, width), width)
    return place


@scoring(MLPClassifier)
def network_scores(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """A network's probabilities; of two classes it has one."""
    place = network(estimator, columns, draft)
    return pair(place, draft) if draft.widths[place] == 1 else place


@scoring(DummyClassifier, DummyRegressor)
def dummy(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """The same scores for every row."""
    if estimator.strategy in ("stratified", "uniform"):
        raise NotCompilable(f"{type(estimator).__name__}: it answers at random")
    ask = getattr(estimator, "predict_proba", estimator.predict)
    found = np.ravel(ask(np.zeros((1, 1))))
    row: list[float | None] = [float(value) for value in found]
    # It never looks at a value; any feature gives it a row to answer.
    feature = draft.schema.features[0].name
    return draft.add(Lookup(feature=feature, values=[], rows=[], unseen=row, missing=row), len(row))


@scoring(IsotonicRegression)
def isotonic(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """Straight lines between points; values beyond them are the ends'."""
    return curve(estimator, draft.block(columns), draft)


def curve(estimator: Any, place: int, draft: Draft) -> int:
    """An isotonic regression of a block of width 1; `NotCompilable` where it refuses what is beyond its points."""
    if estimator.out_of_bounds != "clip":
        raise NotCompilable("IsotonicRegression: it does not clip what is beyond its training data")
    step = Interpolate(input=finite(place, draft), x=_floats(estimator.X_thresholds_), y=_floats(estimator.y_thresholds_))
    return draft.add(step, 1)


def _weighted(estimator: Any, weights: Any, bias: Any, columns: Sequence[Column], draft: Draft) -> int:
    # Single precision rounds in the middle of the sum, which no step repeats.
    if np.asarray(weights).dtype == np.float32:
        doubles(estimator, columns)
    return _product(estimator, weights, bias, checked(columns, draft), draft)


def _product(estimator: Any, weights: Any, bias: Any, place: int, draft: Draft) -> int:
    dense = np.atleast_2d(weights.toarray() if hasattr(weights, "toarray") else weights).astype(np.float64)
    outputs = len(dense)
    # A classifier has one row for two classes; a regressor with several rows has several targets.
    if outputs > 1 and not hasattr(estimator, "classes_"):
        raise NotCompilable(f"{type(estimator).__name__}: it has several targets")
    constants = _floats(np.broadcast_to(np.ravel(bias), (outputs,)))
    return draft.add(Linear(input=place, weights=dense.tolist(), bias=constants), outputs)


def _squares(place: int, centre: Any, weights: list[list[float]], bias: float, draft: Draft) -> int:
    """A weighted sum of squared distances, plus a constant. Width 1."""
    width = draft.widths[place]
    # Distances before squares: the difference of large squares would have lost its digits.
    if np.any(centre != 0):
        place = draft.add(Arithmetics(input=place, function="subtract", by=_floats(centre)), width)
    squared = draft.add(Apply(input=place, function="square"), width)
    return draft.add(Linear(input=squared, weights=weights, bias=[bias]), 1)


def _floats(values: Any) -> list[float]:
    return [float(value) for value in np.ravel(values)]
