"""What one node takes at most. Every figure is a setting; these are the defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request and of all together. Sizes in bytes, durations in seconds.

    Attributes:
        head_bytes: request line and headers together.
        head_fields: header fields.
        body_bytes: one body.
        bodies_bytes: all bodies that are being received; a thousand slow callers must not fill the memory.
        body_seconds: from the head's end to the body's.
        rows: records of one request.
        depth: levels of nesting of a JSON document.
        values: values of a JSON document.
        string: characters of one string.
        digits: digits of one whole number.
        inflight: requests that are being answered.
    """

    head_bytes: int = 16_384
    head_fields: int = 64
    body_bytes: int = 8 * 2**20
    bodies_bytes: int = 256 * 2**20
    body_seconds: float = 30.0
    rows: int = 1_000
    depth: int = 32
    values: int = 1_000_000
    string: int = 65_536
    digits: int = 20
    inflight: int = 1_024


DEFAULT = Limits()
