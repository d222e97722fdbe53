"""Answers of a whole batch as numbers: what a model process sends back, and what becomes of it in the process that asked.

Scores are rows of float64; labels are places in the schema's list of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from quarterdeck.column_rows import ColumnRows
from quarterdeck.errors import ModelFailed
from quarterdeck.model import Model
from quarterdeck.records import Answer
from quarterdeck.schema import Schema

_REBUILD = "Build the package again from the fitted model."
_NOT_FINITE = "Look at the row that was sent, then at the model."


class Scored(NamedTuple):
    """One batch.

    `scores` is float64 of shape (rows, classes), (rows, 1) for a regression, and finite. `labels` is int32 of shape (rows,):
    the place of each row's label among the schema's classes; empty for a regression.
    """

    scores: Any
    labels: Any

    @classmethod
    def checked(cls, scores: Any, labels: Any = ()) -> Scored:
        """Scores and labels of a model; `ModelFailed` where a score is not finite."""
        if not np.isfinite(scores).all():
            raise ModelFailed("The model answered a number that is not finite.", hint=_NOT_FINITE)
        return cls(np.ascontiguousarray(scores, dtype="<f8"), np.ascontiguousarray(labels, dtype="<i4"))

    def answers(self, schema: Schema) -> list[Answer]:
        """One answer per row, labels spelled as the schema has them."""
        if schema.task == "regression":
            return [Answer(value, []) for (value,) in self.scores.tolist()]
        classes = schema.classes
        return [Answer(classes[place], scores) for place, scores in zip(self.labels.tolist(), self.scores.tolist(), strict=True)]


def numbers_of(found: Any, shape: tuple[int, ...], hint: str) -> Any:
    """What a model answered, as float64 of a shape.

    Raises:
        ModelFailed: it is of another shape, or no numbers; `hint` is what to do then.
    """
    try:
        numbers = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        raise ModelFailed("The model answered something that is not numbers.", hint=hint) from None
    # A regressor that was fitted to a column instead of a row of targets answers one.
    if numbers.shape == (*shape, 1):
        numbers = numbers.reshape(shape)
    if numbers.shape != shape:
        raise ModelFailed(f"The model answered an array of shape {numbers.shape} instead of {shape}.", hint=hint)
    return numbers


class ScoredModel(Protocol):
    """A model that answers by column, without an object per row."""

    def scored(self, rows: ColumnRows) -> Scored:
        """Scores and labels of a batch.

        Args:
            rows: at least one row that is valid by the model's schema.

        Raises:
            ModelFailed: the model raised, or answered something that is not a prediction.
        """


def scored_by(model: Model | ScoredModel, schema: Schema, rows: ColumnRows) -> Scored:
    """What any model answers to a batch, as numbers; raises `ModelFailed`."""
    if hasattr(model, "scored"):
        found: Scored = model.scored(rows)
        return found
    answers = model.predict(rows)
    if schema.task == "regression":
        return Scored.checked(np.array([[answer.prediction] for answer in answers], dtype=np.float64))
    scores = np.array([answer.scores for answer in answers], dtype=np.float64)
    return Scored.checked(scores, places_of([answer.prediction for answer in answers], schema))


def places_of(labels: Sequence[object], schema: Schema) -> Any:
    """The place of each label among the schema's classes; `ModelFailed` where one is none of them."""
    # By equality, as everywhere: 1, 1.0 and True are one class.
    places: dict[object, int] = {label: place for place, label in enumerate(schema.classes)}
    try:
        return np.array([places[label] for label in labels], dtype=np.int32)
    except (KeyError, TypeError):
        raise ModelFailed("The model answered a label that is not one of its classes.", hint=_REBUILD) from None
