"""Drift baselines: how features, scores and decisions are distributed in the data that a model was judged by.

Numbers: up to 50 bins of equal mass, with the counts as they fall where values are tied. Text and booleans: the 100 most
frequent values and all others together. Later data is counted on the same edges, so both sides compare exactly.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from quarterdeck.records import Answer
from quarterdeck.schema import Row, Schema

BASELINE_FILE = "baseline.json"
# Fine enough to be merged into ten bins of equal mass later, which is what most drift measures are stated for.
_BINS = 50
_TOP = 100


def baseline(schema: Schema, rows: Sequence[Row], answers: Sequence[Answer], source: str) -> bytes:
    """The bytes of `baseline.json`.

    Args:
        schema: features, task and classes.
        rows: the data.
        answers: the model's answers to it, row by row.
        source: ``validation`` or ``training``; readers say which.
    """
    features: dict[str, Any] = {}
    for feature in schema.features:
        values = [row[feature.name] for row in rows]
        numeric = feature.type in ("float", "int") and feature.categories is None
        features[feature.name] = numbers(values) if numeric else categories(values, feature.categories)
    document = {"source": source, "rows": len(rows), "features": features, **_answers(schema, answers)}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def numbers(values: Sequence[Any]) -> dict[str, Any]:
    """Interior edges, counts per bin (one more than edges; a value on an edge falls to its right), missing, moments."""
    found = np.array([value for value in values if value is not None], dtype=np.float64)
    # Infinite values count as missing: they have no bin, and one of them would swallow every moment.
    found = found[np.isfinite(found)]
    missing = len(values) - len(found)
    if not len(found):
        return {"kind": "numbers", "edges": [], "counts": [0], "missing": missing}
    # The observed value below each rank: interpolating could invent an edge between two ties.
    edges = np.unique(np.quantile(found, np.arange(1, _BINS) / _BINS, method="lower"))
    counts = np.bincount(np.searchsorted(edges, found, side="right"), minlength=len(edges) + 1)
    # Large numbers have squares that no float holds: a moment that overflows is left out, without a warning to the builder.
    with np.errstate(over="ignore"):
        moments = {"min": found.min(), "max": found.max(), "sum": found.sum(), "sum_of_squares": np.square(found).sum()}
    # Twelve digits: sums depend on the order in which numpy adds, and that on the processor.
    finite = {name: float(f"{value:.12g}") for name, value in moments.items() if np.isfinite(value)}
    return {"kind": "numbers", "edges": edges.tolist(), "counts": counts.tolist(), "missing": missing, **finite}


def categories(values: Sequence[Any], known: Sequence[str] | None) -> dict[str, Any]:
    """Counts of the most frequent values, of the others, of those unseen in training, and of missing ones."""
    present = [str(value) for value in values if value is not None]
    among = None if known is None else frozenset(known)
    seen = present if among is None else [value for value in present if value in among]
    # Ties by name, so that equal data gives equal bytes.
    ranked = sorted(Counter(seen).items(), key=lambda item: (-item[1], item[0]))
    return {
        "kind": "categories",
        "counts": dict(ranked[:_TOP]),
        "other": sum(count for _, count in ranked[_TOP:]),
        "unseen": len(present) - len(seen),
        "missing": len(values) - len(present),
    }


def _answers(schema: Schema, answers: Sequence[Answer]) -> Mapping[str, Any]:
    if schema.task == "regression":
        return {"predictions": numbers([answer.prediction for answer in answers])}
    scores = {str(label): numbers([answer.scores[place] for answer in answers]) for place, label in enumerate(schema.classes)}
    decisions = categories([answer.prediction for answer in answers], [str(label) for label in schema.classes])
    return {"scores": scores, "decisions": decisions}
