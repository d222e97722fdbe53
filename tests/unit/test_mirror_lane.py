"""The mirror's ledger through any sequence of events: the identity is exact after every one of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.plan import DeploymentPlan
from quarterdeck_node.mirror_lane import FAILURES_TO_OPEN, IN_FLIGHT, Batch, Lane
from tests.unit.challengers import DIGEST, OTHER_DIGEST, deployment

PLANS = [
    deployment("http://one", queue_rows=40, batch_rows=8, queue_bytes=4000),
    deployment("http://one", queue_rows=40, batch_rows=8, queue_bytes=4000).model_copy(update={"revision": 5}),
    deployment("http://one", digest=OTHER_DIGEST, queue_rows=10, batch_rows=3),
    deployment("http://two", queue_rows=10, batch_rows=3),
    deployment("http://one").model_copy(update={"mirror": None}),
]
events = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, len(PLANS) - 2), st.integers(1, 30)),
        st.tuples(st.just("take"), st.just(0), st.just(0)),
        st.tuples(st.just("expire"), st.just(0), st.just(0)),
        st.tuples(st.just("land"), st.sampled_from([0, 1]), st.integers(0, 8)),
        st.tuples(st.just("retarget"), st.integers(0, len(PLANS)), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 12), st.just(0)),
        st.tuples(st.just("stop"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@dataclass
class World:
    """A lane, a clock, and our own count of what was offered and what is out."""

    lane: Lane = field(default_factory=Lane)
    now: float = 100.0
    offered: int = 0
    flying: list[Batch] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def step(self, event: tuple[str, int, int]) -> None:
        """Let one event happen."""
        name, first, second = event
        if name == "offer":
            self.lane.offer(PLANS[first], f"r{self.offered}", [{"n": index} for index in range(second)], self.now)
            self.offered += second
        elif name == "take" and (batch := self.lane.take(self.now)):
            self.out(batch)
            self.flying.append(batch)
        elif name == "expire" and (batch := self.lane.expire(self.now)):
            self.out(batch)
            self.lane.settle({"expired": batch.rows})
        elif name == "land" and self.flying:
            batch = self.flying.pop(0)
            good = 0 if first else min(second, batch.rows)
            self.lane.settle({"answered": good, "failed": batch.rows - good}, "challenger-garbage")
            self.lane.land(bool(first), self.now)
        elif name == "retarget":
            self.lane.retarget(PLANS[first] if first < len(PLANS) else None)
        elif name == "wait":
            self.now += first
        elif name == "stop":
            self.lane.drop_queue()

    def out(self, batch: Batch) -> None:
        """Every row comes out once, in a batch that fits, under one plan."""
        assert 0 < batch.rows <= batch.mirror.batch_rows
        assert all(item.plan is batch.plan for item in batch.items)
        self.seen += [name for item in batch.items for name in item.ids()]
        assert len(set(self.seen)) == len(self.seen)


@settings(max_examples=300)
@given(events)
def test_the_identity_holds_after_every_event(story: list[tuple[str, int, int]]) -> None:
    """mirrored = answered + failed + expired + dropped + pending, with pending counted from the queue and the batches."""
    world = World()
    for event in [("retarget", 0, 0), *story]:
        world.step(event)
        report = world.lane.report()
        queued = sum(len(item.rows) for item in world.lane.queue)
        assert report.pending == queued + sum(batch.rows for batch in world.flying)
        assert report.mirrored == world.offered
        assert report.mirrored == report.answered + report.failed + report.expired + report.dropped + report.pending
        assert world.lane.in_flight == len(world.flying) <= IN_FLIGHT
        assert world.lane.size == sum(item.size for item in world.lane.queue)
        assert queued <= 40


def lane(plan: DeploymentPlan = PLANS[0]) -> Lane:
    """A lane that has its plan."""
    found = Lane()
    found.retarget(plan)
    return found


def test_a_large_request_travels_in_parts() -> None:
    """Rows keep their index in the request, whichever batch they travel in."""
    found = lane()
    found.offer(PLANS[0], "r", [{"n": index} for index in range(20)], 0.0)
    batches = [found.take(0.0), found.take(0.0)]
    assert [batch.rows for batch in batches if batch] == [8, 8]
    assert [name for batch in batches if batch for item in batch.items for name in item.ids()] == [f"r-{n}" for n in range(16)]
    assert found.take(0.0) is None


def test_a_batch_waits_a_moment_for_company() -> None:
    """One row waits 20 ms, a full batch not at all, and nothing at all waits for the next offer."""
    found = lane()
    assert found.due(0.0) is None
    found.offer(PLANS[0], "r", [{"n": 1}], 0.0)
    assert found.due(0.005) == 0.015
    found.offer(PLANS[0], "s", [{"n": 1}] * 7, 0.006)
    assert found.due(0.006) == 0.0


def test_rows_of_two_revisions_do_not_travel_together() -> None:
    """The record of each names the revision that its row was answered under."""
    found = lane()
    found.offer(PLANS[0], "r", [{"n": 1}], 0.0)
    found.retarget(PLANS[1])
    found.offer(PLANS[1], "s", [{"n": 1}], 0.0)
    revisions = [batch.plan.revision for batch in (found.take(0.0), found.take(0.0)) if batch]
    assert revisions == [4, 5]


def test_the_circuit_opens_feels_and_closes() -> None:
    """After some failures in a row there is a pause, then one batch at a time, then everything as before."""
    found = lane()
    for index in range(FAILURES_TO_OPEN):
        found.offer(PLANS[0], f"r{index}", [{"n": 1}] * 8, 0.0)
        batch = found.take(0.0)
        assert batch is not None
        found.settle({"failed": 8})
        found.land(True, 0.0)
    found.offer(PLANS[0], "s", [{"n": 1}] * 30, 0.0)
    assert found.take(0.2) is None
    assert found.due(0.2) is not None
    assert found.take(0.3) is not None
    assert found.take(0.3) is None, "one batch feels whether the challenger is back"
    found.settle({"answered": 8})
    found.land(False, 0.4)
    assert [found.take(0.4) is not None for _ in range(3)] == [True, True, False]


def test_the_report_names_the_last_error() -> None:
    """It stays until another one happens."""
    found = lane()
    assert found.target == ("http://one", DIGEST)
    found.settle({}, "challenger-timeout")
    found.settle({})
    assert found.report().last_error == "challenger-timeout"
