"""The only file that names Prometheus series.

Counters and histograms live in a registry of their own; everything that is a state is read when somebody scrapes. Labels are
closed sets: never a key, a request id, a feature or free text. Every child exists from the moment its version is ready, since
a counter that is born with its first event never shows that event as an increase.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from quarterdeck.plan import MirrorReport, Role
from quarterdeck_node.predictor import Slot
from quarterdeck_node.spool import KINDS, REASONS

Protocol = Literal["plain", "oip", "form", "mirror"]
Outcome = Literal["ok", "rejected", "shed", "error", "cancelled"]
PROTOCOLS: tuple[Protocol, ...] = ("plain", "oip", "form", "mirror")
OUTCOMES: tuple[Outcome, ...] = ("ok", "rejected", "shed", "error", "cancelled")
REJECTIONS = ("schema", "format", "size", "type", "auth", "unknown")
# From half a millisecond, where compiled models answer, to the deadline of those that do not.
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
KEPT_SECONDS = 900.0
"""How long the series of a version that is no longer resident are shown: many times any usual pause between scrapes."""
_VERSION_LABELS = ["deployment", "stage", "role", "version"]


class State(NamedTuple):
    """What is true at the moment of a scrape."""

    role: Role
    slots: Mapping[str, Slot]
    running: Mapping[str, bool]
    inflight: int
    mirrors: Mapping[str, MirrorReport]
    records_written: Mapping[str, int]
    records_dropped: Mapping[tuple[str, str], int]
    spool_rows: int
    spool_bytes: int
    spool_oldest_seconds: float


class _Children(NamedTuple):
    """The series of one version, looked up once."""

    requests: dict[tuple[Protocol, Outcome], Counter]
    seconds: Histogram
    rows: Counter


class Metrics:
    """Counts what doors do and renders everything as text.

    Args:
        state: read at each scrape.
        clock: monotonic seconds.
    """

    def __init__(self, state: Callable[[], State], clock: Callable[[], float] = time.monotonic) -> None:
        # Without this each child has a second series with its birth, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "quarterdeck_requests",
            "Requests received, each counted once.",
            [*_VERSION_LABELS, "protocol", "outcome"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "quarterdeck_request_duration_seconds",
            "From the first byte in to the answer.",
            _VERSION_LABELS,
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._rows = Counter("quarterdeck_rows", "Rows answered.", _VERSION_LABELS, registry=self._registry)
        rejections = Counter("quarterdeck_rejections", "Requests refused with a 4xx.", ["reason"], registry=self._registry)
        self._rejections = {reason: rejections.labels(reason) for reason in REJECTIONS}
        # `labels()` costs more than counting itself, so each child is looked up once.
        self._children: dict[tuple[str, ...], _Children] = {}
        self._clock = clock
        self._prepared: set[tuple[str, ...]] = set()
        self._left: dict[tuple[str, ...], float] = {}
        self._registry.register(_States(state))

    def prepare(self, slots: Mapping[str, Slot]) -> None:
        """Make the children of every version that is ready, at 0."""
        self._prepared = set()
        for slot in slots.values():
            live = [slot.live.resident.ref.version] if slot.live else []
            for version in [*slot.versions, *live]:
                self._prepared.add(_labels(slot, version))
                self._of(slot, version)

    def request(self, slot: Slot, version: int, protocol: Protocol, outcome: Outcome, seconds: float, rows: int) -> None:
        """Count one request to a deployment. `seconds` from arrival to answer; `rows` answered."""
        children = self._of(slot, version)
        children.requests[protocol, outcome].inc()
        children.seconds.observe(seconds)
        if rows:
            children.rows.inc(rows)

    def rejection(self, reason: str) -> None:
        """Count one 4xx; `reason` is one of `REJECTIONS`."""
        self._rejections[reason].inc()

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        self._forget()
        return generate_latest(self._registry)

    def _forget(self) -> None:
        """Remove the series of versions that left a while ago, or a node that lives for months shows all it ever had."""
        now = self._clock()
        for labels in list(self._children):
            if labels in self._prepared:
                self._left.pop(labels, None)
            # Not at once: the last counts of a version that leaves have to be scraped first.
            elif now - self._left.setdefault(labels, now) > KEPT_SECONDS:
                for protocol, outcome in self._children.pop(labels).requests:
                    self._requests.remove(*labels, protocol, outcome)
                self._seconds.remove(*labels)
                self._rows.remove(*labels)
                del self._left[labels]

    def _of(self, slot: Slot, version: int) -> _Children:
        labels = _labels(slot, version)
        found = self._children.get(labels)
        if found is None:
            requests = {
                (protocol, outcome): self._requests.labels(*labels, protocol, outcome)
                for protocol in PROTOCOLS
                for outcome in OUTCOMES
            }
            found = _Children(requests, self._seconds.labels(*labels), self._rows.labels(*labels))
            self._children[labels] = found
        return found


def _labels(slot: Slot, version: int) -> tuple[str, ...]:
    return slot.plan.name, slot.plan.stage, slot.plan.role, str(version)


class _States(Collector):
    """Turns a `State` into series at each scrape."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    def describe(self) -> Iterable[Metric]:
        """Nothing is promised before the first scrape."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All series that are states."""
        state = self._state()
        yield from _deployments(state)
        yield from _mirrors(state)
        yield GaugeMetricFamily("quarterdeck_inflight_requests", "Requests that are being answered.", state.inflight)
        yield GaugeMetricFamily("quarterdeck_spool_rows", "Rows of this boot that are not shipped yet.", state.spool_rows)
        yield GaugeMetricFamily("quarterdeck_spool_bytes", "Bytes in the spool that are not shipped yet.", state.spool_bytes)
        yield GaugeMetricFamily(
            "quarterdeck_spool_oldest_age_seconds",
            "Age of the oldest record that is not shipped yet.",
            state.spool_oldest_seconds,
        )
        records = CounterMetricFamily("quarterdeck_records", "Rows written to the spool.", labels=["kind"])
        dropped = CounterMetricFamily("quarterdeck_records_dropped", "Rows that were not recorded.", labels=["kind", "reason"])
        for kind in KINDS:
            records.add_metric([kind], state.records_written.get(kind, 0))
            for reason in REASONS:
                dropped.add_metric([kind, reason], state.records_dropped.get((kind, reason), 0))
        yield records
        yield dropped


def _deployments(state: State) -> Iterable[Metric]:
    active = GaugeMetricFamily(
        "quarterdeck_active_version_info", "What answers now.", labels=[*_VERSION_LABELS, "model", "digest", "revision"]
    )
    running = GaugeMetricFamily(
        "quarterdeck_node_running",
        "Whether a golden row was answered rightly in the last 30 s.",
        labels=["deployment", "stage", "role"],
    )
    for name, slot in sorted(state.slots.items()):
        running.add_metric([name, slot.plan.stage, slot.plan.role], float(state.running.get(name, False)))
        if slot.live is not None:
            plan, ref = slot.live.plan, slot.live.resident.ref
            active.add_metric([name, plan.stage, plan.role, str(ref.version), ref.model, ref.digest, str(plan.revision)], 1.0)
    yield active
    yield running


def _mirrors(state: State) -> Iterable[Metric]:
    offered = CounterMetricFamily("quarterdeck_mirror_offered_rows", "Rows that were to be mirrored.", labels=["deployment"])
    results = CounterMetricFamily("quarterdeck_mirror_rows", "What became of them.", labels=["deployment", "result"])
    pending = GaugeMetricFamily("quarterdeck_mirror_pending_rows", "Rows queued or on their way.", labels=["deployment"])
    for name, report in sorted(state.mirrors.items()):
        offered.add_metric([name], report.mirrored)
        pending.add_metric([name], report.pending)
        for result in ("answered", "failed", "expired", "dropped"):
            results.add_metric([name, result], getattr(report, result))
    yield offered
    yield results
    yield pending
