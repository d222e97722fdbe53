"""Request ids: UUIDs of version 7, so that they sort by time."""

from __future__ import annotations

import os
import time


def request_id() -> str:
    """32 hex digits: 48 bits of Unix milliseconds, version, variant, 74 random bits."""
    # uuid.uuid7 comes with Python 3.14 only.
    random = int.from_bytes(os.urandom(10), "big")
    high = (time.time_ns() // 1_000_000 << 16) | 0x7000 | (random >> 68 & 0x0FFF)
    low = 1 << 63 | (random & (1 << 62) - 1)
    return f"{high:016x}{low:016x}"
