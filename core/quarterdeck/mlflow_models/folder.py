"""What lies in an MLflow model folder: flavors, signature, input example, recorded environment. Nothing of it is run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from quarterdeck.errors import InvalidInput, NotFound

DESCRIPTION = "MLmodel"
_MOST_BYTES = 16 * 2**20
# MLflow's names of types, and the dtype that it would cast a column to.
_DTYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "object",
    "datetime": "datetime64[ns]",
}
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^;,\s]+)")
_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")
_AGAIN = "Save the model again with `signature=infer_signature(X, model.predict(X))` and `input_example=X[:20]`."


@dataclass(frozen=True)
class Column:
    """One input of the signature; `dtype` is numpy's name of it."""

    name: str
    dtype: str
    required: bool


@dataclass(frozen=True)
class Signature:
    """What the model takes and gives; `array` where it takes a bare array. `outputs` are as MLflow wrote them."""

    columns: list[Column]
    array: bool
    outputs: list[dict[str, Any]]

    def frame(self, data: pd.DataFrame) -> pd.DataFrame:
        """The signature's columns of some rows, cast as MLflow would; `InvalidInput` names one that cannot be."""
        found = {}
        for column in self.columns:
            if column.name not in data.columns:
                raise _unfit(f"The rows have no column {column.name}, which the signature names.", column.name)
            try:
                values = data[column.name]
                # Whole numbers with a gap are floats to pandas, and to MLflow too.
                gaps = column.dtype.startswith("int") and bool(values.isna().any())
                found[column.name] = values.astype(np.dtype("float64" if gaps else column.dtype))
            except (TypeError, ValueError) as error:
                raise _unfit(f"Column {column.name} of the rows is not of the signature's type.", column.name) from error
        return pd.DataFrame(found)


class MlflowFolder:
    """One model folder.

    Args:
        path: of the folder that holds the file `MLmodel`.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is not what MLflow writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        raw = self._text(DESCRIPTION)
        try:
            found = yaml.safe_load(raw)
        except (yaml.YAMLError, RecursionError) as error:
            raise _unfit(f"{DESCRIPTION} is no YAML.", DESCRIPTION) from error
        flavors = found.get("flavors") if isinstance(found, dict) else None
        if not isinstance(flavors, dict) or not all(isinstance(one, dict) for one in flavors.values()):
            raise _unfit(f"{DESCRIPTION} names no flavors.", DESCRIPTION)
        self._told: dict[str, Any] = found
        self.flavors: dict[str, dict[str, Any]] = flavors

    @property
    def producer(self) -> str:
        """Who wrote it."""
        return f"mlflow {self._told.get('mlflow_version') or ''}".strip()

    @property
    def run(self) -> str:
        """Id of MLflow's run; empty where the model was saved outside of one."""
        return str(self._told.get("run_id") or "")

    def file(self, flavor: str, *members: str) -> Path:
        """The file that a flavor names by the first of these members that is there; `InvalidInput` where it leads elsewhere."""
        found = next((told for member in members if isinstance(told := self.flavors[flavor].get(member), str)), None)
        if found is None:
            raise _unfit(f"The flavor {flavor} names no model file.", flavor)
        place = self.path / found
        # The name comes from a stranger's file.
        if not place.resolve().is_relative_to(self.path.resolve()) or not place.is_file():
            raise _unfit(f"The flavor {flavor} names a file that is not in the folder.", flavor)
        return place

    def signature(self) -> Signature:
        """Inputs and outputs.

        Raises:
            InvalidInput: ``signature-missing``, or a type that no feature has.
        """
        told = self._told.get("signature")
        if not isinstance(told, dict) or not told.get("inputs"):
            raise InvalidInput(
                "The model has no signature, so nobody knows which columns of which types it takes.",
                code="signature-missing",
                kind="mlflow",
                name=self.path.name,
                hint=_AGAIN,
            )
        inputs, outputs = _listed(told["inputs"]), _listed(told.get("outputs") or "[]")
        if len(inputs) == 1 and inputs[0].get("type") == "tensor":
            return Signature(_tensor(inputs[0]), True, outputs)
        return Signature([_column(one) for one in inputs], False, outputs)

    def example(self, signature: Signature) -> pd.DataFrame | None:
        """The input example in the signature's columns and types; None where none was saved."""
        about = self._told.get("saved_input_example_info")
        if not isinstance(about, dict) or not isinstance(about.get("artifact_path"), str):
            return None
        try:
            found = json.loads(self._text(about["artifact_path"]))
            if isinstance(found, dict) and {"columns", "data"} <= found.keys():
                return signature.frame(pd.DataFrame(found["data"], columns=found["columns"]))
            names = [column.name for column in signature.columns]
            rows = found["inputs"] if isinstance(found, dict) and "inputs" in found else found
            return signature.frame(pd.DataFrame(rows, columns=names if isinstance(rows[0], list) else None))
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise _unfit("The input example is not one table of rows.", about["artifact_path"]) from error

    def requirements(self) -> dict[str, str]:
        """Distributions that the model needs, with their version where it is pinned; else empty."""
        try:
            lines = self._text("requirements.txt").splitlines()
        except NotFound:
            return {}
        found = {}
        for line in lines:
            pinned, named = _PIN.match(line.strip()), _NAME.match(line.strip())
            if pinned or named:
                found[(pinned or named)[1]] = pinned[2] if pinned else ""  # type: ignore[index]
        return found

    def _text(self, name: str) -> str:
        place = self.path / name
        if not place.resolve().is_relative_to(self.path.resolve()) or not place.is_file():
            raise NotFound(
                f"{self.path.name} holds no file {name}.",
                kind="mlflow",
                name=self.path.name,
                hint="Give the folder that MLflow's save_model wrote, the one with the file MLmodel in it.",
            )
        with place.open("rb") as source:
            raw = source.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise _unfit(f"{name} is larger than {_MOST_BYTES // 2**20} MiB.", name)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise _unfit(f"{name} is no text.", name) from error


def _listed(text: Any) -> list[dict[str, Any]]:
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as error:
        raise _unfit("The signature is no JSON.", "signature") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _unfit("The signature is no list of columns.", "signature")
    return found


def _column(told: Mapping[str, Any]) -> Column:
    kind, name = told.get("type"), told.get("name")
    if not isinstance(name, str) or not name:
        raise _unfit("The signature has a column without a name.", "signature")
    if not isinstance(kind, str) or kind not in _DTYPES:
        detail = f"Column {name} of the signature is of a type that no feature has."
        raise _unfit(detail, name, "Features are numbers, texts, truth values and datetimes.")
    return Column(name, _DTYPES[kind], told.get("required", True) is not False)


def _tensor(told: Mapping[str, Any]) -> list[Column]:
    spec = told.get("tensor-spec")
    shape = spec.get("shape") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(shape, list) or len(shape) != 2 or not _is_width(shape[1]):
        raise _unfit("The signature's tensor is no table of rows.", "signature", "A tensor of shape (-1, columns) can be taken.")
    dtype = str(spec.get("dtype"))
    if dtype not in ("float32", "float64", "int32", "int64", "bool"):
        raise _unfit("The signature's tensor is of a type that no feature has.", "signature")
    return [Column(f"column_{place}", dtype, True) for place in range(shape[1])]


def _is_width(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 100_000


def _unfit(detail: str, name: str, hint: str = _AGAIN) -> InvalidInput:
    return InvalidInput(detail, kind="mlflow", name=name, hint=hint)
