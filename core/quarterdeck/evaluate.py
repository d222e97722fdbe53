"""Metrics of a model on labelled rows, and the comparison of two models' answers to the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from sklearn import metrics

from quarterdeck.errors import InvalidInput
from quarterdeck.manifest import Proof
from quarterdeck.records import Answer
from quarterdeck.schema import Label, Schema


def measure(schema: Schema, labels: Sequence[Label], answers: Sequence[Answer]) -> dict[str, float]:
    """Metrics by name: mae, rmse and r2, or accuracy, brier, log_loss and, where both classes occur, auc.

    The Brier score of several classes is the mean sum of squares over the classes; of two, the mean square of the
    positive class alone.

    Raises:
        InvalidInput: a label that is no class, or no number.
    """
    found = _regression(labels, answers) if schema.task == "regression" else _classification(schema, labels, answers)
    # Twelve digits: the last ones depend on the order in which a library adds up.
    return {name: float(f"{value:.12g}") for name, value in found.items() if math.isfinite(value)}


def compare(originals: Sequence[Answer], served: Sequence[Answer], tolerance: float) -> Proof:
    """How far the served form's answers are from the original model's."""
    different, largest = 0, 0.0
    for one, other in zip(originals, served, strict=True):
        if one.scores:
            different += one.prediction != other.prediction
            largest = max(largest, *(abs(a - b) for a, b in zip(one.scores, other.scores, strict=True)))
        else:
            # Relative above one, absolute below: the same measure that golden rows are compared with later.
            scale = max(1.0, abs(float(one.prediction)))
            largest = max(largest, abs(float(one.prediction) - float(other.prediction)) / scale)
    return Proof(rows=len(originals), labels_different=different, largest_difference=largest, tolerance=tolerance)


def _regression(labels: Sequence[Label], answers: Sequence[Answer]) -> dict[str, float]:
    if any(isinstance(label, str) for label in labels):
        hint = "Give numbers, or a classifier."
        raise InvalidInput("The target of a regression holds text.", kind="data", name="y", hint=hint)
    truth = np.array([float(label) for label in labels])
    guess = np.array([float(answer.prediction) for answer in answers])
    found = {
        "mae": float(metrics.mean_absolute_error(truth, guess)),
        "rmse": float(metrics.root_mean_squared_error(truth, guess)),
    }
    return found | ({"r2": float(metrics.r2_score(truth, guess))} if len(truth) > 1 else {})


def _classification(schema: Schema, labels: Sequence[Label], answers: Sequence[Answer]) -> dict[str, float]:
    if any(label not in schema.classes for label in labels):
        raise InvalidInput(
            "The target holds a label that the model does not know.",
            kind="data",
            name="y",
            hint=f"The model's classes are {', '.join(str(label) for label in schema.classes)}.",
        )
    truth = np.array([schema.classes.index(label) for label in labels])
    scores = np.array([answer.scores for answer in answers])
    right = np.array([answer.prediction == label for answer, label in zip(answers, labels, strict=True)])
    # Labels are passed along, for validation data need not hold every class that the scores speak of.
    every = list(range(len(schema.classes)))
    found = {
        "accuracy": float(right.mean()),
        "brier": _brier(schema, truth, scores),
        # One-against-rest scores need not sum to one, which the logarithmic loss takes for granted.
        "log_loss": float(metrics.log_loss(truth, scores / scores.sum(axis=1, keepdims=True), labels=every)),
    }
    # Without both classes there is no curve; sklearn would warn and give NaN.
    if schema.task == "binary" and len(set(truth.tolist())) == 2:
        found["auc"] = float(metrics.roc_auc_score(truth, scores[:, 1]))
    return found


def _brier(
    schema: Schema, truth: np.ndarray[tuple[int], np.dtype[np.int64]], scores: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> float:
    if schema.task == "binary":
        place = 1 if schema.positive == schema.classes[1] else 0
        return float(np.mean((scores[:, place] - (truth == place)) ** 2))
    return float(np.mean(np.sum((scores - np.eye(len(schema.classes))[truth]) ** 2, axis=1)))
