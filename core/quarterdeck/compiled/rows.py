"""From rows to columns: what a program reads of many records, as numbers and as values to be looked up."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from quarterdeck.column_rows import ColumnRows
from quarterdeck.compiled.entries import Entries
from quarterdeck.compiled.kernels import Block
from quarterdeck.errors import ModelFailed
from quarterdeck.schema import Row, Scalar

Places = np.ndarray[Any, np.dtype[np.integer[Any]]]
_BYTE = 255


def numbers(rows: Sequence[Row], names: Sequence[str], nullable: Iterable[str]) -> Block:
    """Features as float64, shape (features, rows): booleans 0 and 1, null NaN where it is allowed.

    Raises:
        ModelFailed: a feature that is absent, null against the schema, text, or a whole number beyond float64.
    """
    if isinstance(rows, ColumnRows):
        optional = frozenset(nullable)
        return np.stack([_column(rows.columns[name], name, name in optional) for name in names]) if names else _none(rows)
    try:
        return _read(rows, names)
    except (KeyError, OverflowError, struct.error):
        # Nulls are the common reason: column by column then, which also tells who is to blame.
        optional = frozenset(nullable)
        return np.stack([_column(values(rows, name), name, name in optional) for name in names])


def values(rows: Sequence[Row], name: str) -> Sequence[Scalar]:
    """One feature's values as they came.

    Raises:
        ModelFailed: the feature is absent.
    """
    if isinstance(rows, ColumnRows):
        column: Any = rows.columns[name]
        # numpy's own scalars are found in a dictionary more slowly than Python's.
        return column.tolist() if isinstance(column, np.ndarray) else column  # type: ignore[no-any-return]
    try:
        return [row[name] for row in rows]
    except KeyError:
        raise not_a_number(name) from None


def keys(rows: Sequence[Row], name: str) -> Iterable[Scalar]:
    """One feature's values as `look_up` takes them; reading on raises KeyError where it is absent."""
    return values(rows, name) if isinstance(rows, ColumnRows) else map(itemgetter(name), rows)


def look_up(given: Iterable[Scalar], count: int, entries: Entries[int], highest: int) -> Places:
    """The entry of each of `count` values.

    Args:
        given: the values.
        count: how many.
        entries: numbers from 0 to `highest`.
        highest: the largest of them.

    Raises:
        KeyError: a value that has none.
        TypeError: a value that no lookup takes, such as a list.
    """
    found = map(entries.__getitem__, given)
    # Bytes are made in half the time, where the numbers fit.
    if highest <= _BYTE:
        return np.frombuffer(bytes(found), dtype=np.uint8)
    return np.fromiter(found, dtype=np.intp, count=count)


def not_a_number(name: str) -> ModelFailed:
    """The error of a feature that is absent, or null or text where a number is needed."""
    hint = "Send it as the deployment's schema says."
    return ModelFailed(f"Feature {name} is absent or not a number.", kind="feature", name=name, hint=hint)


def _none(rows: Sequence[Row]) -> Block:
    return np.empty((0, len(rows)))


def _read(rows: Sequence[Row], names: Sequence[str]) -> Block:
    # Packing takes numbers only (numpy would make one of a text that looks like one, and NaN of None) and is the fastest way.
    getter = itemgetter(*names)
    given = map(getter, rows)
    packed = struct.pack(f"={len(rows) * len(names)}d", *(chain.from_iterable(given) if len(names) > 1 else given))
    return np.ascontiguousarray(np.frombuffer(packed).reshape(len(rows), len(names)).T)


def _column(column: Any, name: str, nullable: bool) -> Block:
    if isinstance(column, np.ndarray):
        return column.astype(np.float64)
    try:
        return np.frombuffer(array("d", [math.nan if value is None and nullable else value for value in column]))
    except (TypeError, OverflowError):
        raise not_a_number(name) from None
