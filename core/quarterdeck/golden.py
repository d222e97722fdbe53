"""The choice of golden rows: ordinary ones spread over the data, and the edges where models go wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from quarterdeck.errors import InvalidInput, ModelFailed
from quarterdeck.manifest import GoldenRow
from quarterdeck.model import Model
from quarterdeck.schema import Feature, Prediction, Row, Schema

# Enough to hit most branches of a small model, few enough that proving one costs milliseconds on every node and start.
_ORDINARY = 16
UNSEEN = "quarterdeck-unseen"


def golden_rows(schema: Schema, rows: Sequence[Row], model: Model) -> list[GoldenRow]:
    """Rows with the answers of the served form, which has been proven equal to the original.

    Args:
        schema: the features.
        rows: data to choose from; the choice depends on nothing else.
        model: the served form.

    Raises:
        InvalidInput: the data has no row without an infinite number.
        ModelFailed: the model fails on a row of its own data.
    """
    ordinary = _spread(ordinary_rows(rows), _ORDINARY)
    found = [_golden(model, row) for row in ordinary]
    for row in _edges(schema, ordinary):
        try:
            found.append(_golden(model, row))
        except ModelFailed:
            # Some pipelines refuse unseen categories on purpose: then that is no row to be reproduced.
            continue
    # Small data may give the same row twice.
    unique = {golden.model_dump_json(): golden for golden in found}
    return list(unique.values())


def ordinary_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows without an infinite number; `InvalidInput` where there is none."""
    found = [row for row in rows if _finite(row)]
    if not found:
        hint = "Give null or a large number in the place of infinity: JSON has no word for it."
        raise InvalidInput("No row of the data is free of infinite numbers.", kind="data", name="X", hint=hint)
    return found


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` places at most, evenly from the first to the last of `count`."""
    if count <= wanted:
        return list(range(count))
    return [place * (count - 1) // (wanted - 1) for place in range(wanted)]


def _spread(rows: Sequence[Row], wanted: int) -> list[Row]:
    return [rows[place] for place in spread(len(rows), wanted)]


def _edges(schema: Schema, ordinary: Sequence[Row]) -> list[Row]:
    # Each edge changes an ordinary row in one respect, so that a mismatch tells where to look.
    base = ordinary[0]
    nulls: Row = {feature.name: None for feature in schema.features if feature.nullable}
    unseen: Row = {
        feature.name: UNSEEN for feature in schema.features if feature.type == "string" and feature.categories is not None
    }
    lowest: Row = {feature.name: _extreme(feature, feature.minimum) for feature in schema.features if feature.minimum is not None}
    highest: Row = {
        feature.name: _extreme(feature, feature.maximum) for feature in schema.features if feature.maximum is not None
    }
    # One null at a time as well: all at once could hide that a single one is treated wrongly. Four keep wide tables small.
    singles: list[Row] = [{name: None} for name in list(nulls)[:4]]
    return [{**base, **change} for change in (nulls, *singles, unseen, lowest, highest) if change]


def _extreme(feature: Feature, value: float | None) -> Any:
    return int(value) if feature.type == "int" and value is not None else value


def _finite(row: Row) -> bool:
    return all(not isinstance(value, float) or math.isfinite(value) for value in row.values())


def _golden(model: Model, row: Row) -> GoldenRow:
    answer = model.predict([row])[0]
    return GoldenRow(row=row, expected=Prediction(prediction=answer.prediction, scores=answer.scores))
