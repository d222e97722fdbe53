"""One leader at a time, whatever happens to it, by a told clock."""

from __future__ import annotations

from dataclasses import dataclass

from quarterdeck_operator.lease import Lease
from quarterdeck_operator.twin import ClusterTwin

SECONDS = 15.0


@dataclass
class _Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def _two() -> tuple[_Clock, ClusterTwin, Lease, Lease]:
    clock, twin = _Clock(), ClusterTwin()
    one, other = (Lease(twin, twin, ("quarterdeck", "operator"), name, SECONDS, clock) for name in ("one", "other"))
    return clock, twin, one, other


def test_the_first_one_leads_and_the_other_looks_on() -> None:
    """A fresh cluster has no Lease: whoever creates it leads."""
    _, _, one, other = _two()
    assert one.step()
    assert not other.step()


def test_a_leader_that_renews_is_never_overtaken() -> None:
    """Over ten minutes of both asking every three seconds."""
    clock, _, one, other = _two()
    for _ in range(200):
        assert one.step()
        assert not other.step()
        clock.now += 3.0


def test_a_silent_leader_is_followed_after_its_time_and_had_stopped_before() -> None:
    """There is no moment at which both may write."""
    clock, _, one, other = _two()
    one.step()
    other.step()
    while not other.step():
        clock.now += 0.5
        assert not (one.leads() and other.leads())
    assert SECONDS < clock.now <= SECONDS + 1.0
    assert not one.leads()
    assert not one.step()


def test_giving_back_lets_the_next_one_begin_at_once() -> None:
    """An upgrade does not wait for a Lease to run out."""
    _, _, one, other = _two()
    one.step()
    one.release()
    assert not one.leads()
    assert other.step()


def test_the_same_pod_begins_again_at_once() -> None:
    """A container that was killed comes back with the same identity."""
    clock, twin, one, _ = _two()
    one.step()
    again = Lease(twin, twin, ("quarterdeck", "operator"), "one", SECONDS, clock)
    assert again.step()


def test_a_leader_that_cannot_renew_stops_by_itself() -> None:
    """The API server is away: nothing is known of the Lease, so nothing is written."""
    clock, twin, one, _ = _two()
    one.step()
    twin.fault = lambda method, path: 500
    clock.now += 8.0
    assert one.step()
    clock.now += 5.0
    assert not one.step()


def test_two_that_reach_for_a_free_lease_do_not_both_get_it() -> None:
    """The second one's write fails by its version."""
    clock, twin, one, other = _two()
    one.step()
    one.release()
    before = twin.get("/apis/coordination.k8s.io/v1/namespaces/quarterdeck/leases/operator")
    assert other.step()
    late = Lease(_Stale(twin, before), twin, ("quarterdeck", "operator"), "late", SECONDS, clock)
    assert not late.step()


def test_a_lease_that_somebody_made_empty_is_free() -> None:
    """`kubectl create` of one without a spec must not keep the operator from ever starting."""
    _, twin, one, _ = _two()
    path = "/apis/coordination.k8s.io/v1/namespaces/quarterdeck/leases"
    twin.create(path, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "operator"}})
    assert one.step()


class _Stale:
    """Reads what was there before."""

    def __init__(self, twin: ClusterTwin, body: object) -> None:
        self._body = body

    def get(self, path: str, query: object = None) -> dict[str, object] | None:
        """The old body."""
        assert isinstance(self._body, dict)
        return self._body
