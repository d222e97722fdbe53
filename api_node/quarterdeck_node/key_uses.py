"""Which keys were used, and when last, as nodes tell it: coarse, because nobody decides anything by it within a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from quarterdeck.plan import KeyUse
from quarterdeck_node.auth import Meter

EVERY_SECONDS = 30.0
RECENT_SECONDS = 600.0
MAX_KEYS = 1_000
"""Of one report, the last used first: reports have a limit, and a key that was left out is told when it is used again."""


class KeyUses:
    """Looks at the meters twice a minute at most; reports are sent far more often.

    Args:
        clock: monotonic seconds, as the meters have them.
        now: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        self._clock, self._now = clock, now
        self._looked: float | None = None
        self._found: list[KeyUse] = []

    def of(self, meters: Iterable[Meter]) -> list[KeyUse]:
        """The uses of the last ten minutes, as of the last look."""
        clock = self._clock()
        if self._looked is not None and clock - self._looked < EVERY_SECONDS:
            return self._found
        self._looked = clock
        recent = [meter for meter in meters if meter.requests and clock - meter.last <= RECENT_SECONDS]
        newest = sorted(recent, key=lambda meter: meter.last, reverse=True)[:MAX_KEYS]
        offset = self._now() - clock
        self._found = [KeyUse(id=one.id, requests=one.requests, last=round(one.last + offset, 1)) for one in newest]
        return self._found
