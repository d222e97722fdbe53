"""From a folder of Python files to a package of form `python`.

The code never runs in the building process: it is written down as a package first, then loaded and asked by the very program
that serves it, in a process of its own. What it answered there are the golden rows, and a second, fresh process must answer the
same before the package is given out.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from quarterdeck import environment, package_files, verify
from quarterdeck.baseline import BASELINE_FILE, baseline
from quarterdeck.build import BuiltPackage
from quarterdeck.build_data import table
from quarterdeck.errors import InvalidInput
from quarterdeck.evaluate import measure
from quarterdeck.forms.python_code import CODE_FOLDER, ENTRY_FILE, ENTRY_PATTERN, Entry
from quarterdeck.frames import rows_of
from quarterdeck.golden import golden_rows, spread
from quarterdeck.infer import features_of, frame_from, labels_of
from quarterdeck.manifest import FileEntry, GoldenRow, Manifest, Scenario
from quarterdeck.schema import Feature, Label, Prediction, Row, Schema
from quarterdeck.worker_client import ProcessModel

_MOST_ROWS = 10_000
# What every such package is run by: its answers are read as numpy arrays.
_LIBRARIES = ("numpy",)


def package_code(
    folder: Path | str,
    entry_point: str,
    X: Any,
    y: Any = None,
    *,
    name: str,
    schema: Schema | None = None,
    classes: Sequence[Label] | None = None,
    positive: Label | None = None,
    target: str = "",
    nullable: Collection[str] = (),
    feature_descriptions: Mapping[str, str] | None = None,
    libraries: Collection[str] = (),
    variables: Collection[str] = (),
    metrics: Mapping[str, float] | None = None,
    scenarios: Sequence[Scenario | Mapping[str, Any]] = (),
    seconds: float = 120.0,
    **words: Any,
) -> BuiltPackage:
    """Make a package of Python code: everything in `folder`, and the function in it that gives the model.

    `load(folder: Path)` must give an object with `predict(rows: list[dict]) -> list`; `quarterdeck.forms.python_code` says which
    answers it may give. Every package is of trust `code`: a deployment must allow it by name.

    Args:
        folder: Python files and artifacts; hidden files and bytecode are left out.
        entry_point: ``module:function``, e.g. ``pricing:load``.
        X: example rows, a DataFrame or an array: golden rows are chosen from them, and the features are read off them.
        y: their true values, where known: metrics and, without `schema`, the task come from them. Text and booleans make a
            classifier, numbers a regression unless `classes` is given.
        name: the model's name: lower-case letters, digits and dashes.
        schema: features, task and classes, where they are not to be read off `X` and `y`.
        classes: the labels in the order of the scores; sorted values of `y` where left out.
        positive: the class that a binary score speaks of; the second one where left out.
        target: name of the predicted column; the name of `y` where it has one.
        nullable: columns that take null although `X` has none.
        feature_descriptions: words by column name.
        libraries: distributions that the code needs beside those that its files import.
        variables: names of environment variables that the code needs.
        metrics: further figures by name.
        scenarios: named tests, run by `quarterdeck package test`.
        seconds: deadline of loading the code, and of each question to it.
        words: further members of the manifest, as `quarterdeck.build.package` takes them: `description`, `card`, `run`,
            `parent`, `commit`, `recipe`, `producer`.

    Raises:
        InvalidInput: a file, the data or an argument does not fit; names it.
        PackageRefused: ``load-failed`` where the entry point cannot be loaded; ``golden-mismatch`` where the same row is not
            answered the same twice.
        ModelFailed: the model raises, dies, hangs or answers something else at a row of `X`.
    """
    frame = frame_from(X)
    labels = None if y is None else labels_of(y)
    if labels is not None and len(labels) != len(frame):
        raise _unfit(f"The data has {len(frame)} rows and {len(labels)} targets.", "y", "Give one target for each row.")
    if schema is None:
        features = features_of(frame, nullable, feature_descriptions or {})
        schema = _schema(features, labels, target or str(getattr(y, "name", None) or "target"), classes, positive)
    elif missing := sorted(set(schema.names) - set(frame.columns)):
        raise _unfit(f"The example rows have no column {missing[0]}.", "X", "Give every feature of the schema.")
    place, code = Path(folder), _code_files(Path(folder))
    _check_entry(place, entry_point, code)
    files = {f"{CODE_FOLDER}/{path}": data for path, data in code.items()}
    files[ENTRY_FILE] = Entry(entry_point=entry_point).model_dump_json().encode()
    needed = {*_LIBRARIES, *libraries, *_imported(code)}
    document = {
        **words,
        "model": name,
        "form": "python",
        "trust": "code",
        "schema": schema,
        "environment": environment.current(needed, variables),
        "scenarios": [dict(scenario) for scenario in scenarios],
    }
    return _proven(document, files, _Judged(frame[schema.names], labels), metrics or {}, seconds)


def code_from_files(
    folder: Path | str, entry_point: str, data_path: Path | str, target: str, *, class_texts: Sequence[str] = (), **named: Any
) -> BuiltPackage:
    """A package of code whose example rows lie in a file, with the further arguments of `package_code`.

    Args:
        folder: Python files and artifacts.
        entry_point: ``module:function``.
        data_path: ``.parquet`` or ``.csv`` with the features and the target.
        target: the target's column.
        class_texts: the classes in the order of the scores, as texts; the file says what they are texts of.

    Raises:
        InvalidInput: the file cannot be read, or has no such column; and whatever `package_code` raises.
    """
    rows, labels = table(Path(data_path), target, None)
    if class_texts:
        spelled = {str(label): label for label in labels_of(labels)}
        named["classes"] = [spelled.get(text, text) for text in class_texts]
    return package_code(folder, entry_point, rows, labels, **named)


class _Judged:
    """The example rows as a door gives them, at most 10,000, evenly spread; their true values where known."""

    def __init__(self, frame: pd.DataFrame, labels: list[Label] | None) -> None:
        places = spread(len(frame), _MOST_ROWS)
        self.rows: list[Row] = rows_of(frame.iloc[places])
        self.labels = None if labels is None else [labels[place] for place in places]


def _proven(
    document: dict[str, Any], files: dict[str, bytes], judged: _Judged, metrics: Mapping[str, float], seconds: float
) -> BuiltPackage:
    """Ask the code for the golden rows, and a second process whether it answers the same."""
    first = _manifest(document, files)
    schema = first.data_schema
    with tempfile.TemporaryDirectory() as temporary:
        written = package_files.write(first, files, Path(temporary) / "first")
        with ProcessModel(written, first, allow_code=True, seconds=seconds) as model:
            answers = model.predict(judged.rows)
            golden = golden_rows(schema, judged.rows, model)
        measured = {} if judged.labels is None else measure(schema, judged.labels, answers)
        files[BASELINE_FILE] = baseline(schema, judged.rows, answers, "training")
        figures = {**{f"training_{key}": value for key, value in measured.items()}, **metrics}
        whole = _manifest({**document, "metrics": figures, "golden": golden}, files)
        written = package_files.write(whole, files, Path(temporary) / "second")
        with ProcessModel(written, whole, allow_code=True, seconds=seconds) as model:
            verify.check_golden(whole, model)
    return BuiltPackage(whole, files)


def _manifest(document: dict[str, Any], files: Mapping[str, bytes]) -> Manifest:
    entries = [
        FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in sorted(files.items())
    ]
    # Only code that was loaded can answer golden rows, and it is loaded by a manifest.
    placeholder = [GoldenRow(row={}, expected=Prediction(prediction=0))]
    try:
        return Manifest.model_validate({"golden": placeholder, **document, "files": entries})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _unfit(f"{place}: {first['msg']}.", place, f"Change what is given as `{place}`.") from None


def _schema(
    features: list[Feature],
    labels: list[Label] | None,
    target: str,
    classes: Sequence[Label] | None,
    positive: Label | None,
) -> Schema:
    if labels is None:
        raise _unfit("Neither a schema nor targets are given.", "y", "Give `y`, or a `schema` that names the task.")
    numbers = all(isinstance(label, (int, float)) and not isinstance(label, bool) for label in labels)
    if classes is None and numbers:
        return Schema(task="regression", target=target, features=features)
    found = list(classes) if classes is not None else sorted(set(labels), key=lambda label: (str(type(label)), label))
    if len(found) < 2 or len(set(found)) != len(found):
        raise _unfit("A classifier needs two different classes or more.", "classes", "Name every class, in the scores' order.")
    if positive is not None and (len(found) > 2 or positive not in found):
        raise _unfit("`positive` must be one of two classes.", "positive", "Name one of the classes, or leave it out.")
    if len(found) == 2:
        chosen = found[1] if positive is None else positive
        return Schema(task="binary", target=target, classes=found, positive=chosen, features=features)
    return Schema(task="multiclass", target=target, classes=found, features=features)


def _code_files(folder: Path) -> dict[str, bytes]:
    """The folder's files by their path below it."""
    if not folder.is_dir():
        raise _unfit(f"There is no folder {folder}.", "folder", "Give the folder that the Python files lie in.")
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        left_out = any(part.startswith(".") or part == "__pycache__" for part in below.parts) or path.suffix == ".pyc"
        if left_out or (path.is_dir() and not path.is_symlink()):
            continue
        # A link may lead anywhere, and another machine has something else there.
        if path.is_symlink() or not path.is_file():
            raise _unfit(f"{below} is no plain file.", str(below), "Put a copy in its place.")
        found[below.as_posix()] = path.read_bytes()
    for name in found:
        try:
            FileEntry(path=f"{CODE_FOLDER}/{name}", size=0, sha256="0" * 64)
        except ValidationError:
            hint = "Use lower-case letters, digits, `_`, `-` and `.`."
            raise _unfit(f"{name} is no name that a package file can have.", name, hint) from None
    return found


def _check_entry(folder: Path, entry_point: str, code: Mapping[str, bytes]) -> None:
    module = entry_point.partition(":")[0].replace(".", "/")
    if not re.fullmatch(ENTRY_PATTERN, entry_point) or not {f"{module}.py", f"{module}/__init__.py"} & code.keys():
        hint = "Name it as `module:function`, e.g. `pricing:load` for the function load in pricing.py."
        raise _unfit(f"{folder} holds no module for the entry point {entry_point}.", "entry_point", hint)


def _imported(code: Mapping[str, bytes]) -> set[str]:
    """Distributions that the files import from, wherever in them the import stands."""
    names: set[str] = set()
    for path, data in code.items():
        if path.endswith(".py"):
            names |= _imports(path, data)
    own = {path.partition("/")[0].removesuffix(".py") for path in code}
    foreign = names - own - sys.stdlib_module_names
    providers = metadata.packages_distributions() if foreign else {}
    return {distribution for name in foreign for distribution in providers.get(name, [])}


def _imports(path: str, data: bytes) -> set[str]:
    try:
        tree = ast.parse(data, path)
    except (SyntaxError, ValueError) as error:
        raise _unfit(f"{path} is not Python: {error}.", path, "Correct it, or leave it out.") from None
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _unfit(detail: str, name: str, hint: str) -> InvalidInput:
    return InvalidInput(detail, kind="argument", name=name, hint=hint)
