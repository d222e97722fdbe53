"""The only file that names Prometheus series.

What requests add to is plain numbers of our own, since a counter of the library costs more than a model here; at a scrape they
are handed to it as finished families, together with everything that is a state. Labels are closed sets: never a key, a request
id, a feature or free text. Every counter exists from the moment its version is ready, since one that is born with its first event
never shows that event as an increase; histograms come with the first request of their protocol, for they are many series each.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from quarterdeck.plan import MirrorReport, Role, VersionRef
from quarterdeck_node.predictor import Predicted, Slot, Snapshot
from quarterdeck_node.runtimes.figures import BATCH_BUCKETS, Figures
from quarterdeck_node.spool import KINDS, REASONS

Protocol = Literal["plain", "oip", "grpc", "v1", "mlflow", "dataiku", "csv", "arrow", "form", "mirror"]
Outcome = Literal["ok", "rejected", "shed", "error", "cancelled"]
PROTOCOLS: tuple[Protocol, ...] = ("plain", "oip", "grpc", "v1", "mlflow", "dataiku", "csv", "arrow", "form", "mirror")
OUTCOMES: tuple[Outcome, ...] = ("ok", "rejected", "shed", "error", "cancelled")
PHASES = ("parse", "predict", "record", "total")
"""`parse`: arrival to bound rows. `predict`: the model, and waiting for it. `record`: writing down. `total`: all of it."""
REJECTIONS = ("schema", "format", "size", "type", "auth", "unknown", "rate")
# From half a millisecond, where compiled models answer, to the deadline of those that do not.
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
_FIRST = BUCKETS[0]
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)
KEPT_SECONDS = 900.0
"""How long the series of a version that is no longer resident are shown: many times any usual pause between scrapes."""
_VERSION_LABELS = ["deployment", "stage", "role", "version"]
_Labels = tuple[str, str, str, str]


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
    queues: Mapping[VersionRef, Figures] = MappingProxyType({})
    loop_lag_seconds: float = 0.0


def buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """A histogram as the library wants it: each bucket with all that is below it."""
    found, below = [], 0
    for bound, count in zip([*map(str, map(float, bounds)), "+Inf"], counts, strict=True):
        below += count
        found.append((bound, float(below)))
    return found


class _Histogram:
    """Counts by bucket, and the sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """As the library wants them."""
        return buckets(self._bounds, self.counts)


class _Series:
    """Everything that is counted of one version."""

    __slots__ = ("_seconds", "requests", "rows", "sizes")

    def __init__(self) -> None:
        self.requests: dict[Protocol, dict[Outcome, int]] = {one: dict.fromkeys(OUTCOMES, 0) for one in PROTOCOLS}
        self.rows = 0
        self.sizes = _Histogram(ROW_BUCKETS)
        self._seconds: dict[Protocol, tuple[_Histogram, ...]] = {}

    def observe(self, protocol: Protocol, started: float, ended: float, predicted: Predicted | None) -> None:
        """Add one request to the histograms of its protocol; all but the total only where the model was asked."""
        found = self._seconds.get(protocol)
        if found is None:
            found = self._seconds[protocol] = tuple(_Histogram(BUCKETS) for _ in PHASES)
        parse, predict, record, total = found
        # Written out: four calls would cost as much as a tenth of the model, and so would searching for the first bucket.
        seconds = ended - started
        total.counts[bisect_left(BUCKETS, seconds) if seconds > _FIRST else 0] += 1
        total.sum += seconds
        if predicted is not None:
            began, answered = predicted.began, predicted.answered
            seconds = began - started
            parse.counts[bisect_left(BUCKETS, seconds) if seconds > _FIRST else 0] += 1
            parse.sum += seconds
            seconds = answered - began
            predict.counts[bisect_left(BUCKETS, seconds) if seconds > _FIRST else 0] += 1
            predict.sum += seconds
            seconds = predicted.kept - answered
            record.counts[bisect_left(BUCKETS, seconds) if seconds > _FIRST else 0] += 1
            record.sum += seconds

    def all_seconds(self) -> Iterable[tuple[str, str, _Histogram]]:
        """(protocol, phase, histogram) of all that there are."""
        for protocol, histograms in self._seconds.items():
            for phase, histogram in zip(PHASES, histograms, strict=True):
                yield protocol, phase, histogram


class Metrics:
    """Counts what doors do and renders everything as text.

    Args:
        state: read at each scrape.
        clock: monotonic seconds.
        cache_seconds: a text is given again for this long, lest scrapes cost what requests need.
    """

    def __init__(
        self, state: Callable[[], State], clock: Callable[[], float] = time.monotonic, cache_seconds: float = 0.0
    ) -> None:
        # Without this each counter has a second series with its birth, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._series: dict[_Labels, _Series] = {}
        self._rejections = dict.fromkeys(REJECTIONS, 0)
        self._clock, self._cache_seconds = clock, cache_seconds
        self._prepared: set[_Labels] = set()
        self._left: dict[_Labels, float] = {}
        self._text, self._rendered = b"", -1.0
        self._registry.register(_Counts(self._series, self._rejections))
        self._registry.register(_States(state))

    def prepare(self, slots: Mapping[str, Slot]) -> None:
        """Make the counters of every version that is ready, at 0."""
        self._prepared = set()
        for slot in slots.values():
            live = [slot.live.resident.ref.version] if slot.live else []
            for version in [*slot.versions, *live]:
                labels = slot.plan.name, slot.plan.stage, slot.plan.role, str(version)
                self._prepared.add(labels)
                self._of(labels)

    def request(
        self,
        slot: Slot,
        snapshot: Snapshot | None,
        protocol: Protocol,
        outcome: Outcome,
        started: float,
        ended: float,
        predicted: Predicted | None,
        rows: int,
    ) -> None:
        """Count one request to a deployment.

        Args:
            slot: the deployment.
            snapshot: what answered or refused; None where the request did not get as far.
            protocol: of its door.
            outcome: how it ended.
            started, ended: `time.monotonic()` of arrival and answer.
            predicted: the answers, where the model was asked; knows when.
            rows: answered.
        """
        series: _Series = snapshot.series if snapshot is not None and snapshot.series is not None else self._known(slot, snapshot)
        series.requests[protocol][outcome] += 1
        series.observe(protocol, started, ended, predicted)
        if rows == 1:
            # Nearly every request: its bucket is the first.
            series.sizes.counts[0] += 1
            series.sizes.sum += 1
            series.rows += 1
        elif rows:
            series.rows += rows
            series.sizes.observe(rows)

    def rejection(self, reason: str) -> None:
        """Count one 4xx; `reason` is one of `REJECTIONS`."""
        self._rejections[reason] += 1

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        now = self._clock()
        if not self._text or now - self._rendered >= self._cache_seconds:
            self._forget(now)
            self._text, self._rendered = generate_latest(self._registry), now
        return self._text

    def _forget(self, now: float) -> None:
        """Remove the series of versions that left a while ago, or a node that lives for months shows all it ever had."""
        for labels in list(self._series):
            if labels in self._prepared:
                self._left.pop(labels, None)
            # Not at once: the last counts of a version that leaves have to be scraped first.
            elif now - self._left.setdefault(labels, now) > KEPT_SECONDS:
                del self._series[labels], self._left[labels]

    def _known(self, slot: Slot, snapshot: Snapshot | None) -> _Series:
        """The series of a request; a snapshot keeps them, so that each of its requests finds them at once."""
        plan = slot.plan if snapshot is None else snapshot.plan
        version = snapshot.ref.version if snapshot is not None else slot.live.resident.ref.version if slot.live else 0
        found = self._of((plan.name, plan.stage, plan.role, str(version)))
        if snapshot is not None:
            snapshot.series = found
        return found

    def _of(self, labels: _Labels) -> _Series:
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = _Series()
        return found


class _Counts(Collector):
    """Turns what was counted into series at each scrape."""

    def __init__(self, series: Mapping[_Labels, _Series], rejections: Mapping[str, int]) -> None:
        self._series, self._rejections = series, rejections

    def describe(self) -> Iterable[Metric]:
        """Nothing is promised before the first scrape."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All series that are counted."""
        requests = CounterMetricFamily(
            "quarterdeck_requests", "Requests received, each counted once.", labels=[*_VERSION_LABELS, "protocol", "outcome"]
        )
        seconds = HistogramMetricFamily(
            "quarterdeck_request_duration_seconds",
            "From the first byte in to the answer, in all and by phase.",
            labels=[*_VERSION_LABELS, "protocol", "phase"],
        )
        rows = CounterMetricFamily("quarterdeck_rows", "Rows answered.", labels=_VERSION_LABELS)
        sizes = HistogramMetricFamily("quarterdeck_batch_rows", "Rows per request that was answered.", labels=_VERSION_LABELS)
        for labels, series in self._series.items():
            for protocol, outcomes in series.requests.items():
                for outcome, count in outcomes.items():
                    requests.add_metric([*labels, protocol, outcome], count)
            for door, phase, histogram in series.all_seconds():
                seconds.add_metric([*labels, door, phase], histogram.buckets(), histogram.sum)
            rows.add_metric(list(labels), series.rows)
            sizes.add_metric(list(labels), series.sizes.buckets(), series.sizes.sum)
        rejections = CounterMetricFamily("quarterdeck_rejections", "Requests refused with a 4xx.", labels=["reason"])
        for reason, count in self._rejections.items():
            rejections.add_metric([reason], count)
        yield from (requests, seconds, rows, sizes, rejections)


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
        yield from _queues(state)
        yield GaugeMetricFamily(
            "quarterdeck_loop_lag_seconds", "How late the event loop was at its last heartbeat.", state.loop_lag_seconds
        )
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


def _queues(state: State) -> Iterable[Metric]:
    """Of models in processes of their own, by version and not by deployment: deployments of one version share its batches."""
    labels = ["model", "version", "accelerator"]
    waiting = GaugeMetricFamily("quarterdeck_queue_rows", "Rows that wait for a model process.", labels=labels)
    batches = HistogramMetricFamily(
        "quarterdeck_model_batch_rows", "Rows of each batch that a model process was asked.", labels=labels
    )
    shed = CounterMetricFamily(
        "quarterdeck_queue_shed", "Requests refused before a model process was asked, or told that it is too late.",
        labels=[*labels, "reason"],
    )  # fmt: skip
    for ref, figures in state.queues.items():
        named = [ref.model, str(ref.version), ref.accelerator]
        waiting.add_metric(named, figures.waiting_rows)
        batches.add_metric(named, buckets(BATCH_BUCKETS, figures.batches), figures.rows)
        for reason, count in figures.shed.items():
            shed.add_metric([*named, reason], count)
    yield waiting
    yield batches
    yield shed


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
