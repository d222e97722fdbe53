"""Encoders as tables. The fitted encoder itself is asked what it makes of each category, of an unseen value and of null.

So infrequent categories, dropped ones and whatever its parameters mean together need not be understood here a second time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from quarterdeck.compiled.program import Lookup, OneHot, Step
from quarterdeck.compiling.blocks import Transformer, checked, is_plain, outputs, raw_of
from quarterdeck.compiling.draft import Column, Draft, NotCompilable, Raw
from quarterdeck.errors import ModelFailed
from quarterdeck.frames import Column as TrainingColumn
from quarterdeck.frames import frame_of, scalar
from quarterdeck.schema import Scalar

# Rows of one question.
_AT_ONCE = 256
# A node holds what an encoder makes of a feature as one table: this many numbers are 32 MB.
_CELLS = 4_000_000
_EXACT = 2**53
_UNSEEN = "quarterdeck: a category that nobody has"
Row = list[float | None]


@dataclass(frozen=True)
class _Table:
    """What an encoder makes of one column: a row per value, of any other one, of null. None: refused.

    Rows of one-hot encoders are the place of the 1 alone.
    """

    values: list[Scalar]
    rows: list[Row]
    unseen: Row | None
    missing: Row | None

    def row_of(self, value: Scalar) -> Row | None:
        return self.rows[self.values.index(value)] if value in self.values else self.unseen

    def fed_by(self, raw: Raw) -> _Table:
        """The table for the feature's own values, where they become others before the encoder sees them."""
        missing = self.row_of(raw.filled) if raw.is_filled else None if raw.refuses_null else self.missing
        table = replace(self, missing=missing)
        for value, other in raw.swaps:
            table = table._swapped(value, self.row_of(other))
        return table if raw.categories is None else table._limited(raw.categories)

    def _limited(self, categories: Sequence[Scalar]) -> _Table:
        # A category column knows categories that training rows did not have: unseen for the encoder. What is no category at all
        # has become null before.
        others: list[Scalar] = [value for value in categories if value is not None and value not in self.values]
        if self.unseen is None:
            if others and self.missing is not None:
                raise NotCompilable("an encoder refuses categories that its column knows, and takes unknown ones for null")
            return replace(self, unseen=self.missing)
        rows = self.rows + [self.unseen] * len(others)
        return replace(self, values=self.values + others, rows=rows, unseen=self.missing)

    def _swapped(self, value: Scalar, row: Row | None) -> _Table:
        if row is None:
            raise NotCompilable("an imputer puts a value there that the encoder after it refuses")
        kept = [place for place, one in enumerate(self.values) if one != value]
        values = [*(self.values[place] for place in kept), value]
        return replace(self, values=values, rows=[*(self.rows[place] for place in kept), row])


class _Asked:
    """A fitted encoder that answers single rows.

    Args:
        encoder: OneHotEncoder, OrdinalEncoder or TargetEncoder.
        columns: what it gets in the pipeline.
    """

    def __init__(self, encoder: Any, columns: Sequence[Column]) -> None:
        self._encoder = encoder
        self._columns = columns
        self.values = [_known(column, found) for column, found in zip(columns, encoder.categories_, strict=True)]
        self._hot = hasattr(encoder, "drop_idx_")
        self.widths = _widths(encoder)
        self._ends = np.cumsum([0, *self.widths])
        self._unseen = [_unseen(column, known) for column, known in zip(columns, self.values, strict=True)]

    def tables(self) -> list[_Table]:
        """One table per column."""
        count = max(map(len, self.values))
        # Columns are independent: one call shows a category of each of them per row.
        found = self._ask([[known[row % len(known)] for row in range(count)] for known in self.values])
        unseen, missing = self._edge(self._unseen), self._edge([None] * len(self._columns))
        return [self._table(place, found, unseen[place], missing[place]) for place in range(len(self.values))]

    def _table(self, place: int, found: list[list[Row]], unseen: Row | None, missing: Row | None) -> _Table:
        known, raw = self.values[place], raw_of(self._columns[place])
        table = _Table(known, [found[row][place] for row in range(len(known))], unseen, missing)
        return table if raw is None else table.fed_by(raw)

    def _edge(self, values: Sequence[Scalar]) -> list[Row | None]:
        """What comes of one value per column; None where the encoder refuses it."""
        try:
            return list(self._ask([[value] for value in values])[0])
        except (ValueError, TypeError, ModelFailed):
            return [self._edge_of(place, value) for place, value in enumerate(values)]

    def _edge_of(self, place: int, value: Scalar) -> Row | None:
        cells: list[list[Scalar]] = [[known[0]] for known in self.values]
        cells[place] = [value]
        try:
            return self._ask(cells)[0][place]
        except (ValueError, TypeError, ModelFailed):
            return None

    def _ask(self, cells: Sequence[list[Scalar]]) -> list[list[Row]]:
        """For each row of cells, what comes of each column."""
        count, found = len(cells[0]), []
        # In parts: of ten thousand categories the whole would be a matrix of a hundred million.
        for start in range(0, count, _AT_ONCE):
            block = self._transformed([values[start : start + _AT_ONCE] for values in cells])
            found += [[self._part(row, place) for place in range(len(cells))] for row in block]
        return found

    def _transformed(self, cells: Sequence[list[Scalar]]) -> Any:
        names = getattr(self._encoder, "feature_names_in_", range(len(self._columns)))
        # By place: columns that were selected twice have one name.
        frame = pd.concat([_series(column, values) for column, values in zip(self._columns, cells, strict=True)], axis=1)
        frame.columns = pd.Index(names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = self._encoder.transform(frame)
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float64)

    def _part(self, row: Any, place: int) -> Row:
        part = row[self._ends[place] : self._ends[place + 1]]
        if not self._hot:
            return [None if math.isnan(value) else float(value) for value in part]
        # Where the 1 is; -1 where all are 0.
        return [float(part.argmax()) if part.any() else -1.0]


def one_hot(encoder: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """OneHotEncoder."""
    found: list[Column] = []
    asked = _Asked(encoder, columns)
    for column, width, table in zip(columns, asked.widths, asked.tables(), strict=True):
        if not width:
            _nothing_left(encoder, table)
            # Read all the same: what the encoder refuses to look at is refused.
            _read(column, draft)
            continue
        if width * len(table.rows) > _CELLS:
            raise NotCompilable(
                f"OneHotEncoder: {width} columns of one feature are too large a table; `max_categories` bounds them"
            )
        _told_apart(table, column)
        place = draft.add(_hot(table, width, column, draft), width)
        found += outputs(draft, place, np.dtype(encoder.dtype).name, bool(encoder.sparse_output))
    return found


def tabled(encoder: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """OrdinalEncoder and TargetEncoder."""
    dtype = np.dtype(getattr(encoder, "dtype", np.float64)).name
    found: list[Column] = []
    for column, table in zip(columns, _Asked(encoder, columns).tables(), strict=True):
        _told_apart(table, column)
        step = Lookup(rows=table.rows, unseen=table.unseen, missing=table.missing, values=table.values, **_read(column, draft))
        found += outputs(draft, draft.add(step, len(table.rows[0])), dtype)
    return found


def _hot(table: _Table, width: int, column: Column, draft: Draft) -> Step:
    return OneHot(
        width=width,
        values=table.values,
        columns=[int(row[0] or 0) for row in table.rows],
        unseen=None if table.unseen is None else int(table.unseen[0] or 0),
        missing=None if table.missing is None else int(table.missing[0] or 0),
        **_read(column, draft),
    )


def _nothing_left(encoder: Any, table: _Table) -> None:
    if table.unseen is None or table.missing is None:
        raise NotCompilable(f"{type(encoder).__name__}: a column of one category is dropped and refuses unseen ones all the same")


def _told_apart(table: _Table, column: Column) -> None:
    # Computed columns are float64, which takes neighbours among the largest whole numbers for one.
    large = any(isinstance(value, int) and abs(value) >= _EXACT for value in table.values)
    if large and raw_of(column) is None and column.dtype in ("int64", "uint64"):
        raise NotCompilable("an encoder gets whole numbers beyond 2^53 that went through another step")


def _read(column: Column, draft: Draft) -> dict[str, Any]:
    """Where a look-up's value comes from."""
    raw = raw_of(column)
    # Identifiers of 64 bits are no longer themselves as float64.
    number = is_plain(column.dtype.lower()) and column.dtype.lower() not in ("int64", "uint64")
    # Plain numbers may be infinite, or too large for their column, which is refused and not looked up.
    if raw is None or (number and raw.type != "boolean"):
        return {"input": checked([column], draft, nan=True) if number else draft.block([column])}
    return {"feature": raw.feature}


def _widths(encoder: Any) -> list[int]:
    if hasattr(encoder, "drop_idx_"):
        return [int(width) for width in encoder._n_features_outs]
    width = len(encoder.classes_) if getattr(encoder, "target_type_", "") == "multiclass" else 1
    return [width] * len(encoder.categories_)


def _known(column: Column, categories: Any) -> list[Scalar]:
    """The categories that are values: null is asked for apart."""
    raw = raw_of(column)
    if raw is not None and raw.type == "datetime":
        raise NotCompilable(f"{raw.feature} is a date and time, which no table can look up by its text")
    found: list[Scalar] = [value for value in map(scalar, categories) if value is not None]
    if not found:
        raise NotCompilable("an encoder has a column without a single category")
    return found


def _unseen(column: Column, known: Sequence[Scalar]) -> Scalar:
    """A value of the column's type that is no category."""
    raw = raw_of(column)
    if isinstance(known[0], str):
        return _UNSEEN
    if raw is not None and raw.type == "boolean":
        # Where both are known there is no other but what an imputer puts among objects.
        return next((value for value in (False, True) if value not in known), _UNSEEN if column.dtype == "object" else known[0])
    return next(number for number in range(len(known) + 1) if number not in known)


def _series(column: Column, values: list[Scalar]) -> Any:
    """Values as the encoder would get them in the pipeline."""
    raw = raw_of(column)
    if raw is not None and raw.dtype == column.dtype and raw.categories is None:
        given = TrainingColumn(name=raw.feature, dtype=raw.dtype, missing=raw.missing)
        return frame_of([{raw.feature: value} for value in values], [given]).iloc[:, 0]
    numbers = raw is not None and raw.categories is not None and not any(isinstance(value, str) for value in raw.categories)
    if is_plain(column.dtype) or (numbers and column.dtype == "category"):
        return pd.Series([math.nan if value is None else value for value in values], dtype=np.float64)
    absent = None if raw is not None and raw.missing == "none" else math.nan
    return pd.Series([absent if value is None else value for value in values], dtype=object)


COMPILERS: dict[str, Transformer] = {
    "sklearn.preprocessing._encoders.OneHotEncoder": one_hot,
    "sklearn.preprocessing._encoders.OrdinalEncoder": tabled,
    "sklearn.preprocessing._target_encoder.TargetEncoder": tabled,
}
