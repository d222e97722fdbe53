"""Tiny real models, trained in milliseconds, and their packages."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightgbm
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from quarterdeck.build import BuiltPackage, package
from quarterdeck.schema import Task

FLIGHTS = Path(__file__).parent / "data" / "flights.parquet"
FLIGHT_FEATURES = ["month", "day", "dep_hour", "carrier", "origin", "dest", "distance"]
Kind = Literal["compiled", "skops"]


class Trained(NamedTuple):
    """A fitted model with the data it was fitted to, and data that it has not seen."""

    model: Any
    X: pd.DataFrame
    y: pd.Series[Any]
    validation: tuple[pd.DataFrame, pd.Series[Any]]

    def package(self, name: str = "sample", **named: Any) -> BuiltPackage:
        """Its package, judged by the unseen data."""
        return package(self.model, self.X, self.y, name=name, validation=self.validation, **named)


@cache
def table(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Columns of every feature type but datetime, with missing values in two of them, and a target for each task."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "distance": random.gamma(3.0, 300.0, rows),
            "hour": random.integers(0, 24, rows),
            "holiday": random.random(rows) < 0.1,
            "carrier": random.choice(["AA", "B6", "DL", "UA"], rows),
            "wind": random.normal(10.0, 4.0, rows),
        }
    )
    minutes = (
        frame.hour * 0.8 - frame.distance / 400 + frame.wind * 0.5 + 4.0 * (frame.carrier == "B6") + random.normal(0, 3, rows)
    )
    frame.loc[random.random(rows) < 0.1, "wind"] = np.nan
    frame["carrier"] = frame.carrier.where(random.random(rows) > 0.05)
    frame["minutes"] = minutes
    frame["late"] = minutes > minutes.median()
    frame["verdict"] = pd.cut(minutes, 3, labels=["early", "fine", "late"]).astype(str)
    return frame


TARGETS: dict[Task, str] = {"binary": "late", "multiclass": "verdict", "regression": "minutes"}


@cache
def lightgbm_model(task: Task, trees: int = 8) -> Trained:
    """A LightGBM estimator with a category column, for one task."""
    kind = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    frame = table()
    frame = frame.assign(carrier=frame.carrier.astype("category"))
    return _trained(kind(n_estimators=trees, num_leaves=7, verbose=-1, n_jobs=1, random_state=0), frame, task)


@cache
def sklearn_model(task: Task) -> Trained:
    """A scikit-learn pipeline (impute, scale, one-hot, linear model), for one task."""
    last = LinearRegression() if task == "regression" else LogisticRegression(max_iter=500)
    return _trained(pipeline(last), table(), task)


def pipeline(last: Any) -> Pipeline:
    """Preprocessing for `table` with an estimator behind it."""
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", sparse_output=False))
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer((texts, ["carrier"]), (numbers, ["distance", "hour", "wind"]), ("passthrough", ["holiday"]))
    return make_pipeline(columns, last)


def model_package(task: Task, form: Kind, name: str = "sample", **named: Any) -> BuiltPackage:
    """The package of a tiny model of one task in one form."""
    trained = lightgbm_model(task) if form == "compiled" else sklearn_model(task)
    return trained.package(name, form=form, **named)


def version_encoding_model(version: int, form: Kind = "compiled", name: str = "versions") -> BuiltPackage:
    """A regression package whose every answer is its own version number, exactly."""
    X = pd.DataFrame({"number": np.arange(40.0)})
    y = pd.Series(np.full(40, float(version)), name="version")
    if form == "skops":
        return package(DummyRegressor(strategy="constant", constant=float(version)).fit(X, y), X, y, name=name, form=form)
    model = lightgbm.LGBMRegressor(n_estimators=1, verbose=-1, n_jobs=1).fit(X, y)
    return package(model, X, y, name=name)


@cache
def flights() -> pd.DataFrame:
    """Real flights of New York, January to June 2013: what is known at scheduled departure, and whether they arrived late."""
    return pd.read_parquet(FLIGHTS)


@cache
def flight_model(form: Kind) -> Trained:
    """A model of late arrivals, trained on January to April and judged by May and June."""
    frame = flights()
    X, y = frame[FLIGHT_FEATURES], frame["late"]
    early = frame["month"] <= 4
    if form == "compiled":
        X = X.assign(**{name: X[name].astype("category") for name in ("carrier", "origin", "dest")})
        model: Any = lightgbm.LGBMClassifier(n_estimators=20, num_leaves=15, verbose=-1, n_jobs=1, random_state=0)
    else:
        texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
        numbers = make_pipeline(SimpleImputer(), StandardScaler())
        columns = make_column_transformer((texts, ["carrier", "origin", "dest"]), (numbers, ["dep_hour", "distance"]))
        model = make_pipeline(columns, LogisticRegression(max_iter=300))
    return Trained(model.fit(X[early], y[early]), X[early], y[early], (X[~early], y[~early]))


def _trained(model: Any, frame: pd.DataFrame, task: Task) -> Trained:
    X, y = frame[["distance", "hour", "holiday", "carrier", "wind"]], frame[TARGETS[task]]
    half = len(frame) // 2
    return Trained(model.fit(X[:half], y[:half]), X[:half], y[:half], (X[half:], y[half:]))
