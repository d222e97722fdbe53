"""Messages of an Arrow IPC stream: as much of the format, and of the flat buffers that it is written in, as tables need.

Read here and not by a library: what arrives is a stranger's, every offset in it may lie, and a library in C that believes one
ends the whole node. Here each place is looked up in bounds, and whatever is wrong is an exception.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

MAX_FIELDS = 4_096
_CONTINUES = b"\xff\xff\xff\xff"
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_METADATA_V5 = 4
_NULL, _INT, _FLOAT, _UTF8, _BOOL, _TIMESTAMP, _LARGE_UTF8 = 1, 2, 3, 5, 6, 10, 20
_FLOATS = ("<f2", "<f4", "<f8")
_MOMENTS = ("<M8[s]", "<M8[ms]", "<M8[us]", "<M8[ns]")
ZONED = "+00:00"
"""What stands behind the type of moments that are UTC; those without it are of no zone."""
WRONG = (ValueError, struct.error, LookupError, OverflowError)
"""What reading raises where the bytes are no such stream."""


class Field(NamedTuple):
    """One column's name and type.

    `dtype` is numpy's name, with `ZONED` behind it for moments in UTC; `text` or `large` for texts by their offsets; `bool`;
    `null`; or empty for types that are not read here. With a `dictionary` (its number; -1: without one) it is the type of the
    places in it, and `values` that of its values.
    """

    name: str
    dtype: str
    dictionary: int = -1
    values: str = ""


class Batch(NamedTuple):
    """Some rows: (length, nulls) of each column, (offset, length) of each buffer, and the bytes that the buffers lie in."""

    rows: int
    nodes: list[tuple[int, int]]
    buffers: list[tuple[int, int]]
    body: memoryview
    dictionary: int = -1


class _Table:
    """A table of a flat buffer: fields are found by number, absent ones have their defaults."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._vtable = place - _number(data, place, "<i")
        self._size = _number(data, self._vtable, "<H")

    def at(self, field: int) -> int:
        """Where a field lies; 0: it is absent."""
        entry = 4 + 2 * field
        offset = _number(self._data, self._vtable + entry, "<H") if entry + 2 <= self._size else 0
        return self._place + offset if offset else 0

    def number(self, field: int, kind: str) -> int:
        """A number; 0 where it is absent."""
        place = self.at(field)
        return _number(self._data, place, kind) if place else 0

    def table(self, field: int) -> _Table | None:
        """A table within; None where it is absent."""
        place = self.at(field)
        return _Table(self._data, place + _number(self._data, place, "<I")) if place else None

    def vector(self, field: int) -> tuple[int, int]:
        """(place of the first element, number of elements)"""
        place = self.at(field)
        if not place:
            return 0, 0
        start = place + _number(self._data, place, "<I")
        return start + 4, _number(self._data, start, "<I")

    def text(self, field: int) -> str:
        """A string; empty where it is absent."""
        start, length = self.vector(field)
        return _part(self._data, start, length).decode()

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A vector of pairs of 64-bit numbers."""
        start, count = self.vector(field)
        flat = struct.unpack(f"<{2 * count}q", _part(self._data, start, 16 * count))
        return list(zip(flat[::2], flat[1::2], strict=True))

    def tables(self, field: int, most: int) -> list[_Table]:
        """A vector of tables, of `most` at most."""
        start, count = self.vector(field)
        if count > most:
            raise ValueError
        places = range(start, start + 4 * count, 4)
        return [_Table(self._data, place + _number(self._data, place, "<I")) for place in places]


def read(data: bytes) -> tuple[Sequence[Field], Iterator[Batch]]:
    """The columns of a stream, then its dictionaries and rows in their order.

    Raises:
        ValueError, struct.error, LookupError, OverflowError: it is no such stream, or uses a feature that is not read here.
    """
    messages = _messages(data)
    head, _ = next(messages, (b"", memoryview(b"")))
    return fields(head), (batch(head, body) for head, body in messages)


@lru_cache(256)
def fields(head: bytes) -> tuple[Field, ...]:
    """The columns that a schema message names. Callers send the same one again and again."""
    kind, schema = _header(head)
    if kind != _SCHEMA or schema.number(0, "<h") != 0:
        raise ValueError
    return tuple(_field(one) for one in schema.tables(1, MAX_FIELDS))


def batch(head: bytes, body: memoryview) -> Batch:
    """One record batch, or one dictionary."""
    kind, table = _header(head)
    if kind == _BATCH:
        return _batch(table, body, -1)
    rows = table.table(1)
    # A dictionary that grows would need those before it.
    if kind != _DICTIONARY or rows is None or table.number(2, "<B"):
        raise ValueError
    return _batch(rows, body, table.number(0, "<q"))


def _batch(table: _Table, body: memoryview, dictionary: int) -> Batch:
    # Compressed buffers are small here and may be anything there.
    if table.at(3):
        raise ValueError
    return Batch(table.number(0, "<q"), table.pairs(1), table.pairs(2), body, dictionary)


def _field(table: _Table) -> Field:
    name, kind, encoding = table.text(0), table.number(2, "<B"), table.table(4)
    dtype = _dtype(kind, table.table(3))
    if encoding is None:
        return Field(name, dtype)
    index = encoding.table(1)
    places, number = "<i4" if index is None else _dtype(_INT, index), encoding.number(0, "<q")
    if not places or number < 0:
        raise ValueError
    return Field(name, places, number, dtype)


def _dtype(kind: int, table: _Table | None) -> str:
    if kind == _INT and table is not None:
        width, signed = table.number(0, "<i"), table.number(1, "<B")
        return f"<{'i' if signed else 'u'}{width // 8}" if width in (8, 16, 32, 64) else ""
    if kind == _FLOAT and table is not None:
        return _FLOATS[table.number(0, "<h")]
    if kind == _TIMESTAMP and table is not None:
        # Whatever zone a column is shown in, its numbers are UTC.
        return _MOMENTS[table.number(0, "<h")] + (ZONED if table.text(1) else "")
    return {_NULL: "null", _UTF8: "text", _LARGE_UTF8: "large", _BOOL: "bool"}.get(kind, "")


def _messages(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """(flat buffer, body) of each message up to the end mark, or to the end of the bytes."""
    place = 0
    while place < len(data):
        if data[place : place + 4] != _CONTINUES:
            raise ValueError
        size = _number(data, place + 4, "<i")
        if size == 0:
            return
        head = _part(data, place + 8, size)
        place += 8 + size
        length = _Table(head, _number(head, 0, "<I")).number(3, "<q")
        if not 0 <= length <= len(data) - place:
            raise ValueError
        yield head, memoryview(data)[place : place + length]
        place += length


def _header(head: bytes) -> tuple[int, _Table]:
    message = _Table(head, _number(head, 0, "<I"))
    found = message.table(2)
    if found is None:
        raise ValueError
    return message.number(1, "<B"), found


def _number(data: bytes, place: int, kind: str) -> int:
    # A negative place would count from the end.
    if place < 0:
        raise ValueError
    found: int = struct.unpack_from(kind, data, place)[0]
    return found


def _part(data: bytes, start: int, length: int) -> bytes:
    if not 0 <= start <= start + length <= len(data):
        raise ValueError
    return data[start : start + length]


_Piece = Callable[[bytearray], int]


def schema_message(named: Sequence[tuple[str, str]]) -> bytes:
    """The message that says a stream's columns: (name, type) of each; the type one of `bool`, `<i8`, `<f8`, `text`."""
    columns = [_written_field(name, dtype) for name, dtype in named]
    return _message(_SCHEMA, _written(b"\0\0", _vector(columns)), b"")


def batch_message(rows: int, buffers: Sequence[bytes], columns: int) -> bytes:
    """The message of one batch without nulls: `buffers` in the order of the columns, an empty one for each validity."""
    places, body = [], bytearray()
    for buffer in buffers:
        places += [len(body), len(buffer)]
        body += buffer
        body += bytes(-len(body) % 8)
    nodes = _structs(np.array([rows, 0] * columns, "<i8").tobytes(), columns)
    table = _written(struct.pack("<q", rows), nodes, _structs(struct.pack(f"<{len(places)}q", *places), len(buffers)))
    return _message(_BATCH, table, bytes(body))


END = _CONTINUES + bytes(4)
"""The mark after the last message."""


def _message(kind: int, header: _Piece, body: bytes) -> bytes:
    out = bytearray(8)
    root = _written(struct.pack("<h", _METADATA_V5), bytes([kind]), header, struct.pack("<q", len(body)))(out)
    struct.pack_into("<I", out, 0, root)
    out += bytes(-len(out) % 8)
    return _CONTINUES + struct.pack("<i", len(out)) + bytes(out) + body


def _written_field(name: str, dtype: str) -> _Piece:
    kinds: dict[str, tuple[int, _Piece]] = {
        "bool": (_BOOL, _written()),
        "<i8": (_INT, _written(struct.pack("<i", 64), b"\1")),
        "<f8": (_FLOAT, _written(struct.pack("<h", 2))),
        "text": (_UTF8, _written()),
    }
    kind, table = kinds[dtype]
    # Readers in other languages expect the vector of children, be it empty.
    return _written(_text(name), b"\0", bytes([kind]), table, None, _vector([]))


def _written(*cells: bytes | _Piece | None) -> _Piece:
    """A table: a cell of eight bytes for each field, so that every kind of number is aligned; None: the field is absent."""

    def write(out: bytearray) -> int:
        out += bytes(-len(out) % 8)
        vtable = len(out)
        offsets = [0 if cell is None else 8 + 8 * number for number, cell in enumerate(cells)]
        out += struct.pack(f"<{2 + len(cells)}H", 4 + 2 * len(cells), 8 + 8 * len(cells), *offsets)
        out += bytes(-len(out) % 8)
        place = len(out)
        out += struct.pack("<i4x", place - vtable) + bytes(8 * len(cells))
        for number, cell in enumerate(cells):
            at = place + 8 + 8 * number
            if isinstance(cell, bytes):
                out[at : at + len(cell)] = cell
            elif cell is not None:
                # Everything that is pointed to lies behind: offsets are unsigned.
                struct.pack_into("<I", out, at, cell(out) - at)
        return place

    return write


def _vector(pieces: Sequence[_Piece]) -> _Piece:
    def write(out: bytearray) -> int:
        out += bytes(-len(out) % 4)
        place = len(out)
        out += struct.pack("<I", len(pieces)) + bytes(4 * len(pieces))
        for number, piece in enumerate(pieces):
            at = place + 4 + 4 * number
            struct.pack_into("<I", out, at, piece(out) - at)
        return place

    return write


def _structs(data: bytes, count: int) -> _Piece:
    def write(out: bytearray) -> int:
        # The elements begin at a multiple of eight, their number stands right before them.
        out += bytes((4 - len(out)) % 8)
        out += struct.pack("<I", count) + data
        return len(out) - len(data) - 4

    return write


def _text(text: str) -> _Piece:
    data = text.encode()

    def write(out: bytearray) -> int:
        out += bytes(-len(out) % 4)
        place = len(out)
        out += struct.pack("<I", len(data)) + data + b"\0"
        return place

    return write
