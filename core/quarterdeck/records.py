"""Prediction records on their way: the frames of a node's spool.

A frame is what one write(2) puts down before an answer leaves, so the death of any process loses no acknowledged record:

    2 B magic "QF" · 1 B kind · 1 B zero · u32 payload length · u32 crc32 of all the rest · u64 sequence · payload (JSON, ASCII)

all little-endian. A torn frame can only be the last of its file: it was never acknowledged and is left out.
Row ids are ``<request id>-<row index>``; ids that callers send are aliases, kept beside them.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from quarterdeck.schema import Label, Row

MAGIC = b"QF"
# Fixed sizes, no alignment: the same bytes on every machine, for spools outlive the boot that wrote them.
_HEAD = struct.Struct("<2sBBIIQ")
_CRC_PART = struct.Struct("<BBIQ")
KIND_MAIN = 1
KIND_CHALLENGER = 2

MirrorResult = Literal["answered", "failed", "expired", "dropped"]


class Answer(NamedTuple):
    """One row's answer: label or number, and the score of each class in schema order (empty for regression)."""

    prediction: Label
    scores: list[float]


@dataclass(frozen=True, slots=True)
class MainRecord:
    """One request that main answered. Times in microseconds; `ts` is Unix time, UTC."""

    ts: int
    request_id: str
    deployment: str
    project: str
    stage: str
    revision: int
    model: str
    version: int
    digest: str
    door: str
    latency_us: int
    rows: list[Row]
    answers: list[Answer]
    caller_id: str = ""
    key_id: str = ""
    kind: int = field(default=KIND_MAIN, init=False)


class MirroredRow(NamedTuple):
    """The challenger's answer to one mirrored row, or the code of why there is none."""

    row_id: str
    result: MirrorResult
    prediction: Label | None
    scores: list[float]
    error_code: str


@dataclass(frozen=True, slots=True)
class ChallengerRecord:
    """What became of some mirrored rows of one deployment. Times in microseconds."""

    ts: int
    deployment: str
    project: str
    stage: str
    revision: int
    model: str
    version: int
    digest: str
    latency_us: int
    rows: list[MirroredRow]
    kind: int = field(default=KIND_CHALLENGER, init=False)


Record = MainRecord | ChallengerRecord


class Frame(NamedTuple):
    """One decoded frame: its sequence number in the spool's boot, and the record."""

    sequence: int
    record: Record


# Escaped to ASCII: a lone surrogate that got past a door must not cost the record its frame.
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False, check_circular=False)
# The payload is the list of the members in the class's order: dataclasses.asdict would copy every row of a request deeply.
_MEMBERS = {
    KIND_MAIN: attrgetter(*(member.name for member in fields(MainRecord) if member.init)),
    KIND_CHALLENGER: attrgetter(*(member.name for member in fields(ChallengerRecord) if member.init)),
}


def encode(sequence: int, record: Record) -> bytes:
    """The bytes of one frame. JSON keeps Python's shortest round-trip floats.

    Raises:
        ValueError: a number is not finite or the record holds what JSON cannot; the doors let neither through.
        TypeError: likewise.
    """
    payload = _JSON.encode(_MEMBERS[record.kind](record)).encode()
    crc = zlib.crc32(payload, zlib.crc32(_CRC_PART.pack(record.kind, 0, len(payload), sequence)))
    return _HEAD.pack(MAGIC, record.kind, 0, len(payload), crc, sequence) + payload


def decode(data: bytes) -> Iterator[Frame]:
    """The whole frames at the front of `data`, in order; stops at the first torn or damaged one."""
    for kind, sequence, payload, _ in _walk(data):
        yield Frame(sequence, _record(kind, json.loads(payload)))


def whole_bytes(data: bytes) -> int:
    """How many bytes at the front of `data` are whole frames."""
    return max((end for *_, end in _walk(data)), default=0)


def row_id(request_id: str, row: int) -> str:
    """The id of one predicted row."""
    return f"{request_id}-{row}"


def _walk(data: bytes) -> Iterator[tuple[int, int, bytes, int]]:
    """(kind, sequence, payload, end) of each whole frame."""
    place = 0
    while place + _HEAD.size <= len(data):
        magic, kind, zero, length, crc, sequence = _HEAD.unpack_from(data, place)
        start, place = place + _HEAD.size, place + _HEAD.size + length
        # The length is believed only as far as the file reaches; the checksum then decides whether it was one.
        if magic != MAGIC or kind not in _MEMBERS or place > len(data):
            return
        payload = data[start:place]
        if zlib.crc32(payload, zlib.crc32(_CRC_PART.pack(kind, zero, length, sequence))) != crc:
            return
        yield kind, sequence, payload, place


def _record(kind: int, members: list[Any]) -> Record:
    # JSON gives lists where tuples went in: they are made again in place, for a second list of every row costs a copy.
    if kind == KIND_MAIN:
        main = MainRecord(*members)
        main.answers[:] = [Answer(*answer) for answer in main.answers]
        return main
    challenger = ChallengerRecord(*members)
    challenger.rows[:] = [MirroredRow(*row) for row in challenger.rows]
    return challenger
