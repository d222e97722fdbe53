"""What is to be looked at, and when: one entry per deployment, never two at once, and each with a backoff of its own.

The schedule is pure (`WorkQueue` is told the time); `Workers` runs it in a loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from quarterdeck_operator.world import ResourceKey

FIRST_SECONDS, LONGEST_SECONDS = 0.2, 60.0
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    due: float
    failures: int = 0
    running: bool = False
    again: bool = False
    """Asked for while it was being worked on: what was read then may be old."""
    changed: bool = False
    """Changed by a person while it was being worked on: what fails then has failed for what was wanted before."""


class WorkQueue:
    """Which deployment is next. Not thread-safe: it belongs to one loop.

    Args:
        jitter: a number from 0 to 1, drawn for each backoff; many that failed together do not come back together.
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._entries: dict[ResourceKey, _Entry] = {}

    def add(self, key: ResourceKey, now: float) -> None:
        """Something has happened to the deployment: look now. One that fails waits on, unless its wait is nearly over."""
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(now)
        elif entry.running:
            entry.again = True
        # An event is no reason why what failed should work now: a storm of them must not undo the backoff.
        elif not entry.failures:
            entry.due = min(entry.due, now)

    def retry(self, key: ResourceKey, now: float) -> None:
        """A person has changed the deployment: look now, whatever failed before."""
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(now)
        elif entry.running:
            entry.again = entry.changed = True
        else:
            entry.due, entry.failures = now, 0

    def take(self, now: float) -> ResourceKey | None:
        """The deployment that has been due longest; None where none is. It is not given out again before `done`."""
        due = [(entry.due, key) for key, entry in self._entries.items() if not entry.running and entry.due <= now]
        if not due:
            return None
        key = min(due)[1]
        self._entries[key].running = True
        return key

    def next_due(self) -> float | None:
        """When `take` will give something; None: not before the next `add` or `done`."""
        return min((entry.due for entry in self._entries.values() if not entry.running), default=None)

    def done(self, key: ResourceKey, now: float, again_in: float | None = None) -> None:
        """It was worked on; look again after so many seconds. None: only when something happens."""
        entry = self._entries[key]
        if entry.again:
            self._entries[key] = _Entry(now)
        elif again_in is None:
            del self._entries[key]
        else:
            self._entries[key] = _Entry(now + again_in)

    def failed(self, key: ResourceKey, now: float) -> float:
        """Working on it has failed; gives back the seconds until it is tried again."""
        entry = self._entries[key]
        if entry.changed:
            self._entries[key] = _Entry(now)
            return 0.0
        longest: float = min(FIRST_SECONDS * 2**entry.failures, LONGEST_SECONDS)
        # Half of it is certain, so that a failure never comes back at once.
        wait = longest * (0.5 + 0.5 * self._jitter())
        self._entries[key] = _Entry(now + wait, min(entry.failures + 1, 32))
        return wait

    def clear(self) -> None:
        """Forget what is not being worked on: another operator leads now."""
        self._entries = {key: entry for key, entry in self._entries.items() if entry.running}

    def failing(self) -> list[ResourceKey]:
        """Deployments whose last look has failed."""
        return sorted(key for key, entry in self._entries.items() if entry.failures)

    def __len__(self) -> int:
        return len(self._entries)


Reconcile = Callable[[ResourceKey], Awaitable[float | None]]
"""Works on one deployment; gives back after how many seconds to look again, or None."""


class Workers:
    """Runs a queue: `count` deployments at once, each by one worker.

    Args:
        reconcile: works on one deployment; whatever it raises is retried.
        count: how many at once.
    """

    def __init__(self, reconcile: Reconcile, count: int, queue: WorkQueue | None = None) -> None:
        self.queue = queue if queue is not None else WorkQueue()
        self._reconcile, self._count = reconcile, count
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, key: ResourceKey, *, changed: bool = False) -> None:
        """Look at a deployment soon; from any thread, any number of times.

        Args:
            changed: a person has changed it, so that an earlier failure says nothing any more.
        """
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._add, key, changed)

    async def run(self) -> None:
        """Work until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._work())

    def _add(self, key: ResourceKey, changed: bool) -> None:
        now = asyncio.get_running_loop().time()
        (self.queue.retry if changed else self.queue.add)(key, now)
        self._changed.set()

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            key = self.queue.take(clock())
            if key is None:
                await self._wait()
                continue
            try:
                again_in = await self._reconcile(key)
            # Whatever one deployment's trouble is, the others are not to feel it.
            except Exception as error:
                wait = self.queue.failed(key, clock())
                log.warning("%s: %s: %s; again in %.1f s", key, type(error).__name__, error, wait)
                log.debug("%s failed", key, exc_info=True)
            else:
                self.queue.done(key, clock(), again_in)
            # The others may be waiting for less than what is due now.
            self._changed.set()

    async def _wait(self) -> None:
        due = self.queue.next_due()
        wait = None if due is None else max(0.0, due - asyncio.get_running_loop().time())
        changed = self._changed
        try:
            await asyncio.wait_for(changed.wait(), wait)
        except TimeoutError:
            return
        if self._changed is changed:
            # Everybody who waits is woken by it, and the next change has an event of its own.
            self._changed = asyncio.Event()
