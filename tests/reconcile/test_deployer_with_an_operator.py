"""Deployer, API server, operator and nodes together: an API call becomes what nodes answer with, and the answer says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver import ApiServer
from tests.campaigns.operator_kills import Namespace, Stage, stage
from tests.deployer_world import World
from tests.deployer_world import world as deployer_world
from tests.reconcile.world import NAME
from tests.support import eventually


@pytest.fixture(scope="module")
def on(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A running operator."""
    with stage(api_server, tmp_path_factory.mktemp("operator")) as found:
        yield found


class Together:
    """A deployer whose stage `prod` is a namespace of the cluster."""

    def __init__(self, on: Stage, world: World, namespace: Namespace) -> None:
        self.on, self.world, self.namespace = on, world, namespace
        settings = {"namespace": namespace.name, "kubeconfig": str(on.server.kubeconfig)}
        world.ok(world.http.put("/api/infrastructures/test", json={"kind": "kubernetes", "settings": settings}))
        world.ok(world.http.put("/api/stages/prod", json={"infrastructure": "test"}))

    def put(self, main: int, **more: Any) -> dict[str, Any]:
        """Deploy a version, and wait until nodes answer with it."""
        body = {"main": {"model": "flights", "version": main}, "stage": "prod", **more}
        return self.world.ok(self.world.http.put(f"/api/deployments/{NAME}", json=body, params={"wait": 60}))

    def answering(self) -> set[str | None]:
        """What main nodes answer with, by their own word."""
        return {node.active.get(NAME) for node in self.namespace.nodes.values() if node.role == "main"}

    def keyring(self) -> set[str]:
        """Ids of the keys that nodes know."""
        plans = [node.plan for node in self.namespace.nodes.values() if node.plan]
        return {key.id for plan in plans for key in plan.keyring}


@pytest.fixture
def together(on: Stage, tmp_path: Path) -> Iterator[Together]:
    """An empty namespace."""
    namespace = on.cluster.namespace()
    with deployer_world(tmp_path) as world:
        yield Together(on, world, namespace)
    on.cluster.leave(namespace)


def test_the_life_of_a_deployment_in_a_cluster(together: Together) -> None:
    """Deployed, changed, rolled back, a key made and revoked, exported and deleted; each answer comes once nodes do it."""
    world = together.world
    digests = {version: world.register(version) for version in (1, 2)}
    first = together.put(1)
    assert (first["applied"], first["note"]) == (True, "")
    assert together.answering() == {digests[1]}
    seen = world.get(NAME)["observed"]
    assert (seen["deployed"]["state"], seen["running"]["state"], seen["main"]["ref"]["version"]) == ("yes", "yes", 1)

    assert together.put(2)["applied"]
    assert together.answering() == {digests[2]}
    back = world.ok(world.http.post(f"/api/deployments/{NAME}/rollback", json={"why": "worse"}, params={"wait": 60}))
    assert (back["applied"], back["revision"]) == (True, 3)
    assert together.answering() == {digests[1]}

    key = world.ok(world.http.post("/api/keys", json={"name": "ann"}))
    eventually(lambda: key["id"] in together.keyring())
    world.ok(world.http.delete(f"/api/keys/{key['id']}"))
    eventually(lambda: key["id"] not in together.keyring())

    told = world.http.get("/api/export", params={"name": NAME})
    resource = yaml.safe_load(told.text)
    assert resource["spec"]["model"] == {"name": "flights", "version": 1, "digest": digests[1]}
    server, namespace = together.on.server, together.namespace.name
    before = server.get("modeldeployment", NAME, namespace=namespace)
    server.kubectl("apply", "--filename", "-", stdin=told.text, namespace=namespace)
    after = server.get("modeldeployment", NAME, namespace=namespace)
    assert after["spec"] == before["spec"]
    assert world.get(NAME)["wish"]["number"] == 3

    gone = world.ok(world.http.delete(f"/api/deployments/{NAME}", params={"wait": 60}))
    assert gone["applied"]
    assert server.get("modeldeployments", namespace=namespace)["items"] == []


def test_what_nodes_refuse_is_told_with_their_words(together: Together) -> None:
    """The old version serves on, the action says why, and the same wish again is a new attempt."""
    world = together.world
    digests = {version: world.register(version) for version in (1, 2)}
    assert together.put(1)["applied"]
    together.on.cluster.refuses[digests[2]] = "golden-mismatch"
    answer = together.put(2)
    assert not answer["applied"]
    assert "row 3 gives another answer" in answer["note"]
    assert together.answering() == {digests[1]}
    seen = world.get(NAME)["observed"]
    assert seen["hold"]["code"] == "golden-mismatch"
    assert seen["failure"]["code"] == "golden-mismatch"
    together.on.cluster.refuses.clear()
    again = together.put(2)
    assert (again["changed"], again["applied"]) == (True, True)
    assert together.answering() == {digests[2]}


def test_strangers_are_listed_until_they_are_adopted(together: Together) -> None:
    """By the API, page by page like every list."""
    world = together.world
    server, namespace = together.on.server, together.namespace.name
    resource = {
        "apiVersion": "quarterdeck.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": NAME},
        "spec": {"model": {"name": "flights", "version": 1}},
    }
    server.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump(resource), namespace=namespace)
    path = "/api/infrastructures/test/strangers"
    (found,) = eventually(lambda: world.http.get(path).json())
    assert (found["name"], "the registry has no such version" in found["reason"]) == (NAME, True)
    assert world.http.get("/api/infrastructures/local/strangers").json() == []
    digest = world.register(1)
    world.deployer.wake()
    eventually(lambda: world.http.get(path).json() == [])
    wish = world.get(NAME)["wish"]
    assert (wish["kind"], wish["main"]["digest"]) == ("adopt", digest)
