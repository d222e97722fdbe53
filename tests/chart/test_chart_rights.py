"""The rights that the chart gives are enough: the operator itself works with them on a real API server, refused nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apiserver import ApiServer
from tests.chart.releases import MODEL, Release
from tests.support import eventually, free_port

ACCESS = {"challenger": {"version": 2}, "nodes": {"replicas": 2}}


def kubeconfig(server: ApiServer, namespace: str, path: Path) -> Path:
    """A kubeconfig file of the operator's service account."""
    token = server.kubectl("create", "token", "quarterdeck-operator", namespace=namespace).strip()
    config = json.loads(server.kubeconfig.read_text())
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    path.write_text(json.dumps(config))
    return path


def environment(release: Release, config: Path) -> dict[str, str]:
    """What the operator's container is told, but for where this machine lets it listen."""
    pod = release.get("deployment", "quarterdeck-operator")["spec"]["template"]["spec"]
    told = {one["name"]: one["value"] for one in pod["containers"][0]["env"] if one.get("value")}
    here = {"NAMESPACE": release.namespace, "HOST": "127.0.0.1", "PORT": str(free_port()), "METRICS_PORT": str(free_port())}
    return {**os.environ, **told, **{f"QUARTERDECK_{name}": value for name, value in here.items()}, "KUBECONFIG": str(config)}


@pytest.mark.parametrize("scoped", [False, True], ids=["whole-cluster", "one-namespace"])
def test_the_operator_is_refused_nothing(release: Release, tmp_path: Path, scoped: bool) -> None:
    """It takes its Lease, fills its Secret, makes all that a deployment owns, writes the status, and takes things away again."""
    server, models = release.server, release.server.namespace()
    release.run("install", "--set", f"store.url=s3://models-of-us{f',watchNamespaces={{{models}}}' if scoped else ''}")
    log = tmp_path / "operator.log"
    with log.open("w") as file:
        told = environment(release, kubeconfig(server, release.namespace, tmp_path / "config"))
        operator = subprocess.Popen([sys.executable, "-m", "quarterdeck_operator"], env=told, stderr=file)
    try:
        model = {**MODEL, "spec": {**MODEL["spec"], **ACCESS}}
        server.kubectl("create", "--filename", "-", stdin=json.dumps(model), namespace=models)
        owned = "deployments,services,configmaps,poddisruptionbudgets,networkpolicies"
        names = eventually(lambda: _owned(server, models, owned, 7))
        assert {"deployment.apps/late-flights-main", "service/late-flights"} <= names
        assert eventually(lambda: server.get("modeldeployment", "late-flights", namespace=models).get("status"))
        assert release.get("lease", "quarterdeck-operator")["spec"]["holderIdentity"]
        assert "ca.crt" in release.get("secret", "quarterdeck-plan-server")["data"]
        scale = {"spec": {"nodes": {"replicas": None, "autoscaling": {"maxReplicas": 3}}}}
        words = ("patch", "modeldeployment", "late-flights", "--type=merge", "--patch", json.dumps(scale))
        server.kubectl(*words, namespace=models)
        assert eventually(lambda: _owned(server, models, "horizontalpodautoscalers", 1))
        stop = json.dumps({"spec": {"running": False}})
        server.kubectl("patch", "modeldeployment", "late-flights", "--type=merge", "--patch", stop, namespace=models)
        assert eventually(lambda: not server.get("horizontalpodautoscalers", namespace=models)["items"])
    finally:
        operator.terminate()
        operator.wait(60)
    said = log.read_text()
    # The reason by name: the digits of its status stand in times as well.
    assert "orbidden" not in said, said


def _owned(server: ApiServer, namespace: str, kinds: str, least: int) -> set[str]:
    selector = "app.kubernetes.io/managed-by=quarterdeck-operator"
    found = set(server.kubectl("get", kinds, "--selector", selector, "--output", "name", namespace=namespace).split())
    return found if len(found) >= least else set()
