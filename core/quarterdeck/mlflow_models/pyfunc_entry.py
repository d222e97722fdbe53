"""The entry point of packages made from MLflow's python_function models; copied into each of them, so it stands alone."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Model processes talk to nobody but their node.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow.pyfunc
import numpy as np
import pandas as pd


def load(folder: Path) -> Served:
    """The model of a package's code folder."""
    told = json.loads((folder / "model.json").read_text())
    # MLflow reads files by the names that it gave them, and packages have no such names.
    place = tempfile.TemporaryDirectory(prefix="mlflow-")
    for stored, name in told["files"].items():
        target = Path(place.name, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Copies: MLflow follows no link out of its folder.
        shutil.copyfile(folder / "files" / stored, target)
    return Served(mlflow.pyfunc.load_model(place.name), told, place)


class Served:
    """MLflow's model behind rows.

    Args:
        model: as MLflow loads it.
        told: columns with their dtypes, classes, and whether the model takes a bare array.
        place: folder that lives as long as the model.
    """

    def __init__(self, model: Any, told: dict[str, Any], place: object) -> None:
        self._model, self._place = model, place
        self._columns = {column["name"]: column["dtype"] for column in told["columns"]}
        self._classes, self._array = told["classes"], told["array"]

    def predict(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        """A number for each row, or its scores in the order of the classes."""
        frame = pd.DataFrame({name: self._column(rows, name, dtype) for name, dtype in self._columns.items()})
        found = self._model.predict(frame.to_numpy() if self._array else frame)
        if not self._classes:
            return list(np.asarray(found, dtype=np.float64).reshape(len(rows)).tolist())
        scores = found[[str(name) for name in self._classes]] if isinstance(found, pd.DataFrame) else found
        return list(np.asarray(scores, dtype=np.float64).reshape(len(rows), len(self._classes)).tolist())

    def _column(self, rows: Sequence[dict[str, Any]], name: str, dtype: str) -> Any:
        values = [row[name] for row in rows]
        # Whole numbers with a gap are floats to pandas, as they were when the model was trained.
        if dtype.startswith("int") and None in values:
            dtype = "float64"
        return pd.Series(values, dtype=object).astype(np.dtype(dtype))
