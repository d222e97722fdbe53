"""Whatever is changed on a deployment under load, no request is lost, and every answer tells rightly who computed it."""

from __future__ import annotations

from tests.cluster.deployment import Deployment
from tests.cluster.load import Load, Tally
from tests.support import eventually

STEADY_SECONDS = 3.0


def nothing_lost(tally: Tally) -> None:
    """Every request was answered, each by the model whose version the answer names."""
    assert tally.lost == 0, tally.why
    assert tally.sent == tally.answered > 0
    assert {(each.values, each.version) for each in tally.answers} == {(f"{v}.0", v) for v in {a.version for a in tally.answers}}


def test_a_version_changes_in_place(deployment: Deployment) -> None:
    """Given load on version 1, when version 2 is applied and then 1 again, then no pod starts and no request is lost."""
    pods = [pod["metadata"]["uid"] for pod in deployment.pods()]
    with Load(deployment.installation, deployment.namespace, deployment.name) as load:
        for version in (2, 1, 3):
            deployment.apply(model={"name": "versions", "version": version})
            deployment.ready(version)
        seen = load.end()
    nothing_lost(seen)
    assert {each.version for each in seen.answers} == {1, 2, 3}
    assert [pod["metadata"]["uid"] for pod in deployment.pods()] == pods


def test_pods_are_replaced_one_after_the_other(deployment: Deployment) -> None:
    """Given load on one replica, when resources change, then a new pod takes over before the old one goes."""
    before = [pod["metadata"]["uid"] for pod in deployment.pods()]
    with Load(deployment.installation, deployment.namespace, deployment.name) as load:
        deployment.apply(nodes={"resources": {"requests": {"cpu": "60m"}}})
        eventually(lambda: before != [pod["metadata"]["uid"] for pod in deployment.pods()] and len(deployment.pods()) == 1, 120)
        deployment.ready(1)
        seen = load.end()
    nothing_lost(seen)


def test_a_pod_is_deleted(deployment: Deployment) -> None:
    """Given load on two replicas, when one pod is deleted, then no request is lost."""
    deployment.apply(nodes={"replicas": 2})
    deployment.ready(1)
    with Load(deployment.installation, deployment.namespace, deployment.name) as load:
        gone = deployment.pods()[0]["metadata"]["name"]
        deployment.node.kubectl("delete", "pod", gone, f"--namespace={deployment.namespace}", "--timeout=90s")
        deployment.ready(1)
        seen = load.end()
    nothing_lost(seen)


def test_replicas_are_taken_away(deployment: Deployment) -> None:
    """Given load on three replicas, when one is wanted, then no request is lost."""
    deployment.apply(nodes={"replicas": 3})
    deployment.ready(1)
    with Load(deployment.installation, deployment.namespace, deployment.name) as load:
        deployment.apply(nodes={"replicas": 1})
        eventually(lambda: len(deployment.node.get("pods", namespace=deployment.namespace, **_MAIN)) == 1, 120)
        deployment.ready(1)
        seen = load.end()
    nothing_lost(seen)


_MAIN = {"quarterdeck.dev/role": "main"}
