"""Binding by column: the same rows, the same refusals, whether values came by row or by column, in lists or in arrays."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput, QuarterdeckError, TooLarge
from quarterdeck.schema import Feature, Schema
from quarterdeck_node.binding import Binder

SCHEMA = Schema(
    task="regression",
    features=[
        Feature(name="float", type="float"),
        Feature(name="maybe", type="float", nullable=True),
        Feature(name="int", type="int"),
        Feature(name="count", type="int", nullable=True),
        Feature(name="string", type="string"),
        Feature(name="boolean", type="boolean"),
        Feature(name="datetime", type="datetime"),
    ],
)
BINDER = Binder(SCHEMA)
GOOD: dict[str, list[Any]] = {
    "float": [1.5, 2.0],
    "maybe": [None, 3.5],
    "int": [3, -4],
    "count": [None, 1],
    "string": ["a", ""],
    "boolean": [True, False],
    "datetime": ["2013-01-01", "2013-01-01T05:00:00+00:00"],
}

floats = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**63), 2**63 - 1)
good: dict[str, st.SearchStrategy[Any]] = {
    "float": floats,
    "maybe": st.none() | floats,
    "int": whole,
    "count": st.none() | whole,
    "string": st.text(st.characters(codec="utf-8"), max_size=10),
    "boolean": st.booleans(),
    "datetime": st.datetimes().map(lambda moment: moment.isoformat()),
}
anything: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(-(2**70), 2**70), st.text(max_size=3), st.just([])
)


def by_column(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows as lists of values."""
    return {name: [row[name] for row in rows] for name in SCHEMA.names}


@given(st.lists(st.fixed_dictionaries(good), min_size=1, max_size=5))
def test_columns_are_the_same_rows(rows: list[dict[str, Any]]) -> None:
    """Value by value and type by type; numbers without null are arrays."""
    bound = BINDER.columns(by_column(rows), len(rows))
    assert list(bound) == BINDER.rows(rows)
    assert [list(map(type, row.values())) for row in bound] == [list(map(type, row.values())) for row in BINDER.rows(rows)]
    kinds = {"float": "float64", "int": "int64", "boolean": "bool"}
    assert {name: str(bound.columns[name].dtype) for name in kinds} == kinds  # type: ignore[union-attr]


@given(st.lists(st.fixed_dictionaries({name: values | anything for name, values in good.items()}), min_size=1, max_size=4))
def test_columns_are_refused_where_rows_are(rows: list[dict[str, Any]]) -> None:
    """The first refused value is the same, and so is what is said of it."""
    plain = [{name: _null(name, value) for name, value in row.items()} for row in rows]
    assert _outcome(lambda: list(BINDER.columns(by_column(rows), len(rows)))) == _outcome(lambda: BINDER.rows(plain))


def _outcome(bind: Callable[[], Any]) -> Any:
    """The rows, or what their refusal says."""
    try:
        return bind()
    except QuarterdeckError as refused:
        return type(refused), refused.detail, refused.extra["row"], refused.extra["column"]


def _null(name: str, value: Any) -> Any:
    """NaN is null where null is legal: in JSON the parser of the row sees to that."""
    nullable = {feature.name: feature.nullable and feature.type == "float" for feature in SCHEMA.features}
    return None if nullable[name] and isinstance(value, float) and math.isnan(value) else value


@pytest.mark.parametrize(
    ("column", "array", "expected"),
    [
        ("float", np.array([1.5, 2.0]), [1.5, 2.0]),
        ("float", np.array([1.5, 2.0], np.float32), [1.5, 2.0]),
        ("float", np.array([1, 2], np.int32), [1.0, 2.0]),
        ("maybe", np.array([np.nan, 2.0]), [None, 2.0]),
        ("maybe", np.array([np.nan, 2.0], np.float32), [None, 2.0]),
        ("int", np.array([1, 2], np.uint8), [1, 2]),
        ("int", np.array([-(2**63), 2**63 - 1]), [-(2**63), 2**63 - 1]),
        ("int", np.array([1, 2], np.uint64), [1, 2]),
        ("boolean", np.array([True, False]), [True, False]),
        ("string", np.array(["a", "b"]), ["a", "b"]),
        ("string", np.array(["a", "b"], object), ["a", "b"]),
        ("float", np.array([1e308, 1e308]), [1e308, 1e308]),
    ],
)
def test_arrays_that_fit(column: str, array: np.ndarray[Any, Any], expected: list[Any]) -> None:
    """Every type that loses nothing."""
    assert list(BINDER.columns({**GOOD, column: array}, 2).lists()[column]) == expected


@pytest.mark.parametrize(
    ("column", "values", "row", "said"),
    [
        ("float", np.array([1.0, np.nan]), 1, "must be a finite number"),
        ("float", np.array([np.inf, 1.0]), 0, "must be a finite number"),
        ("maybe", np.array([1.0, -np.inf]), 1, "must be a finite number"),
        ("float", np.array([True, False]), 0, "must be a number"),
        ("float", np.array(["1", "2"]), 0, "must be a number"),
        ("float", [1.0, None], 1, "must be a number"),
        ("int", np.array([1.0, 2.0]), 0, "must be a whole number"),
        ("int", np.array([1, 2**64 - 1], np.uint64), 1, "must fit 64 bits"),
        ("int", np.array([True, False]), 0, "must be a whole number"),
        ("boolean", np.array([1, 0]), 0, "must be true or false"),
        ("string", np.array([b"a", b"b"]), 0, "must be a string"),
        ("datetime", ["2013-01-01", "soon"], 1, "must be an ISO 8601 date and time"),
        ("string", ["a", "x" * 70_000], 1, "must have at most 65536 characters"),
        ("float", [1.0], 0, "must have 2 values"),
        ("float", np.array([1.0, 2.0, 3.0]), 0, "must have 2 values"),
    ],
)
def test_values_that_do_not_fit_are_named(column: str, values: Any, row: int, said: str) -> None:
    """Row, column and what is wrong."""
    with pytest.raises(InvalidInput) as caught:
        BINDER.columns({**GOOD, column: values}, 2)
    assert caught.value.extra["problems"][0] == {"row": row, "column": column, "problem": said}
    assert "soon" not in json.dumps(caught.value.problem())


@pytest.mark.parametrize(
    ("columns", "count", "error"),
    [
        ({}, 2, InvalidInput),
        ({name: values for name, values in GOOD.items() if name != "int"}, 2, InvalidInput),
        ({**GOOD, "more": [1, 2]}, 2, InvalidInput),
        ({name: [] for name in GOOD}, 0, InvalidInput),
        ({name: values * 501 for name, values in GOOD.items()}, 1_002, TooLarge),
    ],
)
def test_what_are_no_columns_of_this_schema_is_refused(columns: dict[str, Any], count: int, error: type[Exception]) -> None:
    """Missing, unknown, none at all, too many."""
    with pytest.raises(error):
        BINDER.columns(columns, count)
