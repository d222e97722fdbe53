"""Without the operator nodes serve on, start from the plan that is mounted, and nothing that is deleted hangs."""

from __future__ import annotations

import hashlib
import json
import time

import httpx
import pytest

from quarterdeck.api_keys import format_key
from tests.cluster.deployment import Deployment
from tests.cluster.installation import NAMESPACE, RELEASE, Installation
from tests.cluster.ledger import Asking, Caller, Row
from tests.support import eventually

ROWS: list[Row] = [{"number": 1.0}, {"number": 2.0}]
KEY = format_key("aaaabbbb", "x" * 43)
OWNED = "deployments,replicasets,pods,services,configmaps,poddisruptionbudgets,networkpolicies,horizontalpodautoscalers"
MANAGED = {"app.kubernetes.io/managed-by": "quarterdeck-operator"}
pytestmark = pytest.mark.usefixtures("alone")


def operator(installation: Installation, replicas: int) -> None:
    """Scale the operator, and wait until it is so."""
    where = f"--namespace={NAMESPACE}"
    installation.node.kubectl("scale", f"deployment/{RELEASE}-operator", f"--replicas={replicas}", where)
    installation.node.rolled_out(f"{RELEASE}-operator", NAMESPACE)
    part = {"app.kubernetes.io/name": "quarterdeck-operator", "app.kubernetes.io/instance": RELEASE}
    eventually(lambda: len(installation.node.get("pods", namespace=NAMESPACE, **part)) == replicas, 60, every=0.3)


@pytest.fixture
def left_alone(deployment: Deployment) -> Deployment:
    """Two replicas of version 1 with a challenger, all of them ready; then the operator goes."""
    deployment.apply(nodes={"replicas": 2}, challenger={"version": 2})
    deployment.ready(1)
    deployment.says("ChallengerReady", "True", within=60)
    # The mounted plan is written before the status says that everything is.
    deployment.says("Reconciled", "True")
    operator(deployment.installation, 0)
    return deployment


def test_pods_serve_on_and_start_anew(left_alone: Deployment) -> None:
    """Given no operator and callers that do not pause, when a pod is deleted, then the new one answers from its mounted plan."""
    node, caller = left_alone.node, Caller.of(left_alone)
    before = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in left_alone.pods()}
    with Asking(caller, ROWS):
        node.kubectl("delete", "pod", next(iter(before.values())), f"--namespace={left_alone.namespace}", "--timeout=90s")
        new = eventually(lambda: [pod for pod in left_alone.pods() if pod["metadata"]["uid"] not in before], 60)
        name = new[0]["metadata"]["name"]
        node.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--namespace={left_alone.namespace}", "--timeout=180s")
        address = node.get("pod", name, left_alone.namespace)["status"]["podIP"]
        url = f"http://{address}:8080/deployments/{left_alone.name}/predict"
        answer = httpx.post(url, json=ROWS, trust_env=False, timeout=20).json()
    assert caller.lost == []
    assert (answer["version"], [each["prediction"] for each in answer["predictions"]]) == (1, [1.0, 1.0])
    uids = {pod["metadata"]["uid"] for pod in left_alone.pods()}
    operator(left_alone.installation, 1)
    left_alone.apply(model={"name": "versions", "version": 3})
    left_alone.ready(3)
    assert {pod["metadata"]["uid"] for pod in left_alone.pods()} == uids


def test_a_key_is_taken_back_once_the_operator_is_there(deployment: Deployment) -> None:
    """Plans are written by the operator: without it a key that was taken out of the keyring opens until it is back."""
    key: dict[str, object] = {
        "id": "d4",
        "sha256": hashlib.sha256(KEY.encode()).hexdigest(),
        "project": "*",
        "scopes": ["predict"],
    }
    keyring(deployment, [key])
    deployment.apply(access="instance")
    eventually(lambda: (asked(deployment), asked(deployment, KEY)) == (401, 200), 60)
    operator(deployment.installation, 0)
    keyring(deployment, [])
    assert asked(deployment, KEY) == 200
    operator(deployment.installation, 1)
    eventually(lambda: asked(deployment, KEY) == 401, 60)


def test_a_resource_is_deleted_without_an_operator(left_alone: Deployment) -> None:
    """Given no operator, when the resource is deleted, then that ends at once and the cluster clears away all that it owned."""
    before = owned(left_alone)
    assert {name.split("/")[0].split(".")[0] for name in before} >= {"deployment", "replicaset", "pod", "service", "configmap"}
    left_alone.delete()
    eventually(lambda: owned(left_alone) == [], 120, every=0.5)


def test_a_namespace_is_deleted_without_an_operator(left_alone: Deployment) -> None:
    """Given no operator, when the namespace is deleted, then it is gone as soon as its pods have ended."""
    began = time.monotonic()
    left_alone.node.kubectl("delete", "namespace", left_alone.namespace, "--timeout=120s")
    # A pod's grace is a minute; whatever waited for the operator would wait for ever.
    assert time.monotonic() - began < 120
    left_alone.node.kubectl("create", "namespace", left_alone.namespace)


def owned(deployment: Deployment) -> list[str]:
    """Names of everything that the operator has made for it."""
    labels = ",".join(f"{name}={value}" for name, value in MANAGED.items())
    told = deployment.node.kubectl("get", OWNED, f"--namespace={deployment.namespace}", f"--selector={labels}", "--output=name")
    return [name for name in told.split() if name != "done"]


def keyring(deployment: Deployment, keys: list[dict[str, object]]) -> None:
    """`kubectl apply` of the keyring."""
    metadata = {"name": "quarterdeck-keyring", "namespace": deployment.namespace}
    deployment.node.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"keyring.json": json.dumps(keys)}}
    )


def asked(deployment: Deployment, key: str = "") -> int:
    """The status of one prediction."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = f"{deployment.url}/deployments/{deployment.name}/predict"
    return httpx.post(url, json=ROWS, headers=headers, trust_env=False, timeout=20).status_code
