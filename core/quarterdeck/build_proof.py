"""The proof: the form that will be served answers as the original model does, on its data and on every kind of edge."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from quarterdeck import forms, package_files
from quarterdeck.build_data import Data
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.evaluate import compare
from quarterdeck.forms import python_forms
from quarterdeck.frames import Columns, columns_of, frame_of, rows_of
from quarterdeck.golden import UNSEEN, golden_rows, ordinary_rows, spread
from quarterdeck.infer import is_booster
from quarterdeck.manifest import GoldenRow, Manifest, Proof
from quarterdeck.model import Model
from quarterdeck.records import Answer
from quarterdeck.schema import FeatureType, Prediction, Row, Scalar, Schema
from quarterdeck.verify import differs

TOLERANCE = 1e-9
# Beyond this many rows more of them find nothing new, and rows take longer to convert than to predict.
_PROOF_ROWS = 10_000
# Each is asked for by itself, which takes milliseconds in pandas.
_MOST_EDGES = 400
# What doors let through and training data seldom has: infinities come by tensors, whole numbers to columns of floats by JSON.
_EDGES: dict[FeatureType, tuple[Scalar, ...]] = {
    "float": (math.inf, -math.inf, 1e308, -1e39, 3.5e38, -0.0, 0, 1),
    "int": (0, -1, 2**31, 2**53 + 1, -(2**62)),
    "string": ("", UNSEEN, " "),
    "boolean": (True, False),
    "datetime": (),
}


@dataclass(frozen=True)
class Original:
    """The fitted model as it was given, behind the interface that classifiers and regressors share.

    `columns` is how it is asked here, `served` how nodes would ask it, `judged` what it answered to the data it is judged by.
    """

    estimator: Any
    schema: Schema
    columns: Columns
    served: Columns
    judged: list[Answer]

    def answers(self, frame: pd.DataFrame) -> list[Answer]:
        """What it answers to a frame; raises `ModelFailed`."""
        return python_forms.answers(self.schema, self.columns, self.estimator, frame)

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """What it answers to rows as they come through a door; raises `ModelFailed`."""
        return self.answers(frame_of(rows, self.columns.columns))


class _BoosterEstimator:
    """A bare Booster with the methods of an estimator."""

    def __init__(self, booster: Any, schema: Schema) -> None:
        self._booster = booster
        self._schema = schema

    def predict_proba(self, frame: Any) -> Any:
        found = np.asarray(self._booster.predict(frame))
        return np.column_stack([1.0 - found, found]) if found.ndim == 1 else found

    def predict(self, frame: Any) -> Any:
        if self._schema.task == "regression":
            return self._booster.predict(frame)
        return np.array(self._schema.classes, dtype=object)[self.predict_proba(frame).argmax(axis=1)]


def original(model: Any, schema: Schema, training: Data, judged: Data, container: Any) -> Original:
    """The model behind one interface. Where its labels follow from the scores, serving asks it once, not twice."""
    # The original is always asked for its own labels: the proof must not rest on a short cut of ours.
    estimator = _BoosterEstimator(model, schema) if is_booster(model) else model
    columns = Columns(container=container, labels="predict", columns=columns_of(training.frame))
    found = python_forms.answers(schema, columns, estimator, judged.frame)
    follows = schema.task == "regression" or all(
        answer.prediction == schema.classes[answer.scores.index(max(answer.scores))] for answer in found
    )
    served = columns.model_copy(update={"labels": "scores"}) if follows else columns
    return Original(estimator, schema, columns, served, found)


def prove(draft: Manifest, files: Mapping[str, bytes], model: Original, judged: Data) -> tuple[Proof, list[GoldenRow]]:
    """Load a package's files back, compare with the original, and let the served form answer the golden rows.

    Args:
        draft: the manifest as far as it is known.
        files: of the package, by path.
        model: the original.
        judged: rows to compare on.

    Raises:
        PackageRefused: ``golden-mismatch`` where an answer is another one, and whatever loading refuses.
        ModelFailed: the served form fails on a row of the data.
    """
    # The original gets the frame as it came, the served form the rows as they will come through a door.
    sample = judged.part(_PROOF_ROWS)
    rows = rows_of(sample)
    ordinary = ordinary_rows(rows)[0]
    # What loads a form may ask for the rows of the manifest: they must be some, though their answers are not known yet.
    draft = draft.model_copy(update={"golden": [GoldenRow(row=ordinary, expected=Prediction(prediction=0))]})
    # `allow_code` is for this process alone: it runs the code of a model that its author holds in memory anyway.
    # From files, not from memory: what is proven is what will lie in the store.
    with tempfile.TemporaryDirectory() as folder:
        written = package_files.write(draft, files, Path(folder) / "package")
        served = forms.load(draft, written, allow_code=True)
        proof = compare(model.answers(sample), served.predict(rows), TOLERANCE)
        if proof.labels_different or proof.largest_difference > TOLERANCE:
            what = f"{proof.labels_different} labels of {proof.rows}, scores by up to {proof.largest_difference:.3g}"
            raise _differs(draft, what)
        # The other forms are the original itself.
        edges = _proven_edges(draft, model, served, ordinary) if draft.form == "compiled" else 0
        return proof.model_copy(update={"edges": edges}), golden_rows(draft.data_schema, rows, served)


def _proven_edges(draft: Manifest, model: Original, served: Model, ordinary: Row) -> int:
    """How many edge cases were answered alike, or refused alike; raises `PackageRefused` at the first that was not."""
    cases = list(_cases(model, ordinary))
    chosen = [cases[place] for place in spread(len(cases), _MOST_EDGES)]
    for words, row in chosen:
        wanted, given = _asked(model, row), _asked(served, row)
        if (wanted is None) != (given is None):
            who = "the original" if wanted is None else "the compiled form"
            raise _differs(draft, f"where {words}, {who} alone refuses the row")
        if wanted is not None and given is not None and (found := differs(wanted, given, TOLERANCE)):
            raise _differs(draft, f"where {words}, {found}")
    return len(chosen)


def _cases(model: Original, base: Row) -> Iterator[tuple[str, Row]]:
    """Rows that are an ordinary one but for a single value, each with words for what is special."""
    for feature, column in zip(model.schema.features, model.columns.columns, strict=True):
        for value in (*([None] if feature.nullable else []), *_EDGES[feature.type]):
            # What a column of the frame cannot hold is refused ahead of the model, whether it reads the column or not.
            if _held(value, column.dtype):
                yield f"{feature.name} is {value!r}", {**base, feature.name: value}


def _held(value: Scalar, dtype: str) -> bool:
    kind = dtype.lower()
    if value is None or not kind.startswith(("int", "uint")):
        return True
    return np.iinfo(kind).min <= int(value) <= np.iinfo(kind).max


def _asked(model: Model, row: Row) -> Answer | None:
    """What a model answers to one row; None where it refuses it."""
    # Overflow on the way to a refusal is no news to the builder.
    with np.errstate(all="ignore"):
        try:
            return model.predict([row])[0]
        except ModelFailed:
            return None


def _differs(draft: Manifest, what: str) -> PackageRefused:
    return PackageRefused(
        f"Served as {draft.form}, {draft.model} answers differently: {what}.",
        code="golden-mismatch",
        kind="package",
        name=draft.model,
        hint="Give the data with the very dtypes that the model was trained on, or choose another form.",
    )
