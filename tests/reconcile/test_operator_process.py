"""The operator as a program: on a real API server, behind a proxy that does harm, with nodes that show real tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.apifault import Plan
from tests.apiserver import ApiServer
from tests.campaigns.operator_kills import ACTS, Stage, live, normal, settle, stage
from tests.reconcile.world import NAME
from tests.support import eventually


@pytest.fixture(scope="module")
def on(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A running operator."""
    with stage(api_server, tmp_path_factory.mktemp("operator")) as found:
        yield found


def test_killed_after_it_stored_the_decision_it_ends_as_on_a_calm_day(on: Stage) -> None:
    """The record is written, nobody has been told: the next operator tells the same."""
    calm_plan = Plan()
    calm, _ = live(on, "create", calm_plan)
    records = [number for number, (_, path) in enumerate(calm_plan.writes, 1) if path.endswith("-record")]
    struck, _ = live(on, "create", Plan(records[-1], "after", strike=on.operator.kill))
    eventually(lambda: normal(on.cluster, struck) == normal(on.cluster, calm))
    on.cluster.leave(calm)
    on.cluster.leave(struck)


def test_a_restart_writes_nothing_and_it_says_that_it_is_well(on: Stage) -> None:
    """Nothing has changed, so no object is written; a status may be, where nodes took long to find the new operator."""
    namespace, _ = live(on, "create", Plan())
    # What is written late on a slow machine is of the life before.
    settle(on, namespace, calm=3.0)
    on.fault.plan = plan = Plan()
    on.operator.kill()
    sequences = {pod: node.plan.sequence for pod, node in namespace.nodes.items() if node.plan}
    # Once it answers as leader and has looked, nodes have been heard: then all that it would write has been written.
    eventually(lambda: "quarterdeck_operator_leading 1.0" in httpx.get(f"{on.operator.health_url}/metrics").text)
    eventually(lambda: 'reconciles_total{outcome="done"}' in httpx.get(f"{on.operator.health_url}/metrics").text)
    settle(on, namespace, calm=3.0)
    # Other tests' namespaces on the same API server may hold resources that no operator has seen before.
    ours = [path for _, path in plan.writes if f"/namespaces/{namespace.name}/" in path]
    assert [path for path in ours if not path.endswith("/status")] == []
    assert {pod: node.plan.sequence for pod, node in namespace.nodes.items() if node.plan} == sequences
    assert httpx.get(f"{on.operator.health_url}/healthz").text == "ok\n"
    on.cluster.leave(namespace)


def test_a_resource_is_deleted_at_once_while_no_operator_runs(on: Stage, api_server: ApiServer) -> None:
    """No finalizer waits for anybody, on the resource or on what it owns."""
    namespace, _ = live(on, "create", Plan())
    on.operator.stop()
    owned = on.cluster.owned(namespace)
    assert all(not one["metadata"].get("finalizers") for one in owned.values())
    assert all(one["metadata"]["ownerReferences"][0]["name"] == NAME for one in owned.values())
    api_server.kubectl("delete", "modeldeployment", NAME, "--timeout=60s", namespace=namespace.name)
    on.operator.start()
    on.cluster.leave(namespace)


def test_a_second_operator_follows_and_takes_over(on: Stage, tmp_path: Path) -> None:
    """While one leads, the other's plan server answers 409; when the first one ends, the second one leads at once."""
    # First: one that has not looked at the Lease yet follows too.
    eventually(lambda: "quarterdeck_operator_leading 1.0" in httpx.get(f"{on.operator.health_url}/metrics").text)
    other = on.operator.another(tmp_path / "other.log")
    try:
        eventually(lambda: httpx.get(f"{other.url}/plans/anything", verify=False).status_code == 409)
        on.operator.stop()
        eventually(lambda: "quarterdeck_operator_leading 1.0" in httpx.get(f"{other.health_url}/metrics").text)
    finally:
        other.stop()
        on.operator.start()
    namespace, _ = live(on, "create", Plan())
    on.cluster.apply(namespace, ACTS["update"])
    settle(on, namespace)
    on.cluster.leave(namespace)
