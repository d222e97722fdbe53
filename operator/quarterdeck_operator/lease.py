"""Who leads: one Lease of the cluster, so that two operators never write at once, however they came to run together.

A leader that could not renew stops writing before another one may begin: it counts from the moment before it asked, the other
one from the moment after it saw the last renewal. Clocks of machines are not compared.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from quarterdeck_operator.kube import LEASE, ApiFailure, Reads, Writes
from quarterdeck_operator.world import Object

MARGIN = 0.2
"""Share of the Lease's duration that a leader gives away, for a write that is on its way."""
log = logging.getLogger(__name__)


class Lease:
    """One operator's view of the Lease.

    Args:
        namespace, name: where the Lease is.
        identity: who we are; the same after a restart in the same pod.
        seconds: how long a silent leader stays leader.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        reads: Reads,
        writes: Writes,
        place: tuple[str, str],
        identity: str,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reads, self._writes, (self._namespace, self._name) = reads, writes, place
        self._identity, self._seconds, self._clock = identity, seconds, clock
        self._until = float("-inf")
        self._seen: tuple[str, float] = ("", 0.0)

    def leads(self) -> bool:
        """Whether we may write now. Safe to ask from any thread."""
        return self._clock() < self._until

    def step(self) -> bool:
        """Renew, take over where the holder has been silent for too long, or look on; blocks. Gives back whether we lead."""
        try:
            self._step(self._clock())
        except ApiFailure as failure:
            # Somebody was faster, or the API server is away: what we hold runs out by itself.
            log.info("the Lease was not renewed: %s", failure.detail)
        return self.leads()

    def release(self) -> None:
        """Let the next one begin at once; blocks. Nothing is written after this."""
        led, self._until = self.leads(), float("-inf")
        if not led:
            return
        try:
            lease = self._reads.get(LEASE.path(self._namespace, self._name))
            if lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                self._swap(lease, "")
        except ApiFailure as failure:
            log.warning("the Lease was not given back and runs out by itself: %s", failure.detail)

    def _step(self, now: float) -> None:
        lease = self._reads.get(LEASE.path(self._namespace, self._name))
        if lease is None:
            self._writes.create(LEASE.path(self._namespace), self._body({}, self._identity))
        elif not self._free(lease, now):
            self._until = float("-inf")
            return
        else:
            self._swap(lease, self._identity)
        self._until = now + self._seconds * (1 - MARGIN)

    def _free(self, lease: Object, now: float) -> bool:
        """Whether it is ours, nobody's, or of somebody whom we have watched being silent for its whole duration."""
        spec, version = lease.get("spec") or {}, lease["metadata"]["resourceVersion"]
        holder = spec.get("holderIdentity")
        if version != self._seen[0]:
            self._seen = (version, now)
        # Whoever holds it may have been told another duration than we were.
        duration = max(self._seconds, float(spec.get("leaseDurationSeconds") or 0))
        return holder in (self._identity, None, "") or now - self._seen[1] > duration

    def _swap(self, lease: Object, holder: str) -> None:
        self._writes.replace(LEASE.path(self._namespace, self._name), self._body(lease, holder))

    def _body(self, lease: Object, holder: str) -> Object:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        before = lease.get("spec") or {}
        moved = before.get("holderIdentity") != holder
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": lease.get("metadata", {"name": self._name, "namespace": self._namespace}),
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": max(1, round(self._seconds)),
                "renewTime": now,
                "acquireTime": now if moved else before.get("acquireTime", now),
                "leaseTransitions": int(before.get("leaseTransitions") or 0) + (moved and bool(holder)),
            },
        }
