"""Whether a challenger's answer is one: right number of rows, labels of the schema's kind, finite scores, the version asked.

An answer in which every row is good is looked at once, in C, and its text is what the record keeps: nothing is encoded again.
"""

from __future__ import annotations

import asyncio
import re
from types import GenericAlias
from typing import Annotated, Any, NamedTuple

from msgspec import DecodeError, Meta, Raw, Struct
from msgspec.json import Decoder

from quarterdeck.plan import VersionRef
from quarterdeck.records import no_answer
from quarterdeck.schema import Schema

ANSWER_BYTES = 8 * 2**20
"""The largest answer where the schema is not known; else it is worked out from rows and classes, and far smaller."""

PIECE_ROWS = 64
"""Rows that are judged one by one before main's answers get a turn."""

_ENVELOPE_BYTES, _ROW_BYTES, _SCORE_BYTES = 16_384, 256, 32
_CODE = re.compile(r"^[a-z0-9-]{1,64}$")
_BAD_ROW = "challenger-garbage"
# A number of thousands of digits is legal JSON, and would stop the one who reads the record.
_KINDS: dict[type, Any] = {int: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]}
# What the decoder raises at bytes of any kind: not JSON, another type, not UTF-8, nested without end.
_NOT_READ = (DecodeError, ValueError, RecursionError)


class Judged(NamedTuple):
    """What became of a batch: `error` and `detail` of all its rows, or the results of `answered` and `failed` ones.

    `results` is JSON text as records keep it; `code` is that of a failed row.
    """

    error: str = ""
    detail: str = ""
    results: bytes = b""
    answered: int = 0
    failed: int = 0
    code: str = ""


class _Envelope(Struct):
    """The parts of an answer that count."""

    answers: Raw
    digest: str = ""


class _Refusal(Struct):
    """A row that the challenger does not answer."""

    error: str


_ENVELOPE, _ENTRIES, _REFUSAL = Decoder(_Envelope), Decoder(list[Raw]), Decoder(_Refusal)


class Judge:
    """Reads the answers of one deployment's challenger.

    Args:
        schema: of what main answers with; None: not known, and any label will do.
    """

    def __init__(self, schema: Schema | None) -> None:
        self.schema = schema
        kinds: Any = str | bool | float | _KINDS[int]
        if schema is not None:
            found = [_KINDS.get(kind, kind) for kind in dict.fromkeys(type(label) for label in schema.classes)]
            kinds = float if schema.task == "regression" else found[0]
            for kind in found[1:]:
                kinds = kinds | kind
        scores: Any = list[float] if schema is None or schema.classes else Annotated[list[float], Meta(max_length=0)]
        row: Any = GenericAlias(tuple, (kinds, scores))
        self._one: Decoder[Any] = Decoder(row)
        self._all: Decoder[list[Any]] = Decoder(GenericAlias(list, row))

    def largest_body(self, rows: int) -> int:
        """Bytes that an honest answer for this many rows cannot exceed; reading more than that would only hold up the loop."""
        if self.schema is None:
            return ANSWER_BYTES
        classes = self.schema.classes
        # A character can be six as JSON.
        label = 6 * max((len(str(name)) for name in classes), default=0)
        return min(ANSWER_BYTES, _ENVELOPE_BYTES + rows * (_ROW_BYTES + label + _SCORE_BYTES * len(classes)))

    async def judge(self, raw: bytes, version: VersionRef, rows: int) -> Judged:
        """Look at a whole answer for `rows` rows that `version` was asked for; pauses where it has to look at each by itself."""
        try:
            envelope = _ENVELOPE.decode(raw)
        except _NOT_READ:
            return Judged(_BAD_ROW, "The answer is not JSON with a list of answers.")
        try:
            count = len(self._all.decode(envelope.answers))
            entries = None
        except _NOT_READ:
            try:
                entries = _ENTRIES.decode(envelope.answers)
            except _NOT_READ:
                return Judged(_BAD_ROW, "The answer is not JSON with a list of answers.")
            count = len(entries)
        # Refused as a whole: with another number of answers nobody knows which row each one belongs to.
        if count != rows:
            return Judged(_BAD_ROW, "The answer does not have one entry for each row.")
        # Its node may have been swapped meanwhile; what another version says must not be taken for this one's word.
        if envelope.digest != version.digest:
            return Judged("challenger-other-version", f"The challenger node does not answer with {version}.")
        if entries is None:
            return Judged(results=bytes(envelope.answers), answered=rows)
        return await self._each(entries)

    async def _each(self, entries: list[Raw]) -> Judged:
        """Judge each row by itself: one that is refused does not cost the others their pair."""
        codes: list[str] = []
        results: list[bytes | Raw] = []
        for place, entry in enumerate(entries, 1):
            try:
                self._one.decode(entry)
                results.append(entry)
            except _NOT_READ:
                codes.append(_code(entry))
                results.append(no_answer("failed", codes[-1]))
            if place % PIECE_ROWS == 0:
                await asyncio.sleep(0)
        if len(codes) == len(entries) and set(codes) == {_BAD_ROW}:
            return Judged(_BAD_ROW, "No entry of the answer is a prediction.")
        return Judged("", "", b"[" + b",".join(results) + b"]", len(entries) - len(codes), len(codes), codes[0])


def _code(entry: Raw) -> str:
    """The challenger's own reason where it gave one for this row."""
    try:
        code = _REFUSAL.decode(entry).error
    except _NOT_READ:
        return _BAD_ROW
    return code if _CODE.match(code) else _BAD_ROW
