"""The deployer steers a real cluster: what people ask it for comes true there, and what others write there it knows."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck.client import Client, Done
from quarterdeck.client.calls import Json
from tests.cluster.control import Control
from tests.cluster.deployment import KIND
from tests.models import version_encoding_model
from tests.support import eventually

SECONDS = 120.0
ROW = [{"number": 0.0}]


@pytest.fixture
def client(control: Control) -> Iterator[Client]:
    """The admin's."""
    with control.client() as found:
        yield found


@pytest.fixture
def model(control: Control, client: Client, tmp_path: Path) -> Iterator[str]:
    """A model with two published versions, each of which answers its own number; nobody has heard of it before."""
    name = f"steered-{secrets.token_hex(3)}"
    for version in (1, 2):
        client.publish(version_encoding_model(version, name=name).write(tmp_path / f"{name}-{version}"))
    yield name
    for each in client.deployments(model=name):
        client.delete(each["name"])


def applied(done: Done) -> None:
    """The cluster does what the action said."""
    assert done["applied"], done


def conditions(client: Client, name: str) -> Json:
    """Type → status, as the deployer observes them."""
    return {each["type"]: each["status"] for each in client.deployment(name)["observed"]["conditions"]}


def test_a_deployment_is_steered_from_its_first_version_to_its_end(control: Control, client: Client, model: str) -> None:
    """Create, challenger, swap, rollback, stop, run, delete: each comes true in the cluster, and is observed as it is."""

    def answers() -> float:
        return float(control.predict("dev", model, ROW)["predictions"][0]["prediction"])

    wish = {"stage": "dev", "main": {"model": model, "version": 1}, "access": "public"}
    applied(client.put_deployment(model, wish, wait=SECONDS))
    assert answers() == 1
    assert client.deployment(model)["observed"]["running"]["state"] == "yes"
    applied(client.set_challenger(model, 2, wait=SECONDS))
    assert conditions(client, model)["ChallengerReceiving"] == "True"
    applied(client.swap(model, wait=SECONDS))
    assert answers() == 2
    applied(client.rollback(model, wait=SECONDS))
    assert answers() == 1
    applied(client.clear_challenger(model, wait=SECONDS))
    applied(client.stop(model, wait=SECONDS))
    assert client.deployment(model)["observed"]["running"]["state"] == "stopped"
    eventually(lambda: not control.deployment("dev", model).pods(), SECONDS, every=0.3)
    applied(client.start(model, wait=SECONDS))
    assert answers() == 1
    applied(client.delete(model, wait=SECONDS))
    assert model not in control.node.kubectl("get", KIND, "--namespace=stage-dev", "--output=name", "--ignore-not-found")
    assert {each["state"] for each in client.actions(deployment=model)} == {"applied"}
    assert client.verify_audit()["whole"]


def test_what_kubectl_wrote_is_adopted_and_steered(control: Control, client: Client, model: str) -> None:
    """A resource of a file becomes a deployment with its author's name; a rollback here is a pin there, and its end too."""
    for version in (1, 2):
        control.installation.publish(version_encoding_model(version, name=model), control.namespaces["dev"])
    resource = control.deployment("dev", model)
    resource.apply(model={"name": model, "version": 1})
    eventually(lambda: client.deployment(model)["observed"]["applied"], SECONDS, every=0.3)
    resource.apply(model={"name": model, "version": 2})
    eventually(lambda: client.deployment(model)["observed"]["applied"] and len(client.revisions(model)) == 2, SECONDS, every=0.3)
    newest = client.revisions(model)[0]
    assert (newest["kind"], newest["main"]["version"], newest["who"]) == ("adopt", 2, "kubectl-client-side-apply")
    applied(client.rollback(model, why="the fares are wrong", wait=SECONDS))
    assert resource.resource()["spec"]["pin"]["version"] == 1
    assert control.predict("dev", model, ROW)["version"] == 1
    # What was changed here is a wish of its own: whoever deletes the resource has not ended that.
    resource.delete()
    eventually(lambda: resource.resource()["spec"]["model"]["version"] == 1, SECONDS, every=0.3)
    applied(client.delete(model, wait=SECONDS))
