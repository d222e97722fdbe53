"""Pipelines that are fed with arrays instead of frames: the same bits, or the pipeline itself."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, QuantileTransformer, StandardScaler
from sklearn.svm import SVC

from quarterdeck.column_rows import ColumnRows
from quarterdeck.forms import by_array
from quarterdeck.forms.python_forms import EstimatorModel, scored
from quarterdeck.frames import Columns, Framing, columns_of, rows_of
from quarterdeck.infer import features_of, schema_of
from quarterdeck.schema import Row, Schema

NUMBERS, COUNTS, TEXTS = ["age", "income"], ["visits"], ["country", "plan"]


def table(rows: int = 240) -> pd.DataFrame:
    """Numbers, whole numbers, texts and a category; numbers and texts with nulls."""
    random = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "age": random.normal(40, 12, rows),
            "income": random.lognormal(10, 1, rows),
            "visits": random.integers(0, 9, rows),
            "country": random.choice(["FR", "DE", "ES"], rows).tolist(),
            "plan": random.choice(["basic", "plus"], rows).tolist(),
            "kind": pd.Categorical(random.choice(["a", "b"], rows)),
        }
    )
    frame.loc[::7, "income"] = np.nan
    frame.loc[::11, "country"] = None
    return frame


def target(frame: pd.DataFrame) -> Any:
    """Two classes that the numbers have something to do with."""
    return (frame.age + 3 * frame.visits > 50).astype(int)


def encoded(*parts: Any, **words: Any) -> ColumnTransformer:
    """Texts as numbers beside the given parts."""
    return ColumnTransformer([("texts", OneHotEncoder(handle_unknown="ignore"), TEXTS), *parts], **words)


def _filled(last: Any) -> Any:
    return make_pipeline(SimpleImputer(add_indicator=True), last)


def _length(frame: pd.DataFrame) -> pd.DataFrame:
    """Something that only a frame can be asked."""
    return frame.assign(age=frame["age"].clip(lower=0))


PIPELINES: dict[str, Any] = {
    "scaled and boosted": make_pipeline(
        encoded(("n", _filled(StandardScaler()), NUMBERS)), lightgbm.LGBMClassifier(n_estimators=5, verbose=-1)
    ),
    "whole and broken numbers together": make_pipeline(
        encoded(("n", _filled(QuantileTransformer(n_quantiles=20)), NUMBERS + COUNTS)), LogisticRegression()
    ),
    "what is left passes through": make_pipeline(
        ColumnTransformer(
            [("t", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), TEXTS), ("no", "drop", ["kind"])],
            remainder="passthrough",
        ),
        SimpleImputer(),
        RandomForestClassifier(5, random_state=1),
    ),
    "texts filled first": make_pipeline(
        ColumnTransformer(
            [
                ("t", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), TEXTS),
                ("n", SimpleImputer(), NUMBERS),
            ],
            sparse_threshold=0,
        ),
        MLPClassifier((4,), max_iter=20, random_state=1),
    ),
    "a category and a function, by frame": make_pipeline(
        encoded(
            ("c", OneHotEncoder(), ["kind"]),
            ("f", make_pipeline(FunctionTransformer(_length), SimpleImputer()), NUMBERS),
        ),
        SVC(probability=True, random_state=1),
    ),
    "a text by itself": make_pipeline(
        ColumnTransformer([("w", CountVectorizer(analyzer="char"), "plan"), ("n", SimpleImputer(), NUMBERS)]),
        LogisticRegression(),
    ),
    "pipelines within pipelines": Pipeline(
        [
            ("before", Pipeline([("columns", encoded(("n", SimpleImputer(), NUMBERS))), ("nothing", "passthrough")])),
            ("last", lightgbm.LGBMClassifier(n_estimators=5, verbose=-1)),
        ]
    ),
    "a regression": make_pipeline(encoded(("n", _filled(StandardScaler()), NUMBERS), sparse_threshold=0), Ridge()),
    "a regression by trees": make_pipeline(
        encoded(("n", "passthrough", NUMBERS + COUNTS), sparse_threshold=0), HistGradientBoostingRegressor(max_iter=5)
    ),
}


def model_of(estimator: Any) -> tuple[EstimatorModel, Schema, Columns, list[Row]]:
    """A loaded model, its schema and columns, and rows to ask it."""
    frame = table()
    estimator.fit(frame, target(frame))
    columns = Columns(columns=columns_of(frame))
    schema = schema_of(estimator, "yes", features_of(frame, (), {}), None, None)
    return EstimatorModel(schema, columns, estimator), schema, columns, rows_of(frame)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.filterwarnings("ignore")
def test_arrays_give_the_very_bits_that_frames_give(name: str) -> None:
    """Alone and together, with nulls and with texts that nobody has seen, 240 rows."""
    estimator = PIPELINES[name]
    _, schema, columns, rows = model_of(estimator)
    found = by_array.find(estimator, columns)
    assert found is not None
    found.hurry(ColumnRows.of(rows[:1]).lists())
    method = "predict" if schema.task == "regression" else "predict_proba"
    unseen = {**rows[3], "country": "XX"}
    for some in (*([row] for row in [*rows[:12], unseen]), rows, [*rows[:63], unseen]):
        values = ColumnRows.of(some).lists()
        expected = getattr(estimator, method)(Framing(columns.columns).frame(values))
        assert found.ask(method, found.ready(values)).tobytes() == expected.tobytes()


class Own(ColumnTransformer):  # type: ignore[misc]
    """A class of somebody's own, which may do anything."""


NUMBERS_ONLY = ("n", SimpleImputer(), NUMBERS)
UNKNOWN: dict[str, Any] = {
    "no pipeline": lightgbm.LGBMClassifier(n_estimators=2, verbose=-1),
    "no columns taken apart": make_pipeline(OrdinalEncoder(), RandomForestClassifier(2)),
    "weights": make_pipeline(ColumnTransformer([NUMBERS_ONLY], transformer_weights={"n": 2.0}), LogisticRegression()),
    "frames wanted": make_pipeline(ColumnTransformer([NUMBERS_ONLY]).set_output(transform="pandas"), LogisticRegression()),
    "a class of one's own": make_pipeline(Own([NUMBERS_ONLY]), LogisticRegression()),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_well_is_left_to_the_estimator(name: str) -> None:
    """Nothing is found for it, so nothing can differ."""
    frame, estimator = table().dropna(), UNKNOWN[name]
    estimator.fit(frame[NUMBERS] if name == "no pipeline" else frame, target(frame))
    assert by_array.find(estimator, Columns(columns=columns_of(frame))) is None


def test_a_pipeline_that_was_fitted_to_an_array_is_left_to_itself() -> None:
    """It knows its columns by place, and was never given a frame."""
    frame = table().dropna()
    estimator = make_pipeline(ColumnTransformer([("n", SimpleImputer(), [0, 1])]), LogisticRegression())
    estimator.fit(frame[NUMBERS].to_numpy(), target(frame))
    assert by_array.find(estimator, Columns(container="array", columns=columns_of(frame[NUMBERS]))) is None


@pytest.mark.filterwarnings("ignore")
def test_answers_that_differ_by_one_bit_are_those_of_the_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared when the package is loaded: a library whose arrays mean something else is asked by frames for good."""
    estimator = PIPELINES["scaled and boosted"]
    model, schema, columns, rows = model_of(estimator)
    ask = by_array.ByArray.ask
    monkeypatch.setattr(by_array.ByArray, "ask", lambda self, method, data: np.nextafter(ask(self, method, data), 1.0))
    model.hurry(rows[:5])
    given = ColumnRows.of(rows)
    expected = scored(schema, columns, estimator, Framing(columns.columns).frame(given.lists()))
    assert model.scored(given).scores.tobytes() == expected.scores.tobytes()


@pytest.mark.filterwarnings("ignore")
def test_the_estimator_answers_what_arrays_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised on the way: the caller gets the estimator's answer or its failure."""
    estimator = PIPELINES["scaled and boosted"]
    model, schema, columns, rows = model_of(estimator)
    model.hurry(rows[:5])
    monkeypatch.delattr(by_array.ByArray, "ask")
    given = ColumnRows.of(rows)
    expected = scored(schema, columns, estimator, Framing(columns.columns).frame(given.lists()))
    assert model.scored(given).scores.tobytes() == expected.scores.tobytes()
