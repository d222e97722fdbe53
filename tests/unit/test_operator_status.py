"""The status: what people read of a deployment, and that nothing of it changes where nothing happened."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.plan import Role, VersionRef
from quarterdeck.resource_status import DeploymentStatus
from quarterdeck.rollout import Condition, Decision, Hold, Record, TakenBack
from quarterdeck_operator import status
from quarterdeck_operator.world import Object, Observed
from tests.operator_objects import KEY, NOW, decision, observed, pod, ref, report, spec

V1, V2 = ref(1), ref(2)
READY = Condition(type="Ready", status="True", reason="Answering", message="It answers.")
NOT_READY = READY.model_copy(update={"status": "False", "reason": "NodesBehind"})
MOMENT = "2027-01-15T08:00:00Z"


def resource(old: DeploymentStatus | None = None, generation: int = 3) -> Object:
    """The ModelDeployment with a status."""
    meta = {"name": KEY.name, "namespace": KEY.namespace, "generation": generation}
    return {"metadata": meta, "status": old.document() if old else {}}


def deployment(replicas: int = 1, updated: int | None = None, total: int | None = None) -> Object:
    """The main Deployment, settled unless told otherwise."""
    done = {"observedGeneration": 1, "replicas": replicas if total is None else total}
    return {
        "kind": "Deployment",
        "metadata": {"name": "late-flights-main", "generation": 1},
        "spec": {"replicas": replicas},
        "status": {**done, "updatedReplicas": replicas if updated is None else updated},
    }


def serving(*, now: float = NOW, nodes: int = 1) -> Observed:
    """A world in which all is well."""
    names = [f"p-{number}" for number in range(nodes)]
    pods = [pod(name, "aaaa") for name in names]
    return observed([deployment(nodes)], pods, [report(name, active=V1, v1="ready") for name in names], now=now)


def settled(**more: Any) -> Decision:
    """A decision in which version 1 answers."""
    return decision(V1, conditions=[READY], **more)


def broken(name: str = "p-0", **more: Any) -> Object:
    """A pod whose image is missing."""
    state = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    return pod(
        name, "bbbb", ready=False, containerStatuses=[{"name": "serve", "image": "x", "ready": False, "state": state}], **more
    )


def told(found: DeploymentStatus) -> dict[str, str]:
    """Conditions as type → status."""
    return {one.type: one.status for one in found.conditions}


def test_a_healthy_deployment_says_what_serves_where() -> None:
    """Versions, digests, on how many nodes, by which generation."""
    record = Record(active=V1, previous=V2, revision=7)
    found = status.build(serving(nodes=2), resource(), spec({"replicas": 2}), settled(record=record, challenger=V2))
    assert (found.phase, found.revision, found.observed_generation) == ("Ready", 7, 3)
    assert (found.replicas, found.ready_replicas, found.nodes.ready, found.nodes.wanted) == (2, 2, 2, 2)
    assert found.active is not None
    assert (found.active.model, found.active.version, found.active.digest) == ("m", 1, V1.digest)
    assert found.previous is not None
    assert found.challenger is not None
    assert [(one.version, one.digest, one.nodes) for one in found.versions] == [(1, V1.digest, 2)]
    assert (
        found.selector
        == "app.kubernetes.io/name=quarterdeck-node,quarterdeck.dev/deployment=late-flights,quarterdeck.dev/role=main"
    )
    assert told(found) == {"Ready": "True", "PodsHealthy": "True"}
    assert found.last_failure is None


def test_while_nodes_change_over_both_versions_are_told() -> None:
    """Most nodes first."""
    pods = [pod(f"p-{number}", "aaaa") for number in range(3)]
    reports = [report(f"p-{number}", active=V2 if number else V1, v1="ready", v2="ready") for number in range(3)]
    found = status.build(observed([deployment(3)], pods, reports), resource(), spec({"replicas": 3}), settled())
    assert [(one.version, one.nodes) for one in found.versions] == [(2, 2), (1, 1)]


def test_equal_worlds_give_equal_statuses_however_late() -> None:
    """Nothing is written where nothing happened: the times of what is so stay."""
    first = status.build(serving(), resource(), spec(), settled())
    later = status.build(serving(now=NOW + 500), resource(first), spec(), settled())
    assert later == first
    assert {one.last_transition_time for one in first.conditions} == {MOMENT}


def test_a_conditions_time_moves_with_its_status_only() -> None:
    """Another reason or generation is no transition."""
    first = status.build(serving(), resource(), spec(), settled())
    reworded = decision(V1, conditions=[READY.model_copy(update={"reason": "Other", "message": "Otherwise."})])
    second = status.build(serving(now=NOW + 60), resource(first, generation=4), spec(), reworded)
    third = status.build(serving(now=NOW + 90), resource(second, generation=4), spec(), decision(V1, conditions=[NOT_READY]))
    ready = [next(one for one in found.conditions if one.type == "Ready") for found in (first, second, third)]
    assert [one.last_transition_time for one in ready] == [MOMENT, MOMENT, "2027-01-15T08:01:30Z"]
    assert [one.observed_generation for one in ready] == [3, 4, 4]


TAKEN = TakenBack(version=V2, reason="ErrorRate", message="It failed.", since=NOW)
PHASES: list[tuple[str, dict[str, Any], Observed, Decision]] = [
    ("Stopped", {"running": False}, observed(), decision(V1)),
    ("Stopped", {"nodes": {"replicas": 0}}, observed(), decision(V1)),
    ("Pending", {}, observed(), decision()),
    ("Failed", {}, observed(pods=[broken()]), decision()),
    ("Failed", {}, observed(), decision(record=Record(hold=Hold(generation=3, reason="No.", code="no-such-bucket")))),
    ("Ready", {}, serving(), settled()),
    ("Held", {}, serving(), settled(record=Record(active=V1, hold=Hold(generation=3, reason="No.")))),
    ("RolledBack", {}, serving(), settled(record=Record(active=V1, taken_back=TAKEN))),
    ("Progressing", {}, serving(), settled(record=Record(active=V1, target=V2))),
    ("Progressing", {}, observed([deployment(1, updated=0)], [pod("p", "a")], [report("p", active=V1, v1="ready")]), settled()),
    ("Degraded", {}, observed([deployment(1, 1, 2)], [pod("p", "a"), broken()], [report("p", active=V1, v1="ready")]), settled()),
    ("Degraded", {}, serving(), decision(V1, conditions=[NOT_READY])),
    ("Degraded", {}, observed([deployment()], [pod("p", "a", ready=False)]), settled()),
    ("Failed", {}, observed([deployment()], [broken()]), settled()),
]


@pytest.mark.parametrize(("phase", "more", "world", "decided"), PHASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(PHASES)])
def test_one_word_for_it(phase: str, more: dict[str, Any], world: Observed, decided: Decision) -> None:
    """The most telling one."""
    assert status.build(world, resource(), spec(**more), decided).phase == phase


def test_a_pods_trouble_is_named_while_the_old_version_serves_on() -> None:
    """In a condition and as the last failure; what serves is told beside it."""
    world = observed([deployment(1, 1, 2)], [pod("p", "a"), broken("p-new")], [report("p", active=V1, v1="ready")])
    found = status.build(world, resource(), spec(), settled())
    condition = next(one for one in found.conditions if one.type == "PodsHealthy")
    assert (condition.status, condition.reason) == ("False", "ImageNotPulled")
    assert "p-new, container serve: The image x is not there: not found." in condition.message
    assert found.last_failure is not None
    assert (found.last_failure.node, found.last_failure.code) == ("p-new", "image-not-pulled")
    assert [one.version for one in found.versions] == [1]


def test_a_refused_version_is_the_last_failure_with_node_and_place() -> None:
    """The node's own words."""
    world = observed([deployment()], [pod("p", "a")], [report("p", active=V1, v1="ready", v2="failed")])
    found = status.build(world, resource(), spec(), settled())
    assert found.last_failure is not None
    failure = found.last_failure
    assert (failure.node, failure.place, failure.code, failure.reason) == (
        "p",
        "golden.json",
        "golden-mismatch",
        "Row 3 differs.",
    )
    assert failure.time == MOMENT


def test_the_same_trouble_on_the_next_pod_keeps_its_beginning() -> None:
    """Pods' names change with every attempt."""
    first = status.build(observed(pods=[broken("p-1")]), resource(), spec(), decision())
    second = status.build(observed(pods=[broken("p-2")], now=NOW + 60), resource(first), spec(), decision())
    assert second.last_failure is not None
    assert (second.last_failure.node, second.last_failure.time) == ("p-2", MOMENT)


def test_the_last_failure_stays_until_a_change_succeeds() -> None:
    """While it is not Ready again, and while the pod is the one that failed, people can still read what it was."""
    first = status.build(observed(pods=[broken("p-0")]), resource(), spec(), decision())
    same_pod = status.build(serving(now=NOW + 60), resource(first), spec(), settled())
    assert same_pod.last_failure == first.last_failure
    flipped = settled(record=Record(active=V1, active_since=NOW + 30))
    assert status.build(serving(now=NOW + 60), resource(first), spec(), flipped).last_failure is None


def test_a_hold_and_a_missing_version_are_failures_too() -> None:
    """With the decision's words."""
    held = settled(record=Record(active=V1, hold=Hold(generation=3, reason="It was late.", code="progress-deadline")))
    found = status.build(serving(), resource(), spec(), held).last_failure
    assert found is not None
    assert (found.code, found.reason) == ("progress-deadline", "It was late.")
    missing = Condition(type="ArtifactVerified", status="False", reason="NoSuchBucket", message="No bucket.")
    found = status.build(serving(), resource(), spec(), decision(V1, conditions=[READY, missing])).last_failure
    assert found is not None
    assert (found.code, found.reason) == ("no-such-bucket", "No bucket.")


def test_a_hold_keeps_the_nodes_own_words() -> None:
    """Once a version is given up no node speaks of it any more; where it failed is still to be read."""
    refusing = observed([deployment()], [pod("p-0", "a")], [report("p-0", active=V1, v1="ready", v2="failed")])
    first = status.build(refusing, resource(), spec(), settled())
    held = settled(record=Record(active=V1, hold=Hold(generation=3, reason="Node p-0: Row 3 differs.", code="golden-mismatch")))
    second = status.build(serving(now=NOW + 60), resource(first), spec(), held)
    assert second.last_failure == first.last_failure


def test_a_challengers_trouble_is_told_and_is_none_of_mains() -> None:
    """Main goes on being Ready."""
    world = serving()
    state = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    bad = pod("c-0", "cccc", "challenger", ready=False, containerStatuses=[{"name": "serve", "image": "x", "state": state}])
    found = status.build(observed([deployment()], [*world.pods, bad], world.reports), resource(), spec(), settled())
    assert (found.phase, told(found)["PodsHealthy"]) == ("Ready", "False")


def test_with_an_autoscaler_its_number_is_the_wanted_one() -> None:
    """It stands in the Deployment."""
    nodes = {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}, "resources": {"requests": {"cpu": "1"}}}
    found = status.build(observed([deployment(4)]), resource(), spec(nodes), settled())
    assert found.nodes.wanted == 4
    assert status.build(observed(), resource(), spec(nodes), settled()).nodes.wanted == 2


@pytest.mark.parametrize(
    ("conditions", "status_", "reason"),
    [
        ([], "Unknown", "Starting"),
        ([{"type": "AbleToScale", "status": "True"}], "Unknown", "Starting"),
        ([{"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"}], "True", "Following"),
        (
            [
                {
                    "type": "ScalingActive",
                    "status": "False",
                    "reason": "FailedGetContainerResourceMetric",
                    "message": "no metrics.",
                }
            ],
            "False",
            "FailedGetContainerResourceMetric",
        ),
    ],
)
def test_an_autoscaler_that_does_nothing_is_told(conditions: list[Object], status_: str, reason: str) -> None:
    """Where there is one; most often the metrics server is missing."""
    scaler: Object = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "late-flights-main"},
        "status": {"conditions": conditions},
    }
    found = status.build(observed([deployment(), scaler]), resource(), spec(), settled())
    (condition,) = (one for one in found.conditions if one.type == "AutoscalerActive")
    assert (condition.status, condition.reason) == (status_, reason)
    assert "AutoscalerActive" not in told(status.build(serving(), resource(), spec(), settled()))


WAITS: list[dict[str, Any]] = [
    {},
    {"containerStatuses": [{"name": "serve", "image": "x", "ready": False, "state": {"waiting": {"reason": "ErrImagePull"}}}]},
    {"phase": "Failed", "reason": "Evicted"},
    {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}]},
]


@given(
    pods=st.lists(st.tuples(st.sampled_from(["main", "challenger"]), st.booleans(), st.sampled_from(WAITS)), max_size=4),
    active=st.lists(st.sampled_from([V1, V2, None]), max_size=4),
    record=st.sampled_from(
        [Record(), Record(active=V1), Record(active=V1, target=V2), Record(hold=Hold(generation=3, reason="No."))]
    ),
    there=st.booleans(),
    running=st.booleans(),
)
def test_in_every_world_the_second_look_says_the_same(
    pods: list[tuple[Role, bool, dict[str, Any]]], active: list[VersionRef | None], record: Record, there: bool, running: bool
) -> None:
    """A status never makes news of itself: what it says in a world, it says again a second later."""
    things = [pod(f"p-{number}", "a", role, ready=ready, **more) for number, (role, ready, more) in enumerate(pods)]
    reports = [report(f"p-{number}", active=one, v1="ready", v2="failed") for number, one in enumerate(active)]
    decided = decision(record.active, record=record, conditions=[READY])
    wanted = spec(running=running)
    first = status.build(observed([deployment()] * there, things, reports), resource(), wanted, decided)
    world = observed([deployment()] * there, things, reports, now=NOW + 1)
    assert status.build(world, resource(first), wanted, decided) == first


def test_a_status_that_cannot_be_read_is_written_anew() -> None:
    """Another version of the operator left it."""
    strange = {"metadata": resource()["metadata"], "status": {"colour": "blue"}}
    found = status.build(serving(), strange, spec(), settled())
    assert found.phase == "Ready"
    assert datetime.fromisoformat(found.conditions[0].last_transition_time).timestamp() == NOW
