"""The catalogue of pipelines as people build them: each is trained, compiled and compared with itself.

`tests/unit/test_pipelines.py` proves them, and the reference page tells which of them are compiled.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import lightgbm
import numpy as np
import pandas as pd
from sklearn import (
    calibration,
    compose,
    decomposition,
    ensemble,
    feature_extraction,
    feature_selection,
    impute,
    linear_model,
    neighbors,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401

from quarterdeck.schema import Task
from tools.pipeline_data import table

FLOATS = ["distance", "fare", "speed"]
HOLED = ["temperature", "wind"]
INTS = ["hour", "stops", "seats"]
TEXTS = ["carrier", "origin"]
EVERYTHING = [*FLOATS, *HOLED, *INTS, *TEXTS, "weather", "gate", "cabin", "weekend", "loyal", "booked"]


@dataclass(frozen=True)
class Pipeline:
    """One of the catalogue.

    Args:
        name: short, for tables and tests.
        about: what stands in it.
        task: which target it is trained on.
        columns: the features, of the table's.
        make: gives the unfitted model.
        container: what it is trained on.
    """

    name: str
    about: str
    task: Task
    columns: Sequence[str]
    make: Callable[[], Any]
    container: Literal["frame", "array"] = "frame"

    def fitted(self) -> Any:
        """The model, trained; a fresh one with every call."""
        model, data = self.make(), table().frame[list(self.columns)]
        with warnings.catch_warnings():
            # Small data and few rounds converge badly; that is nobody's concern here.
            warnings.simplefilter("ignore")
            return model.fit(data if self.container == "frame" else data.to_numpy(), table().targets[self.task])


def late_hour(frame: Any) -> Any:
    """Somebody's own function: no program knows it."""
    return pd.DataFrame({"month": frame["booked"].dt.month, "day": frame["booked"].dt.dayofweek})


def catalogue() -> list[Pipeline]:
    """All of them, in the order of the page."""
    return [
        *_logistic(),
        *_linear_classifiers(),
        *_boosted(),
        *_trees(),
        *_together(),
        *_several(),
        *_regressions(),
        *_served_by_python(),
    ]


def _columns(*parts: tuple[Any, Any], remainder: Any = "drop", **named: Any) -> Any:
    steps = [(f"part{place}", step, columns) for place, (step, columns) in enumerate(parts)]
    return compose.ColumnTransformer(steps, remainder=remainder, **named)


def _line(*steps: Any) -> Any:
    return pipeline.make_pipeline(*steps)


def _one_hot(**named: Any) -> Any:
    return preprocessing.OneHotEncoder(**{"handle_unknown": "ignore", **named})


def _ordinal(**named: Any) -> Any:
    return preprocessing.OrdinalEncoder(**{"handle_unknown": "use_encoded_value", "unknown_value": -1, **named})


def _filled(*steps: Any, strategy: str = "median", **named: Any) -> Any:
    return _line(impute.SimpleImputer(strategy=strategy, **named), *steps)


def _usual() -> Any:
    """What most tutorials begin with."""
    return _columns(
        (_filled(preprocessing.StandardScaler()), [*FLOATS, *HOLED]),
        (_filled(_one_hot(), strategy="most_frequent"), ["carrier", "weather"]),
    )


USUAL = [*FLOATS, *HOLED, "carrier", "weather"]


def _logit(**named: Any) -> Any:
    return linear_model.LogisticRegression(**{"max_iter": 300, **named})


def _logistic() -> list[Pipeline]:
    return [
        Pipeline(
            "logistic-usual",
            "median imputer, StandardScaler; most frequent category, one-hot; LogisticRegression",
            "binary",
            USUAL,
            lambda: _line(_usual(), _logit()),
        ),
        Pipeline(
            "logistic-everything",
            "a ColumnTransformer of seven kinds of columns, dates dropped; LogisticRegression",
            "binary",
            EVERYTHING,
            lambda: _line(
                _columns(
                    (_filled(preprocessing.StandardScaler(), strategy="mean", add_indicator=True), HOLED),
                    (preprocessing.RobustScaler(), FLOATS),
                    (preprocessing.MinMaxScaler(), INTS),
                    (_one_hot(min_frequency=15, handle_unknown="infrequent_if_exist"), TEXTS),
                    (_filled(_one_hot(), strategy="constant", fill_value="none"), ["weather", "cabin"]),
                    (_filled(_one_hot(), strategy="most_frequent", missing_values=None), ["gate", "loyal"]),
                    ("passthrough", ["weekend"]),
                ),
                _logit(),
            ),
        ),
        Pipeline(
            "logistic-drop-first",
            "one-hot without the first category, unknown ones refused; StandardScaler without mean",
            "binary",
            [*FLOATS, "crew", "weekend"],
            lambda: _line(
                _columns(
                    (preprocessing.StandardScaler(with_mean=False), FLOATS),
                    (preprocessing.OneHotEncoder(drop="first"), ["crew", "weekend"]),
                ),
                _logit(),
            ),
        ),
        Pipeline(
            "logistic-if-binary",
            "one-hot of null, NaN, booleans and category columns; one column for two categories; l1",
            "binary",
            ["weather", "gate", "cabin", "zone", "weekend", "loyal"],
            lambda: _line(_one_hot(drop="if_binary"), linear_model.LogisticRegression(solver="liblinear", l1_ratio=1.0)),
        ),
        Pipeline(
            "logistic-drop-listed",
            "one-hot with named categories, one of them dropped by name",
            "binary",
            ["crew", *FLOATS],
            lambda: _line(
                _columns(
                    (preprocessing.OneHotEncoder(categories=[["full", "short", "?", "none"]], drop=["?"]), ["crew"]),
                    remainder=preprocessing.StandardScaler(),
                ),
                _logit(),
            ),
        ),
        Pipeline(
            "logistic-rare-warn",
            "at most four categories a column, unknown ones among the infrequent ones with a warning",
            "binary",
            [*TEXTS, *INTS],
            lambda: _line(
                _columns(
                    (_one_hot(max_categories=4, handle_unknown="warn", sparse_output=False), TEXTS),
                    (_one_hot(min_frequency=0.05, handle_unknown="infrequent_if_exist"), ["hour", "stops"]),
                    remainder="passthrough",
                ),
                preprocessing.MaxAbsScaler(),
                _logit(),
            ),
        ),
        Pipeline(
            "logistic-clipped",
            "MinMaxScaler and MaxAbsScaler that clip",
            "binary",
            [*FLOATS, *INTS],
            lambda: _line(
                _columns(
                    (preprocessing.MinMaxScaler(feature_range=(-1, 2), clip=True), FLOATS),
                    (preprocessing.MaxAbsScaler(clip=True), INTS),
                ),
                _logit(),
            ),
        ),
        Pipeline(
            "logistic-yeo-johnson",
            "PowerTransformer (Yeo-Johnson)",
            "binary",
            [*FLOATS, *HOLED],
            lambda: _line(preprocessing.PowerTransformer(), impute.SimpleImputer(), _logit()),
        ),
        Pipeline(
            "logistic-box-cox",
            "PowerTransformer (Box-Cox), not standardised, then RobustScaler",
            "binary",
            ["fare", "distance"],
            lambda: _line(
                preprocessing.PowerTransformer(method="box-cox", standardize=False), preprocessing.RobustScaler(), _logit()
            ),
        ),
        Pipeline(
            "logistic-quantile-normal",
            "QuantileTransformer to a normal distribution",
            "binary",
            [*FLOATS, *HOLED],
            lambda: _line(
                preprocessing.QuantileTransformer(n_quantiles=100, output_distribution="normal"), impute.SimpleImputer(), _logit()
            ),
        ),
        Pipeline(
            "logistic-bins",
            "KBinsDiscretizer, one-hot",
            "binary",
            [*FLOATS, "hour"],
            lambda: _line(_bins(encode="onehot"), _logit()),
        ),
        Pipeline(
            "logistic-polynomial",
            "StandardScaler, all products to degree 3, LogisticRegression",
            "binary",
            FLOATS,
            lambda: _line(preprocessing.StandardScaler(), preprocessing.PolynomialFeatures(3, include_bias=False), _logit()),
        ),
        Pipeline(
            "logistic-pca",
            "StandardScaler, whitened PCA",
            "binary",
            [*FLOATS, *INTS],
            lambda: _line(preprocessing.StandardScaler(), decomposition.PCA(4, whiten=True), _logit()),
        ),
        Pipeline(
            "logistic-svd",
            "one-hot, TruncatedSVD",
            "binary",
            [*TEXTS, "crew"],
            lambda: _line(_one_hot(), decomposition.TruncatedSVD(8, random_state=0), _logit()),
        ),
        Pipeline(
            "logistic-normalised",
            "Normalizer, Binarizer beside it",
            "binary",
            [*FLOATS, *INTS],
            lambda: _line(
                _columns((preprocessing.Normalizer(), FLOATS), (preprocessing.Binarizer(threshold=1.5), INTS)), _logit()
            ),
        ),
        Pipeline(
            "logistic-logarithms",
            "FunctionTransformer with numpy.log1p and numpy.sqrt",
            "binary",
            [*FLOATS, "hour"],
            lambda: _line(
                _columns(
                    (preprocessing.FunctionTransformer(np.log1p), ["fare", "distance"]),
                    (preprocessing.FunctionTransformer(np.sqrt, validate=True), ["hour"]),
                    (preprocessing.FunctionTransformer(), ["speed"]),
                ),
                preprocessing.StandardScaler(),
                _logit(),
            ),
        ),
        Pipeline(
            "logistic-float32",
            "columns of float32, scaled in float32",
            "binary",
            ["load", "ratio", "speed", "stops"],
            lambda: _line(
                _columns(
                    (preprocessing.StandardScaler(), ["load"]),
                    (preprocessing.MinMaxScaler(), ["ratio"]),
                    (preprocessing.RobustScaler(), ["speed", "stops"]),
                ),
                _logit(),
            ),
        ),
        Pipeline(
            "logistic-array",
            "trained on a bare array of floats",
            "binary",
            FLOATS,
            lambda: _line(preprocessing.StandardScaler(), _logit()),
            "array",
        ),
    ]


def _bins(**named: Any) -> Any:
    return preprocessing.KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf", **named)


def _linear_classifiers() -> list[Pipeline]:
    return [
        Pipeline(
            "sgd-logistic",
            "SGDClassifier with the logistic loss",
            "binary",
            USUAL,
            lambda: _line(_usual(), linear_model.SGDClassifier(loss="log_loss", random_state=0)),
        ),
        Pipeline(
            "sgd-huber",
            "SGDClassifier with the modified Huber loss, columns by place and slice",
            "binary",
            [*FLOATS, *INTS],
            lambda: _line(
                _columns(
                    (preprocessing.StandardScaler(), slice(0, 3)), (preprocessing.MinMaxScaler(), [-1, 4]), remainder="drop"
                ),
                linear_model.SGDClassifier(loss="modified_huber", random_state=0),
            ),
        ),
        Pipeline(
            "calibrated-svm",
            "LinearSVC, calibrated by a sigmoid",
            "binary",
            USUAL,
            lambda: _line(_usual(), calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=3)),
        ),
        Pipeline(
            "calibrated-ridge",
            "RidgeClassifier, calibrated by isotonic regression",
            "binary",
            USUAL,
            lambda: _line(_usual(), calibration.CalibratedClassifierCV(linear_model.RidgeClassifier(), method="isotonic", cv=3)),
        ),
        Pipeline(
            "logistic-selected",
            "SelectFromModel by an l1 model, then LogisticRegression",
            "binary",
            USUAL,
            lambda: _line(
                _usual(),
                feature_selection.SelectFromModel(linear_model.LogisticRegression(solver="liblinear", l1_ratio=1.0, C=0.2)),
                _logit(),
            ),
        ),
        Pipeline(
            "logistic-k-best",
            "VarianceThreshold, SelectKBest, frames all the way (set_output)",
            "binary",
            [*FLOATS, *HOLED, *INTS],
            lambda: _line(
                feature_selection.VarianceThreshold(0.1),
                impute.SimpleImputer(strategy="mean"),
                feature_selection.SelectKBest(k=4),
                preprocessing.StandardScaler(),
                _logit(),
            ).set_output(transform="pandas"),
        ),
        Pipeline(
            "logistic-rfe",
            "recursive feature elimination, SelectPercentile before it",
            "binary",
            [*FLOATS, *INTS],
            lambda: _line(
                preprocessing.StandardScaler(),
                feature_selection.SelectPercentile(percentile=80),
                feature_selection.RFE(_logit(), n_features_to_select=3),
                _logit(),
            ),
        ),
        Pipeline(
            "logistic-union",
            "FeatureUnion of a weighted PCA, products and the columns themselves",
            "binary",
            FLOATS,
            lambda: _line(
                preprocessing.StandardScaler(),
                pipeline.FeatureUnion(
                    [
                        ("pca", decomposition.PCA(2)),
                        ("products", preprocessing.PolynomialFeatures(2, interaction_only=True, include_bias=False)),
                        ("same", "passthrough"),
                        ("none", "drop"),
                    ],
                    transformer_weights={"pca": 0.5},
                ),
                _logit(),
            ),
        ),
        Pipeline(
            "logistic-indicators",
            "MissingIndicator beside an imputer for -999, by mask and by function",
            "binary",
            ["gauge", *HOLED, "weather"],
            lambda: _line(
                _columns(
                    (_filled(missing_values=-999.0, strategy="mean", add_indicator=True), [True, False, False, False]),
                    (impute.MissingIndicator(features="all"), compose.make_column_selector("weather|wind")),
                    (_filled(strategy="constant", fill_value=-1.0), HOLED),
                ),
                _logit(),
            ),
        ),
    ]


def _boost(**named: Any) -> Any:
    return lightgbm.LGBMClassifier(
        **{"n_estimators": 25, "num_leaves": 8, "min_child_samples": 10, "verbose": -1, "n_jobs": 1, **named}
    )


def _boosted() -> list[Pipeline]:
    return [
        Pipeline(
            "lightgbm",
            "LightGBM on floats, whole numbers and booleans, null as it is",
            "binary",
            [*FLOATS, *HOLED, *INTS, "weekend"],
            _boost,
        ),
        Pipeline("lightgbm-array", "LightGBM on a bare array", "binary", [*FLOATS, *HOLED], _boost, "array"),
        Pipeline(
            "lightgbm-categories",
            "LightGBM with category columns of its own",
            "binary",
            [*FLOATS, *HOLED, "cabin", "zone"],
            _boost,
        ),
        Pipeline(
            "lightgbm-one-hot",
            "the benchmark's: StandardScaler and one-hot into LightGBM",
            "binary",
            [*FLOATS, *INTS, *TEXTS, "crew"],
            lambda: _line(_columns((preprocessing.StandardScaler(), [*FLOATS, *INTS]), (_one_hot(), [*TEXTS, "crew"])), _boost()),
        ),
        Pipeline(
            "lightgbm-ordinal",
            "OrdinalEncoder in frames (set_output), LightGBM treats its columns as categories",
            "binary",
            [*FLOATS, *HOLED, "carrier", "weather"],
            lambda: _line(
                _columns((_ordinal(encoded_missing_value=-2), ["carrier", "weather"]), remainder="passthrough").set_output(
                    transform="pandas"
                ),
                _boost(),
            ),
        ),
        Pipeline(
            "lightgbm-target",
            "TargetEncoder of many categories",
            "binary",
            [*FLOATS, *HOLED, *TEXTS, "weather", "cabin"],
            lambda: _line(
                _columns((preprocessing.TargetEncoder(random_state=0), [*TEXTS, "weather", "cabin"]), remainder="passthrough"),
                _boost(),
            ),
        ),
        Pipeline(
            "lightgbm-forest",
            "LightGBM as a random forest",
            "binary",
            [*FLOATS, *HOLED],
            lambda: _boost(boosting_type="rf", bagging_freq=1, bagging_fraction=0.7),
        ),
        Pipeline(
            "lightgbm-dart", "LightGBM with dropped trees", "binary", [*FLOATS, *INTS], lambda: _boost(boosting_type="dart")
        ),
        Pipeline("hist-boosting", "HistGradientBoosting, null as it is", "binary", [*FLOATS, *HOLED, *INTS], _hist),
        Pipeline(
            "hist-boosting-categories",
            "HistGradientBoosting with category columns by dtype",
            "binary",
            [*FLOATS, *HOLED, "cabin", "zone"],
            _hist,
        ),
        Pipeline(
            "hist-boosting-ordinal",
            "OrdinalEncoder with NaN for unknown ones, HistGradientBoosting treats them as categories",
            "binary",
            [*FLOATS, *HOLED, "carrier", "weather", "gate"],
            lambda: _line(
                _columns((_ordinal(unknown_value=np.nan), ["carrier", "weather", "gate"]), remainder="passthrough"),
                _hist(categorical_features=[0, 1, 2]),
            ),
        ),
        Pipeline(
            "hist-boosting-frequent",
            "OrdinalEncoder of frequent categories only, bins of KBinsDiscretizer",
            "binary",
            [*FLOATS, *TEXTS],
            lambda: _line(
                _columns((_ordinal(min_frequency=20, max_categories=10), TEXTS), (_bins(encode="ordinal"), FLOATS)), _hist()
            ),
        ),
        Pipeline(
            "gradient-boosting",
            "GradientBoosting behind a median imputer",
            "binary",
            [*FLOATS, *HOLED, *INTS],
            lambda: _filled(_gradient()),
        ),
    ]


def _hist(**named: Any) -> Any:
    return ensemble.HistGradientBoostingClassifier(**{"max_iter": 25, "max_leaf_nodes": 8, "random_state": 0, **named})


def _gradient(**named: Any) -> Any:
    return ensemble.GradientBoostingClassifier(**{"n_estimators": 25, "random_state": 0, **named})


def _forest(**named: Any) -> Any:
    return ensemble.RandomForestClassifier(**{"n_estimators": 15, "max_depth": 7, "random_state": 0, **named})


def _trees() -> list[Pipeline]:
    return [
        Pipeline("forest", "RandomForest, null as it is", "binary", [*FLOATS, *HOLED, *INTS, "weekend"], _forest),
        Pipeline(
            "forest-imputed",
            "imputers with indicators, ordinal categories with dense bins, RandomForest",
            "binary",
            [*FLOATS, *HOLED, "carrier", "gate"],
            lambda: _line(
                _columns(
                    (_filled(add_indicator=True), HOLED),
                    (_bins(encode="onehot-dense"), FLOATS),
                    (_ordinal(), ["carrier", "gate"]),
                ),
                _forest(criterion="entropy"),
            ),
        ),
        Pipeline(
            "forest-scaled",
            "MaxAbsScaler of sparse one-hot columns and numbers, RandomForest",
            "binary",
            [*FLOATS, *TEXTS],
            lambda: _line(
                _columns((_one_hot(), TEXTS), remainder="passthrough", sparse_threshold=1.0),
                preprocessing.MaxAbsScaler(),
                _forest(),
            ),
        ),
        Pipeline(
            "extra-trees",
            "ExtraTrees behind a constant imputer",
            "binary",
            [*FLOATS, *HOLED, *INTS],
            lambda: _filled(
                ensemble.ExtraTreesClassifier(n_estimators=15, max_depth=7, random_state=0), strategy="constant", fill_value=-1.0
            ),
        ),
        Pipeline(
            "tree", "DecisionTree", "binary", [*FLOATS, *HOLED], lambda: tree.DecisionTreeClassifier(max_depth=6, random_state=0)
        ),
        Pipeline(
            "tree-array",
            "a balanced DecisionTree on a bare array",
            "binary",
            [*FLOATS, "hour"],
            lambda: tree.DecisionTreeClassifier(max_depth=6, class_weight="balanced", random_state=0),
            "array",
        ),
        Pipeline(
            "calibrated-forest",
            "RandomForest, calibrated by isotonic regression",
            "binary",
            [*FLOATS, *INTS],
            lambda: calibration.CalibratedClassifierCV(_forest(n_estimators=8), method="isotonic", cv=3),
        ),
    ]


def _together() -> list[Pipeline]:
    return [
        Pipeline(
            "voting",
            "soft voting of a logistic pipeline, a forest and LightGBM, with weights",
            "binary",
            [*FLOATS, *INTS],
            lambda: ensemble.VotingClassifier(
                [("logistic", _line(preprocessing.StandardScaler(), _logit())), ("forest", _forest()), ("boosted", _boost())],
                voting="soft",
                weights=[1, 2, 3],
            ),
        ),
        Pipeline(
            "stacking",
            "stacking of a forest, LightGBM and a linear SVM under a logistic model",
            "binary",
            USUAL,
            lambda: _line(
                _usual(),
                ensemble.StackingClassifier(
                    [("forest", _forest(n_estimators=8)), ("boosted", _boost(n_estimators=8)), ("svm", svm.LinearSVC())],
                    _logit(),
                    cv=3,
                ),
            ),
        ),
        Pipeline(
            "stacking-passed-through",
            "stacking that passes the columns on, HistGradientBoosting on top",
            "binary",
            [*FLOATS, *HOLED],
            lambda: ensemble.StackingClassifier(
                [("tree", tree.DecisionTreeClassifier(max_depth=3, random_state=0)), ("hist", _hist(max_iter=8))],
                _hist(max_iter=8),
                cv=3,
                passthrough=True,
            ),
        ),
    ]


def _several() -> list[Pipeline]:
    return [
        Pipeline("three-logistic", "multinomial LogisticRegression", "multiclass", USUAL, lambda: _line(_usual(), _logit())),
        Pipeline(
            "three-target",
            "TargetEncoder of three classes, LogisticRegression",
            "multiclass",
            [*TEXTS, "weather", "hour"],
            lambda: _line(preprocessing.TargetEncoder(random_state=0), preprocessing.StandardScaler(), _logit()),
        ),
        Pipeline(
            "three-sgd",
            "SGDClassifier, one against the rest",
            "multiclass",
            USUAL,
            lambda: _line(_usual(), linear_model.SGDClassifier(loss="log_loss", random_state=0)),
        ),
        Pipeline("three-lightgbm", "LightGBM", "multiclass", [*FLOATS, *HOLED, "cabin"], lambda: _boost(n_estimators=10)),
        Pipeline(
            "three-hist-boosting", "HistGradientBoosting", "multiclass", [*FLOATS, *HOLED, "cabin"], lambda: _hist(max_iter=10)
        ),
        Pipeline(
            "three-gradient-boosting", "GradientBoosting", "multiclass", [*FLOATS, *INTS], lambda: _gradient(n_estimators=10)
        ),
        Pipeline("three-forest", "RandomForest", "multiclass", [*FLOATS, *HOLED], _forest),
        Pipeline(
            "three-extra-trees",
            "ExtraTrees on one-hot columns",
            "multiclass",
            [*TEXTS, "crew"],
            lambda: _line(
                _one_hot(sparse_output=False), ensemble.ExtraTreesClassifier(n_estimators=15, max_depth=7, random_state=0)
            ),
        ),
        Pipeline(
            "three-calibrated",
            "DecisionTree, calibrated by a sigmoid",
            "multiclass",
            [*FLOATS, "hour"],
            lambda: calibration.CalibratedClassifierCV(tree.DecisionTreeClassifier(max_depth=4, random_state=0), cv=3),
        ),
        Pipeline(
            "three-voting",
            "soft voting of a tree and HistGradientBoosting",
            "multiclass",
            [*FLOATS, *HOLED],
            lambda: ensemble.VotingClassifier(
                [("tree", tree.DecisionTreeClassifier(max_depth=4, random_state=0)), ("hist", _hist(max_iter=8))], voting="soft"
            ),
        ),
        Pipeline(
            "three-stacking",
            "stacking of a forest and a logistic pipeline",
            "multiclass",
            [*FLOATS, *INTS],
            lambda: ensemble.StackingClassifier(
                [("forest", _forest(n_estimators=8)), ("logistic", _line(preprocessing.StandardScaler(), _logit()))],
                _logit(),
                cv=3,
            ),
        ),
    ]


def _boost_regressor(**named: Any) -> Any:
    return lightgbm.LGBMRegressor(**{"n_estimators": 25, "num_leaves": 8, "verbose": -1, "n_jobs": 1, **named})


def _hist_regressor(**named: Any) -> Any:
    return ensemble.HistGradientBoostingRegressor(**{"max_iter": 25, "max_leaf_nodes": 8, "random_state": 0, **named})


def _regressions() -> list[Pipeline]:
    return [
        Pipeline("linear", "LinearRegression on floats", "regression", FLOATS, linear_model.LinearRegression),
        Pipeline(
            "ridge", "Ridge behind the usual preprocessing", "regression", USUAL, lambda: _line(_usual(), linear_model.Ridge())
        ),
        Pipeline(
            "lasso-products",
            "products of two columns, Lasso",
            "regression",
            [*FLOATS, "hour"],
            lambda: _line(
                preprocessing.StandardScaler(), preprocessing.PolynomialFeatures(2), linear_model.Lasso(alpha=0.01, max_iter=3000)
            ),
        ),
        Pipeline(
            "elastic-net",
            "QuantileTransformer to a uniform distribution, ElasticNet",
            "regression",
            FLOATS,
            lambda: _line(preprocessing.QuantileTransformer(n_quantiles=50), linear_model.ElasticNet(alpha=0.01)),
        ),
        Pipeline(
            "sgd-regression",
            "StandardScaler, SGDRegressor",
            "regression",
            [*FLOATS, *INTS],
            lambda: _line(preprocessing.StandardScaler(), linear_model.SGDRegressor(random_state=0)),
        ),
        Pipeline(
            "poisson",
            "PoissonRegressor on scaled numbers and one-hot columns",
            "regression",
            USUAL,
            lambda: _line(_usual(), linear_model.PoissonRegressor(max_iter=300)),
        ),
        Pipeline(
            "target-regression",
            "TargetEncoder of a number, Ridge",
            "regression",
            [*TEXTS, "weather", "gate", "loyal"],
            lambda: _line(preprocessing.TargetEncoder(random_state=0), linear_model.Ridge()),
        ),
        Pipeline("lightgbm-regression", "LightGBM", "regression", [*FLOATS, *HOLED, *INTS, "cabin"], _boost_regressor),
        Pipeline(
            "lightgbm-tweedie",
            "LightGBM with the Tweedie objective",
            "regression",
            [*FLOATS, *HOLED],
            lambda: _boost_regressor(objective="tweedie"),
        ),
        Pipeline("hist-regression", "HistGradientBoosting", "regression", [*FLOATS, *HOLED, "zone"], _hist_regressor),
        Pipeline(
            "hist-poisson",
            "HistGradientBoosting with the Poisson loss",
            "regression",
            [*FLOATS, *INTS],
            lambda: _hist_regressor(loss="poisson"),
        ),
        Pipeline(
            "gradient-huber",
            "GradientBoosting with the Huber loss behind a most frequent imputer",
            "regression",
            [*FLOATS, *HOLED],
            lambda: _filled(
                ensemble.GradientBoostingRegressor(loss="huber", n_estimators=25, random_state=0), strategy="most_frequent"
            ),
        ),
        Pipeline(
            "forest-regression",
            "RandomForest",
            "regression",
            [*FLOATS, *HOLED, *INTS],
            lambda: ensemble.RandomForestRegressor(n_estimators=15, max_depth=7, random_state=0),
        ),
        Pipeline(
            "extra-trees-regression",
            "ExtraTrees behind PCA",
            "regression",
            [*FLOATS, "hour"],
            lambda: _line(
                preprocessing.StandardScaler(),
                decomposition.PCA(3),
                ensemble.ExtraTreesRegressor(n_estimators=15, max_depth=7, random_state=0),
            ),
        ),
        Pipeline(
            "tree-regression",
            "DecisionTree",
            "regression",
            [*FLOATS, *HOLED],
            lambda: tree.DecisionTreeRegressor(max_depth=6, random_state=0),
        ),
        Pipeline(
            "logarithmic-target",
            "a regression of the target's logarithm, taken back",
            "regression",
            [*FLOATS, *HOLED],
            lambda: compose.TransformedTargetRegressor(_hist_regressor(), func=np.log1p, inverse_func=np.expm1),
        ),
        Pipeline(
            "voting-regression",
            "voting of Ridge, a forest and LightGBM",
            "regression",
            [*FLOATS, *INTS],
            lambda: ensemble.VotingRegressor(
                [
                    ("ridge", _line(preprocessing.StandardScaler(), linear_model.Ridge())),
                    ("forest", ensemble.RandomForestRegressor(n_estimators=8, max_depth=6, random_state=0)),
                    ("boosted", _boost_regressor(n_estimators=8)),
                ]
            ),
        ),
        Pipeline(
            "stacking-regression",
            "stacking of Ridge and HistGradientBoosting",
            "regression",
            USUAL,
            lambda: _line(
                _usual(),
                ensemble.StackingRegressor(
                    [("ridge", linear_model.Ridge()), ("tree", tree.DecisionTreeRegressor(max_depth=4))], cv=3
                ),
            ),
        ),
    ]


def _served_by_python() -> list[Pipeline]:
    return [
        Pipeline("nearest-imputer", "KNNImputer", "binary", [*FLOATS, *HOLED], lambda: _line(impute.KNNImputer(), _logit())),
        Pipeline(
            "iterative-imputer",
            "IterativeImputer",
            "regression",
            [*FLOATS, *HOLED],
            lambda: _line(impute.IterativeImputer(random_state=0), linear_model.Ridge()),
        ),
        Pipeline(
            "nearest-neighbours",
            "KNeighborsClassifier",
            "multiclass",
            FLOATS,
            lambda: _line(preprocessing.StandardScaler(), neighbors.KNeighborsClassifier()),
        ),
        Pipeline(
            "text-words",
            "TF-IDF of a text column",
            "binary",
            ["note", *FLOATS],
            lambda: _line(_columns((feature_extraction.text.TfidfVectorizer(), "note"), remainder="passthrough"), _logit()),
        ),
        Pipeline(
            "own-function",
            "a function of one's own that reads dates",
            "binary",
            ["booked", *FLOATS],
            lambda: _line(
                _columns((preprocessing.FunctionTransformer(late_hour), ["booked"]), remainder="passthrough"), _logit()
            ),
        ),
        Pipeline(
            "splines",
            "SplineTransformer",
            "regression",
            FLOATS,
            lambda: _line(preprocessing.SplineTransformer(), linear_model.Ridge()),
        ),
    ]
