"""The chain of the audit trail: each row is sealed with a digest over its content and the seal of the row before.

Whoever changes, removes or inserts a row breaks every seal from there on. The seals need nothing but the rows themselves, so
an export can be verified anywhere. What the chain cannot show is a trail that was cut off at its end or written anew as a
whole: whoever has noted a seal outside can.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

MEMBERS = ("sequence", "at", "who", "verb", "object", "before", "after", "reason")
"""What a seal covers, in this order; `at` is a time with its zone, as ISO 8601 text or a datetime."""


def seal(previous: str, row: Mapping[str, Any]) -> str:
    """The seal of a row: SHA-256 in hexadecimal digits.

    Args:
        previous: seal of the row before; empty for the first.
        row: holds `MEMBERS`.

    Raises:
        ValueError, TypeError, KeyError: a member is missing or of another kind.
    """
    content = [_moment(row[name]) if name == "at" else row[name] for name in MEMBERS]
    # One text for one content, whatever database or file it has been in.
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


class Chain:
    """The part of a trail that was found whole so far.

    Attributes:
        rows: how many.
        head: seal of the last one.
    """

    def __init__(self) -> None:
        self.rows, self.head = 0, ""

    def fault(self, row: Mapping[str, Any]) -> str:
        """Take the next row, which holds its seal as `sha256`; what is wrong with it in a sentence, or nothing.

        A row with a fault is not taken: the first one is where the chain is broken, and all that follows proves nothing.
        """
        if row.get("sequence") != self.rows + 1:
            return f"Entry {self.rows + 1} is missing."
        try:
            expected = seal(self.head, row)
        except (ValueError, TypeError, KeyError):
            expected = ""
        if not expected or row.get("sha256") != expected:
            return f"Entry {self.rows + 1} is not what was written."
        self.rows, self.head = self.rows + 1, expected
        return ""


def _moment(at: object) -> str:
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ValueError("a time needs its zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
