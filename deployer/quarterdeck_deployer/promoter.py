"""Works on promotions in threads of its own: copies what is missing, asks the gates, and writes down what comes of it.

Level-triggered: what is open is read from the table again and again, so nothing is lost with the process. Stores and models
may take their time here; nobody who asks the API waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from quarterdeck.copying import copy_version
from quarterdeck.errors import QuarterdeckError, StorageError
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.gates.facts import Facts
from quarterdeck_deployer.gates.kinds import Finding, Gate, GateResult, Look
from quarterdeck_deployer.promotions import Promotions, PromotionView
from quarterdeck_deployer.trials import Trials
from quarterdeck_deployer.ways import Way

TICK_SECONDS = 2.0
"""Pause between two looks at what is open, without anybody's call."""
WORKERS = 2
TRIES = 5
"""Failures that nobody foresaw, in a row, before a promotion is given up."""
log = logging.getLogger(__name__)

WayOf = Callable[[PromotionView], Way]


class Promoter:
    """Carries promotions out. Every promotion is in one thread's hands at a time.

    Args:
        promotions: the table.
        trials: loads versions.
        way_of: what a promotion is about: stores, records and queries.
    """

    def __init__(self, promotions: Promotions, trials: Trials, way_of: WayOf) -> None:
        self._promotions, self._trials, self._way_of = promotions, trials, way_of
        self._due = threading.Condition()
        self._closing = False
        self._calls = 0
        self._held: set[int] = set()
        # Until when a promotion rests after something was in its way, and how often that was in a row.
        self._resting: dict[int, float] = {}
        self._failures: dict[int, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stepped = asyncio.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to work; from the event loop."""
        self._loop = asyncio.get_running_loop()
        # Daemons: a model that hangs in its question must not keep the program from ending.
        self._threads = [threading.Thread(target=self._work, name=f"promoter-{place}", daemon=True) for place in range(WORKERS)]
        for thread in self._threads:
            thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """Work no more; what is in hand is begun again by the next process. Waits so long at most."""
        with self._due:
            self._closing = True
            self._due.notify_all()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def wake(self) -> None:
        """There is something to do; from any thread."""
        with self._due:
            self._calls += 1
            self._resting.clear()
            self._due.notify_all()

    def release(self) -> None:
        """Let everybody go who waits for a promotion, because the program ends."""
        self._stepped.set()

    async def ended(self, ident: int, seconds: float) -> PromotionView:
        """Wait until a promotion has ended or waits for a person, `seconds` at most; raises NotFound."""
        deadline = time.monotonic() + seconds
        while True:
            stepped = self._stepped
            found = await run_in_threadpool(self._promotions.one, ident)
            left = deadline - time.monotonic()
            if found.state != "checking" or left <= 0 or self._closing:
                return found
            with suppress(TimeoutError):
                await asyncio.wait_for(stepped.wait(), left)

    def _work(self) -> None:
        while (ident := self._take()) is not None:
            try:
                self._carry_on(ident)
            # The next look tries again; nothing may end this thread.
            except Exception:
                self._stumble(ident)
            finally:
                with self._due:
                    self._held.discard(ident)
                self._tell()

    def _take(self) -> int | None:
        """The next promotion to work on, held for this thread; None at the program's end."""
        while True:
            with self._due:
                calls = self._calls
                if self._closing:
                    return None
            waiting = self._open()
            with self._due:
                now = time.monotonic()
                for ident in waiting:
                    if ident not in self._held and self._resting.get(ident, 0.0) <= now:
                        self._held.add(ident)
                        return ident
                # Who has called since the table was read has written something that it did not show.
                if calls == self._calls and not self._closing:
                    self._due.wait(TICK_SECONDS)

    def _open(self) -> list[int]:
        try:
            # Whoever waits for a person may have been overtaken meanwhile.
            for ident in self._promotions.outrun():
                self._promotions.still(ident)
            return self._promotions.checking()
        except Exception:
            log.exception("promotions cannot be read; trying again in %s s", TICK_SECONDS)
            return []

    def _carry_on(self, ident: int) -> None:
        try:
            self._check(ident)
        except StorageError as error:
            if not error.retryable:
                self._promotions.fail(ident, error.code, str(error))
                return
            # Whoever restarts the store need not say so here.
            self._promotions.say(ident, f"{error} It is tried again.")
            self._rest(ident)
        # What is wrong with the version or the stores is the end of it; what is wrong with us is not caught here.
        except QuarterdeckError as error:
            self._promotions.fail(ident, error.code, str(error))
        self._failures.pop(ident, None)

    def _check(self, ident: int) -> None:
        promotion = self._promotions.one(ident)
        # Before anything is copied or loaded for nobody.
        if not self._promotions.still(ident):
            return
        way = self._way_of(promotion)
        if promotion.copied is None:
            self._promotions.note_copied(ident, copy_version(way.source, way.subject.storage, promotion.main, way.spare))
        with Facts(self._trials, way.subject) as facts:
            for gate in self._promotions.gates(ident):
                if self._closing or not self._promotions.still(ident):
                    return
                result = _asked(facts, gate, promotion)
                # A model process that ended with this program says nothing about the model.
                if self._closing or not self._promotions.note(ident, result):
                    return
                self._tell()
        self._promotions.finish(ident)

    def _stumble(self, ident: int) -> None:
        log.exception("promotion %s failed; trying again", ident)
        self._failures[ident] = self._failures.get(ident, 0) + 1
        if self._failures[ident] < TRIES:
            self._rest(ident)
            return
        with suppress(QuarterdeckError):
            self._promotions.fail(ident, "internal", "Something failed that should not; the deployer's log tells more.")

    def _rest(self, ident: int) -> None:
        with self._due:
            self._resting[ident] = time.monotonic() + TICK_SECONDS

    def _tell(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._step)

    def _step(self) -> None:
        stepped, self._stepped = self._stepped, asyncio.Event()
        stepped.set()


def _asked(facts: Facts, gate: Gate, promotion: PromotionView) -> GateResult:
    began = time.monotonic()
    found: Finding = facts.find(gate)
    return GateResult(
        **found.model_dump(),
        gate=gate.gate,
        look=_look(gate, promotion, facts.deployment or promotion.source),
        ended=utc_now(),
        seconds=round(time.monotonic() - began, 3),
    )


def _look(gate: Gate, promotion: PromotionView, deployment: str) -> Look:
    """Where a person sees what the gate has seen."""
    base = f"/api/deployments/{deployment}"
    if gate.gate == "scenarios":
        version = promotion.main.version
        return Look(command=f"quarterdeck scenario run {deployment} --version {version}", url=f"{base}/test-queries")
    if gate.gate in ("schema", "replay"):
        return Look(command=f"quarterdeck predictions list {deployment}", url=f"{base}/predictions")
    return Look(command=f"quarterdeck promotion show {promotion.id}", url=f"/api/promotions/{promotion.id}")
