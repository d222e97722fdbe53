"""Custom Python models for tests: folders of code that do what they are told, and their packages."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pandas as pd

from quarterdeck.build import BuiltPackage
from quarterdeck.build_code import package_code
from quarterdeck.forms.python_code import ENTRY_FILE

# One feature tells the model what to do; every other number is answered by its double.
UNRULY = """
import os, sys, time
import numpy as np

LEFT = []

class Model:
    def predict(self, rows):
        numbers = [row["number"] for row in rows]
        print("models may print", flush=True)
        if -1.0 in numbers: os._exit(1)
        while -2.0 in numbers: pass
        if -3.0 in numbers: raise ValueError("told to")
        if -4.0 in numbers: return [1.0] * (len(rows) + 1)
        if -5.0 in numbers: return [float("nan")] * len(rows)
        if -6.0 in numbers: return ["text"] * len(rows)
        if -7.0 in numbers: sys.exit(3)
        while -8.0 in numbers: LEFT.append(np.empty(2**26))
        if -10.0 in numbers: LEFT.append(np.ones(2**24))
        if -11.0 in numbers and not os.fork():
            time.sleep(3600)
        if -9.0 in numbers: return None
        return [2 * number for number in numbers]

def load(folder):
    print("loading may print", flush=True)
    return Model()
"""
DIES, HANGS, RAISES, TOO_MANY, NOT_FINITE, TEXT, EXITS, LEAKS, NOTHING, DRIPS, FORKS = (-float(number) for number in range(1, 12))


def folder_with(**files: str) -> Path:
    """A folder with these files; `pricing` becomes pricing.py, `pricing__helper` becomes pricing/helper.py."""
    folder = Path(mkdtemp(prefix="code-"))
    for name, text in files.items():
        path = folder / (name.replace("__", "/", 1) + ".py" if not name.startswith("__") else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def numbers() -> pd.DataFrame:
    """Example rows of one feature, all of them harmless."""
    return pd.DataFrame({"number": [float(number) for number in range(10)]})


def code_package(text: str, name: str = "custom", **named: Any) -> BuiltPackage:
    """The package of one module over `numbers`, a regression where nothing else is said."""
    X = numbers()
    return package_code(folder_with(model=text), "model:load", X, named.pop("y", X["number"] * 2), name=name, **named)


def with_code(built: BuiltPackage, text: str) -> BuiltPackage:
    """The package with other code in it, as if it had worked where it was built."""
    files = {**built.files, "code/model.py": text.encode(), ENTRY_FILE: json.dumps({"entry_point": "model:load"}).encode()}
    entries = [
        entry.model_copy(update={"size": len(files[entry.path]), "sha256": hashlib.sha256(files[entry.path]).hexdigest()})
        for entry in built.manifest.files
    ]
    return BuiltPackage(built.manifest.model_copy(update={"files": entries}), files)


@cache
def unruly() -> BuiltPackage:
    """The package of a model that misbehaves when told to."""
    return code_package(UNRULY, "unruly")
