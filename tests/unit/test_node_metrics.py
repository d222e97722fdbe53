"""Series come with a version and go some time after it; what was counted is shown to the last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.plan import VersionRef
from quarterdeck_node.metrics import KEPT_SECONDS, OUTCOMES, PROTOCOLS, Metrics, State
from quarterdeck_node.predictor import Live, Resident, Slot
from quarterdeck_node.runtimes.inprocess import InProcess
from tests.nodes import deployment, encoding


class Clock:
    """Monotonic seconds that stand still."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def nothing() -> State:
    """A node that holds nothing."""
    return State("main", {}, {}, 0, {}, {}, {}, 0, 0, 0.0)


def slot(*versions: int, name: str = "numbers", role: str = "main") -> Slot:
    """A deployment whose first version answers."""
    residents = {number: resident(number) for number in versions}
    plan = deployment(residents[versions[0]].ref, name=name, role=role)
    return Slot(plan, Live(plan, residents[versions[0]]), residents)


def resident(number: int) -> Resident:
    """A version that is never asked."""

    class Silent:
        def predict(self, rows: object) -> list[object]:
            return []

    ref = VersionRef(model="numbers", version=number, digest=f"sha256:{number:064x}")
    return Resident(ref, encoding(1).manifest, InProcess(Silent()))  # type: ignore[arg-type]


def shown(metrics: Metrics) -> set[tuple[str, str]]:
    """(deployment, version) of all series that are counted."""
    found = set()
    for line in metrics.render().decode().splitlines():
        if line.startswith("quarterdeck_rows_total{"):
            labels = dict(part.split("=") for part in line[line.index("{") + 1 : line.index("}")].split(","))
            found.add((labels["deployment"].strip('"'), labels["version"].strip('"')))
    return found


def test_series_begin_at_zero_with_their_version() -> None:
    """All outcomes of all protocols, so that the first event shows as an increase."""
    metrics = Metrics(nothing)
    metrics.prepare({"numbers": slot(1)})
    lines = [line for line in metrics.render().decode().splitlines() if line.startswith("quarterdeck_requests_total{")]
    assert len(lines) == len(PROTOCOLS) * len(OUTCOMES)
    assert all(line.endswith(" 0.0") for line in lines)


def test_series_of_a_version_that_left_go_after_a_while() -> None:
    """Not before the last counts were scraped, many times over; then all of them."""
    clock = Clock()
    metrics = Metrics(nothing, clock)
    metrics.prepare({"numbers": slot(1)})
    metrics.request(slot(1), None, "plain", "ok", 0.0, 0.001, None, 3)
    metrics.prepare({"numbers": slot(2)})
    assert shown(metrics) == {("numbers", "1"), ("numbers", "2")}
    clock.now += KEPT_SECONDS
    assert "3.0" in metrics.render().decode()
    clock.now += 1
    assert shown(metrics) == {("numbers", "2")}
    assert 'version="1"' not in metrics.render().decode()


def test_a_version_that_returns_keeps_its_counts() -> None:
    """A rollback within the time goes on counting; its absence is forgotten."""
    clock = Clock()
    metrics = Metrics(nothing, clock)
    metrics.prepare({"numbers": slot(1)})
    metrics.request(slot(1), None, "plain", "ok", 0.0, 0.001, None, 5)
    for present in (slot(2), slot(1), slot(2), slot(1, 2)):
        metrics.prepare({"numbers": present})
        metrics.render()
        clock.now += KEPT_SECONDS - 1
    assert 'quarterdeck_rows_total{deployment="numbers",role="main",stage="dev",version="1"} 5.0' in metrics.render().decode()


def test_a_late_request_of_a_removed_version_does_no_harm() -> None:
    """It is counted, and goes again."""
    clock = Clock()
    metrics = Metrics(nothing, clock)
    metrics.prepare({"numbers": slot(1)})
    metrics.prepare({})
    metrics.render()
    clock.now += KEPT_SECONDS + 1
    assert shown(metrics) == set()
    metrics.request(slot(1), None, "oip", "error", 0.0, 1.0, None, 0)
    assert shown(metrics) == {("numbers", "1")}
    clock.now += KEPT_SECONDS + 1
    assert shown(metrics) == set()


@given(st.lists(st.tuples(st.sets(st.integers(1, 5)), st.integers(0, 600)), max_size=12))
def test_what_is_shown_was_resident_within_the_time(story: list[tuple[set[int], int]]) -> None:
    """After any coming and going, scraped each time: exactly what is here or was, no longer ago than that."""
    clock = Clock()
    metrics = Metrics(nothing, clock)
    first_missed: dict[int, float] = {}
    for versions, pause in story:
        metrics.prepare({"numbers": slot(*versions)} if versions else {})
        for number in versions:
            first_missed[number] = float("inf")
        for number in first_missed.keys() - versions:
            first_missed[number] = min(first_missed[number], clock.now)
        metrics.render()
        clock.now += pause
        expected = {("numbers", str(number)) for number, since in first_missed.items() if clock.now - since <= KEPT_SECONDS}
        assert shown(metrics) == expected
        first_missed = {number: since for number, since in first_missed.items() if clock.now - since <= KEPT_SECONDS}
