"""A pipeline of the catalogue against its compiled form: 10,000 rows at once, and every edge value in a row of its own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from quarterdeck.compiled.model import CompiledModel
from quarterdeck.compiled.trees import Booster
from quarterdeck.compiling.draft import NotCompilable
from quarterdeck.compiling.estimate import compile_model
from quarterdeck.errors import ModelFailed
from quarterdeck.forms.python_forms import EstimatorModel
from quarterdeck.frames import Columns, columns_of, rows_of
from quarterdeck.infer import features_of, frame_from, schema_of
from quarterdeck.records import Answer
from quarterdeck.schema import Row, Schema
from tools.pipeline_data import EDGES, sample, table
from tools.pipelines import Pipeline, catalogue

ROWS = 10_000
SINGLES = 200


@dataclass(frozen=True)
class Proof:
    """What came out.

    Args:
        why_not: why there is no compiled form; empty where there is one.
        rows: how many rows were answered by both.
        refused: how many rows were refused by both.
        labels_different: how many labels differ.
        largest: largest difference between two scores; of numbers above 1, in relation to them.
        quarrels: rows that only one of both answers, each in words.
    """

    why_not: str = ""
    rows: int = 0
    refused: int = 0
    labels_different: int = 0
    largest: float = 0.0
    quarrels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """The original behind rows and answers, its compiled form, and rows of its training data."""

    schema: Schema
    original: EstimatorModel
    compiled: CompiledModel
    rows: list[Row]


@cache
def proof(name: str) -> Proof:
    """Train a pipeline of the catalogue, compile it, and compare; made once."""
    # Threads that wait for one another take longer than these small models do.
    with threadpool_limits(1), warnings.catch_warnings():
        # Unknown categories, overflow and the like are what this is about.
        warnings.simplefilter("ignore")
        try:
            both = pair(next(one for one in catalogue() if one.name == name))
        except NotCompilable as error:
            return Proof(why_not=str(error))
        return _compared(both)


def pair(one: Pipeline) -> Pair:
    """A trained pipeline and its compiled form; raises `NotCompilable`."""
    model, data = one.fitted(), table().frame[list(one.columns)]
    frame = frame_from(data if one.container == "frame" else data.to_numpy())
    schema = schema_of(model, "target", features_of(frame, (), {}), None, None)
    columns = Columns(container=one.container, columns=columns_of(frame))
    program, files = compile_model(model, schema, columns)
    boosters = {name: Booster(text) for name, text in files.items()}
    # The original is asked for its own labels.
    original = EstimatorModel(schema, columns.model_copy(update={"labels": "predict"}), model)
    return Pair(schema, original, CompiledModel(schema, program, boosters), rows_of(frame))


def edges(schema: Schema, rows: Sequence[Row]) -> list[Row]:
    """Rows with one value each that training hardly held; some with their features in another order."""
    found: list[Row] = []
    # By value first: what a model refuses lies together then, and is found in few calls.
    for kind, values in EDGES.items():
        for place, value in enumerate(values):
            for number, feature in enumerate(schema.features):
                if feature.type == kind and (feature.nullable or not (value is None or value != value)):
                    found.append({**rows[(place * 31 + number * 97) % len(rows)], feature.name: value})
    return [dict(reversed(row.items())) if place % 3 == 0 else row for place, row in enumerate(found)]


def _compared(both: Pair) -> Proof:
    rare = edges(both.schema, both.rows)
    originals = _asked(both.original, rare)
    # What is answered alone occurs among the many as well, and beside one another.
    known = [row for row, answer in zip(rare, originals, strict=True) if answer]
    many = sample([*both.rows, *known], ROWS)
    originals += _asked(both.original, many)
    # One row at a time takes another road than many at once.
    compiled = [*(_asked(both.compiled, [row])[0] for row in rare), *_asked(both.compiled, many)]
    originals += originals[len(rare) : len(rare) + SINGLES]
    compiled += [_asked(both.compiled, [row])[0] for row in many[:SINGLES]]
    rows = [*rare, *many, *many[:SINGLES]]
    answered = [(one, other) for one, other in zip(originals, compiled, strict=True) if one and other]
    return Proof(
        rows=len(answered),
        refused=sum(not one and not other for one, other in zip(originals, compiled, strict=True)),
        labels_different=sum(bool(one.scores) and one.prediction != other.prediction for one, other in answered),
        largest=max(_difference(one, other) for one, other in answered),
        quarrels=tuple(
            f"only the {'original' if one else 'compiled form'} answers {row}"
            for row, one, other in zip(rows, originals, compiled, strict=True)
            if bool(one) != bool(other)
        ),
    )


def _asked(model: Any, rows: list[Row]) -> list[Answer | None]:
    """The answer to each row; None where it is refused, which a model says of all rows of a call together."""
    try:
        found: list[Answer | None] = model.predict(rows)
    except ModelFailed:
        half = len(rows) // 2
        return [*_asked(model, rows[:half]), *_asked(model, rows[half:])] if half else [None]
    return found


def _difference(one: Answer, other: Answer) -> float:
    if one.scores:
        return max(abs(a - b) for a, b in zip(one.scores, other.scores, strict=True))
    value = float(one.prediction)
    return abs(value - float(other.prediction)) / max(1.0, abs(value))


def rounded(difference: float) -> str:
    """A difference as a power of ten that it stays well within: its digits depend on the processor, and this does not."""
    return next(f"≤ 1e-{digits:02d}" for digits in (13, 11, 9, 0) if difference <= 10.0**-digits or not digits)
