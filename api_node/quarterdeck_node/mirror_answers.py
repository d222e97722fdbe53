"""Whether a challenger's answer is one: right number of rows, labels of the schema's kind, finite scores, the version asked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from quarterdeck.plan import VersionRef
from quarterdeck.records import MirroredRow
from quarterdeck.schema import Label, Schema

ANSWER_BYTES = 8 * 2**20
"""The largest answer where the schema is not known; else it is worked out from rows and classes, and far smaller."""

_ENVELOPE_BYTES, _ROW_BYTES, _SCORE_BYTES = 16_384, 256, 32
_CODE = re.compile(r"^[a-z0-9-]{1,64}$")
_BAD_ROW = "challenger-garbage"


def largest_body(rows: int, schema: Schema | None) -> int:
    """Bytes that an honest answer for this many rows cannot exceed; reading more than that would only hold up the loop."""
    if schema is None:
        return ANSWER_BYTES
    # A character can be six as JSON.
    label = 6 * max((len(str(name)) for name in schema.classes), default=0)
    return min(ANSWER_BYTES, _ENVELOPE_BYTES + rows * (_ROW_BYTES + label + _SCORE_BYTES * len(schema.classes)))


class Judge:
    """Reads one answer; `error` and `detail` say why all of it is refused, else `rows` judges each row by itself."""

    def __init__(self, answers: list[Any], schema: Schema | None, error: str = "", detail: str = "") -> None:
        self.error, self.detail = error, detail
        self._answers = answers
        self._kinds: set[type] | None = {type(label) for label in schema.classes} if schema and schema.classes else None
        self._regression = schema is not None and schema.task == "regression"

    @classmethod
    def of(cls, raw: bytes, version: VersionRef, rows: int, schema: Schema | None) -> Judge:
        """Look at the whole answer."""
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            return cls([], schema, _BAD_ROW, "The answer is not JSON.")
        # Refused as a whole: with another number of answers nobody knows which row each one belongs to.
        answers = body.get("answers") if isinstance(body, dict) else None
        if not isinstance(answers, list) or len(answers) != rows:
            return cls([], schema, _BAD_ROW, "The answer does not have one entry for each row.")
        # Its node may have been swapped meanwhile; what another version says must not be taken for this one's word.
        if body.get("digest") != version.digest:
            return cls([], schema, "challenger-other-version", f"The challenger node does not answer with {version}.")
        if not any(map(cls([], schema)._valid, answers)) and all(_code(answer) == _BAD_ROW for answer in answers):
            return cls([], schema, _BAD_ROW, "No entry of the answer is a prediction.")
        return cls(answers, schema)

    def rows(self, ids: Iterable[str]) -> Iterator[MirroredRow]:
        """What became of each row."""
        for name, answer in zip(ids, self._answers, strict=True):
            if self._valid(answer):
                yield MirroredRow(name, "answered", answer[0], [float(score) for score in answer[1]], "")
            else:
                yield MirroredRow(name, "failed", None, [], _code(answer))

    def _valid(self, answer: object) -> bool:
        if not isinstance(answer, list) or len(answer) != 2 or not isinstance(answer[1], list):
            return False
        prediction, scores = answer
        if self._regression:
            return _finite(prediction) and not scores
        return self._label(prediction) and all(map(_finite, scores))

    def _label(self, value: Label | None) -> bool:
        if self._kinds is not None:
            return type(value) in self._kinds
        return isinstance(value, (str, bool)) or _finite(value)


def _finite(value: object) -> bool:
    """A number that a float can hold; true of neither booleans nor 400-digit integers."""
    # By exact type, since True is an int; bounded before it is made a float, which would raise.
    if type(value) is int:
        return abs(value) < 2**1023
    return type(value) is float and math.isfinite(value)


def _code(answer: object) -> str:
    """The challenger's own reason where it gave one for this row."""
    code = answer.get("error") if isinstance(answer, dict) else None
    return code if isinstance(code, str) and _CODE.match(code) else _BAD_ROW
