"""What pods cannot report, as tables: statuses that a kubelet, a scheduler or a quota writes → what people are told."""

from __future__ import annotations

import re
from typing import Any

import pytest

from quarterdeck_operator.pods import CODES, Failure, failures, is_routed
from quarterdeck_operator.world import Object
from tests.operator_objects import NOW, pod
from tests.support import ROOT

LONG_AGO, JUST_NOW = "2027-01-15T07:00:00Z", "2027-01-15T07:59:50Z"


def waiting(reason: str, message: str = "", container: str = "serve", **more: Any) -> dict[str, Any]:
    """A pod's status with a container that waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": container, "image": "reg/x:1", "ready": False, "state": state, **more}]}


def ended(
    reason: str, code: int, at: str = JUST_NOW, message: str = "", *, ready: bool = False, now: str = "running"
) -> dict[str, Any]:
    """A pod's status with a container that ended and is in state `now` since."""
    last = {"terminated": {"reason": reason, "exitCode": code, "finishedAt": at, "message": message}}
    state = {now: {"reason": "CrashLoopBackOff"}}
    container = {"name": "serve", "image": "reg/x:1", "ready": ready, "state": state, "lastState": last, "restartCount": 3}
    return {"containerStatuses": [container]}


def unscheduled(message: str) -> dict[str, Any]:
    """A pod's status that the scheduler wrote."""
    return {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
    }


def deployment(kind: str, status: str, reason: str, message: str) -> Object:
    """A Deployment with one condition."""
    condition = {"type": kind, "status": status, "reason": reason, "message": message}
    return {"metadata": {"name": "late-flights-main"}, "status": {"conditions": [condition]}}


def of_pod(status: dict[str, Any]) -> list[Failure]:
    """Failures of a single pod."""
    return failures([pod("p-1", "aaaa", ready=False, **status)], [], NOW)


CASES: list[tuple[dict[str, Any], str, str, list[str]]] = [
    (waiting("ImagePullBackOff", "not found"), "container serve", "image-not-pulled", ["reg/x:1", "not found", "nodes.image"]),
    (waiting("ErrImagePull", "401 Unauthorized"), "container serve", "image-not-pulled", ["401", "imagePullSecrets"]),
    (waiting("InvalidImageName"), "container serve", "image-not-pulled", ["reg/x:1"]),
    (waiting("ErrImageNeverPull", container="agent"), "container agent", "image-not-pulled", []),
    (
        waiting("CreateContainerConfigError", "image will run as root"),
        "container serve",
        "container-not-created",
        ["image will run as root"],
    ),
    (
        waiting("CreateContainerConfigError", 'secret "keys" not found'),
        "container serve",
        "container-not-created",
        ['secret "keys" not found.'],
    ),
    (ended("OOMKilled", 137), "container serve", "out-of-memory", ["resources.limits.memory"]),
    (ended("OOMKilled", 137, ready=True), "container serve", "out-of-memory", []),
    (ended("OOMKilled", 137, LONG_AGO, now="waiting"), "container serve", "out-of-memory", []),
    (
        ended("Error", 2, message="2027-01-15 07:59:49,123 starting\nERROR QUARTERDECK_MAX_ROWS cannot be used"),
        "container serve",
        "crashed",
        ["status 2: ERROR QUARTERDECK_MAX_ROWS cannot be used.", "kubectl logs p-1 -c serve --previous"],
    ),
    (ended("Error", 1, now="waiting"), "container serve", "crashed", ["status 1."]),
    (
        unscheduled("0/1 nodes are available: 1 Insufficient memory."),
        "pod",
        "unschedulable",
        ["1 Insufficient memory.", "nodes."],
    ),
    ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "pod", "evicted", ["low on memory"]),
    ({"phase": "Failed", "reason": "DeadlineExceeded"}, "pod", "pod-failed", ["kubectl describe"]),
]


@pytest.mark.parametrize(("status", "place", "code", "words"), CASES, ids=lambda value: value if isinstance(value, str) else None)
def test_a_pods_trouble_is_named(status: dict[str, Any], place: str, code: str, words: list[str]) -> None:
    """With pod, place, a stable code, the cluster's own words and the next step."""
    (failure,) = of_pod(status)
    assert (failure.node, failure.place, failure.code) == ("p-1", place, code)
    assert [word for word in words if word not in failure.reason] == []


@pytest.mark.parametrize(
    "status",
    [
        {},
        waiting("ContainerCreating"),
        waiting("PodInitializing"),
        ended("Completed", 0),
        ended("Error", 1, ready=True),
        ended("OOMKilled", 137, LONG_AGO, ready=True),
    ],
    ids=["well", "creating", "agent first", "ended in order", "got over it", "long ago"],
)
def test_what_passes_by_itself_is_no_failure(status: dict[str, Any]) -> None:
    """Starting is not failing, and old stories end."""
    assert of_pod(status) == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (
            'pods "late-flights-main-x" is forbidden: exceeded quota: q, requested: cpu=1, used: cpu=0, limited: cpu=0',
            "quota-exceeded",
        ),
        ('pods "late-flights-main-x" is forbidden: failed quota: q: must specify limits.cpu for: agent', "quota-exceeded"),
        ('pods "late-flights-main-x" is forbidden: violates PodSecurity "restricted:latest": host ports', "pod-security"),
        (
            'pods "late-flights-main-x" is forbidden: error looking up service account shop/m: serviceaccount "m" not found',
            "service-account-missing",
        ),
        ('admission webhook "no" denied the request', "pods-not-created"),
    ],
)
def test_pods_that_are_not_even_created_are_named(message: str, code: str) -> None:
    """The Deployment says why; the name of the pod that never was would make news of the same trouble each time."""
    (failure,) = failures([], [deployment("ReplicaFailure", "True", "FailedCreate", message)], NOW)
    assert (failure.node, failure.place, failure.code) == ("", "Deployment late-flights-main", code)
    assert message.rpartition("forbidden: ")[2] in failure.reason
    assert "late-flights-main-x" not in failure.reason


def test_pull_secrets_are_named_where_the_image_is_not_there() -> None:
    """A pull secret that does not exist is told by nobody, so the next step names those that the pod refers to."""
    private = pod("p-1", "aaaa", ready=False, **waiting("ImagePullBackOff", "401"))
    private["spec"] = {"imagePullSecrets": [{"name": "registry-keys"}]}
    (found,) = failures([private], [], NOW)
    assert "Secret registry-keys exists" in found.reason


def test_a_missed_deadline_is_told_only_where_nothing_says_more() -> None:
    """`was not ready in time` helps nobody who could read `image not found`."""
    late = deployment("Progressing", "False", "ProgressDeadlineExceeded", "timed out")
    assert [one.code for one in failures([], [late], NOW)] == ["progress-deadline"]
    broken = pod("p-1", "aaaa", **waiting("ErrImagePull"))
    assert [one.code for one in failures([broken], [late], NOW)] == ["image-not-pulled"]


def test_the_most_telling_comes_first_whatever_the_order_of_pods() -> None:
    """Equal worlds give equal words."""
    pods = [
        pod("p-2", "a", **unscheduled("no room")),
        pod("p-1", "a", **waiting("ErrImagePull")),
        pod("p-0", "a", **ended("Error", 1)),
    ]
    codes = ["image-not-pulled", "unschedulable", "crashed"]
    assert [one.code for one in failures(pods, [], NOW)] == codes
    assert [one.code for one in failures(pods[::-1], [], NOW)] == codes


@pytest.mark.parametrize(("available", "codes"), [(1, ["evicted"]), (2, [])])
def test_a_pod_that_was_evicted_is_past_once_others_took_its_place(available: int, codes: list[str]) -> None:
    """It lies about for long; the Deployment knows whether it is missed."""
    whole = {"metadata": {"name": "late-flights-main"}, "spec": {"replicas": 2}, "status": {"availableReplicas": available}}
    gone = pod("p-1", "a", phase="Failed", reason="Evicted")
    assert [one.code for one in failures([gone], [whole], NOW)] == codes


def test_pods_that_are_going_are_left_alone() -> None:
    """A container that is killed at its end is no trouble."""
    going = pod("p-1", "a", **ended("Error", 137))
    going["metadata"]["deletionTimestamp"] = "now"
    assert failures([going], [], NOW) == []


def test_every_code_is_written_down() -> None:
    """In the table of the page about clusters, and no other."""
    page = (ROOT / "docs/concepts/cluster.md").read_text(encoding="utf-8")
    table = page.partition("| code | what happened |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == sorted(CODES)


def test_long_words_are_cut() -> None:
    """A status is not a log."""
    (failure,) = of_pod(waiting("ErrImagePull", "x" * 5_000))
    assert len(failure.reason) < 600


@pytest.mark.parametrize(
    ("ready", "since", "routed"),
    [
        pytest.param(True, "2027-01-15T07:59:57Z", True, id="for three seconds"),
        pytest.param(True, "2027-01-15T07:59:58Z", False, id="for two seconds"),
        pytest.param(False, LONG_AGO, False, id="not ready, for long"),
        pytest.param(True, None, True, id="nobody says since when"),
    ],
)
def test_a_pod_is_routed_to_once_it_was_ready_for_a_while(ready: bool, since: str | None, routed: bool) -> None:
    """Ready is what the pod's machine says; the others hear of it later."""
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": since}]
    assert is_routed(pod("p-1", "aaaa", conditions=conditions), NOW) is routed
