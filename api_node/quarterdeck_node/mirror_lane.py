"""One deployment's mirroring without any input or output: the bounded queue, the ledger and the circuit.

Every method takes the time from its caller and changes everything it changes at once, so the identity

    mirrored = answered + failed + expired + dropped + pending

holds whenever anybody looks. `pending` is counted from what is really queued and in flight, not from the other figures.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from quarterdeck.plan import DeploymentPlan, Mirror, MirrorReport

IN_FLIGHT = 2
GATHER_SECONDS = 0.02
ENOUGH_ROWS = 512
"""So many rows are sent without waiting for more; while a batch is on its way, the next one may grow beyond that."""
BATCH_BYTES = 2**20
"""A batch holds about this much at most, however few rows that are: writing it must not hold up the loop."""
ANSWER_NUMBERS = 4096
"""Numbers in the answer to one batch, about: it is judged in one go."""

FAILURES_TO_OPEN = 3
BACK_OFF_FIRST, BACK_OFF_LONGEST = 0.25, 5.0
# What a request costs in memory beside its text.
_REQUEST_BYTES = 128

Outcome = Literal["answered", "failed", "expired"]


@dataclass(slots=True)
class Bundle:
    """Requests of one plan that were offered within the same few milliseconds.

    `requests` holds (request id, text of its rows, number of rows) for each, one after the other: the garbage collector looks at
    every object that waits here. Up to `most_rows`, `most_size` and the moment `until` more may join without another look at the
    rest of the queue; with `enough` rows in it the whole queue has enough.
    """

    plan: DeploymentPlan
    offered: float
    until: float
    requests: list[Any] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    most_rows: int = 0
    most_size: int = 0
    enough: int = 0


class Batch(NamedTuple):
    """Rows that travel together: of one plan, so that one version is asked and one revision is recorded."""

    bundles: list[Bundle]
    plan: DeploymentPlan
    mirror: Mirror

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return sum(bundle.rows for bundle in self.bundles)

    @property
    def request_ids(self) -> list[str]:
        """The requests, in order."""
        return [name for bundle in self.bundles for name in bundle.requests[::3]]

    @property
    def counts(self) -> list[int]:
        """How many rows each request has."""
        return [count for bundle in self.bundles for count in bundle.requests[2::3]]

    def body(self) -> bytes:
        """JSON text of ``{"rows": […]}``, joined from the texts of the requests."""
        # The brackets of each array are cut off; a caller may have put white space around them.
        texts = [text.strip()[1:-1] for bundle in self.bundles for text in bundle.requests[1::3]]
        return b"".join((b'{"rows":[', b",".join(texts), b"]}"))


@dataclass(slots=True)
class Circuit:
    """Stops sending to a challenger that fails again and again; one batch at a time feels whether it is back."""

    failures: int = 0
    retry_at: float = 0.0
    pause: float = BACK_OFF_FIRST

    @property
    def open(self) -> bool:
        """Whether it takes a success before sending goes on as usual."""
        return self.failures >= FAILURES_TO_OPEN

    def success(self) -> None:
        """The challenger answered."""
        self.failures, self.pause = 0, BACK_OFF_FIRST

    def failure(self, now: float) -> None:
        """A whole batch failed at `now` (monotonic seconds)."""
        self.failures += 1
        if self.open:
            self.retry_at = now + self.pause
            self.pause = min(2 * self.pause, BACK_OFF_LONGEST)


@dataclass(slots=True)
class Lane:
    """Queue and ledger of one deployment; `plan` with a mirror while there is somewhere to send. Times are monotonic seconds.

    `target` is the base URL and digest that rows are sent for, None while there is nowhere to send; `batch_rows` how many rows a
    batch holds at most, unless one request alone has more; `enough` how many are sent without waiting for more.
    """

    plan: DeploymentPlan | None = None
    queue: deque[Bundle] = field(default_factory=deque)
    _open: Bundle | None = None
    _closed_rows: int = 0
    _closed_size: int = 0
    in_flight: int = 0
    in_flight_rows: int = 0
    mirrored: int = 0
    dropped: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=lambda: {"answered": 0, "failed": 0, "expired": 0})
    last_error: str = ""
    circuit: Circuit = field(default_factory=Circuit)
    target: tuple[str, str] | None = None
    batch_rows: int = 0
    enough: int = 0

    @property
    def rows(self) -> int:
        """How many rows are queued."""
        return self._closed_rows + (self._open.rows if self._open is not None else 0)

    @property
    def size(self) -> int:
        """How much memory they take, in bytes, about."""
        return self._closed_size + (self._open.size if self._open is not None else 0)

    def report(self) -> MirrorReport:
        """The ledger as it is now."""
        return MirrorReport(
            mirrored=self.mirrored,
            dropped=self.dropped,
            pending=self.rows + self.in_flight_rows,
            last_error=self.last_error,
            **self.outcomes,
        )

    def offer(self, plan: DeploymentPlan, request_id: str, rows: bytes, count: int, now: float) -> bool:
        """Queue a request's rows, or drop all of them where they do not fit or `plan` wants them sent elsewhere.

        Args:
            plan: that the request was answered under.
            request_id: its id.
            rows: JSON text of the array of objects.
            count: how many these are.
            now: monotonic seconds.

        Returns:
            Whether the sender should look: these are the first rows that are queued, or with them there are enough.
        """
        self.mirrored += count
        bundle = self._open
        # Nearly every request joins the one before; main waits for what happens here.
        if bundle is not None and plan is bundle.plan and now <= bundle.until:
            before, total, size = bundle.rows, bundle.rows + count, bundle.size + len(rows) + _REQUEST_BYTES
            if total <= bundle.most_rows and size <= bundle.most_size:
                bundle.requests += (request_id, rows, count)
                bundle.rows, bundle.size = total, size
                return before < bundle.enough <= total
        return self._offer(plan, request_id, rows, count, now)

    def _offer(self, plan: DeploymentPlan, request_id: str, rows: bytes, count: int, now: float) -> bool:
        mirror, size, before = plan.mirror, len(rows) + _REQUEST_BYTES, self.rows
        elsewhere = plan is not self.plan and _target(plan) != self.target
        # All rows or none: half a request would make pairs that no reader could tell from a loss.
        if mirror is None or elsewhere or before + count > mirror.queue_rows or self.size + size > mirror.queue_bytes:
            self.dropped += count
            return False
        bundle = self._open
        if (
            bundle is None
            or bundle.plan is not plan
            or now > bundle.until
            or bundle.rows + count > self.batch_rows
            or bundle.size + size > BATCH_BYTES
        ):
            self._close()
            bundle = self._open = Bundle(plan, now, now + GATHER_SECONDS)
            self.queue.append(bundle)
        # Whatever leaves the queue from here on only makes more room than this.
        bundle.most_rows = min(self.batch_rows, mirror.queue_rows - self._closed_rows)
        bundle.most_size = min(BATCH_BYTES, mirror.queue_bytes - self._closed_size)
        bundle.enough = self.enough - self._closed_rows
        bundle.requests += (request_id, rows, count)
        bundle.rows += count
        bundle.size += size
        return not before or before < self.enough <= before + count

    def _close(self) -> None:
        """Nothing joins the last bundle any more."""
        if self._open is not None:
            self._closed_rows += self._open.rows
            self._closed_size += self._open.size
            self._open = None

    def retarget(self, plan: DeploymentPlan | None, numbers: int = 1) -> None:
        """Take over a plan. Rows that wait for another version, or for nobody, are dropped: nobody can answer them any more.

        Args:
            plan: None: nothing is mirrored any more.
            numbers: in the answer to one row.
        """
        before, self.plan, self.target = self.target, plan, _target(plan)
        mirror = plan.mirror if plan else None
        self.batch_rows = min(mirror.batch_rows, max(1, ANSWER_NUMBERS // numbers)) if mirror else 0
        self.enough = min(ENOUGH_ROWS, self.batch_rows)
        # It was begun with the bounds of the plan before.
        self._close()
        if before != self.target:
            self.drop_queue()
            # Another challenger has done nothing wrong yet.
            self.circuit = Circuit()

    def drop_queue(self) -> None:
        """Give up what is queued."""
        self.dropped += self.rows
        self.queue.clear()
        self._open = None
        self._closed_rows = self._closed_size = 0

    def due(self, now: float) -> float | None:
        """Seconds until something is to be done: 0 means now, None not before the next offer or answer."""
        mirror = self.plan.mirror if self.plan else None
        if not self.queue or mirror is None:
            return None
        waited = now - self.queue[0].offered
        # Expiry is always due some time, even while the circuit keeps everything back.
        waits = [mirror.max_age_seconds - waited]
        if self.in_flight < (1 if self.circuit.open else IN_FLIGHT):
            full = self.rows >= self.enough or self.size >= BATCH_BYTES
            waits.append(max(0.0 if full else GATHER_SECONDS - waited, self.circuit.retry_at - now if self.circuit.open else 0.0))
        return max(0.0, min(waits))

    def expire(self, now: float) -> Batch | None:
        """Take rows that waited too long, a batch of them at most; the caller settles them as expired.

        Requests of one bundle expire together, with the oldest of them: at most `GATHER_SECONDS` before their time.
        """
        mirror = self.plan.mirror if self.plan else None
        if not self.queue or mirror is None or now - self.queue[0].offered < mirror.max_age_seconds:
            return None
        return self._take(mirror, now - mirror.max_age_seconds)

    def take(self, now: float) -> Batch | None:
        """Take the next batch to send; None where nothing may be sent now. The caller settles it and then lands it."""
        mirror = self.plan.mirror if self.plan else None
        limit = 1 if self.circuit.open else IN_FLIGHT
        held_back = self.in_flight >= limit or (self.circuit.open and now < self.circuit.retry_at)
        if not self.queue or mirror is None or held_back:
            return None
        self.in_flight += 1
        return self._take(mirror, now)

    def settle(self, counts: dict[Outcome, int], error: str = "") -> None:
        """Move rows that were taken from pending to what became of them."""
        for outcome, rows in counts.items():
            self.outcomes[outcome] += rows
            self.in_flight_rows -= rows
        self.last_error = error or self.last_error

    def land(self, failed: bool, now: float) -> None:
        """A batch that was sent is over; `failed` where the challenger is to blame for all of it."""
        self.in_flight -= 1
        if failed:
            self.circuit.failure(now)
        else:
            self.circuit.success()

    def _take(self, mirror: Mirror, offered_until: float) -> Batch:
        self._close()
        first = self.queue.popleft()
        batch, rows, size = Batch([first], first.plan, mirror), first.rows, first.size
        while self.queue and self.queue[0].plan is first.plan and self.queue[0].offered <= offered_until:
            if rows + self.queue[0].rows > self.batch_rows or size + self.queue[0].size > BATCH_BYTES:
                break
            bundle = self.queue.popleft()
            batch.bundles.append(bundle)
            rows += bundle.rows
            size += bundle.size
        self._closed_rows -= rows
        self._closed_size -= size
        self.in_flight_rows += rows
        return batch


def _target(plan: DeploymentPlan | None) -> tuple[str, str] | None:
    return (plan.mirror.url, plan.mirror.version.digest) if plan and plan.mirror else None
