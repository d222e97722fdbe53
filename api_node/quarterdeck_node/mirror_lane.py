"""One deployment's mirroring without any input or output: the bounded queue, the ledger and the circuit.

Every method takes the time from its caller and changes everything it changes at once, so the identity

    mirrored = answered + failed + expired + dropped + pending

holds whenever anybody looks. `pending` is counted from what is really queued and in flight, not from the other figures.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from quarterdeck.plan import DeploymentPlan, Mirror, MirrorReport
from quarterdeck.records import row_id
from quarterdeck.schema import Row

IN_FLIGHT = 2
GATHER_SECONDS = 0.02
BATCH_BYTES = 2**20
"""A batch is sent once it holds about this much, however few rows that are: writing it must not hold up the loop."""

FAILURES_TO_OPEN = 3
BACK_OFF_FIRST, BACK_OFF_LONGEST = 0.25, 5.0
_ROW_BYTES, _CELL_BYTES = 32, 24

Outcome = Literal["answered", "failed", "expired"]


class Item(NamedTuple):
    """Rows of one request, or what is left of them; `first` is the index of the first one in its request."""

    request_id: str
    first: int
    rows: list[Row]
    size: int
    offered: float
    plan: DeploymentPlan

    def ids(self) -> list[str]:
        """The row ids."""
        return [row_id(self.request_id, self.first + index) for index in range(len(self.rows))]


class Batch(NamedTuple):
    """Rows that travel together: of one plan, so that one version is asked and one revision is recorded."""

    items: list[Item]
    plan: DeploymentPlan
    mirror: Mirror

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return sum(len(item.rows) for item in self.items)


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
    """Queue and ledger of one deployment; `plan` with a mirror while there is somewhere to send. Times are monotonic seconds."""

    plan: DeploymentPlan | None = None
    queue: deque[Item] = field(default_factory=deque)
    rows: int = 0
    size: int = 0
    in_flight: int = 0
    in_flight_rows: int = 0
    mirrored: int = 0
    dropped: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=lambda: {"answered": 0, "failed": 0, "expired": 0})
    last_error: str = ""
    circuit: Circuit = field(default_factory=Circuit)

    @property
    def target(self) -> tuple[str, str] | None:
        """Base URL and digest that rows are sent for; None while there is nowhere to send."""
        return _target(self.plan)

    @property
    def batch_rows(self) -> int:
        """Rows of a batch that need not wait for more."""
        return self.plan.mirror.batch_rows if self.plan and self.plan.mirror else 0

    def report(self) -> MirrorReport:
        """The ledger as it is now."""
        return MirrorReport(
            mirrored=self.mirrored,
            dropped=self.dropped,
            pending=self.rows + self.in_flight_rows,
            last_error=self.last_error,
            **self.outcomes,
        )

    def offer(self, plan: DeploymentPlan, request_id: str, rows: list[Row], now: float) -> None:
        """Queue a request's rows, or drop all of them where they do not fit or `plan` wants them sent elsewhere."""
        self.mirrored += len(rows)
        mirror = plan.mirror
        # All rows or none: half a request would make pairs that no reader could tell from a loss.
        if mirror is None or _target(plan) != self.target or self.rows + len(rows) > mirror.queue_rows:
            self.dropped += len(rows)
            return
        # Only now, since it looks at every cell: what is dropped by its number of rows costs next to nothing.
        size = sum(map(_size, rows))
        if self.size + size > mirror.queue_bytes:
            self.dropped += len(rows)
            return
        self.queue.append(Item(request_id, 0, rows, size, now, plan))
        self.rows += len(rows)
        self.size += size

    def retarget(self, plan: DeploymentPlan | None) -> None:
        """Take over a plan. Rows that wait for another version, or for nobody, are dropped: nobody can answer them any more."""
        before, self.plan = self.target, plan
        if before != self.target:
            self.drop_queue()
            # Another challenger has done nothing wrong yet.
            self.circuit = Circuit()

    def drop_queue(self) -> None:
        """Give up what is queued."""
        self.dropped += self.rows
        self.queue.clear()
        self.rows = self.size = 0

    def due(self, now: float) -> float | None:
        """Seconds until something is to be done: 0 means now, None not before the next offer or answer."""
        mirror = self.plan.mirror if self.plan else None
        if not self.queue or mirror is None:
            return None
        waited = now - self.queue[0].offered
        # Expiry is always due some time, even while the circuit keeps everything back.
        waits = [mirror.max_age_seconds - waited]
        if self.in_flight < (1 if self.circuit.open else IN_FLIGHT):
            full = self.rows >= mirror.batch_rows or self.size >= BATCH_BYTES
            waits.append(max(0.0 if full else GATHER_SECONDS - waited, self.circuit.retry_at - now if self.circuit.open else 0.0))
        return max(0.0, min(waits))

    def expire(self, now: float) -> Batch | None:
        """Take rows that waited too long, a batch of them at most; the caller settles them as expired."""
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
        items: list[Item] = []
        room, space, plan = mirror.batch_rows, BATCH_BYTES, self.queue[0].plan
        while self.queue and room and space > 0 and self.queue[0].plan is plan and self.queue[0].offered <= offered_until:
            item = self.queue.popleft()
            if len(item.rows) > room:
                # By proportion: measuring both halves again would cost more than being a few bytes off.
                part = item.size * room // len(item.rows)
                rest = item._replace(first=item.first + room, rows=item.rows[room:], size=item.size - part)
                self.queue.appendleft(rest)
                item = item._replace(rows=item.rows[:room], size=part)
            items.append(item)
            room -= len(item.rows)
            space -= item.size
            self.rows -= len(item.rows)
            self.size -= item.size
        batch = Batch(items, plan, mirror)
        self.in_flight_rows += batch.rows
        return batch


def _target(plan: DeploymentPlan | None) -> tuple[str, str] | None:
    return (plan.mirror.url, plan.mirror.version.digest) if plan and plan.mirror else None


def _size(row: Row) -> int:
    """About how many bytes a row will be as JSON; only its strings can be long."""
    return _ROW_BYTES + _CELL_BYTES * len(row) + sum(len(value) for value in row.values() if type(value) is str)
