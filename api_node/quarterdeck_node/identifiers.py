"""Request ids: UUIDs of version 7, so that they sort by time."""

from __future__ import annotations

import os
import time

_AT_ONCE = 256
_tails: list[str] = []
_now = (0, "")


def request_id() -> str:
    """32 hex digits: 48 bits of Unix milliseconds, version, variant, 74 random bits."""
    # uuid.uuid7 comes with Python 3.14 only.
    global _now
    try:
        tail = _tails.pop()
    except IndexError:
        tail = _refill()
    moment, text = _now
    # Many requests share a millisecond.
    if moment != (now := time.time_ns() // 1_000_000):
        _now = now, text = now, f"{now:012x}"
    return text + tail


def _refill() -> str:
    """Make many tails of one read of the kernel's randomness, which costs more than all the rest of an id."""
    drawn = os.urandom(10 * _AT_ONCE).hex()
    for at in range(0, len(drawn), 20):
        part = drawn[at : at + 20]
        # Version 7, 12 random bits, the variant's two bits, 62 random bits.
        _tails.append(f"7{part[:3]}{'89ab'[int(part[3], 16) & 3]}{part[4:19]}")
    return _tails.pop()


# A forked child must not hand out its parent's ids.
os.register_at_fork(after_in_child=_tails.clear)
