"""Request ids: UUIDs of version 7, so that they sort by time."""

from __future__ import annotations

import os
import time

_AT_ONCE = 256
# Of each ten bytes: version 7 and 12 random bits, the variant's two bits and 62 random ones.
_RANDOM = int.from_bytes(bytes.fromhex("0fff3fffffffffffffff") * _AT_ONCE)
_FIXED = int.from_bytes(bytes.fromhex("70008000000000000000") * _AT_ONCE)
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
    size = 10 * _AT_ONCE
    # As one number: bits that are set tail by tail would be a third of what an id costs.
    drawn = (int.from_bytes(os.urandom(size)) & _RANDOM | _FIXED).to_bytes(size).hex()
    _tails.extend([drawn[at : at + 20] for at in range(0, 2 * size, 20)])
    return _tails.pop()


# A forked child must not hand out its parent's ids.
os.register_at_fork(after_in_child=_tails.clear)
