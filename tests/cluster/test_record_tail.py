"""Whatever ends a pod, every row that was answered is in the store, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from quarterdeck.plan import VersionRef
from tests.cluster.deployment import Deployment
from tests.cluster.installation import Installation
from tests.cluster.ledger import Asking, Caller, Row, shipped, stored

ROWS: list[Row] = [{"number": float(number)} for number in range(10)]
REQUESTS = 200


@pytest.fixture
def asked(installation: Installation, namespace: str, versions: tuple[VersionRef, ...]) -> tuple[Deployment, Caller]:
    """A deployment that is ready, under the namespace's name so that no other test's records are its own; and a caller."""
    assert versions
    deployment = Deployment(installation, namespace, namespace)
    deployment.apply(model={"name": "versions", "version": 1}, nodes={"replicas": 2})
    deployment.ready(1)
    return deployment, Caller.of(deployment)


def records(deployment: Deployment) -> Callable[[], Counter[str]]:
    """Reads main's rows of a deployment."""
    return lambda: stored(deployment.installation, deployment.installation.bucket, deployment.dataset)


def names(deployment: Deployment) -> list[str]:
    """Its main pods."""
    return [pod["metadata"]["name"] for pod in deployment.pods()]


def gone(deployment: Deployment, *pods: str) -> None:
    """Wait until these pods are no more, agents included."""
    which = [f"pod/{name}" for name in pods]
    deployment.node.kubectl("wait", "--for=delete", *which, f"--namespace={deployment.namespace}", "--timeout=90s")


def exactly(found: Counter[str], caller: Caller) -> None:
    """What is stored is what was answered, each row in one place."""
    assert found.keys() == caller.answered.keys()
    assert set(found.values()) == {1}


def test_a_deleted_pod_has_shipped_its_records(asked: tuple[Deployment, Caller]) -> None:
    """Given rows answered a moment ago, when all pods are deleted, then the rows are in the store when the pods are gone."""
    deployment, caller = asked
    caller.ask_all([ROWS] * REQUESTS)
    pods = names(deployment)
    deployment.node.kubectl("delete", "pod", *pods, f"--namespace={deployment.namespace}", "--wait=false")
    gone(deployment, *pods)
    assert caller.lost == []
    exactly(records(deployment)(), caller)


def test_pods_are_deleted_while_they_are_asked(asked: tuple[Deployment, Caller]) -> None:
    """Given callers that do not pause, when one pod after the other is deleted, then nothing is lost and all is stored, once."""
    deployment, caller = asked
    with Asking(caller, ROWS):
        for _ in range(2):
            first, _ = names(deployment)
            deployment.node.kubectl("delete", "pod", first, f"--namespace={deployment.namespace}", "--timeout=90s")
            deployment.ready(1)
    assert caller.lost == []
    exactly(shipped(records(deployment), set(caller.answered)), caller)


def test_a_deleted_deployment_has_shipped_its_records(asked: tuple[Deployment, Caller]) -> None:
    """Given callers that do not pause, when the whole resource is deleted, then each row that was answered is stored, once."""
    deployment, caller = asked
    pods = names(deployment)
    with Asking(caller, ROWS):
        deployment.delete()
        gone(deployment, *pods)
    found = records(deployment)()
    assert caller.answered.keys() <= found.keys()
    assert set(found.values()) == {1}
    # Nobody can know whether a caller got an answer whose connection broke; there are no more of these than requests lost.
    assert len(found) - len(caller.answered) <= len(caller.lost) * len(ROWS)
