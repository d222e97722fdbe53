"""What every loaded model can do, whatever its form, and the checks that its answers pass before anyone sees them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

from quarterdeck.errors import ModelFailed
from quarterdeck.records import Answer
from quarterdeck.schema import Row, Schema

# What was proven when the package was built; a model that breaks it here is not the one that was proven.
_REBUILD = "Build the package again from the fitted model."


class Model(Protocol):
    """A loaded version. Safe to call from several threads."""

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer per row, in order.

        Args:
            rows: rows that are valid by the model's schema: every feature present, null is None.

        Raises:
            ModelFailed: the model raised, or answered something that is not a prediction.
        """


def regression_answers(values: Iterable[float]) -> list[Answer]:
    """Answers of a regression; `ModelFailed` where a number is not finite."""
    return [Answer(_finite(value), []) for value in values]


def class_answers(schema: Schema, rows: Iterable[Sequence[float]], labels: Sequence[object] | None = None) -> list[Answer]:
    """Answers of a classifier.

    Args:
        schema: names the classes in the order of the scores.
        rows: the scores of each row, one per class.
        labels: the model's own labels by row; without them the first class of the highest score is the label.

    Raises:
        ModelFailed: wrong number of scores, a score that is not finite, or a label that is no class.
    """
    # Labels are given as the schema spells them: 1, 1.0 and True are equal in Python but not in JSON.
    classes = schema.classes
    answers = []
    for index, scores in enumerate(rows):
        if len(scores) != len(classes):
            raise ModelFailed(f"The model answered {len(scores)} scores for {len(classes)} classes.", hint=_REBUILD)
        checked = [_finite(score) for score in scores]
        if labels is None:
            label = classes[checked.index(max(checked))]
        elif labels[index] in classes:
            label = classes[classes.index(labels[index])]  # type: ignore[arg-type]
        else:
            raise ModelFailed("The model answered a label that is not one of its classes.", hint=_REBUILD)
        answers.append(Answer(label, checked))
    return answers


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ModelFailed(
            "The model answered a number that is not finite.", hint="Look at the row that was sent, then at the model."
        )
    return value
