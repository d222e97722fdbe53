"""What passes between a program and a model process: messages, each behind its length in four bytes.

Questions are marshalled, by the very interpreter that reads them again: the fastest form for lists of plain values. Answers
come from a process that runs foreign code, so they are taken apart as plain bytes: one that says what follows, then JSON or the
numbers of a batch.

| question | answers |
|---|---|
| `{"folder", "digest", "allow_code", "accelerator", "memory_bytes", "parent"}` | `R` (ready) or `X` (JSON of the refusal) |
| `(rows, [column of values, …])`, columns in schema order | `S` (a batch) or `F` (JSON of the failure) |

A batch is rows and width (u32 each), the labels' places among the classes (i32 each; none for a regression), and the scores
(float64, row by row; a regression's numbers), all little-endian. It is read without numpy, whose calls cost more than one row.
"""

from __future__ import annotations

import json
import marshal
import math
import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from quarterdeck.column_rows import ColumnRows
from quarterdeck.errors import ModelFailed
from quarterdeck.records import Answer
from quarterdeck.schema import Row, Schema

if TYPE_CHECKING:
    # It brings numpy, which the asking program does not need for this.
    from quarterdeck.scored import Scored

HEAD = struct.Struct("<I")
_SHAPE = struct.Struct("<II")
MAX_REPLY = 64 * 2**20
"""Bytes of one answer; whatever claims to be larger is not one, and must not be collected in the asking program's memory."""
OUT_OF_MEMORY = 75
"""Exit status of a model process that ran into its limit of memory."""
Sign = Literal[b"R", b"X", b"S", b"F"]


class Questions:
    """Writes the questions of one model.

    Args:
        names: its features in schema order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        # One name alone makes itemgetter give the bare value.
        self._values: Any = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)

    def load(self, **members: Any) -> bytes:
        """The message that asks for a package to be loaded."""
        return _message(marshal.dumps(members))

    def rows(self, parts: Sequence[Sequence[Row]]) -> bytes:
        """The message that asks for answers to the rows of some requests, one request after the other."""
        count = sum(map(len, parts))
        first = parts[0]
        if len(parts) == 1 and isinstance(first, ColumnRows):
            lists = first.lists()
            columns = [lists[name] for name in self._names]
        else:
            columns = list(zip(*(self._values(row) for part in parts for row in part), strict=True))
        return _message(marshal.dumps((count, columns)))


def batch(scored: Scored) -> bytes:
    """The message of one batch of answers."""
    return answer(b"S", _SHAPE.pack(*scored.scores.shape) + scored.labels.tobytes() + scored.scores.tobytes())


def answers(body: bytes, schema: Schema) -> list[Answer]:
    """The answers in a batch that came from a process that is not trusted.

    Raises:
        ModelFailed: it is no batch of this schema.
    """
    start = 1 + _SHAPE.size
    rows, width = _SHAPE.unpack_from(body, 1) if len(body) >= start else (0, 0)
    regression, classes = schema.task == "regression", schema.classes
    end = start + (0 if regression else 4 * rows)
    if body[:1] != b"S" or width != (1 if regression else len(classes)) or len(body) != end + 8 * rows * width:
        raise ModelFailed("The model process answered something that is no prediction.")
    scores = list(struct.unpack_from(f"<{rows * width}d", body, end))
    if not all(map(math.isfinite, scores)):
        raise ModelFailed("The model answered a number that is not finite.")
    if regression:
        return [Answer(score, []) for score in scores]
    places = struct.unpack_from(f"<{rows}i", body, start)
    if places and not 0 <= min(places) <= max(places) < width:
        raise ModelFailed("The model answered a label that is not one of its classes.")
    return [Answer(classes[place], scores[row * width : (row + 1) * width]) for row, place in enumerate(places)]


def question(data: bytes | bytearray) -> Any:
    """What a message of `Questions` says; `data` without its length."""
    return marshal.loads(data)


def answer(sign: Sign, body: bytes = b"") -> bytes:
    """One answer's message."""
    return _message(sign + body)


def said(sign: Sign, document: dict[str, Any]) -> bytes:
    """An answer in words."""
    return answer(sign, json.dumps(document).encode())


def size(head: bytes) -> int:
    """Length of the message behind `head`; `ValueError` where nothing of ours is that long."""
    found: int = HEAD.unpack(head)[0]
    if not 0 < found <= MAX_REPLY:
        raise ValueError(found)
    return found


def words(body: bytes) -> dict[str, Any]:
    """The document of an answer in words; `ValueError` where it is none."""
    try:
        found = json.loads(body)
    except RecursionError:
        raise ValueError("nested without end") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _message(body: bytes) -> bytes:
    return HEAD.pack(len(body)) + body
