"""Golden rows through what answers, again and again: whether it runs, and whether it still keeps its promise."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from quarterdeck import verify
from quarterdeck.errors import Overloaded, QuarterdeckError
from quarterdeck.records import Answer
from quarterdeck_node.predictor import Live, Resident, Slot

PROBE_SECONDS = 10.0
"""Deadline of a probe: two that fail and the pauses between them still fit into the time after which it counts as not running."""
TRIES = 3
"""Errors in a row before it is told: a model process that was killed takes a moment to be there again."""
RETRY_SECONDS = 1.0
_log = logging.getLogger(__name__)


class _Outcome(NamedTuple):
    """What became of one golden row: `how` it was failed (empty: it was not), and whether asking again could change that."""

    how: str = ""
    again: bool = False
    shed: bool = False


class Prober:
    """Probes what is live in every slot; such rows are neither counted nor recorded.

    Args:
        slots: gives what there is now.
        seconds: pause between probes.
        told: called when a failure begins, changes or ends.
    """

    def __init__(self, slots: Callable[[], Mapping[str, Slot]], seconds: float, told: Callable[[], None]) -> None:
        self._slots, self._seconds, self._told = slots, seconds, told
        self._due = asyncio.Event()
        # By deployment; the digest tells whether it is about what answers now.
        self._right: dict[str, tuple[str, float]] = {}
        self._failing: dict[str, tuple[str, str]] = {}

    def wake(self) -> None:
        """What has just become active is probed within a moment, not after a whole pause."""
        self._due.set()

    def age(self, name: str, slot: Slot) -> float | None:
        """Seconds since what is live answered its golden row rightly; None: not yet."""
        digest, moment = self._right.get(name, ("", 0.0))
        return time.monotonic() - moment if _is_live(slot, digest) else None

    def failure(self, name: str, slot: Slot) -> str:
        """How what is live failed its last golden row, in words without values; empty: it did not."""
        digest, how = self._failing.get(name, ("", ""))
        return how if _is_live(slot, digest) else ""

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            self._due.clear()
            live = [(name, slot.live) for name, slot in self._slots().items() if slot.live is not None]
            # Together and with a deadline: a model that hangs must not make the others look as if they did not run.
            await asyncio.gather(*(self._probe(name, one) for name, one in live))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._due.wait()

    async def _probe(self, name: str, live: Live) -> None:
        resident = live.resident
        for left in reversed(range(TRIES)):
            found = await _asked(name, resident)
            if not found.again or not left:
                break
            await asyncio.sleep(RETRY_SECONDS)
        # It was shed like a caller: that says nothing about the version.
        if found.shed:
            return
        digest, before = resident.ref.digest, self._failing.get(name)
        if found.how:
            self._failing[name] = (digest, found.how)
        else:
            self._right[name] = (digest, time.monotonic())
            self._failing.pop(name, None)
        # At once: whoever decides may take the version back.
        if self._failing.get(name) != before:
            self._told()


async def _asked(name: str, resident: Resident) -> _Outcome:
    golden = resident.manifest.golden[0]
    # Counted as a user, lest the version is unloaded under its probe.
    resident.users += 1
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            # With a deadline of its own it waits where callers are shed: a model under more load than it bears does run.
            [answer] = await resident.runtime.predict([golden.row], time.monotonic() + PROBE_SECONDS)
    except Overloaded as error:
        _log.warning("the probe of %s was not answered: %s", name, error.code)
        return _Outcome(shed=True)
    except TimeoutError:
        _log.warning("the probe of %s was not answered in time", name)
        return _Outcome(f"no answer within {PROBE_SECONDS:g} s.")
    # Whatever it was, the next probe comes: a loop that ended here would say "not running" for ever.
    except Exception as error:
        how = error.detail if isinstance(error, QuarterdeckError) else f"{type(error).__name__}."
        _log.warning("the probe of %s was not answered: %s", name, how)
        return _Outcome(how, again=True)
    finally:
        resident.users -= 1
    expected = Answer(golden.expected.prediction, golden.expected.scores)
    difference = verify.differs(expected, answer, resident.manifest.golden_tolerance)
    if difference:
        _log.error("the probe of %s was answered wrongly: %s", name, difference)
    return _Outcome(f"{difference}." if difference else "")


def _is_live(slot: Slot, digest: str) -> bool:
    return slot.live is not None and slot.live.resident.ref.digest == digest
