"""What the deployer builds on in a cluster, said once and held against the twin in memory and a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pytest

from quarterdeck_deployer.infrastructures.cluster import ClusterApi
from quarterdeck_deployer.infrastructures.cluster_base import Cluster, ClusterFailure, Place
from quarterdeck_deployer.infrastructures.kubernetes_fields import Object, owners
from tests.apiserver import ApiServer
from tests.cluster_twin import DeployerTwin

NAME = "late-flights"
MODEL = {"name": "flights", "version": 1}


class Hand(Protocol):
    """A cluster, and somebody else's hand in it."""

    cluster: Cluster

    def say(self, spec: Mapping[str, Any], manager: str) -> None:
        """Apply the resource as another manager, with force."""


class TwinHand:
    """In memory."""

    def __init__(self) -> None:
        self.twin = DeployerTwin()
        self.cluster: Cluster = self.twin

    def say(self, spec: Mapping[str, Any], manager: str) -> None:
        """Apply the resource as another manager, with force."""
        self.twin.say(NAME, spec, manager)


class RealHand:
    """On an API server, by kubectl."""

    def __init__(self, server: ApiServer) -> None:
        self._server, self._namespace = server, server.namespace()
        self.cluster: Cluster = ClusterApi(Place(self._namespace, str(server.kubeconfig)))

    def say(self, spec: Mapping[str, Any], manager: str) -> None:
        """Apply the resource as another manager, with force."""
        words = ("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "--filename", "-")
        self._server.kubectl(*words, stdin=json.dumps(resource(spec)), namespace=self._namespace)


@pytest.fixture(params=["twin", "kube-apiserver"])
def hand(request: pytest.FixtureRequest) -> Iterator[Hand]:
    """An empty namespace."""
    found: Hand = TwinHand() if request.param == "twin" else RealHand(request.getfixturevalue("api_server"))
    yield found
    found.cluster.close()


def resource(spec: Mapping[str, Any], **annotations: str) -> Object:
    """A document to be applied."""
    metadata: Object = {"name": NAME, **({"annotations": annotations} if annotations else {})}
    return {"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": dict(spec)}


def only(cluster: Cluster) -> Object:
    """The one resource."""
    (found,) = cluster.resources()
    return found


def test_what_is_applied_is_there_and_what_is_applied_no_more_goes(hand: Hand) -> None:
    """The first apply creates; a field that is left out later disappears."""
    assert hand.cluster.resources() == []
    hand.cluster.apply(resource({"model": MODEL, "challenger": {"version": 2}}, a="b"))
    found = only(hand.cluster)
    assert found["spec"]["challenger"]["version"] == 2
    assert found["metadata"]["annotations"]["a"] == "b"
    assert owners(found) == {}
    hand.cluster.apply(resource({"model": MODEL}))
    assert "challenger" not in only(hand.cluster)["spec"]


def test_a_field_of_somebody_else_is_refused_without_a_version_and_taken_with_the_right_one(hand: Hand) -> None:
    """The version is that of the resource as it was looked at: what changed since is not taken."""
    hand.say({"model": MODEL, "access": "public"}, "argocd-controller")
    before = only(hand.cluster)
    assert owners(before)["access"] == ("argocd-controller",)
    wanted = resource({"access": "project"})
    with pytest.raises(ClusterFailure) as refused:
        hand.cluster.apply(wanted)
    assert refused.value.http == 409
    hand.say({"model": MODEL, "access": "instance"}, "argocd-controller")
    with pytest.raises(ClusterFailure) as late:
        hand.cluster.apply(wanted, before["metadata"]["resourceVersion"])
    assert late.value.http == 409
    hand.cluster.apply(wanted, only(hand.cluster)["metadata"]["resourceVersion"])
    found = only(hand.cluster)
    assert found["spec"]["access"] == "project"
    assert "access" not in owners(found)
    assert owners(found)["model"] == ("argocd-controller",)


def test_parts_are_dropped_whoever_owns_them_while_nothing_has_changed(hand: Hand) -> None:
    """Somebody's challenger goes; a second time the version is an old one."""
    hand.say({"model": MODEL, "challenger": {"version": 2}}, "kubectl-edit")
    version = only(hand.cluster)["metadata"]["resourceVersion"]
    assert "challenger" not in hand.cluster.drop(NAME, ["challenger"], version)["spec"]
    with pytest.raises(ClusterFailure) as late:
        hand.cluster.drop(NAME, ["model"], version)
    assert late.value.http == 409


def test_a_document_without_a_wish_lets_go_of_ours_alone(hand: Hand) -> None:
    """Annotations and a pin of ours go, what the file says stays."""
    hand.say({"model": MODEL}, "argocd-controller")
    hand.cluster.apply(resource({"pin": {"version": 1, "reason": "x"}}, ours="1"))
    assert "pin" in only(hand.cluster)["spec"]
    hand.cluster.apply({"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": NAME}})
    found = only(hand.cluster)
    assert "pin" not in found["spec"]
    assert found["spec"]["model"]["version"] == 1
    assert "ours" not in found["metadata"].get("annotations", {})


def test_only_the_resource_that_was_looked_at_is_deleted(hand: Hand) -> None:
    """One that was made anew under the name stays; one that is gone is fine."""
    hand.cluster.apply(resource({"model": MODEL}))
    uid = only(hand.cluster)["metadata"]["uid"]
    with pytest.raises(ClusterFailure) as other:
        hand.cluster.delete(NAME, "another-uid")
    assert other.value.http == 409
    hand.cluster.delete(NAME, uid)
    hand.cluster.delete(NAME, uid)
    assert hand.cluster.resources() == []


def test_a_keyring_is_made_and_changed(hand: Hand) -> None:
    """None where there is none; an entry of ours changes."""
    assert hand.cluster.config_map("quarterdeck-keyring") is None
    hand.cluster.write_keyring("quarterdeck-keyring", {"keyring.json": "[]"})
    hand.cluster.write_keyring("quarterdeck-keyring", {"keyring.json": "[1]"})
    assert hand.cluster.config_map("quarterdeck-keyring") == {"keyring.json": "[1]"}


def test_a_change_is_told(hand: Hand) -> None:
    """Whoever waits for changes hears of one, and is let go when the connection closes."""
    hand.cluster.apply(resource({"model": MODEL}))
    changes = hand.cluster.changes()
    next(changes)
    hand.cluster.close()
