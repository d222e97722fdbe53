"""What is kept of a model for people: hyperparameters as JSON, the estimator's own text, the sources of its functions."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from quarterdeck.errors import InvalidInput
from quarterdeck.infer import is_booster

SOURCE_FILE = "source.txt"
# Addresses differ from process to process, and equal input must give equal bytes.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def hyperparameters(model: Any) -> dict[str, Any]:
    """The model's parameters by name, nested ones as ``step__name``, with JSON values only."""
    found = dict(model.params) if is_booster(model) else model.get_params(deep=True)
    # Steps and transformers are containers of estimators, whose own parameters follow under their names.
    return {name: plain(value) for name, value in sorted(found.items()) if not _holds_estimators(value)}


def plain(value: Any) -> Any:
    """A JSON value that says the same from one process to the next: no addresses, no NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(member) for member in value]
    # The order of a set depends on the hash seed of the process.
    if isinstance(value, (set, frozenset)):
        return sorted((plain(member) for member in value), key=str)
    # Objects without a JSON form are told by their type: their own text may hold an address or data.
    named = value if isinstance(value, (type, FunctionType, BuiltinFunctionType)) else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def source_text(model: Any) -> str:
    """The estimator as text, then the source of every function it holds, where that can be had."""
    parts = [_text(model)]
    for function in _functions(model):
        try:
            parts.append(inspect.getsource(function))
        except (OSError, TypeError):
            parts.append(f"# {function.__module__}.{function.__qualname__}: no source at hand")
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def modules_of(model: Any) -> set[str]:
    """Top-level modules that the model's estimators and functions come from.

    Raises:
        InvalidInput: one is defined in the script itself, where no other process can import it.
    """
    members = list(_members(model))
    # Functions of builtins and numpy's ufuncs are no FunctionType and come with the recorded libraries.
    found = {(member if isinstance(member, FunctionType) else type(member)).__module__ for member in members}
    # Found here, where the author can still move it, and not at the first node that tries to load the package.
    if "__main__" in found:
        raise InvalidInput(
            "Part of the model is defined in the script or notebook itself, so a node could not import it.",
            kind="model",
            name=type(model).__name__,
            hint="Move the class or function into a module that can be installed.",
        )
    return {module.partition(".")[0] for module in found}


def _text(model: Any) -> str:
    if is_booster(model):
        return f"lightgbm.Booster with {model.num_trees()} trees over {', '.join(model.feature_name())}"
    try:
        # scikit-learn cuts its texts at 700 characters unless asked.
        text = model.__repr__(N_CHAR_MAX=10**6)
    except TypeError:
        text = repr(model)
    return _ADDRESS.sub("", text)


def _functions(model: Any) -> list[FunctionType]:
    return list(dict.fromkeys(member for member in _members(model) if isinstance(member, FunctionType)))


def _members(model: Any) -> Iterator[Any]:
    """The model and every estimator and function among its parameters, each level in the order of its names."""
    yield model
    for _, value in sorted(model.get_params(deep=True).items()) if hasattr(model, "get_params") else []:
        if hasattr(value, "get_params") or isinstance(value, FunctionType):
            yield value


def _holds_estimators(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_estimators(member) for member in value)
    return hasattr(value, "get_params")
