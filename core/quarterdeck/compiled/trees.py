"""LightGBM's C library on model texts, found without importing its Python package: no pandas, no scikit-learn, no scipy.

Single rows are bytes: packed float64 or float32 numbers, one per feature. Many rows are numpy matrices.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Any, Literal, TypeVar

import numpy as np

from quarterdeck.compiled import forest, model_text
from quarterdeck.errors import ModelFailed, PackageRefused

Numbers = np.ndarray[Any, np.dtype[np.floating[Any]]]
Matrix = np.ndarray[Any, np.dtype[np.float64]]
RowFunction = Callable[[bytes], tuple[float, ...]]
Precision = Literal["float64", "float32"]

# Constants of LightGBM's c_api.h.
_TYPES: dict[Precision, int] = {"float32": 0, "float64": 1}
_NORMAL, _RAW, _CONTRIBUTIONS = 0, 1, 3
_ALL_ITERATIONS = -1
# One thread per call: a node answers many small requests, and idle OpenMP threads of large pools spin beside the event loop.
_PARAMETERS = b"num_threads=1 verbosity=-1"
_handle = ctypes.c_void_p
_Library = TypeVar("_Library", bound=ctypes.CDLL)
# A row's answer, its address, the address of its length, and what keeps both where they are.
_Slot = tuple[bytearray, int, int, Any]


class Booster:
    """A booster in the C library. It is freed when the last reference goes, and every caller that may use it holds one.

    Args:
        text: a model text as LightGBM writes it.

    Raises:
        ModelFailed: it is none.

    `outputs` and `features` are its widths, `forest` its trees as arrays where they can be had.
    """

    def __init__(self, text: bytes) -> None:
        # Null handles first: __del__ runs even where what follows raises.
        self._booster = _handle()
        self._fast: list[ctypes.c_void_p] = []
        self._library = library()
        iterations = ctypes.c_int(0)
        read = model_text.sound(text)
        self._call("LGBM_BoosterLoadModelFromString", read, ctypes.byref(iterations), ctypes.byref(self._booster))
        self.outputs = self._number("LGBM_BoosterGetNumClasses")
        self.features = self._number("LGBM_BoosterGetNumFeature")
        # In a forest of averages the library averages scores, but neither raw scores nor contributions.
        averaged = b"\naverage_output\n" in text.partition(b"\nTree=")[0]
        self.forest = forest.parse(text)
        self._parts = max(iterations.value, 1) if averaged else 1

    def row_function(self, *, transform: bool, precision: Precision = "float64") -> RowFunction:
        """A function that scores one row, prepared once: parsing parameters takes longer than predicting.

        Args:
            transform: whether the text's own objective turns raw scores into its answer.
            precision: of the numbers that a row's bytes hold.

        Returns:
            bytes of `features` packed numbers, whose length the caller vouches for → `outputs` numbers. Safe to call from
            several threads; keeps the booster alive.
        """
        config = self._config(transform, precision)
        predict = _held_library().LGBM_BoosterPredictForMatSingleRowFast
        slots: list[_Slot] = []
        take, give = slots.pop, slots.append
        outputs, read = self.outputs, Struct(f"={self.outputs}d").unpack

        def score(row: bytes, booster: Booster = self) -> tuple[float, ...]:
            # Lists pop and append in one go, so no two callers ever write to one slot.
            try:
                slot = take()
            except IndexError:
                slot = _slot(outputs)
            numbers, target, length, _ = slot
            if predict(config, row, length, target):
                raise _failed("LGBM_BoosterPredictForMatSingleRowFast")
            found = read(numbers)
            give(slot)
            return found

        return score

    def predict(self, matrix: Numbers, *, transform: bool) -> Matrix:
        """Scores of a row-major matrix of float64 or float32: shape (rows, outputs).

        Raises:
            ModelFailed: another number of columns than the booster has features.
        """
        return self._predict(matrix, _NORMAL if transform else _RAW, self.outputs)

    def raw(self, matrix: Numbers) -> Matrix:
        """What contributions add up to: scores before the objective's own transformation, shape (rows, outputs)."""
        return self._predict(matrix, _RAW, self.outputs) / self._parts

    def contributions(self, matrix: Numbers) -> Matrix:
        """What each feature adds to each raw score: shape (rows, outputs, features + 1), the expected score last."""
        width = self.features + 1
        found = self._predict(matrix, _CONTRIBUTIONS, self.outputs * width) / self._parts
        return found.reshape(len(matrix), self.outputs, width)

    def _predict(self, matrix: Numbers, kind: int, width: int) -> Matrix:
        # The library trusts the caller about sizes: a shorter matrix would be read past its end.
        if matrix.ndim != 2 or matrix.shape[1] != self.features:
            raise ModelFailed(f"The rows have {matrix.shape[-1]} numbers instead of {self.features}.")
        precision: Precision = "float32" if matrix.dtype == np.float32 else "float64"
        source = np.ascontiguousarray(matrix, dtype=precision)
        result = np.empty((len(source), width))
        length = ctypes.c_int64(0)
        # Buffers are this call's own, so calls of several threads do not meet; ctypes lets go of the GIL meanwhile.
        self._call(
            "LGBM_BoosterPredictForMat",
            self._booster,
            source.ctypes.data,
            _TYPES[precision],
            *source.shape,
            1,
            kind,
            0,
            _ALL_ITERATIONS,
            _PARAMETERS,
            ctypes.byref(length),
            result.ctypes.data,
        )
        if length.value != result.size:
            raise ModelFailed(f"LightGBM answered {length.value} numbers instead of {result.size}.")
        return result

    def _config(self, transform: bool, precision: Precision) -> int:
        config = _handle()
        self._call(
            "LGBM_BoosterPredictForMatSingleRowFastInit",
            self._booster,
            _NORMAL if transform else _RAW,
            0,
            _ALL_ITERATIONS,
            _TYPES[precision],
            self.features,
            _PARAMETERS,
            ctypes.byref(config),
        )
        self._fast.append(config)
        return config.value or 0

    def _number(self, function: str) -> int:
        found = ctypes.c_int(0)
        self._call(function, self._booster, ctypes.byref(found))
        return found.value

    def _call(self, function: str, *arguments: object) -> None:
        if getattr(self._library, function)(*arguments) != 0:
            raise _failed(function)

    def __del__(self) -> None:
        # The configurations refer to the booster: they go first.
        for config in self._fast:
            self._library.LGBM_FastConfigFree(config)
        if self._booster:
            self._library.LGBM_BoosterFree(self._booster)


@cache
def library() -> ctypes.CDLL:
    """LightGBM's C library, found beside its Python package without importing that.

    Raises:
        PackageRefused: ``environment-mismatch`` where it is not installed or cannot be loaded.
    """
    return _declared(ctypes.CDLL)


@cache
def _held_library() -> ctypes.PyDLL:
    # It keeps the GIL: a single row takes two microseconds, to win the GIL back from a busy thread takes up to five thousand.
    return _declared(ctypes.PyDLL)


def _declared(kind: type[_Library]) -> _Library:
    try:
        found = kind(str(_path()))
    except OSError as error:
        hint = "It needs the OpenMP runtime: apt-get install libgomp1."
        raise _no_library("The LightGBM library is here but cannot be loaded.", hint) from error
    # Without declared types ctypes passes pointers as 32-bit integers.
    integer, text, pointer = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
    matrix = [_handle, pointer, integer, ctypes.c_int32, ctypes.c_int32, *[integer] * 4, text, pointer, pointer]
    declared: dict[str, list[Any]] = {
        "LGBM_BoosterLoadModelFromString": [text, pointer, pointer],
        "LGBM_BoosterGetNumClasses": [_handle, pointer],
        "LGBM_BoosterGetNumFeature": [_handle, pointer],
        "LGBM_BoosterFree": [_handle],
        "LGBM_FastConfigFree": [_handle],
        "LGBM_BoosterPredictForMatSingleRowFastInit": [_handle, *[integer] * 4, ctypes.c_int32, text, pointer],
        # The row as bytes: ctypes hands on where they lie.
        "LGBM_BoosterPredictForMatSingleRowFast": [_handle, text, pointer, pointer],
        "LGBM_BoosterPredictForMat": matrix,
    }
    for name, types in declared.items():
        getattr(found, name).argtypes = types
    return found


def _path() -> Path:
    spec = importlib.util.find_spec("lightgbm")
    places = [Path(place) for place in spec.submodule_search_locations or []] if spec else []
    for place in places:
        for name in ("lib_lightgbm.so", "lib_lightgbm.dylib"):
            for path in (place / "lib" / name, place / name):
                if path.exists():
                    return path
    raise _no_library("The LightGBM library is not installed here.", "Install it: pip install 'quarterdeck[node]'.")


def _slot(outputs: int) -> _Slot:
    # From a bytearray the answer is read in a quarter of the time that an array of ctypes takes.
    numbers, length = bytearray(8 * outputs), ctypes.c_int64(0)
    target = (ctypes.c_double * outputs).from_buffer(numbers)
    return numbers, ctypes.addressof(target), ctypes.addressof(length), (target, length)


def _failed(function: str) -> ModelFailed:
    # The library's own message may quote input; the function's name is enough to look it up.
    return ModelFailed(f"{function} failed.", hint="Look at the model file and the row's columns.")


def _no_library(detail: str, hint: str) -> PackageRefused:
    return PackageRefused(
        detail, code="environment-mismatch", kind="library", name="lightgbm", hint=hint, extra={"place": "lightgbm"}
    )
