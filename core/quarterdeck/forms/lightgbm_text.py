"""LightGBM's own text format, served by its C library alone: no pandas, no scikit-learn, no `import lightgbm`."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import math
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.manifest import Manifest
from quarterdeck.model import Model, class_answers, regression_answers
from quarterdeck.records import Answer
from quarterdeck.schema import Row, Scalar, Schema
from quarterdeck.verify import read_verified

MODEL_FILE = "model.txt"
# Constants of LightGBM's c_api.h.
_FLOAT64 = 1
_NORMAL = 0
_ALL_ITERATIONS = -1
# One thread per call: a node answers many small requests, and idle OpenMP threads of large pools spin beside the event loop.
_PARAMETERS = b"num_threads=1 verbosity=-1"
_CATEGORIES = "pandas_categorical:"
_SCALARS = (str, int, float, bool, type(None))
_handle = ctypes.c_void_p
_Codes = dict[Scalar, float]


def load(manifest: Manifest, folder: Path) -> Model:
    """The model of a `lightgbm-text` package; `PackageRefused` (``load-failed``) where text and schema disagree."""
    text = read_verified(manifest, folder, MODEL_FILE)
    try:
        booster = Booster(text)
        return LightGBMModel(manifest.data_schema, booster, category_lists(text))
    except ModelFailed as error:
        raise PackageRefused(
            f"{MODEL_FILE} of {manifest.model} cannot be loaded: {error.detail}",
            code="load-failed",
            kind="package",
            name=manifest.model,
            hint="Build the package again.",
            extra={"place": MODEL_FILE},
        ) from error


def category_lists(text: bytes) -> list[list[Scalar]]:
    """The categories of each pandas category column in column order; the position of a category is its code.

    Raises:
        ModelFailed: the text has such a line, but not as LightGBM writes it.
    """
    # The last one: a feature may be named like the marker.
    start = text.rfind(_CATEGORIES.encode())
    if start < 0:
        return []
    line = text[start + len(_CATEGORIES) :].split(b"\n", 1)[0]
    try:
        found: Any = json.loads(line) or []
    except ValueError as error:
        raise ModelFailed("its lists of categories cannot be read.") from error
    # Values are looked up later, so each must be a scalar; the library itself never reads this line, so nobody else checks.
    lists = found if isinstance(found, list) else [found]
    if not all(isinstance(values, list) and all(isinstance(value, _SCALARS) for value in values) for values in lists):
        raise ModelFailed("its lists of categories are none.")
    return lists


class Booster:
    """A booster in the C library. It is freed when the last reference goes, and every running call holds one."""

    def __init__(self, text: bytes) -> None:
        # Null handles first: __del__ runs even where what follows raises.
        self._booster = _handle()
        self._fast = _handle()
        self._library = _library()
        iterations = ctypes.c_int(0)
        self._call("LGBM_BoosterLoadModelFromString", text, ctypes.byref(iterations), ctypes.byref(self._booster))
        self.outputs = self._number("LGBM_BoosterGetNumClasses")
        self.features = self._number("LGBM_BoosterGetNumFeature")
        # Parsing the parameters takes longer than predicting one row: done once, single rows take a quarter of the time.
        self._call(
            "LGBM_BoosterPredictForMatSingleRowFastInit",
            self._booster,
            _NORMAL,
            0,
            _ALL_ITERATIONS,
            _FLOAT64,
            self.features,
            _PARAMETERS,
            ctypes.byref(self._fast),
        )

    def predict(self, matrix: array[float], rows: int) -> array[float]:
        """Predictions of a row-major matrix of float64: `rows` × `outputs` numbers, row by row."""
        # The library trusts the caller about sizes: a shorter matrix would be read past its end.
        if len(matrix) != rows * self.features:
            raise ModelFailed(f"The rows have {len(matrix)} numbers instead of {rows * self.features}.")
        result = array("d", bytes(8 * rows * self.outputs))
        # Buffers are this call's own, so calls of several threads do not meet; ctypes lets go of the GIL meanwhile.
        length = ctypes.c_int64(0)
        source, target = matrix.buffer_info()[0], result.buffer_info()[0]
        if rows == 1:
            self._call("LGBM_BoosterPredictForMatSingleRowFast", self._fast, source, ctypes.byref(length), target)
        else:
            self._call(
                "LGBM_BoosterPredictForMat",
                self._booster,
                source,
                _FLOAT64,
                rows,
                self.features,
                1,
                _NORMAL,
                0,
                _ALL_ITERATIONS,
                _PARAMETERS,
                ctypes.byref(length),
                target,
            )
        if length.value != len(result):
            raise ModelFailed(f"LightGBM answered {length.value} numbers instead of {len(result)}.")
        return result

    def _number(self, function: str) -> int:
        found = ctypes.c_int(0)
        self._call(function, self._booster, ctypes.byref(found))
        return found.value

    def _call(self, function: str, *arguments: object) -> None:
        if getattr(self._library, function)(*arguments) != 0:
            # The library's own message may quote input; the function's name is enough to look it up.
            raise ModelFailed(f"{function} failed.", hint="Look at the model file and the row's columns.")

    def __del__(self) -> None:
        # The fast handle refers to the booster: it goes first.
        if self._fast:
            self._library.LGBM_FastConfigFree(self._fast)
        if self._booster:
            self._library.LGBM_BoosterFree(self._booster)


class LightGBMModel:
    """Rows in, answers out: encodes by schema, predicts by the C library."""

    def __init__(self, schema: Schema, booster: Booster, categories: Sequence[Sequence[Scalar]]) -> None:
        self._schema = schema
        self._booster = booster
        self._columns = _columns(schema, categories)
        wanted = len(schema.classes) if schema.task == "multiclass" else 1
        if booster.outputs != wanted:
            raise ModelFailed(f"the text has {booster.outputs} outputs, the schema speaks of {wanted}.")
        # Compared before the first call: the library would read past the end of a row that is too short.
        if booster.features != len(schema.features):
            raise ModelFailed(f"the text has {booster.features} features, the schema {len(schema.features)}.")

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer per row; raises `ModelFailed`."""
        if not rows:
            return []
        found = self._booster.predict(self.encode(rows), len(rows))
        if self._schema.task == "regression":
            return regression_answers(found)
        if self._schema.task == "binary":
            # The library gives the score of the second class alone.
            return class_answers(self._schema, [(1.0 - score, score) for score in found])
        width = self._booster.outputs
        return class_answers(self._schema, [found[place : place + width] for place in range(0, len(found), width)])

    def encode(self, rows: Sequence[Row]) -> array[float]:
        """The rows as float64, row by row: null is NaN, booleans 0 and 1, categories their code, unseen ones NaN."""
        # An array of doubles is the C library's own layout: no copy, and no numpy in the node.
        matrix = array("d")
        add = matrix.append
        name = ""
        try:
            for row in rows:
                for name, codes in self._columns:
                    value = row[name]
                    if value is None:
                        add(math.nan)
                    elif codes is None:
                        add(value)  # type: ignore[arg-type]
                    else:
                        add(codes.get(value, math.nan))
        except (KeyError, TypeError, OverflowError) as error:
            hint = "Send it as the deployment's schema says."
            raise ModelFailed(f"Feature {name} is absent or not a number.", kind="feature", name=name, hint=hint) from error
        return matrix


def _columns(schema: Schema, categories: Sequence[Sequence[Scalar]]) -> list[tuple[str, _Codes | None]]:
    """Each feature with its category codes, None for numbers."""
    # LightGBM's Python package writes one list per category column, in column order, and names none of them.
    named = [feature.name for feature in schema.features if feature.categories is not None]
    if len(named) != len(categories):
        raise ModelFailed(f"the text has {len(categories)} category columns, the schema {len(named)}.")
    codes = {
        name: {value: float(code) for code, value in enumerate(values)} for name, values in zip(named, categories, strict=True)
    }
    return [(name, codes.get(name)) for name in schema.names]


@cache
def _library() -> ctypes.CDLL:
    """LightGBM's C library, found beside its Python package without importing that."""
    spec = importlib.util.find_spec("lightgbm")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        for name in ("lib_lightgbm.so", "lib_lightgbm.dylib"):
            path = Path(place) / "lib" / name
            if path.exists():
                return _declared(path)
    raise _no_library("The LightGBM library is not installed here.", "Install it: pip install 'quarterdeck[node]'.")


def _no_library(detail: str, hint: str) -> PackageRefused:
    return PackageRefused(
        detail, code="environment-mismatch", kind="library", name="lightgbm", hint=hint, extra={"place": "lightgbm"}
    )


def _declared(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        hint = "It needs the OpenMP runtime: apt-get install libgomp1."
        raise _no_library("The LightGBM library is here but cannot be loaded.", hint) from error
    # Without declared types ctypes passes pointers as 32-bit integers.
    integer, text, pointer = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
    library.LGBM_BoosterLoadModelFromString.argtypes = [text, pointer, pointer]
    library.LGBM_BoosterGetNumClasses.argtypes = [_handle, pointer]
    library.LGBM_BoosterGetNumFeature.argtypes = [_handle, pointer]
    library.LGBM_BoosterFree.argtypes = [_handle]
    library.LGBM_FastConfigFree.argtypes = [_handle]
    library.LGBM_BoosterPredictForMatSingleRowFastInit.argtypes = [
        _handle,
        integer,
        integer,
        integer,
        integer,
        ctypes.c_int32,
        text,
        pointer,
    ]
    library.LGBM_BoosterPredictForMatSingleRowFast.argtypes = [_handle, pointer, pointer, pointer]
    library.LGBM_BoosterPredictForMat.argtypes = [
        _handle,
        pointer,
        integer,
        ctypes.c_int32,
        ctypes.c_int32,
        integer,
        integer,
        integer,
        integer,
        text,
        pointer,
        pointer,
    ]
    return library
