"""MLflow's python_function models as packages of Python code: the whole folder, and a few lines that load it with MLflow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from quarterdeck import environment
from quarterdeck.build import BuiltPackage
from quarterdeck.build_code import package_code
from quarterdeck.errors import InvalidInput, PackageRefused
from quarterdeck.infer import features_of
from quarterdeck.mlflow_models.folder import MlflowFolder, Signature
from quarterdeck.schema import Schema

ENTRY = "quarterdeck_mlflow"
_NUMBERS = {"double", "float", "long", "integer"}


def package(found: MlflowFolder, signature: Signature, rows: pd.DataFrame, wanted: Mapping[str, Any]) -> BuiltPackage:
    """The package, proven in a process of its own; this runs the folder's code.

    Args:
        found: the folder.
        signature: its signature.
        rows: examples of what the model takes.
        wanted: members of `importing.Wanted`.

    Raises:
        PackageRefused: ``environment-mismatch`` where the recorded environment is not this one.
        InvalidInput: the model gives neither a number nor scores.
    """
    needed = _environment(found)
    nullable = [column.name for column in signature.columns if not column.required]
    schema = _schema(found, signature, rows, nullable, wanted)
    with tempfile.TemporaryDirectory() as scratch:
        _write(found, signature, schema, Path(scratch))
        return package_code(
            scratch,
            f"{ENTRY}:load",
            rows,
            name=wanted["name"],
            schema=schema,
            libraries=needed,
            seconds=wanted["seconds"],
            description=wanted["description"],
            run=found.run,
            producer=found.producer,
        )


def _environment(found: MlflowFolder) -> list[str]:
    """Distributions that MLflow recorded, which must be here in those versions: the answers are taken down here."""
    needed = {"mlflow": "", "pandas": "", **found.requirements()}
    for library, version in sorted(needed.items()):
        here = environment.installed(library)
        if not here or (version and here != version):
            raise PackageRefused(
                f"The model was saved with {library} {version}; here is {here or 'none'}.".replace("  ", " "),
                code="environment-mismatch",
                kind="mlflow",
                name=found.path.name,
                hint="Import it in an environment with Quarterdeck and what requirements.txt in the folder names.",
                extra={"place": library, "wanted": version, "here": here},
            )
    return sorted(needed)


def _schema(
    found: MlflowFolder, signature: Signature, rows: pd.DataFrame, nullable: list[str], wanted: Mapping[str, Any]
) -> Schema:
    # Ranges and categories of a handful of rows say nothing of the training data.
    plain = {"minimum": None, "maximum": None, "categories": None}
    features = [feature.model_copy(update=plain) for feature in features_of(rows, nullable, {})]
    target, classes = wanted["target"] or "target", _classes(found, signature, wanted["classes"])
    if not classes:
        return Schema(task="regression", target=target, features=features)
    task: Any = "binary" if len(classes) == 2 else "multiclass"
    return Schema(task=task, target=target, classes=classes, positive=classes[1] if task == "binary" else None, features=features)


def _classes(found: MlflowFolder, signature: Signature, named: list[str]) -> list[str]:
    """The classes whose scores the model gives, in their order; none for a regression."""
    outputs = signature.outputs
    if len(outputs) == 1 and outputs[0].get("type") == "tensor":
        shape = outputs[0].get("tensor-spec", {}).get("shape", [])
        number = str(outputs[0].get("tensor-spec", {}).get("dtype", "")).startswith(("float", "int"))
        if number and len(shape) == 1 and not named:
            return []
        if number and len(shape) == 2 and len(named) == shape[1]:
            return named
    elif outputs and all(one.get("type") in _NUMBERS for one in outputs):
        if len(outputs) == 1:
            return []
        names = [str(one.get("name")) for one in outputs]
        if not named or sorted(named) == sorted(names):
            return names
    raise InvalidInput(
        "The signature's outputs are neither one number nor a number for each class.",
        kind="mlflow",
        name=found.path.name,
        hint="Let predict give one number, or one column per class with its score; name the classes of an array with --class.",
    )


def _write(found: MlflowFolder, signature: Signature, schema: Schema, scratch: Path) -> None:
    (scratch / f"{ENTRY}.py").write_text(Path(__file__).with_name("pyfunc_entry.py").read_text())
    (scratch / "files").mkdir()
    names: dict[str, str] = {}
    for path in sorted(found.path.rglob("*")):
        below = path.relative_to(found.path)
        if path.is_symlink() and not path.resolve().is_relative_to(found.path.resolve()):
            raise InvalidInput(
                f"{below} leads out of the folder.", kind="mlflow", name=str(below), hint="Put a copy in its place."
            )
        if path.is_file() and "__pycache__" not in below.parts:
            # Under names that every package file can have; a package's own code ends in .py, and this is not its own.
            stored = f"f{len(names):04d}"
            (scratch / "files" / stored).write_bytes(path.read_bytes())
            names[stored] = below.as_posix()
    columns = [{"name": column.name, "dtype": column.dtype} for column in signature.columns]
    told = {"files": names, "columns": columns, "array": signature.array, "classes": schema.classes}
    (scratch / "model.json").write_text(json.dumps(told))
