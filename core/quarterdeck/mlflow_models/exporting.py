"""A package as an MLflow model folder: MLflow loads it with `mlflow.pyfunc.load_model`, and it answers as a node does.

The folder needs no installed Quarterdeck: the few files of this program that answer lie in it as well.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

import quarterdeck
from quarterdeck import environment, package_files, verify
from quarterdeck.errors import Conflict
from quarterdeck.manifest import Manifest
from quarterdeck.mlflow_models.folder import DESCRIPTION
from quarterdeck.schema import FeatureType, Schema

LOADER = "quarterdeck_export"
_TYPES: dict[FeatureType, str] = {
    "float": "double",
    "int": "long",
    "string": "string",
    "boolean": "boolean",
    "datetime": "datetime",
}
# What the loader itself is run by, whatever the model's form.
_OWN = ("pydantic", "pyyaml", "numpy", "pandas")


def export_mlflow(package: Path, out: Path) -> Path:
    """Write a package folder as an MLflow model folder.

    `predict` gives labels, and scores in the order of the classes with ``params={"predict_method": "predict_proba"}``.

    Args:
        package: folder of the package; its files are verified.
        out: folder to write; it must not exist, or be empty.

    Raises:
        PackageRefused: the package's files are not what its manifest says.
        Conflict: `out` holds something.
    """
    manifest = package_files.read(package)
    verify.check_files(manifest, package)
    if out.exists() and any(out.iterdir()):
        raise Conflict(f"{out.name} is not empty.", kind="folder", name=out.name, hint="Choose a folder that does not exist yet.")
    for entry in manifest.files:
        target = out / "package" / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((package / entry.path).read_bytes())
    (out / "package" / "manifest.json").write_bytes(manifest.canonical())
    _code(out / "code")
    _environment(manifest, out)
    _write(out / "input_example.json", json.dumps(_example(manifest), ensure_ascii=False))
    # Last: a folder that has it is complete.
    _write(out / DESCRIPTION, yaml.safe_dump(_description(manifest), sort_keys=False, allow_unicode=True))
    return out


def _code(folder: Path) -> None:
    here = Path(quarterdeck.__file__).parent
    shutil.copytree(here, folder / "quarterdeck", ignore=shutil.ignore_patterns("__pycache__", "mlflow_models"))
    _write(folder / f"{LOADER}.py", Path(__file__).with_name("loader.py").read_text(encoding="utf-8"))


def _environment(manifest: Manifest, out: Path) -> None:
    recorded = manifest.environment
    pins = {**{name: environment.installed(name) for name in _OWN}, **recorded.libraries}
    lines = ["mlflow", *(f"{name}=={version}" for name, version in sorted(pins.items()) if version)]
    _write(out / "requirements.txt", "\n".join(lines) + "\n")
    python = {"python": recorded.python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    _write(out / "python_env.yaml", yaml.safe_dump(python, sort_keys=False))
    conda = {
        "channels": ["conda-forge"],
        "dependencies": [f"python={recorded.python}", "pip", {"pip": lines}],
        "name": "mlflow-env",
    }
    _write(out / "conda.yaml", yaml.safe_dump(conda, sort_keys=False))


def _description(manifest: Manifest) -> dict[str, Any]:
    schema = manifest.data_schema
    function = {
        "code": "code",
        "data": "package",
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "loader_module": LOADER,
        "python_version": manifest.environment.python,
    }
    inputs = [{"type": _TYPES[one.type], "name": one.name, "required": not one.nullable} for one in schema.features]
    method = {"name": "predict_method", "type": "string", "default": "predict", "shape": None}
    return {
        "flavors": {"python_function": function},
        "metadata": {"quarterdeck": {"model": manifest.model, "digest": manifest.digest, "form": manifest.form}},
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "pandas_orient": "split",
            "type": "dataframe",
        },
        "signature": {
            "inputs": json.dumps(inputs, ensure_ascii=False),
            "outputs": json.dumps([{"type": "tensor", "tensor-spec": {"dtype": _output(schema), "shape": [-1]}}]),
            "params": json.dumps([method]) if schema.classes else None,
        },
    }


def _output(schema: Schema) -> str:
    kinds = {type(label) for label in schema.classes}
    if not kinds:
        return "float64"
    return {bool: "bool", int: "int64", float: "float64"}.get(kinds.pop(), "str") if len(kinds) == 1 else "object"


def _example(manifest: Manifest) -> dict[str, Any]:
    names = manifest.data_schema.names
    return {"columns": names, "data": [[golden.row[name] for name in names] for golden in manifest.golden]}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
