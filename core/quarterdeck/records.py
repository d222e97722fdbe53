"""Prediction records on their way: the frames of a node's spool.

A frame is what one write(2) puts down before an answer leaves, so the death of any process loses no acknowledged record:

    2 B magic "QF" · 1 B kind · 1 B zero · u32 payload length · u32 crc32 of all the rest · u64 sequence · payload

all little-endian. A torn frame can only be the last of its file: it was never acknowledged and is left out. The payload is one
JSON array in UTF-8:

    main        [ts, request id, deployment, project, stage, revision, model, version, digest, door, latency, caller id, key id,
                 rows, answers]
    challenger  [ts, deployment, project, stage, revision, model, version, digest, latency, requests, results]

`rows` and `answers` are texts that a door has validated or written, put down as they are: encoding them again would cost more
than the write. So there may be white space between their tokens, `rows` may be ``{"columns": {name: [values]}}``, and a NaN in
it means null, as it does at the doors. `requests` is ``[[request id, …], [rows, …]]``; `results` has one entry per row of
these, in order: ``[prediction, [scores]]``, or ``{"result": …, "error": code}``; or it is one such object for all of them.
Row ids are ``<request id>-<row index>``; ids that callers send are aliases, kept beside them.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Literal, NamedTuple

from pydantic_core import from_json, to_json

from quarterdeck.plan import DeploymentPlan, VersionRef
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


# Members in the order of the payload: agents make one for every request, and a tuple takes them all at once.
class MainRecord(NamedTuple):
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
    caller_id: str
    key_id: str
    rows: list[Row]
    answers: list[Answer]


class MirroredRow(NamedTuple):
    """The challenger's answer to one mirrored row, or the code of why there is none."""

    row_id: str
    result: MirrorResult
    prediction: Label | None
    scores: list[float]
    error_code: str


class ChallengerRecord(NamedTuple):
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


Record = MainRecord | ChallengerRecord
_Whole = tuple[int, int, bytes, int]
"""Of a whole frame: kind, sequence number, payload, and where it ends."""


class Frame(NamedTuple):
    """One decoded frame: its sequence number in the spool's boot, and the record."""

    sequence: int
    record: Record


# For the few payloads that are not JSON proper: NaN where null is meant, or a caller's id with half a surrogate pair.
_LENIENT = json.JSONDecoder(parse_constant=lambda _: None)
_KINDS = (KIND_MAIN, KIND_CHALLENGER)
# Payloads that are parsed by one call: calls for each cost as much as the parsing.
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Stamp:
    """What all records of one plan and version have in common. Make it once for both: its `text` is JSON, ready for frames."""

    deployment: str
    project: str
    stage: str
    revision: int
    model: str
    version: int
    digest: str
    text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        place = f"{_quoted(self.deployment)},{_quoted(self.project)},{_quoted(self.stage)},{self.revision}"
        object.__setattr__(self, "text", f"{place},{_quoted(self.model)},{self.version},{_quoted(self.digest)}")

    @classmethod
    def of(cls, plan: DeploymentPlan, ref: VersionRef) -> Stamp:
        """The stamp of what `ref` answers under `plan`."""
        return cls(plan.name, plan.project, plan.stage, plan.revision, ref.model, ref.version, ref.digest)


def main_frame(
    sequence: int,
    stamp: Stamp,
    ts: int,
    request_id: str,
    door: str,
    latency_us: int,
    rows: bytes,
    answers: bytes,
    caller_id: str = "",
    key_id: str = "",
) -> bytes:
    """The frame of one request that main answered.

    Args:
        sequence: its number in the spool's boot.
        stamp: who answered.
        ts: Unix time in microseconds, UTC.
        request_id: of the node's own making; `caller_id` is the caller's alias for it.
        door: the protocol it came by.
        latency_us: microseconds.
        rows: JSON text: array of objects, or ``{"columns": {name: [values]}}``.
        answers: JSON text ``[[prediction, [scores]], …]``.
        caller_id: as the caller sent it.
        key_id: of the key that was shown.
    """
    # One string formatting and one join: on this road a microsecond is three per cent of a request.
    head = f"[{ts},{_quoted(request_id)},{stamp.text},{_quoted(door)},{latency_us},{_quoted(caller_id)},{_quoted(key_id)},"
    return _frame(KIND_MAIN, sequence, b"".join((head.encode(), rows, b",", answers, b"]")))


def challenger_frame(sequence: int, stamp: Stamp, ts: int, latency_us: int, requests: bytes, results: bytes) -> bytes:
    """The frame of what became of some mirrored requests.

    Args:
        sequence: its number in the spool's boot.
        stamp: who was asked.
        ts: Unix time in microseconds, UTC.
        latency_us: microseconds.
        requests: JSON text, as `requests_text` writes it.
        results: JSON text with an entry for each of their rows, or one object for all, as `no_answer` writes it.
    """
    head = f"[{ts},{stamp.text},{latency_us},"
    return _frame(KIND_CHALLENGER, sequence, b"".join((head.encode(), requests, b",", results, b"]")))


def requests_text(names: Sequence[str], counts: Sequence[int]) -> bytes:
    """JSON text of requests: their ids, and how many rows each has. Raises ValueError at half a surrogate pair."""
    # By column: one call for each list, where pairs would be an object each.
    return to_json((names, counts))


def no_answer(result: MirrorResult, error_code: str) -> bytes:
    """JSON text of what became of a mirrored row that has no answer."""
    return f'{{"result":{_quoted(result)},"error":{_quoted(error_code)}}}'.encode()


def decode(data: bytes) -> Iterator[Frame]:
    """The whole frames at the front of `data`, in order; stops at the first torn or damaged one.

    Raises:
        ValueError: a whole frame holds something else than a record: whoever wrote it was no spool.
    """
    return _records(_walk(data))


def read(data: bytes) -> tuple[Iterator[Frame], int]:
    """The whole frames at the front of `data`, to be decoded as they are asked for, and how many bytes these are.

    Raises:
        ValueError: while they are decoded, as `decode`.
    """
    found = list(_walk(data))
    return _records(iter(found)), found[-1][3] if found else 0


def whole_bytes(data: bytes) -> int:
    """How many bytes at the front of `data` are whole frames."""
    return max((end for *_, end in _walk(data)), default=0)


def row_id(request_id: str, row: int) -> str:
    """The id of one predicted row."""
    return f"{request_id}-{row}"


def _walk(data: bytes) -> Iterator[_Whole]:
    """Each whole frame."""
    unpack, crc32, size, start, whole = _HEAD.unpack_from, zlib.crc32, _HEAD.size, 0, len(data)
    while start + size <= whole:
        magic, kind, _, length, crc, sequence = unpack(data, start)
        end = start + size + length
        # The length is believed only as far as the file reaches; the checksum then decides whether it was one.
        if magic != MAGIC or kind not in _KINDS or end > whole:
            return
        # The checksum is of all but the magic and itself; the number and the payload lie side by side.
        if crc32(data[start + 12 : end], crc32(data[start + 2 : start + 8])) != crc:
            return
        yield kind, sequence, data[start + size : end], end
        start = end


def _records(walk: Iterator[_Whole]) -> Iterator[Frame]:
    while chunk := list(islice(walk, _CHUNK)):
        for (kind, sequence, _, _), members in zip(chunk, _parsed([payload for _, _, payload, _ in chunk]), strict=True):
            yield Frame(sequence, _main(members) if kind == KIND_MAIN else _challenger(members))


def _frame(kind: int, sequence: int, payload: bytes) -> bytes:
    length = len(payload)
    crc = zlib.crc32(payload, zlib.crc32(_CRC_PART.pack(kind, 0, length, sequence)))
    return _HEAD.pack(MAGIC, kind, 0, length, crc, sequence) + payload


def _parsed(payloads: list[bytes]) -> Iterable[list[Any]]:
    try:
        found: list[list[Any]] = from_json(b"[" + b",".join(payloads) + b"]", allow_inf_nan=False)
    except ValueError:
        return (_LENIENT.decode(payload.decode()) for payload in payloads)
    return found


def _main(members: list[Any]) -> MainRecord:
    rows, answers = members[-2:]
    if isinstance(rows, dict):
        columns = rows["columns"]
        members[-2] = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    # JSON gives lists where tuples went in.
    members[-1] = [Answer(*answer) for answer in answers]
    return MainRecord._make(members)


def _challenger(members: list[Any]) -> ChallengerRecord:
    *head, requests, results = members
    names = [row_id(request, row) for request, rows in zip(*requests, strict=True) for row in range(rows)]
    if isinstance(results, dict):
        results = [results] * len(names)
    return ChallengerRecord._make([*head, [_mirrored(name, result) for name, result in zip(names, results, strict=True)]])


def _mirrored(name: str, result: Any) -> MirroredRow:
    if isinstance(result, dict):
        return MirroredRow(name, result["result"], None, [], result["error"])
    prediction, scores = result
    # The text is the challenger's own, and a whole number is a fine score.
    return MirroredRow(name, "answered", prediction, list(map(float, scores)), "")
