"""Arrow IPC streams in and out: columns go from the request's bytes to the model without a step per row.

Types are those of the schema: floats of any width, whole numbers of any width, bool, and text (utf8 or large_utf8, also by
dictionary); datetimes are timestamps or ISO 8601 texts. Streams whose buffers are compressed are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from quarterdeck.column_rows import ColumnRows
from quarterdeck.errors import InvalidInput, Malformed, TooLarge
from quarterdeck.schema import Feature, FeatureType, Label
from quarterdeck_node.answers import Answers, label_text
from quarterdeck_node.binding import Binder
from quarterdeck_node.doors.arrow_messages import END, WRONG, ZONED, Batch, Field, batch_message, schema_message
from quarterdeck_node.doors.arrow_messages import read as read_messages
from quarterdeck_node.limits import Limits

MEDIA = "application/vnd.apache.arrow.stream"
_TEXTS = frozenset({"text", "large"})
_Places = Iterator[tuple[int, int]]
_Dictionaries = dict[int, list[str | None]]
_TAKEN: dict[FeatureType, frozenset[str]] = {
    "float": frozenset({"<f2", "<f4", "<f8", "null"}),
    "int": frozenset({*(f"<{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8)), "null"}),
    "boolean": frozenset({"bool", "null"}),
    "string": _TEXTS | {"null"},
    "datetime": _TEXTS | {"null", *(f"<M8[{unit}]{zone}" for unit in ("s", "ms", "us", "ns") for zone in ("", ZONED))},
}
_SAID = {
    "float": "a float",
    "int": "a whole number",
    "boolean": "bool",
    "string": "utf8",
    "datetime": "a timestamp, or utf8 in ISO 8601",
}
_HINT = "Send an Arrow IPC stream whose buffers are not compressed, with texts as utf8."


def read(body: bytes, binder: Binder, limits: Limits) -> ColumnRows:
    """The records of a stream, bound by the names of its columns.

    Raises:
        Malformed: no such stream, or one with compressed buffers or dictionaries that grow.
        InvalidInput: it does not fit the schema; `extra` names row and column.
        TooLarge: more rows than the node takes.
    """
    try:
        fields, batches = read_messages(body)
        features = {feature.name: feature for feature in binder.schema.features}
        for field in fields:
            _check(field, features.get(field.name))
        if len({field.name for field in fields}) != len(fields):
            raise InvalidInput("A column is named twice.", code="duplicate-name", kind="column")
        count, columns = _columns(fields, batches, limits.rows)
    except WRONG:
        raise Malformed("The body is not an Arrow IPC stream that is read here.", hint=_HINT) from None
    # A text that stands in the body once may be meant by every row, and records spell each of them out.
    meant = (columns[field.name] for field in fields if field.dictionary >= 0 and columns)
    if sum(len(text) for column in meant for text in column if text is not None) > limits.body_bytes:
        raise TooLarge("The texts that the dictionaries stand for are too many.", hint="Send fewer records per request.")
    return binder.columns(columns, count)


def write(answers: Answers, classes: Sequence[Label]) -> bytes:
    """Answers as a stream of one batch: `prediction`, then for a classifier `score_…` of each class."""
    kind, head = _answer_schema(tuple(classes), tuple(map(type, classes)))
    labels = answers.labels()
    buffers = _written(kind, labels)
    if classes:
        for column in answers.array().T:
            buffers += [b"", column.tobytes()]
    return head + batch_message(len(labels), buffers, 1 + len(classes)) + END


@lru_cache(256)
def _answer_schema(classes: tuple[Label, ...], types: tuple[type, ...]) -> tuple[str, bytes]:
    """(the type of `prediction`, the message that opens the stream); `types` too, for True equals 1."""
    kinds = {bool: "bool", int: "<i8", float: "<f8"}
    kind = "<f8" if not types else kinds.get(types[0], "text") if len(set(types)) == 1 else "text"
    return kind, schema_message([("prediction", kind), *((f"score_{label_text(label)}", "<f8") for label in classes)])


def _written(kind: str, labels: Sequence[Label]) -> list[bytes]:
    if kind == "bool":
        return [b"", np.packbits(np.array(labels, bool), bitorder="little").tobytes()]
    if kind == "text":
        texts = [label_text(label).encode() for label in labels]
        return [b"", np.cumsum([0, *map(len, texts)], dtype="<i4").tobytes(), b"".join(texts)]
    return [b"", np.array(labels, kind).tobytes()]


def _check(field: Field, feature: Feature | None) -> None:
    if feature is None:
        name = field.name[:64]
        raise InvalidInput(f"Column {name} is not a feature of this model.", kind="column", name=name, extra={"column": name})
    values = field.dtype if field.dictionary < 0 else field.values
    if values not in _TAKEN[feature.type] or (field.dictionary >= 0 and values not in _TEXTS):
        raise InvalidInput(
            f"Column {feature.name} must be {_SAID[feature.type]}.",
            code="datatype-mismatch",
            kind="column",
            name=feature.name,
            hint=_HINT,
            extra={"column": feature.name},
        )


def _columns(fields: Sequence[Field], batches: Iterator[Batch], most: int) -> tuple[int, dict[str, Any]]:
    """(number of rows, columns by name); one row too many is enough to be refused by."""
    dictionaries: _Dictionaries = {}
    values = {field.dictionary: Field("", field.values) for field in fields if field.dictionary >= 0}
    parts: list[list[Any]] = []
    count = 0
    for batch in batches:
        # A batch of a trillion nulls takes no bytes at all.
        if batch.rows < 0:
            raise ValueError
        if batch.rows > _most(batch, most):
            return most + 1, {}
        if batch.dictionary >= 0:
            (dictionaries[batch.dictionary],) = _batch([values[batch.dictionary]], batch, {})
            continue
        if not batch.rows:
            continue
        count += batch.rows
        parts.append(_batch(fields, batch, dictionaries))
        if count > most:
            return count, {}
    return count, {field.name: _joined([part[at] for part in parts]) for at, field in enumerate(fields)}


def _most(batch: Batch, most: int) -> int:
    """Rows that a batch may have; a dictionary has as many as its bytes hold offsets."""
    return most if batch.dictionary < 0 else len(batch.body) // 4


def _joined(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts) and parts:
        return np.concatenate(parts)
    return [value for part in parts for value in (part.tolist() if isinstance(part, np.ndarray) else part)]


def _batch(fields: Sequence[Field], batch: Batch, dictionaries: _Dictionaries) -> list[Any]:
    buffers, nodes = iter(batch.buffers), iter(batch.nodes)
    found = []
    for field in fields:
        length, nulls = next(nodes, (-1, 0))
        if length != batch.rows:
            raise ValueError
        found.append(_column(field, nulls, batch, buffers, dictionaries))
    return found


def _column(field: Field, nulls: int, batch: Batch, buffers: _Places, dictionaries: _Dictionaries) -> Any:
    """One column: an array where it has no nulls and is no text, else a list."""
    length = batch.rows
    if field.dtype == "null":
        return [None] * length
    valid = _buffer(batch, buffers)
    if field.dtype in _TEXTS:
        values: Any = _texts(field.dtype, length, _buffer(batch, buffers), _buffer(batch, buffers))
    elif field.dtype == "bool":
        bits = np.frombuffer(_buffer(batch, buffers), np.uint8, (length + 7) // 8)
        values = np.unpackbits(bits, count=length, bitorder="little").astype(bool)
    elif field.dtype.startswith("<M8"):
        values = _moments(field.dtype, np.frombuffer(_buffer(batch, buffers), "<i8", length))
    else:
        values = np.frombuffer(_buffer(batch, buffers), field.dtype, length)
        if field.dictionary < 0:
            values = _widened(values)
    if field.dictionary >= 0:
        return _looked_up(values, _valid(valid, length) if nulls else None, dictionaries[field.dictionary])
    if not nulls:
        return values
    plain = values if isinstance(values, list) else values.tolist()
    return [value if there else None for value, there in zip(plain, _valid(valid, length), strict=True)]


def _looked_up(places: Any, valid: list[int] | None, dictionary: list[str | None]) -> list[str | None]:
    found = places.tolist()
    # A negative place would count from the end. Places of nulls may be anything.
    if valid is not None:
        return [dictionary[abs(place)] if there else None for place, there in zip(found, valid, strict=True)]
    if found and min(found) < 0:
        raise ValueError
    return [dictionary[place] for place in found]


def _widened(values: Any) -> Any:
    if values.dtype.kind == "f":
        # A NaN of another kind is a NaN still; numpy would warn.
        with np.errstate(invalid="ignore"):
            return values.astype(np.float64, copy=False)
    # Beyond 63 bits the numbers stay Python's, and the schema refuses them by row and column.
    if values.dtype == np.uint64 and values.size and int(values.max()) >= 2**63:
        return values.tolist()
    return values.astype(np.int64, copy=False)


def _moments(kind: str, values: Any) -> list[str]:
    """ISO 8601 texts; what is no date of the years 1 to 9999 becomes a text that is refused by row and column."""
    dtype = kind.removesuffix(ZONED)
    return [moment + kind[len(dtype) :] for moment in np.datetime_as_string(values.view(dtype)).tolist()]


def _texts(kind: str, length: int, offsets: memoryview, data: memoryview) -> list[str]:
    if not length:
        return []
    found = np.frombuffer(offsets, "<i4" if kind == "text" else "<i8", length + 1)
    places: list[int] = found.tolist()
    if places[0] < 0 or places[-1] > len(data) or bool((found[1:] < found[:-1]).any()):
        raise ValueError
    raw = bytes(data)
    # In ASCII a place in the bytes is one in the text: nearly always, and then nothing is decoded twice.
    if raw.isascii():
        text = raw.decode("ascii")
        return [text[start:end] for start, end in pairwise(places)]
    return [raw[start:end].decode() for start, end in pairwise(places)]


def _valid(data: memoryview, length: int) -> list[int]:
    bits = np.frombuffer(data, np.uint8, (length + 7) // 8)
    found: list[int] = np.unpackbits(bits, count=length, bitorder="little").tolist()
    return found


def _buffer(batch: Batch, buffers: _Places) -> memoryview:
    offset, length = next(buffers, (-1, 0))
    if not 0 <= offset <= offset + length <= len(batch.body):
        raise ValueError
    return batch.body[offset : offset + length]
