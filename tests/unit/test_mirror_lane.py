"""The mirror's ledger through any sequence of events: the identity is exact after every one of them."""

from __future__ import annotations

import json
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
# Arrays of so many rows, as callers may send them.
ROW_TEXTS = [b" [" + b", ".join([b'{"n": %d}' % index for index in range(count)]) + b"]\n" for count in range(31)]
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
            self.lane.offer(PLANS[first], f"r{self.offered}", ROW_TEXTS[second], second, self.now)
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
        """Every request comes out once and whole, in a batch that fits unless it is alone, under one plan."""
        assert 0 < batch.rows <= batch.mirror.batch_rows or len(batch.request_ids) == 1
        assert all(bundle.plan is batch.plan for bundle in batch.bundles)
        assert json.loads(batch.body()) == {"rows": [{"n": index} for count in batch.counts for index in range(count)]}
        self.seen += batch.request_ids
        assert len(set(self.seen)) == len(self.seen)


@settings(max_examples=300)
@given(events)
def test_the_identity_holds_after_every_event(story: list[tuple[str, int, int]]) -> None:
    """mirrored = answered + failed + expired + dropped + pending, with pending counted from the queue and the batches."""
    world = World()
    for event in [("retarget", 0, 0), *story]:
        world.step(event)
        report = world.lane.report()
        queued = sum(bundle.rows for bundle in world.lane.queue)
        assert report.pending == queued + sum(batch.rows for batch in world.flying)
        assert report.mirrored == world.offered
        assert report.mirrored == report.answered + report.failed + report.expired + report.dropped + report.pending
        assert world.lane.in_flight == len(world.flying) <= IN_FLIGHT
        assert world.lane.size == sum(bundle.size for bundle in world.lane.queue)
        assert queued <= 40


def lane(plan: DeploymentPlan = PLANS[0], numbers: int = 1) -> Lane:
    """A lane that has its plan."""
    found = Lane()
    found.retarget(plan, numbers)
    return found


def offer(found: Lane, name: str, rows: int = 1, now: float = 0.0, plan: DeploymentPlan = PLANS[0]) -> None:
    """Offer one request."""
    found.offer(plan, name, ROW_TEXTS[rows], rows, now)


def taken(batch: Batch | None) -> list[str]:
    """The requests of a batch."""
    assert batch is not None
    return batch.request_ids


def test_a_large_request_travels_alone_and_whole() -> None:
    """Its text is not cut: that would need reading it."""
    found = lane()
    for name, rows in (("before", 3), ("large", 20), ("after", 1)):
        offer(found, name, rows)
    assert [taken(found.take(0.0)), taken(found.take(0.0))] == [["before"], ["large"]]
    found.land(False, 0.0)
    assert taken(found.take(0.0)) == ["after"]


def test_requests_that_waited_travel_together() -> None:
    """However far apart they were offered, up to the rows of a batch."""
    found = lane()
    for index in range(4):
        offer(found, f"r{index}", rows=3, now=float(index))
    assert taken(found.take(4.0)) == ["r0", "r1"]


def test_wide_answers_make_small_batches() -> None:
    """An answer is judged in one go: with a thousand scores to a row it must not be an answer to many rows."""
    assert lane(deployment("http://one")).batch_rows == 1_000
    found = lane(deployment("http://one"), numbers=1_001)
    assert (found.batch_rows, found.enough) == (4, 4)
    assert lane(numbers=100_000).batch_rows == 1


def test_a_long_queue_makes_larger_batches() -> None:
    """A few hundred rows do not wait for more; what came meanwhile travels together."""
    plan = deployment("http://one")
    found = lane(plan)
    assert found.enough == 512
    for index in range(50):
        offer(found, f"r{index}", rows=30, plan=plan)
    assert [batch.rows for batch in (found.take(0.0), found.take(0.0)) if batch] == [990, 510]


def test_what_was_offered_together_expires_together() -> None:
    """With the oldest of it, and nothing that came later than a moment after."""
    found = lane()
    for name, now in (("a", 0.0), ("b", 0.019), ("c", 0.021), ("d", 5.0)):
        offer(found, name, now=now)
    assert found.expire(9.99) is None
    assert taken(found.expire(10.0)) == ["a", "b"]
    assert taken(found.expire(10.03)) == ["c"]
    assert found.expire(14.0) is None


def test_a_batch_waits_a_moment_for_company() -> None:
    """One row waits 20 ms, a full batch not at all, and nothing at all waits for the next offer."""
    found = lane()
    assert found.due(0.0) is None
    offer(found, "r")
    assert found.due(0.005) == 0.015
    offer(found, "s", rows=7, now=0.006)
    assert found.due(0.006) == 0.0


def test_rows_of_two_revisions_do_not_travel_together() -> None:
    """The record of each names the revision that its row was answered under."""
    found = lane()
    offer(found, "r")
    found.retarget(PLANS[1])
    offer(found, "s", plan=PLANS[1])
    revisions = [batch.plan.revision for batch in (found.take(0.0), found.take(0.0)) if batch]
    assert revisions == [4, 5]


def test_the_circuit_opens_feels_and_closes() -> None:
    """After some failures in a row there is a pause, then one batch at a time, then everything as before."""
    found = lane()
    for index in range(FAILURES_TO_OPEN):
        offer(found, f"r{index}", rows=8)
        batch = found.take(0.0)
        assert batch is not None
        found.settle({"failed": 8})
        found.land(True, 0.0)
    for index in range(3):
        offer(found, f"s{index}", rows=8)
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
