"""What is said of a deployment in a cluster, from its resource's status: applied or not, and what it waits for."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck_deployer.infrastructures.kubernetes_fields import Object
from quarterdeck_deployer.infrastructures.kubernetes_observed import STALE_SECONDS, Look, holds, observe
from quarterdeck_deployer.infrastructures.kubernetes_resource import REVISION
from quarterdeck_deployer.observed import ObservedDeployment
from tests.wishes import ref, wish

GOOD = {
    "Ready": ("True", "Answering", "2 of 2 nodes answer."),
    "Progressing": ("False", "Settled", "Nothing is under way."),
    "ModelLoaded": ("True", "Proven", "It matched its golden rows."),
    "RollbackReady": ("True", "Resident", "v3 is resident."),
    "ChallengerReady": ("False", "NoChallenger", "No challenger is set."),
    "ChallengerReceiving": ("False", "NoChallenger", "No challenger is set."),
    "ArtifactVerified": ("True", "Pinned", "It cannot be exchanged."),
    "PodsHealthy": ("True", "Ready", "2 of 2 main pods are ready."),
    "Reconciled": ("True", "Applied", "Everything is as it was decided."),
}


def version(number: int) -> Object:
    """A version in a status."""
    return {"model": "flights", "version": number, "digest": ref(number).digest}


def resource(conditions: dict[str, tuple[str, str, str]] | None = None, revision: int = 3, **status: Any) -> Object:
    """A resource that was written as revision 3, whose main is v1, with this status on two nodes."""
    told = [
        {
            "type": kind,
            "status": truth,
            "reason": reason,
            "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 5,
        }
        for kind, (truth, reason, message) in {**GOOD, **(conditions or {})}.items()
    ]
    good: Object = {
        "observedGeneration": 5,
        "phase": "Ready",
        "revision": 7,
        "active": version(1),
        "previous": version(3),
        "readyReplicas": 2,
        "nodes": {"ready": 2, "wanted": 2},
        "versions": [{**version(1), "nodes": 2}],
        "conditions": told,
    }
    metadata = {"name": "late", "generation": 5, "annotations": {REVISION: str(revision)}}
    return {"metadata": metadata, "spec": {}, "status": {**good, **status}}


def seen(found: Object | None, age: float | None = 1.0, problem: str = "", **more: Any) -> ObservedDeployment:
    """What is observed of revision 3."""
    return observe(wish(**more), Look(found, age, problem))


def test_what_is_so_is_called_applied() -> None:
    """Main answers on every node: yes, yes, nothing to wait for."""
    found = seen(resource())
    assert (found.applied, found.main_applied, found.waiting_for) == (True, True, "")
    assert (found.deployed.state, found.running.state) == ("yes", "yes")
    assert (found.main and found.main.ref, found.previous and found.previous.ref.version) == (ref(1), 3)
    assert (found.revision, found.generation, found.rollback_ready, found.hold, found.failure) == (7, 3, True, None, None)


REFUSED = {"node": "late-main-1", "code": "golden-mismatch", "reason": "row 3", "time": "2026-01-01T00:00:00Z"}
HELD = {"Progressing": ("False", "Held", "Stopped: row 3 differs."), "ModelLoaded": ("False", "GoldenMismatch", "row 3 differs.")}


@pytest.mark.parametrize(
    ("found", "age", "problem", "said"),
    [
        (None, None, "", "the API server has never answered"),
        (resource(), STALE_SECONDS + 1, "", "the API server has not answered for 31 s"),
        (resource(), 1.0, "the API server answered with 403", "the API server answered with 403"),
        (None, 1.0, "", "the cluster has not been told revision 3 yet"),
        (resource(revision=2), 1.0, "", "the cluster has not been told revision 3 yet"),
        (resource(observedGeneration=4), 1.0, "", "the operator has not looked at it yet"),
        (resource({"Reconciled": ("False", "NameTaken", "A Service is in the way.")}), 1.0, "", "A Service is in the way."),
        (resource(HELD, active=version(3), lastFailure=REFUSED), 1.0, "", "row 3 differs."),
        (
            resource({"ModelLoaded": ("Unknown", "Loading", "it is fetched")}, active=version(3)),
            1.0,
            "",
            "main does not answer with flights v1 on all nodes yet: it is fetched",
        ),
        (
            resource(versions=[{**version(1), "nodes": 1}, {**version(3), "nodes": 1}]),
            1.0,
            "",
            "main does not answer with flights v1 on all nodes yet",
        ),
        (
            resource({"PodsHealthy": ("False", "Crashed", "it crashes")}, nodes={"ready": 1, "wanted": 2}),
            1.0,
            "",
            "1 of 2 main nodes answer: it crashes",
        ),
    ],
)
def test_what_it_waits_for_is_said(found: Object | None, age: float | None, problem: str, said: str) -> None:
    """The first thing that is missing, in words."""
    told = seen(found, age, problem)
    assert (told.applied, told.main_applied, told.waiting_for) == (False, False, said)


def test_nothing_is_green_without_a_recent_look() -> None:
    """Whatever the last status said."""
    for age, problem in ((None, ""), (STALE_SECONDS + 1, "")):
        found = seen(resource(), age, problem)
        assert (found.deployed.state, found.running.state, found.rollback_ready) == ("unknown", "unknown", False)


def test_a_hold_and_a_failure_are_shown_with_their_code() -> None:
    """What served serves on, so it is still called running."""
    found = seen(resource(HELD, active=version(3), versions=[{**version(3), "nodes": 2}], lastFailure=REFUSED, phase="Held"))
    assert found.hold is not None
    assert (found.hold.code, found.hold.reason) == ("golden-mismatch", "row 3 differs.")
    assert found.failure is not None
    assert (found.failure.node, found.failure.role, found.failure.version.version) == ("late-main-1", "main", 1)
    assert (found.running.state, found.main and found.main.ref.version) == ("yes", 3)


def test_an_old_failure_is_no_news() -> None:
    """It stays in the status until something else goes wrong."""
    assert seen(resource(lastFailure=REFUSED)).failure is None


def test_a_challenger_counts_once_main_has_followed() -> None:
    """It is applied when copies flow, or when it is main itself."""
    pair = ref(2)
    receiving = {"ChallengerReady": ("True", "Proven", ""), "ChallengerReceiving": ("True", "Mirroring", "Rows are copied.")}
    loading = {"ChallengerReady": ("False", "Loading", "it is loading."), "ChallengerReceiving": ("False", "NotReady", "later")}
    same = {"ChallengerReceiving": ("False", "SameAsMain", "it is main already")}
    assert seen(resource(receiving, challenger=version(2)), challenger=pair).applied
    assert seen(resource(same, challenger=version(2)), challenger=pair).applied
    # What went wrong before, on its way, is no refusal of it.
    found = seen(resource(loading, lastFailure=REFUSED), challenger=pair)
    assert (found.main_applied, found.applied, found.failure) == (True, False, None)
    assert found.waiting_for == "flights v2 gets no copies yet: it is loading."


@pytest.mark.parametrize(
    ("status", "applied", "running"),
    [({"versions": [], "readyReplicas": 0, "nodes": {"ready": 0, "wanted": 0}}, True, "stopped"), ({}, False, "yes")],
)
def test_a_stop_is_applied_once_nobody_answers(status: Object, applied: bool, running: str) -> None:
    """Wish and observation are told apart."""
    found = seen(resource(**status), running=False)
    assert (found.applied, found.running.state, found.deployed.state) == (applied, running, "no")


@pytest.mark.parametrize(
    ("found", "held"),
    [
        (resource(), False),
        (resource(phase="Held"), True),
        (resource(phase="RolledBack"), True),
        (resource({"ChallengerReady": ("False", "GoldenMismatch", "")}), True),
        (resource({"ChallengerReady": ("False", "Loading", "")}), False),
        ({"metadata": {}, "status": {"future": 1}}, False),
    ],
)
def test_a_refusal_is_known(found: Object, held: bool) -> None:
    """Then the same wish again is a new attempt."""
    assert holds(found) is held
