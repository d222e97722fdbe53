"""The loader of exported packages; copied into each MLflow folder, beside the files of Quarterdeck that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from quarterdeck import package_files
from quarterdeck.frames import scalar
from quarterdeck.manifest import Manifest
from quarterdeck.model import Model
from quarterdeck.schema import Feature, Row, Scalar


def _load_pyfunc(path: str) -> Exported:
    """What MLflow calls: the package, proven as before it serves on a node."""
    folder = Path(path)
    manifest = package_files.read(folder)
    # Whoever has MLflow load a folder lets it run code of that folder, this one among it.
    return Exported(manifest, package_files.prove(folder, digest=manifest.digest, allow_code=manifest.trust == "code"))


class Exported:
    """A package's model behind MLflow's tables.

    Args:
        manifest: of the package.
        model: its model.
    """

    def __init__(self, manifest: Manifest, model: Model) -> None:
        self._schema, self._model = manifest.data_schema, model

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Labels or numbers; with the parameter `predict_method` as `predict_proba` the scores, a column for each class."""
        names = self._schema.names
        frame = model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame(model_input, columns=names)
        columns = [[_value(feature, value) for value in frame[feature.name]] for feature in self._schema.features]
        rows: list[Row] = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
        answers = self._model.predict(rows)
        if self._schema.classes and (params or {}).get("predict_method") == "predict_proba":
            return np.array([answer.scores for answer in answers], dtype=np.float64).reshape(-1, len(self._schema.classes))
        return np.array([answer.prediction for answer in answers])


def _value(feature: Feature, value: object) -> Scalar:
    found = scalar(value)
    # A column of whole numbers with a gap comes as floats.
    if feature.type == "int" and isinstance(found, float) and found.is_integer():
        return int(found)
    return found
