"""skops and joblib: estimators of scikit-learn's interface, fed with frames of the training data's dtypes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from pydantic import ValidationError

from quarterdeck.column_rows import ColumnRows
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.forms import by_array, skops_zip
from quarterdeck.frames import COLUMNS_FILE, Columns, Framing, frame_of, scalar
from quarterdeck.manifest import Form, Manifest
from quarterdeck.records import Answer
from quarterdeck.schema import Row, Schema
from quarterdeck.scored import Scored, numbers_of, places_of
from quarterdeck.verify import read_verified, unloadable

MODEL_FILES: dict[Form, str] = {"skops": skops_zip.MODEL_FILE, "joblib": "model.joblib"}

_ORIGINAL = "Try the row on the original model."


def load(manifest: Manifest, folder: Path) -> EstimatorModel:
    """The model of a skops or joblib package whose trust has been checked; `PackageRefused` where it cannot be loaded."""
    path = MODEL_FILES[manifest.form]
    # Unpickled from the verified bytes, never from the path: what is loaded is what was compared.
    data = read_verified(manifest, folder, path)
    try:
        columns = Columns.model_validate_json(read_verified(manifest, folder, COLUMNS_FILE))
        model = EstimatorModel(manifest.data_schema, columns, _estimator(manifest.form, data))
        model.hurry([golden.row for golden in manifest.golden])
        return model
    except PackageRefused:
        raise
    except ModelFailed as error:
        raise unloadable(manifest, COLUMNS_FILE, error.detail.rstrip(".")) from error
    except ValidationError:
        raise unloadable(manifest, COLUMNS_FILE, "it does not describe columns") from None
    except Exception as error:
        # Whatever a damaged or foreign object raises while it is put together, the package is what failed.
        raise unloadable(manifest, path, type(error).__name__) from error


class EstimatorModel:
    """An estimator behind rows and answers.

    Args:
        schema: features, task and classes.
        columns: how rows become what the estimator takes.
        estimator: fitted, of scikit-learn's interface.
    """

    def __init__(self, schema: Schema, columns: Columns, estimator: Any) -> None:
        self._schema = schema
        self._columns = columns
        self._estimator = estimator
        self._framing = Framing(columns.columns)
        self._by_array: by_array.ByArray | None = None
        # Estimators take columns by place: an order other than the schema's would answer, and answer wrongly.
        if [column.name for column in columns.columns] != schema.names:
            raise ModelFailed("The columns at training are not the schema's features.")

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer per row; raises `ModelFailed`."""
        if not rows:
            return []
        return answers(self._schema, self._columns, self._estimator, frame_of(rows, self._columns.columns))

    def scored(self, rows: ColumnRows) -> Scored:
        """See `quarterdeck.scored.ScoredModel.scored`."""
        if self._by_array is not None:
            try:
                return self._scored_by_array(self._by_array, rows)
            # Whatever it was, the estimator says it in its own way, or answers.
            except Exception:
                pass
        return scored(self._schema, self._columns, self._estimator, self._framing.frame(rows.lists()))

    def hurry(self, rows: Sequence[Row]) -> None:
        """Answer by arrays from now on, where that answers these rows, and what can be made of them, exactly as the estimator."""
        found = by_array.find(self._estimator, self._columns)
        if found is None or not rows:
            return
        try:
            found.hurry(ColumnRows.of(rows[:1]).lists())
            if self._alike(found, rows):
                self._by_array = found
        # An estimator that fails at its own golden rows is refused by name soon enough.
        except Exception:
            return

    def _alike(self, found: by_array.ByArray, rows: Sequence[Row]) -> bool:
        """Whether both give the same bits, to each row alone and to all together."""
        tried = [[row] for row in by_array.trials(self._schema, rows)]
        for rows_together in [*tried, list(rows)]:
            given = ColumnRows.of(rows_together)
            try:
                ours = self._scored_by_array(found, given)
            except Exception:
                # At golden rows it must answer; at others the estimator is asked where it does not.
                if rows_together[0] in rows:
                    return False
                continue
            theirs = scored(self._schema, self._columns, self._estimator, self._framing.frame(given.lists()))
            if not (np.array_equal(ours.scores, theirs.scores) and np.array_equal(ours.labels, theirs.labels)):
                return False
        return True

    def _scored_by_array(self, found: by_array.ByArray, rows: ColumnRows) -> Scored:
        data = found.ready(rows.lists())
        return _scored(self._schema, self._columns, lambda method: found.ask(method, data), len(rows))


def answers(schema: Schema, columns: Columns, estimator: Any, frame: Any) -> list[Answer]:
    """What an estimator answers to a frame of its training data's dtypes; raises `ModelFailed`."""
    return scored(schema, columns, estimator, frame).answers(schema)


def scored(schema: Schema, columns: Columns, estimator: Any, frame: Any) -> Scored:
    """Scores and labels of an estimator for a frame of its training data's dtypes; raises `ModelFailed`."""
    # An estimator that was fitted to a bare array warns about column names with every call; give it what it knows.
    data = frame.to_numpy() if columns.container == "array" else frame
    return _scored(schema, columns, lambda method: _ask(estimator, method, data), len(frame))


def _scored(schema: Schema, columns: Columns, ask: Callable[[str], Any], count: int) -> Scored:
    if schema.task == "regression":
        return Scored.checked(numbers_of(ask("predict"), (count,), _ORIGINAL).reshape(count, 1))
    scores = numbers_of(ask("predict_proba"), (count, len(schema.classes)), _ORIGINAL)
    if columns.labels == "scores":
        return Scored.checked(scores, scores.argmax(axis=1))
    # Asking twice doubles the time, so it is done only for models whose labels are not those of the highest score.
    labels = [scalar(label) for label in np.asarray(ask("predict")).tolist()]
    return Scored.checked(scores, places_of(labels, schema))


def _ask(estimator: Any, method: str, data: Any) -> Any:
    try:
        return getattr(estimator, method)(data)
    except Exception as error:
        # The model's own words may quote values of the request; its exception's type does not.
        raise ModelFailed(f"The model raised {type(error).__name__}.", hint=_ORIGINAL) from error


def _estimator(form: Form, data: bytes) -> Any:
    return skops_zip.loads(data) if form == "skops" else joblib.load(io.BytesIO(data))
