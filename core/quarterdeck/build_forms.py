"""The forms that a model can be stored in, tried in their order, and the libraries that each needs."""

from __future__ import annotations

import io
import json
from importlib import metadata
from typing import Any, Literal

import joblib

from quarterdeck.compiled.program import PROGRAM_FILE, Program, Trees
from quarterdeck.compiling.draft import NotCompilable
from quarterdeck.compiling.estimate import compile_model
from quarterdeck.errors import PackageRefused
from quarterdeck.forms import python_forms, skops_zip
from quarterdeck.frames import COLUMNS_FILE, Columns
from quarterdeck.manifest import Form, Trust
from quarterdeck.schema import Schema
from quarterdeck.sources import modules_of

FormChoice = Literal["auto", "compiled", "skops", "joblib"]

# What a model of each form is read and run by; whatever else its estimators come from is added.
_LIBRARIES: dict[Form, tuple[str, ...]] = {
    "skops": ("numpy", "pandas", "scikit-learn", "scipy", "skops"),
    "joblib": ("joblib", "numpy", "pandas", "scikit-learn", "scipy"),
}
_PROVIDERS = {"lightgbm": "lightgbm", "numpy": "numpy", "pandas": "pandas", "scipy": "scipy", "sklearn": "scikit-learn"}


def compiled(model: Any, schema: Schema, columns: Columns) -> dict[str, bytes]:
    """The files of the compiled form.

    Args:
        model: as it was fitted.
        schema: features, task and classes.
        columns: how nodes would ask the model itself.

    Raises:
        NotCompilable: a part of the model has no compiled form.
    """
    try:
        program, texts = compile_model(model, schema, columns)
    except NotCompilable:
        raise
    except Exception as error:
        # Attributes of estimators change between releases of their libraries; a model that then cannot be compiled can be served.
        raise NotCompilable(f"{type(model).__name__}: compiling it raised {type(error).__name__}") from error
    try:
        data = json.dumps(program.model_dump(mode="json"), separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        raise NotCompilable(f"{type(model).__name__}: one of its numbers is not finite") from None
    return {PROGRAM_FILE: data, **texts}


def stored(model: Any, form: FormChoice, trust: Trust | None, columns: Columns) -> tuple[Form, dict[str, bytes]]:
    """The model itself: as skops where that knows all its types, else as joblib where code is allowed.

    Raises:
        PackageRefused: ``untrusted-types`` or ``trust-required``.
    """
    described = {COLUMNS_FILE: columns.model_dump_json().encode()}
    # Joblib only where skops has been tried: nobody gets a package that runs code by a convenience of ours.
    data = b"" if form == "joblib" else skops_zip.dumps(model)
    foreign = [] if form == "joblib" else skops_zip.foreign_types(data)
    if form != "joblib" and not foreign:
        return "skops", {python_forms.MODEL_FILES["skops"]: data, **described}
    if trust != "code" or form == "skops":
        raise PackageRefused(
            "The model must be stored as joblib, and loading that runs code."
            if not foreign
            else f"The model contains types that are not on the list of known ones: {', '.join(foreign)}.",
            code="trust-required" if not foreign else "untrusted-types",
            kind="model",
            name=type(model).__name__,
            hint='Build it with `--trust code` (trust="code"), and allow it in the deployment.',
        )
    target = io.BytesIO()
    joblib.dump(model, target)
    return "joblib", {python_forms.MODEL_FILES["joblib"]: target.getvalue(), **described}


def libraries(model: Any, form: Form, files: dict[str, bytes]) -> set[str]:
    """The distributions that a form of the model is read and run by."""
    if form == "compiled":
        steps = Program.model_validate_json(files[PROGRAM_FILE]).steps
        return {"numpy", "lightgbm"} if any(isinstance(step, Trees) for step in steps) else {"numpy"}
    modules = modules_of(model)
    known = {_PROVIDERS[module] for module in modules & _PROVIDERS.keys()}
    # Asking which distribution provides a module reads the metadata of all of them: only for what is not known by name.
    others = metadata.packages_distributions() if modules - _PROVIDERS.keys() else {}
    return {*_LIBRARIES[form], *known, *(name for module in modules for name in others.get(module, []))}
