"""Compiled estimators: the same labels and, to 1e-9, the same scores as the fitted ones, and refused where those refuse."""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    PoissonRegressor,
    RANSACRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
    TheilSenRegressor,
    TweedieRegressor,
)
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier

from quarterdeck.column_rows import ColumnRows
from quarterdeck.compiled.model import CompiledModel
from quarterdeck.compiled.trees import Booster
from quarterdeck.compiling.draft import NotCompilable
from quarterdeck.compiling.estimate import compile_model
from quarterdeck.errors import ModelFailed
from quarterdeck.forms import python_forms
from quarterdeck.frames import Columns, columns_of, frame_of, rows_of
from quarterdeck.infer import features_of, schema_of
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck.verify import differs

NAMES = ["a", "b", "c", "d"]


@cache
def table(rows: int, seed: int) -> pd.DataFrame:
    """Numbers of several scales, small whole ones among them, so that thresholds are met exactly; and a target per task."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "a": random.normal(0, 1.3, rows),
            "b": random.integers(0, 6, rows).astype(float),
            "c": random.normal(0, 120, rows).round(0),
            "d": (random.random(rows) < 0.5).astype(float),
        }
    )
    number = frame.a + frame.b - 2 + frame.c / 100 * frame.d + random.normal(0, 0.3, rows)
    return frame.assign(
        regression=number,
        positive=np.exp(number / 3),
        binary=number > 0,
        multiclass=np.array(["lo", "mid", "hi"])[np.digitize(number, [-1, 1])],
    )


def lgbm(kind: Any = lightgbm.LGBMClassifier, **named: Any) -> Any:
    """A small LightGBM estimator."""
    return kind(**{"n_estimators": 12, "num_leaves": 7, "verbose": -1, "n_jobs": 1, **named})


SCALED = make_pipeline(StandardScaler(), LogisticRegression())
CLASSIFIERS: dict[str, Any] = {
    "tree": DecisionTreeClassifier(max_depth=4),
    "pure tree": DecisionTreeClassifier(),
    "extra tree": ExtraTreeClassifier(min_samples_leaf=4),
    "forest": RandomForestClassifier(10),
    "shallow forest": RandomForestClassifier(10, max_depth=3),
    "extra trees": ExtraTreesClassifier(10, min_samples_leaf=6),
    "gradient boosting": GradientBoostingClassifier(n_estimators=12),
    "gradient boosting from zero": GradientBoostingClassifier(n_estimators=5, init="zero"),
    "histogram boosting": HistGradientBoostingClassifier(max_iter=12),
    "lightgbm": lgbm(),
    "lightgbm of averages": lgbm(boosting_type="rf", bagging_fraction=0.5, bagging_freq=1),
    "adaboost": AdaBoostClassifier(n_estimators=8),
    "bagged trees": BaggingClassifier(n_estimators=6, max_features=0.5),
    "bagged models": BaggingClassifier(SCALED, n_estimators=3, max_features=0.5),
    "logistic": LogisticRegression(max_iter=300),
    "logistic with search": LogisticRegressionCV(Cs=2, cv=2, max_iter=300),
    "stochastic": make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss")),
    "stochastic, clipped": make_pipeline(StandardScaler(), SGDClassifier(loss="modified_huber")),
    "normal Bayes": GaussianNB(),
    "yes and no Bayes": BernoulliNB(),
    "linear discriminant": LinearDiscriminantAnalysis(),
    "quadratic discriminant": QuadraticDiscriminantAnalysis(),
    "network": MLPClassifier((6, 4), max_iter=20),
    "network of tanh": MLPClassifier((5,), activation="tanh", max_iter=20),
    "network of sigmoids": MLPClassifier((5,), activation="logistic", max_iter=20),
    "dummy": DummyClassifier(),
    "calibrated margins": CalibratedClassifierCV(LinearSVC(), cv=2),
    "calibrated perceptron": CalibratedClassifierCV(Perceptron(), cv=2, method="isotonic"),
    "calibrated ridge": CalibratedClassifierCV(RidgeClassifier(), cv=2),
    "calibrated forest": CalibratedClassifierCV(RandomForestClassifier(5), cv=2, method="isotonic"),
    "calibrated once": CalibratedClassifierCV(RandomForestClassifier(5), ensemble=False, cv=2),
    "calibrated temperature": CalibratedClassifierCV(LogisticRegression(), cv=2, method="temperature"),
    "calibrated temperature of scores": CalibratedClassifierCV(GaussianNB(), cv=2, method="temperature"),
    "calibrated boosting": CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=4), cv=2),
    "votes": VotingClassifier(
        [("a", SCALED), ("b", RandomForestClassifier(4)), ("c", GaussianNB())], voting="soft", weights=[1, 2, 0.5]
    ),
    "stack": StackingClassifier([("a", SCALED), ("b", RandomForestClassifier(4)), ("c", LinearSVC())], cv=2),
    "stack with passthrough": StackingClassifier(
        [("a", SCALED), ("b", GaussianNB())], final_estimator=GradientBoostingClassifier(n_estimators=4), passthrough=True, cv=2
    ),
    "one against rest": OneVsRestClassifier(LogisticRegression()),
    "search": GridSearchCV(SCALED, {"logisticregression__C": [0.1, 1.0]}, cv=2),
}
TWO_CLASSES: dict[str, Any] = {
    "exponential boosting": GradientBoostingClassifier(n_estimators=5, loss="exponential"),
    "one model of one class": OneVsRestClassifier(RandomForestClassifier(4)),
}
REGRESSORS: dict[str, Any] = {
    "tree": DecisionTreeRegressor(max_depth=5),
    "forest": RandomForestRegressor(8),
    "extra trees": ExtraTreesRegressor(8),
    "gradient boosting": GradientBoostingRegressor(n_estimators=12),
    "robust gradient boosting": GradientBoostingRegressor(n_estimators=8, loss="huber"),
    "histogram boosting": HistGradientBoostingRegressor(max_iter=12),
    "lightgbm": lgbm(lightgbm.LGBMRegressor),
    "lightgbm of linear trees": lgbm(lightgbm.LGBMRegressor, linear_tree=True),
    "linear": LinearRegression(),
    "ridge": Ridge(),
    "lasso": Lasso(),
    "lasso with search": LassoCV(cv=2),
    "elastic net": ElasticNet(),
    "huber": HuberRegressor(max_iter=500),
    "theil-sen": TheilSenRegressor(max_subpopulation=50),
    "ransac": RANSACRegressor(random_state=0),
    "stochastic": make_pipeline(StandardScaler(), SGDRegressor()),
    "partial least squares": PLSRegression(),
    "network": MLPRegressor(hidden_layer_sizes=(5,), max_iter=20),
    "dummy": DummyRegressor(strategy="median"),
    "votes": VotingRegressor([("a", Ridge()), ("b", RandomForestRegressor(4))], weights=[1, 3]),
    "stack": StackingRegressor([("a", Ridge()), ("b", RandomForestRegressor(4))], passthrough=True, cv=2),
    "bagged trees": BaggingRegressor(n_estimators=4, max_features=0.5),
    "bagged models": BaggingRegressor(Ridge(), n_estimators=3),
    "scaled target": TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
    "ranged target": TransformedTargetRegressor(Ridge(), transformer=MinMaxScaler()),
    "target as it is": TransformedTargetRegressor(Ridge()),
}
POSITIVE: dict[str, Any] = {
    "poisson": PoissonRegressor(),
    "gamma": GammaRegressor(),
    "tweedie": TweedieRegressor(power=1.5),
    "histogram poisson": HistGradientBoostingRegressor(loss="poisson", max_iter=8),
    "lightgbm poisson": lgbm(lightgbm.LGBMRegressor, objective="poisson"),
    "logarithmic target": TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
}
EVERY = [
    *((name, "binary", model) for name, model in {**CLASSIFIERS, **TWO_CLASSES}.items()),
    *((name, "multiclass", model) for name, model in CLASSIFIERS.items()),
    *((name, "regression", model) for name, model in REGRESSORS.items()),
    *((name, "positive", model) for name, model in POSITIVE.items()),
]


class Pair:
    """A fitted model and its compiled form, behind the same rows.

    Args:
        model: fitted.
        X: its training data.
    """

    def __init__(self, model: Any, X: pd.DataFrame) -> None:
        self.model = model
        self.schema = schema_of(model, "y", features_of(X, [name for name in NAMES if name in X], {}), None, None)
        self.columns = Columns(labels="predict", columns=columns_of(X))
        served = self.columns.model_copy(update={"labels": "scores"})
        self.program, self.files = compile_model(model, self.schema, served)
        self.compiled = CompiledModel(self.schema, self.program, {name: Booster(text) for name, text in self.files.items()})

    def original(self, rows: list[Row]) -> list[Answer]:
        """What the fitted model answers to rows; raises `ModelFailed`."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return python_forms.answers(self.schema, self.columns, self.model, frame_of(rows, self.columns.columns))


def fitted(model: Any, task: str) -> Pair:
    """A model fitted to the small table, with its compiled form."""
    X, y = table(300, 0)[NAMES], table(300, 0)[task]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named = {name: 0 for name in model.get_params() if name.endswith("random_state")}
        return Pair(clone(model).set_params(**named).fit(X, y), X)


def apart(pair: Pair, rows: list[Row]) -> tuple[int, float]:
    """Labels that differ, and the largest difference of a score, relative where it is above 1."""
    wanted, given = pair.original(rows), pair.compiled.predict(rows)
    labels = sum(
        bool(first.scores) and first.prediction != second.prediction for first, second in zip(wanted, given, strict=True)
    )
    one, other = numbers(wanted), numbers(given)
    return labels, float((np.abs(one - other) / np.maximum(1, np.abs(one))).max())


def numbers(answers: list[Answer]) -> Any:
    """Scores by row and class, or each row's number."""
    return np.array([answer.scores or [float(answer.prediction)] for answer in answers])


def edges() -> list[Row]:
    """Ordinary rows with one value that is none, no number, infinite or out of any range."""
    ordinary: Row = {"a": 0.3, "b": 2.0, "c": 10.0, "d": 1.0}
    odd = (None, math.inf, -math.inf, 1e308, -1e39, 3.4028234663852886e38, 3.4028235677973366e38, 3.5e38, -0.0, 1e-38)
    return [{**ordinary, name: value} for name in NAMES for value in odd]


def asked(ask: Any, row: Row) -> Answer | None:
    """What is answered to one row, None where it is refused."""
    try:
        with np.errstate(all="ignore"):
            return ask([row])[0]  # type: ignore[no-any-return]
    except ModelFailed:
        return None


@pytest.mark.parametrize(("name", "task", "model"), EVERY, ids=[f"{task}-{name}" for name, task, _ in EVERY])
def test_compiled_estimators_answer_as_the_fitted_ones(name: str, task: str, model: Any) -> None:
    """On rows that it never saw the labels are the same and the scores equal to 1e-9; what it refuses is refused."""
    pair = fitted(model, task)
    labels, largest = apart(pair, rows_of(table(1500, 1)[NAMES]))
    assert labels == 0
    assert largest <= 1e-9
    for row in edges():
        wanted, given = asked(pair.original, row), asked(pair.compiled.predict, row)
        assert (wanted is None) == (given is None), row
        if wanted is not None and given is not None:
            assert not differs(wanted, given, 1e-9), row


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("leaf", [1, 5])
def test_ties_go_to_the_same_class(task: str, leaf: int) -> None:
    """Forests of an even number of trees often are of two minds: the label then is the original's."""
    pair = fitted(RandomForestClassifier(4, min_samples_leaf=leaf, max_features=1), task)
    rows = rows_of(table(1500, 1)[NAMES])
    found = pair.original(rows)
    tied = sum(answer.scores.count(max(answer.scores)) > 1 for answer in found)
    assert tied or leaf > 1
    assert apart(pair, rows)[0] == 0


@pytest.mark.parametrize("loss", ["log_loss", "modified_huber"])
def test_scores_that_are_cut_off_keep_the_label(loss: str) -> None:
    """Far from the boundary several classes have the score 1: the label is that of the highest decision all the same."""
    X, y = table(300, 0)[NAMES], table(300, 0).multiclass
    pair = Pair(SGDClassifier(loss=loss, random_state=0).fit(X, y), X)
    rows = rows_of(table(1500, 1)[NAMES])
    assert sum(answer.scores.count(max(answer.scores)) > 1 for answer in pair.original(rows)) > 100
    labels, largest = apart(pair, rows)
    assert labels == 0
    assert largest <= 1e-9


def test_an_even_chance_is_the_second_class_of_gradient_boosting() -> None:
    """Leaves of as many rows of either class lead from an even prior to an even chance."""
    X = pd.DataFrame({"a": [0.0, 0.0, 1.0, 1.0, 2.0, 2.0] * 4})
    y = np.array([0, 1, 0, 0, 1, 1] * 4)
    pair = Pair(GradientBoostingClassifier(n_estimators=3, random_state=0).fit(X, y), X)
    assert pair.original([{"a": 0.0}])[0] == Answer(1, [0.5, 0.5])
    assert apart(pair, [{"a": float(value)} for value in range(3)])[0] == 0


@pytest.mark.parametrize(
    "model",
    [DecisionTreeRegressor(), RandomForestRegressor(3, random_state=0), HistGradientBoostingRegressor(min_samples_leaf=1)],
    ids=str,
)
def test_numbers_next_to_zero_are_told_from_it(model: Any) -> None:
    """LightGBM reads numbers up to 1e-35 as 0; a threshold of 0 parts them all the same."""
    X = pd.DataFrame({"a": [-1.0, 1.0] * 20, "b": np.arange(40.0)})
    pair = Pair(clone(model).fit(X, X["a"]), X)
    values = [0.0, -0.0, 5e-324, 7e-46, 8e-46, 1e-39, 1e-36, 1e-35, 1.0000001e-35, -1e-36, -5e-324]
    rows: list[Row] = [{"a": value, "b": 3.0} for value in values]
    assert len({answer.prediction for answer in pair.original(rows)}) > 1
    assert apart(pair, rows * 5)[1] == 0
    assert [pair.compiled.scores(row)[0] for row in rows] == [answer.prediction for answer in pair.original(rows)]


def test_rounding_of_huge_scores_is_that_of_naive_bayes() -> None:
    """Far from all classes its probabilities do not add up to 1, and neither do ours."""
    X = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] * 5})
    pair = Pair(GaussianNB().fit(X, [0, 1, 2] * 10), X)
    rows: list[Row] = [{"a": value} for value in (1e39, -1e39, 1e6, 3.5)]
    assert sum(pair.original(rows)[0].scores) > 2.9
    assert apart(pair, rows) == (0, 0)


def with_gaps(rows: int, seed: int) -> pd.DataFrame:
    """A table whose numbers, texts and categories are absent now and then."""
    random = np.random.default_rng(seed)
    frame = table(rows, seed)[NAMES]
    frame = frame.mask(random.random(frame.shape) < 0.1)
    texts = pd.Series(random.choice(["AA", "B6", "DL", "UA"], rows)).where(random.random(rows) > 0.1)
    return frame.assign(carrier=texts.astype("category"), zone=pd.Categorical(random.choice([10, 20, 30], rows)))


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(6),
        ExtraTreesClassifier(6),
        DecisionTreeClassifier(max_depth=5),
        HistGradientBoostingClassifier(max_iter=8),
        BaggingClassifier(DecisionTreeClassifier(), n_estimators=4),
        lgbm(),
        lgbm(use_missing=False),
        lgbm(zero_as_missing=True),
    ],
    ids=str,
)
def test_missing_numbers_go_where_the_tree_sends_them(model: Any) -> None:
    """Null is NaN, and NaN takes the way that was learnt for it."""
    X = with_gaps(400, 0)[NAMES]
    pair = Pair(model.fit(X, table(400, 0).binary), X)
    assert apart(pair, rows_of(with_gaps(1500, 1)[NAMES])) == (0, 0.0)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("kind", ["lightgbm", "histogram"])
def test_categories_are_looked_up_by_value(task: str, kind: str) -> None:
    """Texts and numbers as categories: known ones, unseen ones, absent ones."""
    X = with_gaps(400, 0)
    # The category decides, so that trees part by it.
    chosen = X.carrier.isin(["B6", "UA"]) ^ (X.zone == 20)
    y = {"binary": chosen, "multiclass": chosen.astype(str) + X.zone.astype(str), "regression": chosen * 3.0 + table(400, 0).a}[
        task
    ]
    if kind == "lightgbm":
        model = lgbm(
            lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier, min_child_samples=5, min_data_per_group=5
        )
    else:
        model = (HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier)(max_iter=10)
    pair = Pair(model.fit(X, y), X)
    # Each tree that parts categories has a set of them.
    assert any(b"cat_threshold" in text for text in pair.files.values())
    rows = rows_of(with_gaps(800, 1))
    for place, row in enumerate(rows):
        if place % 7 == 0:
            row.update(carrier="quarterdeck-unseen", zone=25)
    labels, largest = apart(pair, rows)
    assert labels == 0
    assert largest <= 1e-9


def test_the_best_iteration_of_lightgbm_is_what_is_compiled() -> None:
    """Trees behind the best iteration are not there."""
    frame, other = table(300, 0), table(300, 1)
    model = lgbm(n_estimators=100)
    model.fit(
        frame[NAMES],
        frame.binary,
        eval_X=other[NAMES],
        eval_y=other.binary,
        callbacks=[lightgbm.early_stopping(2, verbose=False)],
    )
    pair = Pair(model, frame[NAMES])
    assert pair.files["trees-0.txt"].count(b"\nTree=") == model.best_iteration_ < 100
    assert apart(pair, rows_of(other[NAMES])) == (0, 0.0)


def test_a_bare_booster_has_a_score_for_each_class() -> None:
    """Two classes have two scores, as an estimator's."""
    frame = table(300, 0)
    data = lightgbm.Dataset(frame[NAMES], frame.binary)
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, data, 5)
    schema = schema_of(booster, "y", features_of(frame[NAMES], (), {}), None, None)
    program, files = compile_model(booster, schema, Columns(columns=columns_of(frame[NAMES])))
    model = CompiledModel(schema, program, {name: Booster(text) for name, text in files.items()})
    answers = model.predict(rows_of(frame[NAMES]))
    assert [answer.scores[1] for answer in answers] == np.asarray(booster.predict(frame[NAMES])).tolist()


def sigmoid(raw: Any) -> Any:
    """The second class's score."""
    return 1 / (1 + np.exp(-raw))


def softmax(raw: Any) -> Any:
    """Scores of several classes."""
    return np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("model", "task", "link"),
    [
        (RandomForestClassifier(5, max_depth=4), "binary", np.array),
        (RandomForestClassifier(6), "binary", np.array),
        (RandomForestClassifier(5), "multiclass", np.array),
        (RandomForestRegressor(5), "regression", np.array),
        (BaggingRegressor(n_estimators=4, max_features=0.5), "regression", np.array),
        (GradientBoostingClassifier(n_estimators=5), "binary", sigmoid),
        (GradientBoostingClassifier(n_estimators=5), "multiclass", softmax),
        (GradientBoostingClassifier(n_estimators=5, init="zero"), "binary", sigmoid),
        (HistGradientBoostingClassifier(max_iter=5), "binary", sigmoid),
        (HistGradientBoostingRegressor(loss="poisson", max_iter=5), "positive", np.exp),
        (lgbm(), "binary", sigmoid),
        (lgbm(), "multiclass", softmax),
        (lgbm(lightgbm.LGBMRegressor, boosting_type="rf", bagging_fraction=0.5, bagging_freq=1), "regression", np.array),
        (SCALED, "binary", sigmoid),
        (LogisticRegression(max_iter=300), "multiclass", softmax),
        (PoissonRegressor(), "positive", np.exp),
        (LinearRegression(), "regression", np.array),
    ],
    ids=str,
)
def test_single_tree_and_linear_steps_are_explained(model: Any, task: str, link: Any) -> None:
    """Contributions and their base add up to the raw score, which the link turns into the scores."""
    pair = fitted(model, task)
    frame = table(1000, 1)[NAMES]
    rows = rows_of(frame)
    explained = pair.compiled.explain(rows)
    columns = ColumnRows({name: frame[name].to_numpy(dtype=np.float64) for name in NAMES}, len(rows))
    assert pair.compiled.explain(columns) == explained
    # One by one a matrix product may round otherwise.
    rows += rows[:200]
    explained += [pair.compiled.explain([row])[0] for row in rows[1000:]]
    sums = np.array([[one.base + sum(one.features.values()) for one in row] for row in explained])
    raw = np.array([[one.raw for one in row] for row in explained])
    assert np.abs(sums - raw).max() <= 1e-6
    scores = numbers(pair.compiled.predict(rows))
    assert link(raw) == pytest.approx(scores[:, -raw.shape[1] :], abs=1e-9)


@pytest.mark.parametrize(
    "model", [CLASSIFIERS["votes"], CLASSIFIERS["stack"], CLASSIFIERS["network"], CLASSIFIERS["normal Bayes"]], ids=str
)
def test_models_of_several_parts_have_no_contributions(model: Any) -> None:
    """There is no one raw score that a feature could add to."""
    assert fitted(model, "binary").program.explain is None


class Mine(LogisticRegression):  # type: ignore[misc]
    """A subclass of somebody's own."""


@pytest.mark.parametrize(
    ("model", "task", "words"),
    [
        (Mine(), "binary", "^Mine: it has no compiled form"),
        (KNeighborsClassifier(), "binary", "KNeighborsClassifier: it compares with its training rows"),
        (SVR(), "regression", "SVR: it compares with its training rows"),
        (FixedThresholdClassifier(LogisticRegression(), threshold=0.3), "binary", "threshold of its own"),
        (SVC(probability=True), "binary", "SVC: it compares"),
        (OneVsRestClassifier(RandomForestClassifier(3)), "multiclass", "only of logistic"),
        (AdaBoostClassifier(LogisticRegression(), n_estimators=2), "binary", "only of decision trees"),
        (VotingClassifier([("a", Mine())], voting="soft"), "binary", "^Mine"),
        (GradientBoostingRegressor(n_estimators=2, init=LinearRegression()), "regression", "model of its own"),
        (DummyClassifier(strategy="stratified"), "binary", "at random"),
        (TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=lambda x: np.expm1(x)), "positive", "a function that"),
        (lgbm(objective=lambda y, p: (p - y, np.ones_like(p))), "binary", "its objective is a function"),
    ],
    ids=str,
)
def test_what_cannot_be_compiled_says_which_part_and_why(model: Any, task: str, words: str) -> None:
    """The reason names the class."""
    with pytest.raises(NotCompilable, match=words):
        fitted(model, task)


def test_single_precision_is_named() -> None:
    """What rounds to float32 in the middle of a sum has no compiled form; trees only read float32, and have one."""
    X, y = table(300, 0)[NAMES].astype("float32"), table(300, 0).binary
    for model in (LogisticRegression(), GaussianNB()):
        with pytest.raises(NotCompilable, match="float32"):
            Pair(model.fit(X, y), X)
    for model in (RandomForestClassifier(5), HistGradientBoostingClassifier(max_iter=5), lgbm()):
        pair = Pair(model.fit(X, y), X)
        assert apart(pair, rows_of(table(1500, 1)[NAMES].astype("float32")))[0] == 0


def test_equal_steps_of_an_ensemble_are_run_once() -> None:
    """Members that scale in the same way share the scaled block, and nothing is computed that nobody reads."""
    shared = FrozenEstimator(
        make_pipeline(StandardScaler(), LogisticRegression()).fit(table(300, 0)[NAMES], table(300, 0).binary)
    )
    pair = fitted(VotingClassifier([("a", shared), ("b", shared)], voting="soft"), "binary")
    assert sum(step.op == "linear" for step in pair.program.steps) == 1
    assert apart(pair, rows_of(table(300, 1)[NAMES]))[0] == 0
