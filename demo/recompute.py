"""Both models' scores once more, from the Parquet files in the store, with nothing of Quarterdeck's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.dataset as ds

from demo.replay import ROWS_PER_REQUEST, request_name


class Scores(NamedTuple):
    """Brier score and accuracy of one model on `rows` rows."""

    rows: int
    brier: float
    accuracy: float


class Pair(NamedTuple):
    """Main and challenger on the same rows."""

    main: Scores
    challenger: Scores


def recompute(records: Path, truth: Sequence[str | None], classes: Sequence[str], positive: str) -> Pair:
    """Join both data sets by row id, labels by caller id and row, and score the rows that have all three.

    Args:
        records: the deployment's folder in the store, with `main/` and `challenger/` below it.
        truth: label of each replayed row, None where there is none.
        classes: the order of the scores.
        positive: the class that the Brier score speaks of.
    """
    labels = {
        (request_name(index - index % ROWS_PER_REQUEST), index % ROWS_PER_REQUEST): label
        for index, label in enumerate(truth)
        if label is not None
    }
    # A delivery may be repeated: one row per row id counts.
    main = {row["row_id"]: row for row in _table(records / "main", ["row_id", "caller_id", "row", "prediction", "scores"])}
    challenger = {row["row_id"]: row for row in _table(records / "challenger", ["row_id", "result", "prediction", "scores"])}
    both = [
        (row, challenger[name], labels[row["caller_id"], row["row"]])
        for name, row in main.items()
        if (row["caller_id"], row["row"]) in labels and name in challenger and challenger[name]["result"] == "answered"
    ]
    happened = [label for _, _, label in both]
    place = list(classes).index(positive)
    return Pair(
        _scores([row for row, _, _ in both], happened, place, positive),
        _scores([row for _, row, _ in both], happened, place, positive),
    )


def _table(folder: Path, columns: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ds.dataset(folder, format="parquet").to_table(columns=columns).to_pylist()
    return found


def _scores(rows: list[dict[str, Any]], happened: list[str], place: int, positive: str) -> Scores:
    if not rows:
        return Scores(0, float("nan"), float("nan"))
    chance = np.array([row["scores"][place] for row in rows])
    came = np.array([label == positive for label in happened], dtype=float)
    # Predictions are stored as JSON text: a label in quotes.
    right = np.array([row["prediction"].strip('"') == label for row, label in zip(rows, happened, strict=True)])
    return Scores(len(rows), float(np.mean((chance - came) ** 2)), float(np.mean(right)))
