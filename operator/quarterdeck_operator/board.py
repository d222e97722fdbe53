"""What lies between reconciler and plan server: published plans one way, reports of nodes the other, in memory only.

Nothing here outlives the process: plans are built again from the records, and nodes report every two seconds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from quarterdeck.plan import Key, KeyUse, MirrorReport, NodeReport, Plan, TokenIssuer
from quarterdeck_operator.plans import MIRROR
from quarterdeck_operator.world import ResourceKey

LIVE_SECONDS = 10.0
"""A node that has not reported for so long counts as silent."""
FORGET_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class _Heard:
    key: ResourceKey
    report: NodeReport
    at: float
    said: str
    live: bool = True


class Board:
    """Plans by namespace and name, reports by namespace and pod. Safe to use from any thread.

    Args:
        wake: asks for a reconcile of a deployment; called from any thread.
        clock: monotonic seconds.
    """

    def __init__(self, wake: Callable[[ResourceKey], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._wake, self._clock = wake, clock
        self._lock = threading.Lock()
        self._plans: dict[ResourceKey, dict[str, Plan]] = {}
        self._heard: dict[tuple[str, str], _Heard] = {}
        self._waiting: dict[tuple[str, str], set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._trials: set[ResourceKey] = set()
        self._led_since: float | None = None

    @property
    def leading(self) -> bool:
        """Whether this operator holds the Lease; a follower answers polls and reports 409."""
        return self._led_since is not None

    @leading.setter
    def leading(self, leads: bool) -> None:
        """Note that this operator leads, and since when, or that it does not."""
        if leads != self.leading:
            self._led_since = self._clock() if leads else None

    @property
    def young(self) -> bool:
        """Whether it has not led for long enough for every living node to have reported."""
        return self._led_since is not None and self._clock() - self._led_since < LIVE_SECONDS

    @property
    def polls(self) -> int:
        """How many polls wait for a plan now."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def publish(self, key: ResourceKey, plans: Sequence[Plan], *, trial: bool = False) -> None:
        """Replace all plans of a deployment; polls that wait for one of them are woken where its number rose.

        Args:
            key: the deployment.
            plans: all of them.
            trial: whether a version is on trial, so that every request that it fails is news.
        """
        fresh = {plan.node: plan for plan in plans}
        with self._lock:
            (self._trials.add if trial else self._trials.discard)(key)
            stale = self._plans.get(key, {})
            self._plans[key] = fresh
            risen = [name for name, plan in fresh.items() if name not in stale or stale[name].sequence != plan.sequence]
            waiting = [waiter for name in risen for waiter in self._waiting.get((key.namespace, name), ())]
        self._tell(waiting)

    def rekey(self, keys: Sequence[ResourceKey], ring: Sequence[Key], issuers: Sequence[TokenIssuer]) -> None:
        """Let the published plans of these deployments know other keys at once, before anybody has looked at the deployments.

        A key that was taken back must not open until hundreds of them have been looked at. Looks give served plans odd numbers;
        this gives the even one between, once: so whatever the next look decides is newer, also where another operator takes it.
        """
        waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        with self._lock:
            for key in keys:
                for name, plan in self._plans.get(key, {}).items():
                    if plan.sequence % 2 == 0:
                        continue
                    own = [one for one in plan.keyring if one.id == MIRROR]
                    told = {"keyring": [*own, *ring], "issuers": list(issuers), "sequence": plan.sequence + 1}
                    self._plans[key][name] = plan.model_copy(update=told)
                    waiting += self._waiting.get((key.namespace, name), ())
        self._tell(waiting)

    def drop(self, key: ResourceKey) -> None:
        """Forget a deployment that is gone."""
        with self._lock:
            self._plans.pop(key, None)
            self._trials.discard(key)
            self._heard = {pod: heard for pod, heard in self._heard.items() if heard.key != key}

    def clear(self) -> None:
        """Forget all plans and let every poll go: another operator leads now."""
        with self._lock:
            self._plans.clear()
            self._trials.clear()
            waiting = [waiter for waiters in self._waiting.values() for waiter in waiters]
        self._tell(waiting)

    def plan(self, namespace: str, name: str, deployment: str) -> Plan | None:
        """A published plan of this deployment, by its name."""
        with self._lock:
            return self._plans.get(ResourceKey(namespace, deployment), {}).get(name)

    async def newer(self, key: ResourceKey, name: str, after: int, wait: float) -> Plan | None:
        """The plan once its number is above `after`; None where that did not happen within `wait` seconds."""
        place, waiter = (key.namespace, name), (asyncio.get_running_loop(), asyncio.Event())
        deadline = waiter[0].time() + wait
        with self._lock:
            self._waiting.setdefault(place, set()).add(waiter)
        try:
            while True:
                # Cleared before looking: what is published between the look and the wait is not missed.
                waiter[1].clear()
                found = self.plan(key.namespace, name, key.name)
                if found is not None and found.sequence > after:
                    return found
                left = deadline - waiter[0].time()
                if left <= 0 or not self.leading:
                    return None
                with suppress(TimeoutError):
                    await asyncio.wait_for(waiter[1].wait(), left)
        finally:
            with self._lock:
                self._waiting[place].discard(waiter)
                if not self._waiting[place]:
                    del self._waiting[place]

    def take(self, key: ResourceKey, report: NodeReport) -> None:
        """Keep a pod's report in place of the one before, and wake the deployment if it says something new."""
        with self._lock:
            trial = key in self._trials
        now, said = self._clock(), _said(report, trial=trial)
        with self._lock:
            place = (key.namespace, report.node)
            before = self._heard.get(place)
            self._heard[place] = _Heard(key, report, now, said)
        # Counters rise with every report; only what decisions turn on is worth a look at the cluster.
        if before is None or not before.live or before.said != said:
            self._wake(key)

    def live(self, key: ResourceKey) -> list[NodeReport]:
        """Reports of the deployment's nodes that are at most ten seconds old, by pod name."""
        now = self._clock()
        with self._lock:
            heard = sorted(self._heard.items())
        return [one.report for _, one in heard if one.key == key and now - one.at <= LIVE_SECONDS]

    def key_uses(self) -> dict[str, list[KeyUse]]:
        """By namespace what nodes have told of each key, by id: the requests at all of them, and the last one's time."""
        with self._lock:
            heard = [(place[0], one.report.keys) for place, one in sorted(self._heard.items())]
        found: dict[str, dict[str, KeyUse]] = {}
        for namespace, uses in heard:
            known = found.setdefault(namespace, {})
            for use in (one for one in uses if one.id != MIRROR):
                before = known.get(use.id) or KeyUse(id=use.id, requests=0, last=0.0)
                known[use.id] = KeyUse(id=use.id, requests=before.requests + use.requests, last=max(before.last, use.last))
        return {namespace: [known[ident] for ident in sorted(known)] for namespace, known in found.items()}

    def sweep(self) -> None:
        """Wake the deployments whose nodes have fallen silent since the last sweep; to be called about once a second."""
        now = self._clock()
        with self._lock:
            silent = {heard.key for heard in self._heard.values() if heard.live and now - heard.at > LIVE_SECONDS}
            self._heard = {
                pod: replace(heard, live=now - heard.at <= LIVE_SECONDS)
                for pod, heard in self._heard.items()
                if now - heard.at <= FORGET_SECONDS
            }
        for key in sorted(silent):
            self._wake(key)

    def _tell(self, waiting: Sequence[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        for loop, event in waiting:
            # A loop that has ended has nobody waiting any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)


def _said(report: NodeReport, *, trial: bool) -> str:
    """A report without what changes all the time."""
    quiet = {"answered": {}, "errors": {}, "requests": {}, "mirror": MirrorReport(), "probe_age_seconds": None}
    # They are what a version on trial is judged by; after it a model that fails now and then would be looked at all day.
    quiet |= {} if trial else {"failures": {}}
    deployments = [one.model_copy(update=quiet) for one in report.deployments]
    still = {"deployments": deployments, "keys": [], "rss_bytes": 0, "cpu_seconds": 0.0}
    spool = {"spool_rows": 0, "spool_bytes": 0, "spool_oldest_seconds": 0.0}
    return report.model_copy(update={**still, **spool}).model_dump_json()
