"""From an applied resource to serving nodes and back, in memory and against a real API server alike."""

from __future__ import annotations

import json

import pytest

from quarterdeck.errors import Conflict
from quarterdeck_operator.kube import APPLY, CONFIG_MAP, FIELD_MANAGER, MODEL_DEPLOYMENT, ApiFailure, Patch, Writes
from quarterdeck_operator.names import ROLE_LABEL
from quarterdeck_operator.pods import MIN_READY_SECONDS
from quarterdeck_operator.reconcile import SOON_SECONDS
from quarterdeck_operator.status import moment_text
from quarterdeck_operator.world import Object
from tests.reconcile.world import NAME, World, digest


def test_an_applied_resource_serves_and_then_nothing_is_written(world: World) -> None:
    """Given a resource, when nodes have looked its version up and proven it, then it serves, and the next looks write nothing."""
    world.apply(1)
    world.settle()
    assert world.answering() == {digest(1)}
    assert world.condition("Ready") == ("True", "Answering")
    assert world.condition("ArtifactVerified") == ("True", "Pinned")
    assert world.record().pins == {f"{NAME}/1": digest(1)}
    count = len(world.hand.written())
    world.restart()
    world.reconcile()
    world.step_nodes()
    world.reconcile()
    assert world.writes_since(count) == []


def test_a_new_version_is_swapped_in_place(world: World) -> None:
    """Given v1 serves, when v2 is applied, then the same pods answer with v2, hold v1, and the number of revisions rises."""
    world.apply(1)
    world.settle()
    pods = set(world.nodes)
    world.apply(2)
    world.settle()
    assert world.answering() == {digest(2)}
    assert set(world.nodes) == pods
    assert world.record().record.revision == 2
    assert world.condition("RollbackReady") == ("True", "Resident")


def test_a_refused_version_leaves_the_old_one_answering(world: World) -> None:
    """Given v1 serves, when nodes refuse v2, then v1 serves on, the reason is told, and taking v2 back out settles it."""
    world.apply(1)
    world.settle()
    world.refuses[digest(2)] = "golden-mismatch"
    world.apply(2)
    world.settle()
    assert world.answering() == {digest(1)}
    assert world.condition("ModelLoaded") == ("False", "GoldenMismatch")
    assert world.resource()["status"]["lastFailure"]["code"] == "golden-mismatch"
    world.apply(1)
    world.settle()
    assert world.condition("ModelLoaded")[0] == "True"


def test_an_unknown_version_is_told_and_leaves_the_old_one_answering(world: World) -> None:
    """Given v1 serves, when a version is named that the store does not have, then that is said and v1 serves on."""
    world.apply(1)
    world.settle()
    world.apply(99)
    world.settle()
    assert world.answering() == {digest(1)}
    assert world.condition("ArtifactVerified") == ("False", "NotFound")


def test_a_challenger_gets_pods_of_its_own_and_goes_again(world: World) -> None:
    """Given main, when a challenger is named, then its pods hold it and main mirrors to it; without it they are gone."""
    world.apply(1, challenger={"version": 2})
    world.settle()
    assert world.answering("challenger") == {digest(2)}
    assert world.condition("ChallengerReceiving")[0] == "True"
    world.apply(1)
    world.settle()
    assert world.names("Deployment") == [f"{NAME}-main"]
    assert all("challenger" not in name for name in world.names("ConfigMap"))


def test_nothing_is_mirrored_before_the_challengers_service_leads_to_it(world: World) -> None:
    """Given a challenger whose pod is ready since this second, then mirroring waits, and is looked after by itself."""
    world.ready_since = moment_text(world.now)
    world.apply(1, challenger={"version": 2})
    for _ in range(6):
        again = world.reconcile()
        world.kubelet()
        world.step_nodes()
    assert world.condition("ChallengerReady")[0] == "True"
    assert world.condition("ChallengerReceiving") == ("False", "NotReachable")
    assert again == SOON_SECONDS
    world.now += MIN_READY_SECONDS
    world.settle()
    assert world.condition("ChallengerReceiving") == ("True", "Mirroring")


def test_stopping_scales_to_nothing_and_starting_brings_the_same_version_back(world: World) -> None:
    """Given v1 serves, when it is stopped and started, then no pods run meanwhile and v1 answers afterwards."""
    world.apply(1)
    world.settle()
    world.apply(1, running=False)
    world.settle()
    assert world.object("Deployment", f"{NAME}-main")["spec"]["replicas"] == 0
    assert world.resource()["status"]["phase"] == "Stopped"
    world.apply(1, running=True)
    world.settle()
    assert world.answering() == {digest(1)}


def test_another_environment_gets_new_pods_and_plans_of_their_own(world: World) -> None:
    """Given v1 serves, when pods are to be made otherwise, then new pods take over and the old plan goes with the old pods."""
    world.apply(1)
    world.settle()
    before = set(world.names("ConfigMap"))
    world.apply(1, nodes={"env": {"THRESHOLD": "1"}})
    world.settle()
    after = set(world.names("ConfigMap"))
    assert len(after) == len(before) == 2
    assert after & before == {f"{NAME}-record"}
    assert world.answering() == {digest(1)}


def test_the_autoscaler_takes_the_number_over_without_a_dip_and_gives_it_back(world: World) -> None:
    """Given three pods, when an autoscaler comes, then there are three still, later as many as it says, then the spec's."""
    deployment = f"{NAME}-main"
    world.apply(1, nodes={"replicas": 3})
    world.settle()
    world.apply(1, nodes={"autoscaling": {"minReplicas": 2, "maxReplicas": 5}})
    world.settle()
    assert world.object("Deployment", deployment)["spec"]["replicas"] == 3
    assert world.names("HorizontalPodAutoscaler") == [deployment]
    world.hand.change(world.path("Deployment", deployment), {"spec": {"replicas": 5}})
    world.settle()
    assert world.object("Deployment", deployment)["spec"]["replicas"] == 5
    world.apply(1, nodes={"replicas": 4})
    world.settle()
    assert world.object("Deployment", deployment)["spec"]["replicas"] == 4
    assert world.names("HorizontalPodAutoscaler") == []


class _Hurried:
    """Writes, with somebody who says another number of pods right before it is handed over."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes
        self.create, self.replace, self.delete = writes.create, writes.replace, writes.delete

    def patch(self, path: str, body: Object, content_type: Patch, manager: str = FIELD_MANAGER, *, force: bool = True) -> Object:
        """As the writes behind it do."""
        if manager.endswith("-replicas"):
            self._writes.patch(path, {**body, "spec": {"replicas": 5}}, APPLY, "autoscaler")
        return self._writes.patch(path, body, content_type, manager, force=force)


def test_a_number_that_changes_while_it_is_handed_over_is_not_set_back(world: World) -> None:
    """Given three pods, when an autoscaler says five between the look and the hand-over, then there are five from then on."""
    world.apply(1, nodes={"replicas": 3})
    world.settle()
    world.apply(1, nodes={"autoscaling": {"minReplicas": 2, "maxReplicas": 5}})
    world.reconciler.writes = _Hurried(world.hand.writes)
    with pytest.raises(ApiFailure, match=r"409|another manager"):
        world.reconcile()
    world.settle()
    assert world.object("Deployment", f"{NAME}-main")["spec"]["replicas"] == 5


def test_only_our_own_fields_are_repaired(world: World) -> None:
    """Given it serves, when somebody edits a field of ours and adds one of theirs, then ours comes back and theirs stays."""
    world.apply(1)
    world.settle()
    service = world.path("Service", NAME)
    world.hand.change(service, {"metadata": {"labels": {"team": "flights"}}, "spec": {"selector": {ROLE_LABEL: "nobody"}}})
    world.settle()
    found = world.object("Service", NAME)
    assert found["spec"]["selector"][ROLE_LABEL] == "main"
    assert found["metadata"]["labels"]["team"] == "flights"


def test_a_deleted_object_comes_back(world: World) -> None:
    """Given it serves, when owned objects are deleted by hand, then they are there again."""
    world.apply(1)
    world.settle()
    for kind in ("Service", "NetworkPolicy"):
        world.hand.remove(world.path(kind, world.names(kind)[0]))
    world.settle()
    assert world.names("Service") == [NAME]
    assert world.names("NetworkPolicy") == [f"{NAME}-main"]


def test_a_label_taken_off_the_record_loses_no_memory(world: World) -> None:
    """Given v2 after v1, when the record's labels are taken off, then the next look knows both versions still."""
    world.apply(1)
    world.settle()
    world.apply(2)
    world.settle()
    before = world.record()
    world.hand.change(
        CONFIG_MAP.path(world.key.namespace, f"{NAME}-record"), {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}
    )
    world.restart()
    world.settle()
    assert world.record().record == before.record


def test_a_record_that_was_deleted_takes_nothing_away_that_serves(world: World) -> None:
    """Given v1 serves and v2 is refused, when the record is deleted while no operator runs, then v1 serves on, numbers rise."""
    world.apply(1)
    world.settle()
    world.refuses[digest(2)] = "golden-mismatch"
    world.apply(2)
    world.settle()
    before = world.record()
    world.hand.remove(CONFIG_MAP.path(world.key.namespace, f"{NAME}-record"))
    world.restart()
    world.settle()
    after = world.record()
    assert world.answering() == {digest(1)}
    assert after.record.active == before.record.active
    assert (after.record.revision, after.pins[f"{NAME}/1"]) == (before.record.revision, digest(1))
    assert after.sequence > before.sequence
    assert world.condition("ModelLoaded") == ("False", "GoldenMismatch")


def test_a_deleted_resource_leaves_nothing_to_do(world: World) -> None:
    """Given it serves, when it is deleted and applied anew, then the operator forgets it and begins from nothing."""
    world.apply(1)
    world.settle()
    world.hand.delete_resource()
    assert world.reconcile() is None
    assert world.board.live(world.key) == []
    assert world.names("ConfigMap") == []
    world.apply(2)
    world.nodes.clear()
    world.settle()
    assert world.record().record.revision == 1
    assert world.answering() == {digest(2)}


def test_the_keyring_reaches_nodes_and_a_bad_one_keeps_the_last_good(world: World) -> None:
    """Given a keyring, when it is broken by an edit, then a condition says so and the keys stay good."""
    path = CONFIG_MAP.path(world.key.namespace)
    key = '[{"id": "k1", "sha256": "%s", "project": "*", "scopes": ["predict"]}]' % ("a" * 64)
    world.hand.add(
        path,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "quarterdeck-keyring", "namespace": world.key.namespace},
            "data": {"keyring.json": key},
        },
    )
    world.apply(1)
    world.settle()
    world.hand.change(f"{path}/quarterdeck-keyring", {"data": {"keyring.json": "["}})
    world.restart()
    world.settle()
    assert world.condition("KeyringReady") == ("False", "KeyringUnreadable")
    assert world.resource()["status"]["lastFailure"]["code"] == "keyring-unreadable"
    assert {key.id for node in world.nodes.values() if node.plan for key in node.plan.keyring} == {"k1"}


def test_issuers_beside_the_keys_reach_nodes(world: World) -> None:
    """Given issuers in the keyring's ConfigMap, then every plan says whose people's tokens are good."""
    issuer = {"issuer": "https://models.example.org", "audience": "us", "keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}
    world.hand.add(
        f"/api/v1/namespaces/{world.key.namespace}/configmaps",
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "quarterdeck-keyring", "namespace": world.key.namespace},
            "data": {"keyring.json": "[]", "issuers.json": json.dumps([issuer])},
        },
    )
    world.apply(1)
    world.settle()
    assert {one.issuer for node in world.nodes.values() if node.plan for one in node.plan.issuers} == {issuer["issuer"]}


def test_a_keyring_that_is_not_there_is_told_where_it_is_needed(world: World) -> None:
    """Given no keyring, then nobody may predict, and that is said; where everybody may, it is not missed."""
    world.apply(1, keyring="ours")
    world.settle()
    assert world.condition("KeyringReady") == ("False", "KeyringMissing")
    world.apply(1, keyring="ours", access="public")
    world.settle()
    assert world.condition("KeyringReady") == ("True", "NotNeeded")


def test_a_name_that_somebody_else_has_is_not_taken_over(world: World) -> None:
    """Given a Service of that name that is not ours, when the resource is applied, then it is left alone and that is told."""
    path = world.path("Service", NAME)
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": world.key.namespace},
        "spec": {"ports": [{"port": 5432}], "selector": {"app": "database"}},
    }
    world.hand.add(path.rpartition("/")[0], foreign)
    world.apply(1)
    with pytest.raises(Conflict, match="belongs to somebody else"):
        world.settle()
    assert world.condition("Reconciled") == ("False", "NameTaken")
    failure = world.resource()["status"]["lastFailure"]
    assert (failure["code"], failure["place"]) == ("name-taken", f"Service {NAME}")
    world.now += 60
    with pytest.raises(Conflict):
        world.reconcile()
    assert world.resource()["status"]["lastFailure"] == failure
    found = world.hand.reads.get(path)
    assert found is not None
    assert found["spec"]["selector"] == {"app": "database"}


def test_a_foreign_record_is_left_alone_and_told(world: World) -> None:
    """Given a ConfigMap of the record's name that is not ours, then it stays as it is, and the status says so."""
    path = CONFIG_MAP.path(world.key.namespace)
    metadata = {"name": f"{NAME}-record", "namespace": world.key.namespace}
    world.hand.add(path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}})
    world.apply(1)
    with pytest.raises(Conflict, match="belongs to somebody else"):
        world.settle()
    assert world.condition("Reconciled") == ("False", "NameTaken")
    assert (world.hand.reads.get(f"{path}/{NAME}-record") or {})["data"] == {"a": "b"}


def test_what_a_deleted_resource_has_left_is_waited_for_without_a_word(world: World) -> None:
    """Given it is deleted and applied anew, while the garbage collector is at work, then nobody is told that names are taken."""
    owner = {"apiVersion": MODEL_DEPLOYMENT.api_version, "kind": "ModelDeployment", "name": NAME, "uid": "before"}
    metadata = {"name": f"{NAME}-record", "namespace": world.key.namespace, "ownerReferences": [{**owner, "controller": True}]}
    path = CONFIG_MAP.path(world.key.namespace)
    world.hand.add(path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}})
    world.apply(1)
    with pytest.raises(ApiFailure, match="still there"):
        world.reconcile()
    assert "status" not in world.resource()
    world.hand.remove(f"{path}/{NAME}-record")
    world.settle()
    assert world.answering() == {digest(1)}


def test_a_keyring_that_no_plan_has_room_for_is_told_and_the_last_one_stays(world: World) -> None:
    """Given it serves, when the keyring grows beyond what a ConfigMap holds together with the plan, then nothing is stuck."""
    keys = [{"id": f"k{number}", "sha256": "a" * 64, "project": "*", "scopes": ["predict"]} for number in range(6_900)]
    metadata = {"name": "quarterdeck-keyring", "namespace": world.key.namespace}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"keyring.json": json.dumps(keys)}}
    world.hand.add(CONFIG_MAP.path(world.key.namespace), body)
    world.apply(1)
    world.settle()
    assert world.condition("KeyringReady") == ("False", "KeyringUnreadable")
    assert world.answering() == {digest(1)}


def test_failed_requests_are_news_only_while_a_version_is_on_trial(world: World) -> None:
    """Given v2 is young, then each failed request is looked at; once its window is over, none is."""
    world.apply(1)
    world.settle()
    world.apply(2)
    world.settle()

    def failed(count: int) -> int:
        """How many looks a report with so many failed requests asks for."""
        (said,) = world.board.live(world.key)
        deployments = [one.model_copy(update={"failures": {digest(2): count}}) for one in said.deployments]
        world.woken.clear()
        world.board.take(world.key, said.model_copy(update={"deployments": deployments}))
        return len(world.woken)

    assert failed(1) == 1
    world.now += 3_600.0
    world.step_nodes()
    world.reconcile()
    failed(2)
    assert failed(3) == 0


def test_a_version_that_fails_is_taken_back_and_stays_so_until_another_is_chosen(world: World) -> None:
    """Given v2 answers wrongly, then v1 answers again; neither restart nor more pods bring v2 back, and spec stays."""
    world.apply(1)
    world.settle()
    world.wrong.add(digest(2))
    world.apply(2)
    world.settle()
    assert world.answering() == {digest(1)}
    assert world.condition("RolledBack")[0] == "True"
    world.wrong.clear()
    world.restart()
    world.apply(2, nodes={"replicas": 2})
    world.settle()
    assert world.answering() == {digest(1)}
    assert world.resource()["spec"]["model"]["version"] == 2
    world.apply(3)
    world.settle()
    assert world.answering() == {digest(3)}


def test_a_ready_pod_that_says_nothing_holds_up_the_swap(world: World) -> None:
    """Given two pods, when one of them is silent, then nothing is flipped past it."""
    world.apply(1, nodes={"replicas": 2})
    world.settle()
    world.now += 60.0
    world.mute.add(min(world.nodes))
    world.apply(2, nodes={"replicas": 2})
    world.settle()
    active = world.record().record.active
    assert active is not None
    assert active.version == 1
    world.mute.clear()
    world.settle()
    assert world.answering() == {digest(2)}
