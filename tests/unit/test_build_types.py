"""What is read off tables: types, nulls, ranges, categories, tasks and classes; and the way of rows into frames and back."""

from __future__ import annotations

import datetime
import json
import math
from decimal import Decimal
from enum import IntEnum
from functools import partial
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from quarterdeck import package
from quarterdeck.errors import InvalidInput, ModelFailed
from quarterdeck.frames import Column, columns_of, frame_of, rows_of, scalar
from quarterdeck.infer import booster_task, features_of, frame_from, labels_of, schema_of
from quarterdeck.schema import Feature, Row
from quarterdeck.sources import hyperparameters, modules_of, plain, source_text

DAY = pd.Timestamp("2013-01-01T05:15:00")


def feature(values: Any, dtype: Any = None, nullable: bool = False) -> Feature:
    """What is read off one column."""
    frame = pd.DataFrame({"column": pd.Series(values, dtype=dtype)})
    return features_of(frame, ["column"] if nullable else [], {})[0]


@pytest.mark.parametrize(
    ("values", "dtype", "kind", "nullable", "low", "high"),
    [
        ([1, 2], None, "int", False, 1.0, 2.0),
        ([200, 7], "uint8", "int", False, 7.0, 200.0),
        ([1, None], "Int64", "int", True, 1.0, 1.0),
        ([1, None], None, "float", True, 1.0, 1.0),
        ([1.5, math.inf], None, "float", False, 1.5, 1.5),
        ([math.inf], None, "float", False, None, None),
        ([None, None], "float64", "float", True, None, None),
        ([1.5, None], "Float32", "float", True, 1.5, 1.5),
        ([1, 2.5], object, "float", False, 1.0, 2.5),
        ([3, None], object, "int", True, 3.0, 3.0),
        ([True, False], None, "boolean", False, None, None),
        ([True, None], "boolean", "boolean", True, None, None),
        ([True, None], object, "boolean", True, None, None),
        (["a", "b"], None, "string", False, None, None),
        (["a", None], object, "string", True, None, None),
        ([None, None], object, "string", True, None, None),
        ([DAY, DAY], None, "datetime", False, None, None),
        ([DAY, pd.NaT], None, "datetime", True, None, None),
        ([DAY.tz_localize("UTC")], None, "datetime", False, None, None),
        ([datetime.date(2013, 1, 1)], object, "datetime", False, None, None),
        ([1, 2, 1], "category", "int", False, None, None),
        (["a", None], "category", "string", True, None, None),
    ],
)
def test_a_column_becomes_a_feature(
    values: list[Any], dtype: Any, kind: str, nullable: bool, low: float | None, high: float | None
) -> None:
    """Type, whether null is legal, and the finite range of numbers, whatever dtype pandas keeps them in."""
    found = feature(values, dtype)
    assert (found.type, found.nullable, found.minimum, found.maximum) == (kind, nullable, low, high)


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["b", "a", "b"], None, ["a", "b"]),
        ([f"v{place:03d}" for place in range(100)], None, [f"v{place:03d}" for place in range(100)]),
        ([f"v{place:03d}" for place in range(101)], None, None),
        (["b", "a"], pd.CategoricalDtype(["z", "b", "a"]), ["z", "b", "a"]),
        ([2, 1], pd.CategoricalDtype([2, 1]), ["2", "1"]),
        ([True], pd.CategoricalDtype([False, True]), ["False", "True"]),
        ([1, 2], None, None),
    ],
)
def test_categories_are_listed_where_they_mean_something(values: list[Any], dtype: Any, expected: list[str] | None) -> None:
    """Category columns keep the order of their codes; few texts are listed by name, many are not."""
    assert feature(values, dtype).categories == expected


@pytest.mark.parametrize("value", [[1], {"a": 1}, b"bytes", Decimal("1.5"), pd.Timedelta("1h"), pd.Period("2013"), 1j])
def test_columns_that_json_cannot_hold_are_named(value: Any) -> None:
    """Refused at build time, with the column's name and the next step."""
    with pytest.raises(InvalidInput) as caught:
        feature([value, value])
    assert "column" in caught.value.detail
    assert caught.value.hint


@pytest.mark.parametrize(
    "data",
    [OneHotEncoder().fit_transform([[1], [2]]), np.zeros((2, 2, 2)), 3, "text", None, [], np.zeros((0, 3)), pd.DataFrame()],
)
def test_what_is_no_table_is_refused(data: Any) -> None:
    """Sparse matrices, cubes, single values and empty tables get a sentence, not numpy's traceback."""
    with pytest.raises(InvalidInput) as caught:
        frame_from(data)
    assert (caught.value.kind, caught.value.name) == ("data", "X")
    assert caught.value.hint


@pytest.mark.parametrize("columns", [["a", "a"], ["a", ""], ["a", 257 * "x"], [1, "1"]])
def test_column_names_are_different_and_of_sensible_length(columns: list[Any]) -> None:
    """Names become text first, for JSON knows no other keys: 1 and "1" are one name."""
    with pytest.raises(InvalidInput) as caught:
        frame_from(pd.DataFrame([[1, 2]], columns=columns))
    assert caught.value.hint


def test_a_bare_array_takes_the_boosters_names_or_numbers() -> None:
    """As many names as columns, or a refusal that counts both."""
    assert list(frame_from(np.zeros((2, 2)), ["x", "y"]).columns) == ["x", "y"]
    assert list(frame_from([[1, 2]]).columns) == ["column_0", "column_1"]
    objects = frame_from(np.array([["a", 1.5], [None, 2.5]], dtype=object))
    assert objects.iloc[1, 0] is None
    assert [str(dtype) for dtype in objects.dtypes] == ["object", "object"]
    with pytest.raises(InvalidInput, match="3 columns, the model 2 features"):
        frame_from(np.zeros((2, 3)), ["x", "y"])


def test_renaming_columns_leaves_the_callers_frame_alone() -> None:
    """Whoever packages goes on working with their frame."""
    mine = pd.DataFrame({0: [1, 2]})
    assert list(frame_from(mine).columns) == ["0"]
    assert 0 in mine.columns


class Grade(IntEnum):
    """A number with a name."""

    GOOD = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None), (pd.NA, None), (pd.NaT, None), (np.datetime64("NaT"), None), (math.nan, None), (np.float32("nan"), None),
        (np.int8(3), 3), (np.bool_(True), True), (np.float64(1.5), 1.5), (np.str_("x"), "x"), ("", ""), (0, 0), (False, False),
        (Grade.GOOD, 1), (math.inf, math.inf),
        (datetime.date(2013, 1, 2), "2013-01-02T00:00:00"),
        (np.datetime64("2013-01-02T03:04:05.000000007"), "2013-01-02T03:04:05.000000007"),
        (pd.Timestamp("2013-01-02T03:04", tz="America/New_York"), "2013-01-02T03:04:00-05:00"),
    ],
)  # fmt: skip
def test_every_value_has_one_json_form(value: Any, expected: Any) -> None:
    """All that is missing is null; numpy's scalars become Python's of the same kind; moments keep digits and offset."""
    found = scalar(value)
    assert found == expected
    assert isinstance(found, bool) is isinstance(expected, bool)
    json.dumps(found)


@pytest.mark.parametrize("data", [[1, None], pd.Series([True, None]), np.array(["2013-01-01", "NaT"], dtype="datetime64[s]")])
def test_a_target_with_holes_is_refused(data: Any) -> None:
    """Missing in whatever way: a row without a target can neither train nor judge."""
    with pytest.raises(InvalidInput, match="missing"):
        labels_of(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pd.Series([1, 2], dtype="Int64"), [1, 2]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (np.array([[1], [2]]), [1, 2]),
        (pd.DataFrame({"y": [True, False]}), [True, False]),
        ([0.5, 1], [0.5, 1.0]),
    ],
)
def test_targets_become_plain_values(data: Any, expected: list[Any]) -> None:
    """Series, columns, arrays and lists give Python's own values of the same type."""
    found = labels_of(data)
    assert (found, list(map(type, found))) == (expected, list(map(type, expected)))


NUMPY = ["bool", "int8", "int64", "uint16", "float32", "float64"]


@pytest.mark.parametrize("dtype", NUMPY)
def test_null_in_a_column_that_had_none_is_nan(dtype: str) -> None:
    """A feature declared nullable gets NaN, as it does in pandas and LightGBM, and never False or zero."""
    found = frame_of([{"x": None}, {"x": True if dtype == "bool" else 1}], [Column(name="x", dtype=dtype)])["x"]
    assert np.isnan(found[0])
    assert found[1] == 1
    assert found.dtype.kind == "f"


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int64", 1.5), ("int64", "1"), ("int64", True), ("int8", 300), ("uint8", -1), ("float64", "1.5"), ("float64", True),
        ("bool", 1), ("bool", "yes"), ("bool", 0.0), ("Int64", 1.5), ("boolean", "maybe"), ("datetime64[ns]", "soon"),
    ],
)  # fmt: skip
def test_values_of_another_type_are_refused_not_converted(dtype: str, value: Any) -> None:
    """numpy would cut, parse or judge them; the error names the feature and keeps the value to itself."""
    with pytest.raises(ModelFailed) as caught:
        frame_of([{"x": value}], [Column(name="x", dtype=dtype)])
    assert (caught.value.kind, caught.value.name) == ("feature", "x")
    assert repr(value) not in str(caught.value)


def test_a_row_without_a_feature_is_refused_by_its_name() -> None:
    """An absent member is no null."""
    with pytest.raises(ModelFailed, match="Feature b is absent"):
        frame_of([{"a": 1}], [Column(name="a", dtype="int64"), Column(name="b", dtype="int64")])


scalars: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.none() | st.floats(allow_nan=False),
    "bool": st.booleans(),
    "object": st.none() | st.text(max_size=5),
    "Int64": st.none() | st.integers(-(2**63), 2**63 - 1),
    "boolean": st.none() | st.booleans(),
    "Float64": st.none() | st.floats(allow_nan=False),
}


@given(st.data())
def test_rows_survive_the_way_through_a_frame(data: st.DataObject) -> None:
    """JSON scalars become a frame and the same JSON scalars again, of the same types, whatever the columns are."""
    kinds = data.draw(st.lists(st.sampled_from(sorted(scalars)), min_size=1, max_size=4))
    columns = [Column(name=f"c{place}", dtype=kind, missing="none") for place, kind in enumerate(kinds)]
    rows: list[Row] = data.draw(
        st.lists(
            st.fixed_dictionaries({column.name: scalars[column.dtype] for column in columns}), min_size=1, max_size=6
        )
    )  # fmt: skip
    found = rows_of(frame_of(rows, columns))
    assert found == rows
    names = [column.name for column in columns]
    assert [[type(row[name]) for name in names] for row in found] == [[type(row[name]) for name in names] for row in rows]


@given(st.datetimes(pd.Timestamp("1700-01-01"), pd.Timestamp("2250-01-01")), st.sampled_from(["", "Z", "+02:00", "-05:30"]))
def test_moments_keep_their_instant(moment: datetime.datetime, offset: str) -> None:
    """With an offset or without, naive or zoned column: the instant is the one that was sent, naive ones are UTC."""
    sent = moment.isoformat() + offset
    instant = pd.Timestamp(sent) if offset else pd.Timestamp(sent, tz="UTC")
    naive = frame_of([{"t": sent}], [Column(name="t", dtype="datetime64[us]")])["t"]
    zoned = frame_of([{"t": sent}], [Column(name="t", dtype="datetime64[us, America/New_York]")])["t"]
    assert naive[0].tz_localize("UTC") == instant
    assert zoned[0] == instant
    assert str(zoned.dtype) == "datetime64[us, America/New_York]"


def test_a_nullable_feature_without_nulls_in_training_serves_null(tmp_path: Any) -> None:
    """Whole numbers and booleans at training; null is answered as the model answers NaN, and a golden row proves it."""
    X = pd.DataFrame({"hour": range(60), "holiday": [place % 2 == 0 for place in range(60)]})
    model = HistGradientBoostingRegressor(max_iter=5).fit(X, X.hour)
    built = package(model, X, X.hour, name="nullable", nullable=["hour", "holiday"])
    empty = pd.DataFrame({"hour": [math.nan], "holiday": [math.nan]})
    golden = next(golden for golden in built.manifest.golden if set(golden.row.values()) == {None})
    assert golden.expected.prediction == pytest.approx(float(model.predict(empty)[0]))


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("tree\nobjective=binary sigmoid:1\n", "binary"),
        ("objective=multiclass num_class:3\n", "multiclass"),
        ("objective=multiclassova num_class:3\n", "multiclass"),
        ("objective=regression_l1\n", "regression"),
        ("objective=custom\n", "regression"),
        ("no objective=binary here\n", "regression"),
        ("", "regression"),
    ],
)
def test_a_boosters_task_is_its_objective(text: str, task: str) -> None:
    """Only at the start of a line, for a feature may be named like one; custom objectives answer numbers."""
    assert booster_task(text) == task


def test_classes_come_in_the_order_of_the_scores() -> None:
    """scikit-learn sorts them; the second is the positive one unless another is named."""
    model = DummyClassifier().fit([[0], [1]], ["yes", "no"])
    features = [Feature(name="x", type="int")]
    found = schema_of(model, "late", features, None, None)
    assert (found.task, found.classes, found.positive) == ("binary", ["no", "yes"], "yes")
    assert schema_of(model, "late", features, None, "no").positive == "no"


@pytest.mark.parametrize(
    ("model", "positive", "words"),
    [
        (DummyClassifier().fit([[0], [1], [2]], ["a", "b", "c"]), "a", "one of two classes"),
        (DummyClassifier().fit([[0], [1]], ["a", "b"]), "c", "one of two classes"),
        (DummyRegressor().fit([[0]], [1.0]), 1.0, "no positive class"),
        (Perceptron().fit([[0], [1]], ["a", "b"]), None, "no probabilities"),
        (DummyClassifier().fit([[0], [1]], [["a", "c"], ["b", "d"]]), None, "no single list"),
        (DummyClassifier().fit([[0], [1]], ["a", "a"]), None, "no single list"),
        (FunctionTransformer(), None, "neither a classifier nor a regressor"),
        (LogisticRegression, None, "neither a classifier nor a regressor"),
        (object(), None, "neither a classifier nor a regressor"),
    ],
)
def test_models_without_a_task_of_ours_are_refused(model: Any, positive: Any, words: str) -> None:
    """The refusal says what the model is not, and what would do."""
    with pytest.raises(InvalidInput, match=words) as caught:
        schema_of(model, "y", [Feature(name="x", type="int")], None, positive)
    assert caught.value.hint


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    | st.frozensets(st.integers() | st.text(max_size=2), max_size=3) | st.tuples(inner, inner),
    max_leaves=10,
)  # fmt: skip


@given(json_like)
def test_any_parameter_becomes_strict_json(value: Any) -> None:
    """No NaN, no set, no key that is not text; and what is plain already stays as it is."""
    found = plain(value)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert plain(found) == found


@pytest.mark.parametrize(
    "value", [LogisticRegression(), np.random.default_rng(0), partial(int, base=2), lambda x: x, object(), BaseEstimator, len]
)
def test_objects_are_told_by_their_type_without_an_address(value: Any) -> None:
    """A search space may hold distributions and functions: their names are kept, their place in memory is not."""
    found = plain({"x": [value]})["x"][0]
    assert isinstance(found, str)
    assert "0x" not in found
    assert plain({"x": [value]}) == {"x": [found]}


def test_parameters_of_steps_are_named_by_their_way() -> None:
    """Nested estimators are left out themselves, their parameters stand under their names."""
    found = hyperparameters(LogisticRegression(C=0.5, class_weight={"yes": 2.0}, random_state=np.random.RandomState(0)))
    assert (found["C"], found["class_weight"]) == (0.5, {"yes": 2.0})
    assert found["random_state"].endswith("RandomState")
    assert list(found) == sorted(found)


def double(frame: Any) -> Any:
    """Twice the input."""
    return frame * 2


def test_sources_and_modules_of_a_models_functions_are_kept() -> None:
    """The text names the estimator and quotes the function; the function's module is known as something to be installed."""
    model = FunctionTransformer(double)
    text = source_text(model)
    assert "FunctionTransformer(" in text
    assert "return frame * 2" in text
    assert "0x" not in text
    assert modules_of(model) >= {"sklearn", __name__.partition(".")[0]}


def test_a_booster_is_described_by_trees_and_features() -> None:
    """A bare Booster has no text of its own."""
    booster = lightgbm.train(
        {"verbose": -1, "min_data_in_leaf": 5}, lightgbm.Dataset(np.arange(40.0).reshape(-1, 1), np.arange(40.0)), 3
    )
    assert source_text(booster) == "lightgbm.Booster with 3 trees over Column_0\n"


@pytest.mark.parametrize(
    ("values", "dtype", "missing"),
    [([None, "a"], object, "none"), ([math.nan, "a"], object, "nan"), ([pd.NA, "a"], object, "na"), (["a"], object, "nan")],
)
def test_columns_remember_how_absence_was_written(values: list[Any], dtype: Any, missing: str) -> None:
    """An imputer that looks for None finds no NaN: object columns get back what they had."""
    column = columns_of(pd.DataFrame({"x": pd.Series(values, dtype=dtype)}))[0]
    assert column.missing == missing
    if len(values) > 1:
        absent = frame_of([{"x": None}], [column])["x"][0]
        assert absent is values[0] or (isinstance(absent, float) and missing == "nan")
