"""Custom Python models: files of the package under `code/`, and the function of theirs that gives the model.

`entry.json` names it as `module:load`. `load(folder)` gets the folder that those files lie in and gives an object with
`predict(rows)`: rows as a list of dicts of JSON scalars by feature name, null being None, in; a list with one answer per row out:

- regression: a number;
- classifiers: the list of scores in the order of the schema's classes, or `{"scores": {class: score}}`, with
  `"prediction": class` where the label is not that of the highest score.

Modules are compiled from the verified bytes themselves. No other file is imported in their place, and no bytecode is written.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import Field, ValidationError

from quarterdeck.column_rows import ColumnRows
from quarterdeck.errors import ModelFailed
from quarterdeck.manifest import Manifest
from quarterdeck.records import Answer
from quarterdeck.schema import Frozen, Row, Schema
from quarterdeck.scored import Scored, numbers_of, places_of
from quarterdeck.verify import read_verified, unloadable

CODE_FOLDER = "code"
ENTRY_FILE = "entry.json"
ENTRY_PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"

_SHOULD = "predict(rows) must give a list with one answer per row; see the guide on custom Python models."


class Entry(Frozen):
    """Which function gives the model."""

    entry_point: str = Field(pattern=ENTRY_PATTERN, description="`module:function`, e.g. `pricing:load`.")


def load(manifest: Manifest, folder: Path) -> CodeModel:
    """The model of a python package whose trust has been checked. This runs its code.

    Raises:
        PackageRefused: ``load-failed``, ``file-missing`` or ``digest-mismatch``.
    """
    try:
        entry = Entry.model_validate_json(read_verified(manifest, folder, ENTRY_FILE))
    except ValidationError:
        raise unloadable(manifest, ENTRY_FILE, "it names no entry point") from None
    here = folder / CODE_FOLDER
    prefix = f"{CODE_FOLDER}/"
    paths = [file.path for file in manifest.files if file.path.startswith(prefix) and file.path.endswith(".py")]
    _Modules.replace(here, {path.removeprefix(prefix): read_verified(manifest, folder, path) for path in paths})
    module, _, function = entry.entry_point.partition(":")
    try:
        model = getattr(importlib.import_module(module), function)(here)
    except MemoryError:
        raise
    # Whatever the package's code raises, an exit of its own included, the package is what failed.
    except BaseException as error:
        raise unloadable(manifest, entry.entry_point, f"it raised {type(error).__name__}") from error
    if not callable(getattr(model, "predict", None)):
        raise unloadable(manifest, entry.entry_point, "what it gives has no predict method")
    return CodeModel(manifest.data_schema, model)


class CodeModel:
    """Somebody's object behind rows and answers.

    Args:
        schema: features, task and classes.
        model: has `predict(rows)` as the module's text says.
    """

    def __init__(self, schema: Schema, model: Any) -> None:
        self._schema = schema
        self._model = model

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer per row; raises `ModelFailed`."""
        return self._scored([{name: row[name] for name in self._schema.names} for row in rows]).answers(self._schema)

    def scored(self, rows: ColumnRows) -> Scored:
        """See `quarterdeck.scored.ScoredModel.scored`."""
        return self._scored(list(rows))

    def _scored(self, rows: list[Row]) -> Scored:
        # Counted before: the list is the model's to change.
        count = len(rows)
        try:
            found = self._model.predict(rows)
            found = found.tolist() if hasattr(found, "tolist") else list(found)
        except MemoryError:
            raise
        # Its own words may quote values of the request; its exception's type does not. Exits end the answer, not the process.
        except (Exception, SystemExit) as error:
            raise ModelFailed(f"The model raised {type(error).__name__}.", hint="Try the row on the model itself.") from error
        if len(found) != count:
            raise ModelFailed(f"The model answered {len(found)} rows for {count}.", hint=_SHOULD)
        if self._schema.task == "regression":
            return Scored.checked(numbers_of(found, (count,), _SHOULD).reshape(count, 1))
        if any(isinstance(answer, Mapping) for answer in found):
            return self._named(found)
        scores = numbers_of(found, (count, len(self._schema.classes)), _SHOULD)
        return Scored.checked(scores, scores.argmax(axis=1))

    def _named(self, found: Iterable[Any]) -> Scored:
        """Answers that name their classes, in whatever order."""
        classes = self._schema.classes
        scores, labels = [], []
        for answer in found:
            given = answer.get("scores") if isinstance(answer, Mapping) else None
            if not isinstance(given, Mapping) or len(given) != len(classes):
                raise ModelFailed("The model answered a row without a score for each class.", hint=_SHOULD)
            # JSON's keys are texts, so a class that is a number may be named by its text.
            row = [given.get(label, given.get(str(label))) for label in classes]
            if None in row:
                raise ModelFailed("The model answered a row without a score for each class.", hint=_SHOULD)
            scores.append(row)
            labels.append(answer.get("prediction"))
        checked = numbers_of(scores, (len(scores), len(classes)), _SHOULD)
        highest = checked.argmax(axis=1).tolist()
        chosen = [classes[place] if label is None else label for label, place in zip(labels, highest, strict=True)]
        return Scored.checked(checked, places_of(chosen, self._schema))


class _Source(InspectLoader):
    """Runs modules from memory."""

    def __init__(self, sources: Mapping[str, tuple[Path, bytes, bool]]) -> None:
        self._sources = sources

    def get_source(self, fullname: str) -> str:
        return self._sources[fullname][1].decode("utf-8")

    def get_code(self, fullname: str) -> Any:
        # From bytes: a file may declare another encoding in its first line.
        path, data, _ = self._sources[fullname]
        return compile(data, str(path), "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        return self._sources[fullname][2]


class _Modules(MetaPathFinder):
    """Finds the package's own modules, at the place where a script's folder would be searched.

    Args:
        folder: where the files lie; only told to the modules, never read.
        files: their bytes by path below it.
    """

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        self._folder = folder
        self.sources = {_module(path): (folder / path, data, path.endswith("__init__.py")) for path, data in files.items()}
        self._loader = _Source(self.sources)

    @classmethod
    def replace(cls, folder: Path, files: Mapping[str, bytes]) -> None:
        """Make these files importable, and forget those of a package that this process loaded before."""
        for old in [finder for finder in sys.meta_path if isinstance(finder, cls)]:
            sys.meta_path.remove(old)
            for name in old.sources:
                sys.modules.pop(name, None)
        place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
        sys.meta_path.insert(place, cls(folder, files))

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        found = self.sources.get(name)
        if found is None:
            return None
        where, _, package = found
        spec = spec_from_loader(name, self._loader, origin=str(where), is_package=package)
        if spec is not None:
            # Gives the module its __file__, which code finds its artifacts by.
            spec.has_location = True
            if package:
                spec.submodule_search_locations = [str(where.parent)]
        return spec


def _module(path: str) -> str:
    """The dotted name of a file."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
