"""JSON rows to pandas frames and back: the columns of the training data, kept so that a model gets what it was trained on."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from quarterdeck.errors import InvalidInput, ModelFailed
from quarterdeck.schema import FeatureType, Frozen, Row, Scalar

COLUMNS_FILE = "columns.json"
Missing = Literal["none", "nan", "na"]
# numpy's own dtypes without their widths, and what JSON may give for them; pandas spells its nullable ones with a capital.
_TAKEN: dict[str, set[type]] = {"float": {float, int}, "int": {int}, "uint": {int}, "bool": {bool}}


class Column(Frozen):
    """One column as it was at training."""

    name: str
    dtype: str = Field(description="pandas' name of the dtype.")
    missing: Missing = Field("nan", description="Object columns: how an absent value was written.")
    categories: list[Scalar] | None = Field(None, description="Category columns: the categories in code order.")
    ordered: bool = False


class Columns(Frozen):
    """How rows become what the estimator takes."""

    container: Literal["frame", "array"] = Field("frame", description="`array`: trained on a bare array, without column names.")
    labels: Literal["scores", "predict"] = Field(
        "scores",
        description="Whether the label is the class of the highest score, or must be asked of `predict`.",
    )
    columns: list[Column]


def columns_of(frame: pd.DataFrame) -> list[Column]:
    """The columns of training data; `InvalidInput` names one whose type has no JSON form."""
    return [_column(str(name), frame.iloc[:, place]) for place, name in enumerate(frame.columns)]


def feature_type(series: Any) -> FeatureType:
    """The schema type of a column; of its categories where it is one."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _object_type(str(series.name), pd.Series(list(dtype.categories), dtype=object))
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if pd.api.types.is_integer_dtype(dtype):
        return "int"
    if pd.api.types.is_float_dtype(dtype):
        return "float"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "datetime"
    return _object_type(str(series.name), series)


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """The rows of a frame as JSON scalars: any missing value is None, datetimes are ISO 8601."""
    names = [str(name) for name in frame.columns]
    columns = [_scalars(frame.iloc[:, place]) for place in range(len(names))]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def frame_of(rows: Sequence[Row], columns: Sequence[Column]) -> pd.DataFrame:
    """Rows as a frame of the training data's dtypes.

    Raises:
        ModelFailed: a value cannot be of its column's type; names the feature, never the value.
    """
    values = {}
    for column in columns:
        try:
            values[column.name] = [row[column.name] for row in rows]
        except KeyError as error:
            raise _misfit(column) from error
    return Framing(columns).frame(values)


class Framing:
    """Makes frames of some columns, again and again: what depends on the columns alone is worked out once.

    Args:
        columns: of the training data.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._arrays = [(column, _arrays(column)) for column in columns]
        self._names = pd.Index([column.name for column in columns])

    def frame(self, values: Mapping[str, Sequence[Scalar]]) -> pd.DataFrame:
        """A frame of the training data's dtypes.

        Args:
            values: by column name, all of one length: JSON scalars, None for null.

        Raises:
            ModelFailed: a value cannot be of its column's type; names the feature, never the value.
        """
        found = self.arrays(values)
        # What pandas' own readers use. The constructor copies arrays that belong to nobody else, and guesses an index: for one
        # row that takes longer than all that was done here before.
        maker: Any = pd.DataFrame
        frame: pd.DataFrame = maker._from_arrays(found, columns=self._names, index=pd.RangeIndex(len(found[0]) if found else 0))
        return frame

    def arrays(self, values: Mapping[str, Sequence[Scalar]]) -> list[Any]:
        """The same columns as pandas' arrays, without a frame around them; raises as `frame` does."""
        found = []
        for column, array in self._arrays:
            try:
                found.append(array(values[column.name]))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise _misfit(column) from error
        return found


def scalar(value: object) -> Scalar:
    """One value as a JSON scalar; None for anything missing."""
    # numpy has a NaT of its own, which is another object than pandas' and would become the text "NaT".
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, np.datetime64) and np.isnat(value)):
        return None
    # numpy's datetimes turn into bare integers by .item(); everything else into the Python value.
    plain = value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64) else value
    if isinstance(plain, float) and math.isnan(plain):
        return None
    if isinstance(plain, (bool, int, float, str)):
        return plain
    if isinstance(plain, (datetime.date, np.datetime64)):
        return pd.Timestamp(plain).isoformat()
    raise InvalidInput(
        f"A value of type {type(value).__name__} has no JSON form.", hint="Use numbers, strings, booleans or datetimes."
    )


def _column(name: str, series: Any) -> Column:
    # Called for its refusal: columns that have no JSON form must fail at build time.
    feature_type(series)
    if isinstance(series.dtype, pd.CategoricalDtype):
        categories = [scalar(value) for value in series.dtype.categories]
        return Column(name=name, dtype="category", categories=categories, ordered=bool(series.dtype.ordered))
    return Column(name=name, dtype=str(series.dtype), missing=_missing(series))


def _missing(series: Any) -> Missing:
    absent = series[series.isna()]
    if series.dtype != object or absent.empty:
        return "nan"
    first = absent.iloc[0]
    return "none" if first is None else "na" if first is pd.NA else "nan"


def _object_type(name: str, series: Any) -> FeatureType:
    kinds: dict[str, FeatureType] = {
        "string": "string",
        # A column without a single value: text is the type that refuses least later.
        "empty": "string",
        "boolean": "boolean",
        "integer": "int",
        "floating": "float",
        "mixed-integer-float": "float",
        "datetime64": "datetime",
        "datetime": "datetime",
        "date": "datetime",
    }
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind not in kinds:
        raise InvalidInput(
            f"Column {name} holds {kind} values, which have no feature type.",
            kind="feature",
            name=name,
            hint="Make the column numbers, strings, booleans or datetimes before training.",
        )
    return kinds[kind]


def _scalars(series: Any) -> list[Scalar]:
    # One rule for None, NaN, NaT and NA: a row knows null only.
    missing = series.isna().to_numpy()
    values = series.to_numpy(dtype=object, na_value=None) if missing.any() else series.to_numpy(dtype=object)
    return [None if absent else scalar(value) for value, absent in zip(values, missing, strict=True)]


def _misfit(column: Column) -> ModelFailed:
    return ModelFailed(
        f"Feature {column.name} is absent or not a {column.dtype}.",
        kind="feature",
        name=column.name,
        hint="Send it as the deployment's schema says.",
    )


def _arrays(column: Column) -> Callable[[Any], Any]:
    """What makes the column's values a pandas array of its dtype."""
    dtype = column.dtype
    if dtype == "category":
        # pandas refuses unseen values from version 4 on: make them missing, which is what an unseen category means.
        known = set(column.categories or [])
        categories = pd.CategoricalDtype(column.categories, ordered=column.ordered)
        return lambda values: pd.Categorical([value if value in known else None for value in values], dtype=categories)
    if dtype == "object":
        absent: Any = {"none": None, "nan": math.nan, "na": pd.NA}[column.missing]
        return lambda values: pd.Series([absent if value is None else value for value in values], dtype=object)
    if dtype.startswith("datetime64"):
        return lambda values: _datetimes(values, dtype)
    kind = dtype.rstrip("0123456789")
    if kind in _TAKEN:
        return _numbers(dtype, _TAKEN[kind])
    # The dtype as an object: by its name, pandas would look it up with every batch.
    parsed: Any = pd.api.types.pandas_dtype(dtype)
    if isinstance(parsed, pd.api.extensions.ExtensionDtype):
        kind_of_array: Any = parsed.construct_array_type()
        return lambda values: kind_of_array._from_sequence(values, dtype=parsed)
    return lambda values: pd.array(values, dtype=parsed)


def plain_array(column: Column) -> Callable[[Any], Any] | None:
    """What makes a column's values the very array that numpy makes of that column of a frame.

    None where pandas has a type of its own for it. The values are a sequence of JSON scalars, None for null; the array has one
    dimension; `TypeError` where it would quietly hold another value than was given.
    """
    if column.dtype in ("str", "object"):
        absent: Any = {"none": None, "nan": math.nan, "na": pd.NA}[column.missing if column.dtype == "object" else "nan"]
        return lambda values: _objects([absent if value is None else value for value in values])
    kind = column.dtype.rstrip("0123456789")
    return _numbers(column.dtype, _TAKEN[kind]) if kind in _TAKEN else None


def _objects(values: list[Any]) -> Any:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _numbers(dtype: str, taken: set[type]) -> Callable[[Any], Any]:
    """Numbers and booleans as numpy's; `TypeError` where numpy would quietly make another value of one."""
    parsed: Any = np.dtype(dtype)
    # NaN is the one null that numpy has; integers and booleans become floats with it, as they do in pandas and LightGBM.
    with_null = parsed if float in taken else np.dtype("float64")
    legal = {*taken, type(None)}

    def numbers(values: Any) -> Any:
        # Left alone, numpy cuts 1.5 to an integer, reads "1" as a number, and makes False of None.
        found = set(map(type, values))
        if not found <= legal:
            raise TypeError(dtype)
        if type(None) not in found:
            return np.array(values, dtype=parsed)
        return np.array([math.nan if value is None else value for value in values], dtype=with_null)

    return numbers


def _datetimes(values: list[Scalar], dtype: str) -> Any:
    """ISO 8601 strings as the training data's datetimes; those without an offset are UTC where the column has a zone."""
    texts: Any = values
    # By way of UTC: texts with different offsets in one batch have no other common dtype.
    moments: Any = pd.Series(pd.to_datetime(texts, utc=True, format="ISO8601"))
    return moments.astype(dtype) if "," in dtype else moments.dt.tz_localize(None).astype(dtype)
