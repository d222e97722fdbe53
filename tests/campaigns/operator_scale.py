"""Hundreds of deployments at once on a real API server: seconds until each has its objects, and the operator's memory.

    python -m tests.campaigns.operator_scale --count 300

One of them is poisoned (a Service of its name is somebody else's): it backs off alone, and the rest settle.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from quarterdeck_operator.kube import LEASE, MODEL_DEPLOYMENT, OWNED, SELECTOR
from quarterdeck_operator.observe import Connection
from quarterdeck_operator.world import Object
from tests.apiserver import ApiServer, programs, running
from tests.campaigns.operator_kills import OperatorProcess
from tests.reconcile.world import SETTINGS
from tests.support import ROOT, eventually, free_ports

POISON = "deployment-0"


@dataclass(frozen=True)
class Measured:
    """What came of it: seconds, owned objects, and bytes of memory before and after."""

    seconds: float
    objects: int
    idle_bytes: int
    busy_bytes: int


def measure(server: ApiServer, folder: Path, count: int) -> Measured:
    """Apply so many at once and wait until all but the poisoned one are settled, and that one is told so."""
    server.kubectl("create", "namespace", "quarterdeck")
    server.kubectl("create", "secret", "generic", "quarterdeck-plan-server", namespace="quarterdeck")
    connection, namespace = Connection(SETTINGS, server.kubeconfig), server.namespace()
    foreign: Object = {"metadata": {"name": POISON}, "spec": {"ports": [{"port": 1}]}}
    connection.request("POST", OWNED["Service"].path(namespace), {}, foreign)
    operator = OperatorProcess(server.kubeconfig, folder / "operator.log", free_ports(2))
    try:
        eventually(lambda: connection.request("GET", LEASE.path("quarterdeck"), {})["items"], 30)
        time.sleep(3)
        idle, began = operator.rss(), time.monotonic()
        for number in range(count):
            connection.request("POST", MODEL_DEPLOYMENT.path(namespace), {}, _resource(namespace, number))
        eventually(lambda: _settled(connection, namespace, count), 600, every=0.5)
        seconds = time.monotonic() - began
        time.sleep(5)
        return Measured(seconds, _objects(connection, namespace), idle, operator.rss())
    finally:
        operator.stop()


def _resource(namespace: str, number: int) -> Object:
    return {
        "apiVersion": MODEL_DEPLOYMENT.api_version,
        "kind": MODEL_DEPLOYMENT.name,
        "metadata": {"name": f"deployment-{number}", "namespace": namespace},
        "spec": {"model": {"name": "late-flights", "version": 1}, "nodes": {"replicas": 2}},
    }


def _settled(connection: Connection, namespace: str, count: int) -> bool:
    items = connection.request("GET", MODEL_DEPLOYMENT.path(namespace), {})["items"]
    told = {one["metadata"]["name"]: {c["type"]: c for c in one.get("status", {}).get("conditions", ())} for one in items}
    reconciled = {name: conditions.get("Reconciled", {}).get("status") for name, conditions in told.items()}
    poisoned = reconciled.pop(POISON, None)
    return len(reconciled) == count - 1 and set(reconciled.values()) == {"True"} and poisoned == "False"


def _objects(connection: Connection, namespace: str) -> int:
    labels = {"labelSelector": SELECTOR}
    return sum(len(connection.request("GET", kind.path(namespace), labels)["items"]) for kind in OWNED.values())


def main() -> int:
    """Measure and print; exit status 1 where the operator's memory is above 200 MB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    programs()
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as server:
        server.kubectl("apply", "--server-side", "--filename", str(ROOT / "crds"))
        found = measure(server, Path(name), options.count)
    print(
        f"{options.count} deployments, {found.objects} objects: settled after {found.seconds:.1f} s; "
        f"operator {found.idle_bytes / 1e6:.0f} MB idle, {found.busy_bytes / 1e6:.0f} MB afterwards"
    )
    return 0 if found.busy_bytes <= 200e6 else 1


if __name__ == "__main__":
    raise SystemExit(main())
