"""Pipelines of many kinds of columns, asked by array and by frame at values from the edges: the same bits or refusal."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from quarterdeck.column_rows import ColumnRows
from quarterdeck.errors import ModelFailed
from quarterdeck.forms.python_forms import EstimatorModel, scored
from quarterdeck.frames import Columns, Framing, columns_of, rows_of
from quarterdeck.infer import features_of, schema_of
from quarterdeck.schema import Feature, Row, Schema, Task
from tools.pipeline_data import EDGES, table
from tools.pipelines import catalogue

Outcome = tuple[bytes, bytes] | tuple[str, str]


@cache
def frame() -> pd.DataFrame:
    """The catalogue's table, with columns beside it that pandas keeps in ways of their own."""
    rng, found = np.random.default_rng(1), table().frame.copy()
    count = len(found)
    holes = rng.random(count) < 0.1
    return found.assign(
        text_number=pd.Series([f"{value:.2f}" for value in rng.random(count)], dtype=object),
        object_int=pd.Series(rng.integers(0, 5, count).tolist(), dtype=object),
        object_float=pd.Series([None if hole else place / 7 for place, hole in enumerate(holes)], dtype=object),
        object_bool=pd.Series((rng.random(count) < 0.5).tolist(), dtype=object),
        text_na=pd.Series([pd.NA if hole else "ab"[place % 2] for place, hole in enumerate(holes)], dtype=object),
        large=rng.integers(2**53, 2**60, count),
        unsigned=rng.integers(0, 2**63, count).astype("uint64"),
        byte=rng.integers(0, 200, count).astype("uint8"),
        half=rng.random(count).astype("float16"),
        capital=pd.array([None if hole else place % 7 for place, hole in enumerate(holes)], dtype="Int64"),
    )  # fmt: skip


def one_hot(**named: Any) -> OneHotEncoder:
    """As most people use it."""
    return OneHotEncoder(**{"handle_unknown": "ignore", **named})


def ordinal(**named: Any) -> OrdinalEncoder:
    """As most people use it."""
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, **named)


def boosted() -> lightgbm.LGBMClassifier:
    """Takes null and anything that is a number."""
    return lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=5, n_jobs=1, verbose=-1)


def linear() -> LogisticRegression:
    """Refuses null."""
    return LogisticRegression(max_iter=50)


def columns(*parts: tuple[Any, list[str]], remainder: str = "drop") -> ColumnTransformer:
    """A part for each transformer and its columns."""
    return ColumnTransformer([(f"part{at}", step, names) for at, (step, names) in enumerate(parts)], remainder=remainder)


def filled(last: Any, **named: Any) -> Pipeline:
    """Imputed first."""
    return make_pipeline(SimpleImputer(**named), last)


class Case(NamedTuple):
    """A pipeline, its columns, and those of them that may be null although no training row is."""

    names: list[str]
    make: Callable[[], Any]
    nullable: tuple[str, ...] = ()


P = "passthrough"
CASES: dict[str, Case] = {
    "texts that are numbers": Case(
        ["text_number", "fare"], lambda: make_pipeline(columns((StandardScaler(), ["text_number"]), (P, ["fare"])), linear())
    ),
    "objects that are numbers": Case(
        ["object_int", "object_float", "object_bool", "fare"],
        lambda: make_pipeline(
            columns(
                (filled(StandardScaler()), ["object_int", "object_float"]),
                (one_hot(), ["object_bool", "object_int"]),
                (P, ["fare"]),
            ),
            boosted(),
        ),
    ),
    "objects that pass through": Case(
        ["object_int", "object_bool", "fare"],
        lambda: make_pipeline(columns((P, ["object_int", "object_bool", "fare"])), SimpleImputer(), boosted()),
    ),
    "booleans": Case(
        ["weekend", "loyal", "fare", "hour"],
        lambda: make_pipeline(
            columns((P, ["weekend", "hour"]), (one_hot(), ["loyal"]), (StandardScaler(), ["weekend", "fare"])), boosted()
        ),
        ("weekend",),
    ),
    "whole numbers beyond 2**53": Case(
        ["large", "unsigned", "byte"],
        lambda: make_pipeline(
            columns((P, ["large", "unsigned"]), (MinMaxScaler(), ["byte", "large"]), (ordinal(), ["large"])),
            RandomForestRegressor(5, random_state=0),
        ),
        ("large", "byte"),
    ),
    "numbers of all widths": Case(
        ["byte", "stops", "seats", "load", "half", "hour"],
        lambda: make_pipeline(
            columns((RobustScaler(), ["byte", "half"]), (MinMaxScaler(), ["stops", "load"]), (P, ["seats", "load"])), boosted()
        ),
        ("stops", "seats"),
    ),
    "floats of 32 bits": Case(
        ["load", "ratio"], lambda: make_pipeline(columns((PowerTransformer(), ["load", "ratio"])), linear())
    ),
    "bins": Case(["fare", "hour"], lambda: make_pipeline(columns((KBinsDiscretizer(4), ["fare", "hour"])), linear())),
    "texts with nulls of every spelling": Case(
        ["carrier", "gate", "weather", "text_na", "fare"],
        lambda: make_pipeline(
            columns(
                (one_hot(), ["carrier", "gate", "weather"]),
                (filled(ordinal(), strategy="constant", fill_value="none"), ["gate", "carrier"]),
                (filled(one_hot(), strategy="most_frequent", missing_values=pd.NA), ["text_na"]),
                (P, ["fare"]),
            ),
            linear(),
        ),
    ),
    "unknown texts that are refused": Case(
        ["carrier", "fare"], lambda: make_pipeline(columns((OneHotEncoder(), ["carrier"]), (P, ["fare"])), boosted())
    ),
    "categories and dates": Case(
        ["cabin", "zone", "booked", "carrier", "fare"],
        lambda: make_pipeline(columns((ordinal(), ["cabin", "zone"]), (one_hot(), ["carrier"]), (P, ["fare"])), boosted()),
    ),
    "whole numbers as categories": Case(
        ["hour", "stops", "temperature"],
        lambda: make_pipeline(
            columns((one_hot(), ["hour"]), (ordinal(), ["stops", "hour"]), (SimpleImputer(add_indicator=True), ["temperature"])),
            boosted(),
        ),
        ("hour", "stops"),
    ),
    "columns that nothing reads": Case(
        ["hour", "seats", "booked", "weekend", "temperature"],
        lambda: make_pipeline(columns((one_hot(), ["hour"]), (SimpleImputer(), ["temperature"])), boosted()),
    ),
    "numbers that pandas keeps itself": Case(
        ["capital", "fare"], lambda: make_pipeline(columns((SimpleImputer(), ["capital"]), (P, ["fare"])), linear())
    ),
    "numbers and texts in one encoder": Case(
        ["hour", "fare", "carrier"],
        lambda: make_pipeline(columns((P, ["hour", "fare"]), (P, ["carrier"])), one_hot(), linear()),
    ),
}
for _one in catalogue():
    # Served by Python whatever people wish for, and begun with columns that are taken apart.
    if _one.name in ("text-words", "own-function"):
        CASES[_one.name] = Case(list(_one.columns), _one.make)


class Loaded(NamedTuple):
    """A model that answers by array, the estimator that it stands for, and rows of its training data."""

    model: EstimatorModel
    estimator: Any
    schema: Schema
    columns: Columns
    rows: list[Row]

    def by_frame(self, rows: list[Row]) -> Any:
        """What the estimator answers to a frame."""
        given = Framing(self.columns.columns).frame(ColumnRows.of(rows).lists())
        return scored(self.schema, self.columns, self.estimator, given)


@cache
def loaded(name: str) -> Loaded:
    """A case, trained and proven."""
    case = CASES[name]
    data = frame()[case.names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = case.make()
        task: Task = "regression" if isinstance(estimator[-1], RandomForestRegressor) else "binary"
        estimator.fit(data, table().targets[task])
    described = Columns(columns=columns_of(data))
    schema = schema_of(estimator, "target", features_of(data, case.nullable, {}), None, None)
    found = Loaded(EstimatorModel(schema, described, estimator), estimator, schema, described, rows_of(data))
    found.model.hurry(found.rows[:5])
    return found


def outcome(ask: Callable[[], Any]) -> Outcome:
    """The bits of all scores and labels; or what a refusal says."""
    try:
        found = ask()
    except ModelFailed as error:
        return error.code, error.detail
    return np.asarray(found.scores).tobytes(), np.asarray(found.labels).tobytes()


def agree(one: Loaded, rows: list[Row]) -> bool:
    """Whether a model says by array what its estimator says by frame."""
    return outcome(lambda: one.model.scored(ColumnRows.of(rows))) == outcome(lambda: one.by_frame(rows))


def values(feature: Feature) -> st.SearchStrategy[Any]:
    """Values from the edges of what a caller may send."""
    return st.sampled_from([value for value in EDGES[feature.type] if feature.nullable or not (value is None or value != value)])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_arrays_and_frames_agree_at_every_edge(name: str, data: st.DataObject) -> None:
    """One row and a few, ordinary ones among the odd."""
    one = loaded(name)
    assert one.model._by_array is not None
    picks = data.draw(st.lists(st.integers(0, len(one.rows) - 1), min_size=1, max_size=4))
    rows = [dict(one.rows[pick]) for pick in picks]
    for row in rows:
        for feature in data.draw(st.lists(st.sampled_from(one.schema.features), max_size=3)):
            row[feature.name] = data.draw(values(feature))
    for some in (rows[:1], rows):
        assert agree(one, some)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_arrays_and_frames_agree_on_many_rows(name: str) -> None:
    """Sums are made in the same order."""
    one = loaded(name)
    assert agree(one, one.rows[:300])


@pytest.mark.filterwarnings("ignore")
def test_a_value_that_no_frame_would_take_is_refused_although_nothing_reads_it() -> None:
    """`seats` has 16 bits and is dropped; the refusal names it."""
    one = loaded("columns that nothing reads")
    with pytest.raises(ModelFailed) as refused:
        one.model.scored(ColumnRows.of([{**one.rows[0], "seats": 70_000}]))
    assert refused.value.name == "seats"
