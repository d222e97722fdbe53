"""Imputers: numbers get a constant in the place of NaN, text a value that the encoder after it looks up instead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from quarterdeck.compiled.program import Apply, Arithmetics, Check, Lookup, Mean, Products, Take
from quarterdeck.compiling.blocks import Chain, Transformer, checked, dense, is_number, outputs, raw_of, together
from quarterdeck.compiling.draft import Column, Draft, NotCompilable, Raw, Ref
from quarterdeck.frames import scalar


def simple(imputer: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """SimpleImputer."""
    dense(imputer, columns)
    kept = [place for place, value in enumerate(imputer.statistics_) if imputer.keep_empty_features or not _is_nan(value)]
    if imputer._fit_dtype.kind == "O":
        filled = [_filled(imputer, columns[place], imputer.statistics_[place], draft) for place in kept]
    else:
        filled = _numbers(imputer, columns, kept, draft)
    if not imputer.add_indicator:
        return filled
    mixed = imputer._fit_dtype.kind == "O"
    shown = [_shown(imputer, columns[place], draft, mixed) for place in imputer.indicator_.features_]
    return together([*filled, *shown], sparse=False)


def indicator(made: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """MissingIndicator."""
    dense(made, columns)
    mixed = any(column.dtype == "object" or not is_number(column) for column in columns)
    shown = [_shown(made, column, draft, mixed) for column in columns]
    if made.features == "all":
        return shown
    features = [int(place) for place in made.features_]
    others = [column for place, column in enumerate(shown) if place not in features]
    if made.error_on_new and not features:
        raise NotCompilable("MissingIndicator: nothing was missing at training, so that it only refuses")
    if not (made.error_on_new and others and features):
        return [shown[place] for place in features]
    # Missing where nothing was missing at training is refused: 0 has a finite reciprocal of one minus itself, 1 has none.
    width = len(others)
    present = draft.add(Arithmetics(input=draft.block(others), function="subtract", by=[1.0] * width), width)
    refused = draft.add(Check(input=draft.add(Apply(input=present, function="reciprocal"), width)), width)
    blocks = [draft.block([shown[place]]) for place in features]
    lanes = [draft.add(Take(parts=[(refused, lane)]), 1) for lane in range(width)]
    guarded = Mean(inputs=[blocks[0], *lanes], weights=[1.0, *[0.0] * width])
    return [*outputs(draft, draft.add(guarded, 1), "bool"), *(shown[place] for place in features[1:])]


def neighbours(imputer: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """KNNImputer: never."""
    raise NotCompilable("KNNImputer: it looks for the nearest training rows at every prediction, and a program holds none")


def iterative(imputer: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """IterativeImputer: never."""
    raise NotCompilable("IterativeImputer: it runs a chain of models over the other features in rounds, and a program has none")


def _numbers(imputer: Any, columns: Sequence[Column], kept: Sequence[int], draft: Draft) -> list[Column]:
    given, chain = columns, Chain(columns, draft, nan=_is_nan(imputer.missing_values))
    statistics = [scalar(value) for value in imputer.statistics_[kept].astype(imputer._fill_dtype)]
    # Without a number there is nothing to put there: the column was dropped, or keeps its NaN.
    fill = [value if isinstance(value, (int, float)) else 0.0 for value in statistics]
    place = chain.place if _is_nan(imputer.missing_values) else _blanked(chain.place, imputer.missing_values, draft)
    columns = outputs(draft, place, chain.precision)
    block = draft.block([columns[one] for one in kept])
    filled = Arithmetics(input=block, function="fill", by=[float(value) for value in fill])
    return outputs(draft, draft.add(filled, len(kept)), _dtype(imputer, given, chain.precision))


def _dtype(imputer: Any, columns: Sequence[Column], precision: str) -> str:
    """What numbers are after an imputer: whole ones stay so where it reckons nothing."""
    if imputer.strategy not in ("constant", "most_frequent") or imputer._fit_dtype.kind not in "iu":
        return precision
    nullable = any(raw.nullable for raw in map(raw_of, columns) if raw is not None)
    # With a null, pandas makes floats of them; what that changes it changes for narrow ones.
    if nullable and imputer._fit_dtype.itemsize < np.dtype(np.int32).itemsize:
        raise NotCompilable("SimpleImputer: whole numbers that may be null are now of one type, now of another")
    return str(imputer._fit_dtype)


def _filled(imputer: Any, column: Column, statistic: Any, draft: Draft) -> Column:
    """One column of an array of objects."""
    raw, fill = raw_of(column), scalar(statistic)
    if raw is not None and not (is_number(column) and raw.dtype != "object" and raw.type != "boolean"):
        return Column(column.name, _fed(raw, imputer.missing_values, fill), "object")
    if isinstance(fill, str) or fill is None or not _is_nan(imputer.missing_values):
        raise NotCompilable("SimpleImputer: it fills numbers with text, or with what stands for missing among text")
    filled = Arithmetics(input=draft.block([column]), function="fill", by=[float(fill)])
    return Column(column.name, Ref(draft.add(filled, 1), 0), "object")


def _fed(raw: Raw, missing_values: Any, fill: Any) -> Raw:
    """The feature as it is after the imputer."""
    if raw.nullable and (raw.missing == "na" or raw.dtype.startswith("string")):
        raise NotCompilable(f"SimpleImputer: {raw.feature} writes null as pandas.NA, which compares with nothing")
    raw, null = replace(raw, dtype="object", missing="none" if _null(raw) is None else "nan"), _null(raw)
    if raw.is_filled and (missing_values is None or _is_nan(missing_values)):
        # An imputer before has left no null.
        return raw
    if (null is None) if missing_values is None else (null is not None and _is_nan(missing_values)):
        return replace(raw, filled=fill, is_filled=True)
    if _is_nan(missing_values):
        return raw
    if missing_values is None:
        return replace(raw, refuses_null=True)
    swaps = tuple((value, fill if other == missing_values else other) for value, other in raw.swaps)
    filled = fill if raw.is_filled and raw.filled == missing_values else raw.filled
    swapped = replace(raw, swaps=(*swaps, (scalar(missing_values), fill)), filled=filled)
    # Any other sign for missing makes scikit-learn refuse NaN, but not None.
    return swapped if raw.is_filled or null is None else replace(swapped, refuses_null=True)


def _shown(imputer: Any, column: Column, draft: Draft, mixed: bool) -> Column:
    """1 where the column is missing; in a `mixed` array, one of objects, infinities pass."""
    raw = raw_of(column)
    # Objects that are numbers are numbers by then, unless text stands beside them.
    if raw is not None and mixed and (column.dtype == "object" or not is_number(column)):
        return outputs(draft, draft.add(_shown_text(raw, imputer.missing_values), 1), "bool")[0]
    nan = _is_nan(imputer.missing_values)
    if mixed:
        place = draft.add(Check(input=draft.block([column]), nan=nan, infinite=True), 1)
    else:
        place = checked([column], draft, nan=nan)
    if not nan:
        if not isinstance(imputer.missing_values, (int, float)):
            raise NotCompilable(f"{type(imputer).__name__}: numbers are compared with something that is no number")
        place = _blanked(place, imputer.missing_values, draft)
    return outputs(draft, draft.add(Apply(input=place, function="isnan"), 1), "bool")[0]


def _shown_text(raw: Raw, missing_values: Any) -> Lookup:
    if raw.is_filled or raw.swaps or raw.refuses_null:
        raise NotCompilable("an indicator of missing text comes after an imputer")
    null, known = _null(raw), list(raw.categories or ())
    missing: list[float | None] | None = [0.0]
    if (null is None) if missing_values is None else (null is not None and _is_nan(missing_values)):
        missing = [1.0]
    elif null is not None and not _is_nan(missing_values):
        missing = None
    signs = [] if missing_values is None or _is_nan(missing_values) else [scalar(missing_values)]
    values = [*signs, *(value for value in known if value not in signs)]
    rows: list[list[float | None]] = [[1.0 if value in signs else 0.0] for value in values]
    # What is no category of a category column has become null before.
    unseen = missing if known else [0.0]
    return Lookup(feature=raw.feature, values=values, rows=rows, unseen=unseen, missing=missing)


def _blanked(place: int, missing_value: float, draft: Draft) -> int:
    """NaN in the place of a number that stands for missing."""
    width = draft.widths[place]
    # sign |x - m| is 0 there and 1 elsewhere; times its reciprocal that is NaN and 1.
    apart = draft.add(Arithmetics(input=place, function="subtract", by=[float(missing_value)] * width), width)
    differs = draft.add(Apply(input=draft.add(Apply(input=apart, function="abs"), width), function="sign"), width)
    inverse = draft.add(Apply(input=differs, function="reciprocal"), width)
    parts = [(step, lane) for lane in range(width) for step in (place, differs, inverse)]
    beside = draft.add(Take(parts=parts), 3 * width)
    factors = [[3 * lane, 3 * lane + 1, 3 * lane + 2] for lane in range(width)]
    return draft.add(Products(input=beside, factors=factors), width)


def _null(raw: Raw) -> float | None:
    """How null is written in the column that scikit-learn gets."""
    return None if raw.missing == "none" and raw.dtype == "object" else math.nan


def _is_nan(value: Any) -> bool:
    return value is pd.NA or (isinstance(value, (float, np.floating)) and math.isnan(value))


NEVER = {"sklearn.impute._knn.KNNImputer", "sklearn.impute._iterative.IterativeImputer"}
"""Those that only say why not."""
COMPILERS: dict[str, Transformer] = {
    "sklearn.impute._base.SimpleImputer": simple,
    "sklearn.impute._base.MissingIndicator": indicator,
    "sklearn.impute._knn.KNNImputer": neighbours,
    "sklearn.impute._iterative.IterativeImputer": iterative,
}
