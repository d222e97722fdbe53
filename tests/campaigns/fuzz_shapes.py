"""Requests broken in their structure: whole documents, tables, tensors and streams that say something impossible.

Bytes that are flipped at random rarely get past a parser; these do, and are wrong behind it.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pyarrow as pa

from quarterdeck_node.grpc_door import open_inference_pb2 as pb

CANARY = "canary5f3a91c7"
"""Stands in values that no answer may repeat."""
SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**19, 10**21, 10**400),
    *(0.0, -0.0, 0.5, 1e-320, 3.5e38, 1.7e308, float("nan"), float("inf"), float("-inf")),
    *("", CANARY, "x" * 70_000, "\u0000", "\ud800", "é€😀", "1", "true", "null", "NaN", "2020-01-01T00:00:00Z", "2020-13-45"),
    *([], {}, [[]], [None], {"b64": "QUE="}, {"b64": "/w=="}, {"b64": CANARY}, {CANARY: 1}, [[[[1]]]], [1] * 1_200),
)
_CELLS = (*(value for value in SCALARS if not isinstance(value, (list, dict))), "1_000", "٣", '"', "a\nb")
_EDGES = (0, 1, -1, 2, 3, 7, 8, 127, 255, 2**15, 2**31 - 1, -(2**31), 2**32 - 1, 2**62, 2**63 - 1, -(2**63))


def document(chance: random.Random, body: bytes) -> bytes:
    """A JSON document with one to four of its members exchanged, removed, added, renamed, wrapped or repeated."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return body
    for _ in range(chance.randint(1, 4)):
        found = _changed(chance, found)
    return json.dumps(found, ensure_ascii=chance.random() < 0.5).encode(errors="surrogatepass")


def _changed(chance: random.Random, found: Any) -> Any:
    places = [(None, None), *_places(found)]
    holder, key = chance.choice(places)
    value = found if holder is None else holder[key]
    change = chance.choice(_CHANGES)
    if holder is None:
        return change(chance, value)
    holder[key] = change(chance, value)
    if isinstance(holder, dict) and chance.random() < 0.3:
        # Under another name: one that is not known, or that of somebody else.
        names = [CANARY, "", "x" * 300, "__class__", *holder]
        holder[chance.choice(names)] = holder.pop(key)
    elif chance.random() < 0.2:
        del holder[key]
    return found


def _places(found: Any) -> Iterator[tuple[Any, Any]]:
    inside = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, value in inside:
        yield found, key
        yield from _places(value)


def _repeated(chance: random.Random, value: Any) -> Any:
    times = chance.choice((0, 2, 3, 17, 33, 1_001))
    return value * times if isinstance(value, list) else [value] * min(times, 40)


_CHANGES: tuple[Callable[[random.Random, Any], Any], ...] = (
    lambda chance, value: copy.deepcopy(chance.choice(SCALARS)),
    lambda chance, value: copy.deepcopy(chance.choice(SCALARS)),
    lambda chance, value: [value],
    lambda chance, value: {"name": value},
    lambda chance, value: value[::-1] if isinstance(value, (list, str)) else value,
    lambda chance, value: value[0] if isinstance(value, list) and value else value,
    lambda chance, value: list(value.values()) if isinstance(value, dict) else value,
    _repeated,
)


def table(chance: random.Random, body: bytes) -> bytes:
    """A CSV document with other cells, columns and lines."""
    try:
        lines = list(csv.reader(io.StringIO(body.decode())))
    except (UnicodeDecodeError, csv.Error):
        return body
    lines = [list(line) for line in lines for _ in range(chance.choice((1, 1, 1, 20)))] if chance.random() < 0.2 else lines
    for _ in range(chance.randint(1, 4)):
        line = chance.choice(lines or [[]])
        at = chance.randrange(len(line) + 1)
        cell = str(chance.choice(_CELLS))
        line[at : at + chance.randint(0, 2)] = [cell] * chance.choice((0, 1, 1, 1, 2, 1_000))
        if chance.random() < 0.1:
            chance.shuffle(lines)
    out = io.StringIO()
    sign, end = chance.choice(",,,,;\t"), chance.choice(("\r\n", "\n", "\r", "\n\n"))
    quoting: Literal[0, 1] = csv.QUOTE_MINIMAL if chance.random() < 0.5 else csv.QUOTE_ALL
    csv.writer(out, delimiter=sign, lineterminator=end, quoting=quoting).writerows(lines)
    mark = chance.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16"))
    return out.getvalue().encode(mark, errors="surrogatepass")


def tensors(chance: random.Random, body: bytes, head: int) -> tuple[bytes, int]:
    """A binary inference request with another head before its bytes, or other bytes behind it; and the head's length."""
    document_, data = body[:head], bytearray(body[head:])
    if chance.random() < 0.7:
        document_ = document(chance, document_)
    if chance.random() < 0.5 and data:
        at = chance.randrange(len(data))
        data[at : at + 4] = struct.pack("<q", chance.choice(_EDGES))[: chance.choice((1, 4, 8))]
    if chance.random() < 0.3:
        data = data * chance.choice((0, 2, 1_001))
    return document_ + bytes(data), len(document_) + chance.choice((0, 0, 0, 0, 1, -1))


def stream(chance: random.Random, row: dict[str, Any]) -> bytes:
    """An Arrow stream of other types, nulls and batches than the schema wants, sometimes with numbers of it exchanged."""
    columns = {name: _column(chance, value) for name, value in row.items()}
    if chance.random() < 0.2:
        columns.pop(chance.choice(list(columns)))
    if chance.random() < 0.2:
        columns[chance.choice((CANARY, "", "x" * 300))] = _column(chance, 1)
    shortest = min(map(len, columns.values()))
    found = pa.table({name: column[:shortest] for name, column in columns.items()})
    out = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(
        compression=chance.choice((None, None, None, "lz4", "zstd")), emit_dictionary_deltas=chance.random() < 0.5
    )
    with pa.ipc.new_stream(out, found.schema, options=options) as writer:
        for _ in range(chance.choice((1, 1, 2, 60))):
            writer.write_table(found, max_chunksize=chance.choice((None, 1, 7)))
    body = bytearray(out.getvalue())
    for _ in range(chance.choice((0, 0, 1, 2, 5))):
        # Everything in a stream lies at multiples of two, most of it at multiples of eight.
        kind = chance.choice(("<h", "<i", "<i", "<q", "<q"))
        size = struct.calcsize(kind)
        at = chance.randrange(max(len(body) - size, 1)) // size * size
        body[at : at + size] = struct.pack("<q", chance.choice(_EDGES))[:size]
    return bytes(body)


def message(chance: random.Random, request: pb.ModelInferRequest) -> bytes:
    """A gRPC request with one to three of its tensors, names, shapes and contents exchanged."""
    found = pb.ModelInferRequest()
    found.CopyFrom(request)
    for _ in range(chance.randint(1, 3)):
        if not found.inputs:
            break
        at = chance.randrange(len(found.inputs))
        chance.choice(_MESSAGES)(chance, found, found.inputs[at], at)
    return found.SerializeToString()


def _renamed(chance: random.Random, request: pb.ModelInferRequest, tensor: Any, at: int) -> None:
    tensor.name = chance.choice(("", CANARY, "x" * 300, request.inputs[0].name))


def _retyped(chance: random.Random, request: pb.ModelInferRequest, tensor: Any, at: int) -> None:
    tensor.datatype = chance.choice(("", CANARY, "FP16", "FP32", "BF16", "BYTES", "BOOL", "UINT64", "INT8"))


def _resized(chance: random.Random, request: pb.ModelInferRequest, tensor: Any, at: int) -> None:
    tensor.shape[:] = [edge for edge in chance.choices(_EDGES, k=chance.randrange(4)) if -(2**63) <= edge < 2**63]


def _refilled(chance: random.Random, request: pb.ModelInferRequest, tensor: Any, at: int) -> None:
    if chance.random() < 0.5 and at < len(request.raw_input_contents):
        request.raw_input_contents[at] = struct.pack("<q", chance.choice(_EDGES[:-5])) * chance.choice((0, 1, 2, 1_001))
    else:
        del request.raw_input_contents[at:]


def _told(chance: random.Random, request: pb.ModelInferRequest, tensor: Any, at: int) -> None:
    holder = chance.choice((request, tensor))
    name = chance.choice(("content_type", "binary_data_size", "shared_memory_region", "classification", CANARY))
    holder.parameters[name].string_param = CANARY
    request.model_version = chance.choice(("", "1", "2", CANARY, "9" * 30))
    request.outputs.add(name=chance.choice(("scores", "prediction", CANARY)))


def _typed(chance: random.Random, request: pb.ModelInferRequest, tensor: Any, at: int) -> None:
    del request.raw_input_contents[:]
    tensor.contents.fp64_contents.extend([chance.choice((float("nan"), float("inf"), 1e308))] * chance.choice((1, 2, 1_001)))
    tensor.contents.bytes_contents.append(chance.choice((b"\xff", CANARY.encode(), b"")))
    tensor.contents.bool_contents.append(True)


_MESSAGES = (_renamed, _retyped, _resized, _refilled, _told, _typed)


def _column(chance: random.Random, value: Any) -> pa.Array:
    count = chance.choice((0, 1, 1, 1, 1, 2, 40))
    if chance.random() < 0.6:
        return _shaped(chance, pa.array([value] * count))
    makers: tuple[Callable[[], pa.Array], ...] = (
        lambda: pa.nulls(count),
        lambda: pa.array([None] * count, pa.string()),
        lambda: pa.array([float("nan"), float("inf"), -0.0] * count, chance.choice((pa.float32(), pa.float64()))),
        lambda: pa.array([2**63] * count, pa.uint64()),
        lambda: pa.array([-128] * count, pa.int8()),
        lambda: pa.array([CANARY, "", None] * count, chance.choice((pa.large_string(), pa.string_view(), pa.string()))),
        lambda: pa.array([b"\xff\xfe"] * count, pa.binary()),
        lambda: pa.array([2**62, None, -(2**62)] * count, pa.timestamp(chance.choice(("s", "ms", "us", "ns")))),
        lambda: pa.array([[value]] * count),
        lambda: pa.array([{"a": value}] * count),
        lambda: pa.array([1] * count, pa.decimal128(9, 2)),
        lambda: pa.array([True, None, False] * count),
        lambda: pa.array([1] * count, pa.date32()),
    )
    return _shaped(chance, chance.choice(makers)())


def _shaped(chance: random.Random, column: pa.Array) -> pa.Array:
    """Sometimes as a dictionary, sometimes as a part of a longer one."""
    if chance.random() < 0.15 and not pa.types.is_nested(column.type):
        column = column.dictionary_encode()
    return column[1:] if chance.random() < 0.1 else column
