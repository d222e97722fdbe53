"""Tensors to columns and answers to tensors: what the doors of the Open Inference Protocol share, whatever carries them.

A model's features are its inputs: one tensor per feature of shape [n] or [n, 1], or, where every feature is a number, a single
tensor of shape [n, features]. Datatypes must be those of the schema; FP16 and FP32 become FP64, which is exact, and nothing else
is converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from quarterdeck.column_rows import Values
from quarterdeck.errors import InvalidInput, Unsupported
from quarterdeck.schema import Feature, FeatureType, Schema
from quarterdeck_node.answers import Answers, label_text

INTEGERS = frozenset(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
FLOATS = frozenset({"FP16", "FP32", "FP64"})
TAKEN: dict[FeatureType, frozenset[str]] = {
    "float": FLOATS,
    "int": INTEGERS,
    "boolean": frozenset({"BOOL"}),
    "string": frozenset({"BYTES"}),
    "datetime": frozenset({"BYTES"}),
}
"""Datatypes that a feature's tensor may have."""
SAID: dict[FeatureType, str] = {"float": "FP64", "int": "INT64", "boolean": "BOOL", "string": "BYTES", "datetime": "BYTES"}
"""The datatype that metadata names for a feature."""
# What clients of tables write beside a tensor; others would have to change how its elements are read.
_CONTENT_TYPES = frozenset({"pd", "np", "str", "datetime"})


class Tensor(NamedTuple):
    """One input: `values` flat and row-major, a list of JSON scalars or a numpy array of one dimension."""

    name: str
    datatype: str
    shape: Sequence[int]
    values: Values


class Output(NamedTuple):
    """One output of a model.

    `tail` is its shape after the number of rows; `numeric` tells that its elements are the scores, or a regression's numbers;
    `written` is the tensor as JSON, to be filled with the number of rows and the rest of its members.
    """

    name: str
    datatype: str
    tail: tuple[int, ...]
    numeric: bool
    written: bytes


def columns(tensors: Sequence[Tensor], schema: Schema) -> tuple[dict[str, Values], int]:
    """Columns of a request's tensors, by name; every tensor is used, and none may be missing.

    Returns:
        (columns by feature name, number of rows)

    Raises:
        InvalidInput: an input is unknown, missing, named twice, or of another datatype or shape than its feature.
    """
    for tensor in tensors:
        _complete(tensor)
    # A single [n, 1] tensor of a one-feature model is both forms; its name does not matter then.
    first = tensors[0]
    if len(tensors) == 1 and len(first.shape) == 2 and (first.shape[1] > 1 or len(schema.features) == 1):
        return _matrix(first, schema), first.shape[0]
    features = {feature.name: feature for feature in schema.features}
    found = {tensor.name: _column(tensor, features.get(tensor.name)) for tensor in tensors}
    if len(found) != len(tensors):
        raise InvalidInput("An input is named twice.", code="duplicate-name", kind="input")
    for name in schema.names:
        if name not in found:
            raise InvalidInput(f"Input {name} is missing.", kind="input", name=name, extra={"column": name, "row": 0})
    # Never cut to the shortest: that would pair values of different rows.
    if len({tensor.shape[0] for tensor in tensors}) != 1:
        raise InvalidInput("The inputs have different numbers of rows.", kind="input")
    return found, first.shape[0]


def check_content_type(name: object) -> None:
    """Refuse a `content_type` parameter that would change what the elements of a tensor mean.

    Raises:
        Unsupported: it is none of pd, np, str, datetime.
    """
    if name is not None and name not in _CONTENT_TYPES:
        raise Unsupported(
            "A tensor has a content type that is not read here.",
            code="content-type-unsupported",
            hint=f"There is {', '.join(sorted(_CONTENT_TYPES))}.",
        )


def outputs(schema: Schema) -> dict[str, Output]:
    """What a model answers with, by name: its predictions, and the scores of a classifier in the order of its classes."""
    kinds = {bool: "BOOL", int: "INT64", float: "FP64"}
    # bool is a kind of int in Python: compared by exact type.
    types = {type(label) for label in schema.classes}
    datatype = "FP64" if not types else kinds.get(next(iter(types)), "BYTES") if len(types) == 1 else "BYTES"
    found = {"prediction": _output("prediction", datatype, (), not types)}
    return {**found, "scores": _output("scores", "FP64", (len(schema.classes),), True)} if schema.classes else found


def _output(name: str, datatype: str, tail: tuple[int, ...], numeric: bool) -> Output:
    shape = "".join(f",{size}" for size in tail)
    return Output(name, datatype, tail, numeric, f'{{"name":"{name}","datatype":"{datatype}","shape":[%d{shape}],%b}}'.encode())


def wanted(names: Sequence[str], there: dict[str, Output]) -> list[Output]:
    """The outputs that a request asks for; all of them where it names none.

    Raises:
        InvalidInput: one is unknown or named twice.
    """
    for name in names:
        if name not in there:
            raise InvalidInput(f"There is no such output; there is {' and '.join(there)}.", kind="output", name=name[:64])
    # Every mention would be answered with a copy of the data: a few bytes in, gigabytes out.
    if len(set(names)) != len(names):
        raise InvalidInput("An output is named twice.", code="duplicate-name", kind="output")
    return [there[name] for name in names] or list(there.values())


def elements(output: Output, answers: Answers) -> Sequence[Any]:
    """The elements of one output, flat and row-major: JSON scalars, texts where its datatype is BYTES."""
    if output.name == "scores":
        return [score for answer in answers.all() for score in answer.scores]
    labels = answers.labels()
    return [label_text(label) for label in labels] if output.datatype == "BYTES" else labels


def _column(tensor: Tensor, feature: Feature | None) -> Values:
    if feature is None:
        name = tensor.name[:64]
        raise InvalidInput(f"Input {name} is not a feature of this model.", kind="input", name=name, extra={"column": name})
    # An INT64 tensor for a float feature is nearly always a column that was mixed up.
    if tensor.datatype not in TAKEN[feature.type]:
        raise _misfit(feature.name, "datatype-mismatch", f"Input {feature.name} must have datatype {SAID[feature.type]}.")
    if len(tensor.shape) == 2 and tensor.shape[1] != 1:
        raise _misfit(feature.name, "shape-mismatch", f"Input {feature.name} must have shape [n] or [n, 1].")
    return _widened(tensor.values)


def _matrix(tensor: Tensor, schema: Schema) -> dict[str, Values]:
    """One tensor for all features, in the schema's order."""
    if any(feature.type not in ("float", "int") for feature in schema.features):
        raise InvalidInput(
            "A single tensor works only where every feature is a number.",
            code="shape-mismatch",
            kind="input",
            hint="Send one input per feature; GET the model's metadata for their names.",
        )
    width = len(schema.features)
    if tensor.shape[1] != width:
        raise InvalidInput(f"The tensor must have shape [n, {width}].", code="shape-mismatch", kind="input")
    if tensor.datatype not in FLOATS | INTEGERS:
        raise InvalidInput("The tensor must have a number as its datatype.", code="datatype-mismatch", kind="input")
    flat = _widened(tensor.values)
    return {
        feature.name: _whole(flat[at::width]) if feature.type == "int" else flat[at::width]
        for at, feature in enumerate(schema.features)
    }


def _whole(values: Values) -> Values:
    """In a tensor of floats whole numbers come as 3.0; only exact ones are whole numbers."""
    if isinstance(values, np.ndarray):
        inside = np.abs(values) < 2.0**63
        return values.astype(np.int64) if bool((inside & (np.trunc(values) == values)).all()) else values
    return [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]


def _widened(values: Values) -> Values:
    """The numbers of a typed array as float64 or int64, which hold every value of the narrower ones exactly."""
    if not isinstance(values, np.ndarray) or values.dtype.kind == "b":
        return values
    if values.dtype.kind == "f":
        # A NaN of another kind is a NaN still; numpy would warn.
        with np.errstate(invalid="ignore"):
            return values.astype(np.float64)
    # Beyond 63 bits the numbers stay Python's, and the schema refuses them by row and column.
    if values.dtype == np.uint64 and values.size and int(values.max()) >= 2**63:
        return [int(value) for value in values]
    return values.astype(np.int64)


def _complete(tensor: Tensor) -> None:
    """The number of elements must be the shape's."""
    expected = tensor.shape[0] * (tensor.shape[1] if len(tensor.shape) == 2 else 1)
    if len(tensor.values) != expected:
        name = tensor.name[:64]
        said = f"Input {name} has {len(tensor.values)} elements where its shape has {expected}."
        raise _misfit(name, "shape-mismatch", said)


def _misfit(name: str, code: str, said: str) -> InvalidInput:
    return InvalidInput(said, code=code, kind="input", name=name, extra={"column": name})
