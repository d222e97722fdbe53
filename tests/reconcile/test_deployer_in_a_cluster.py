"""Wishes and a cluster: what is written, what is adopted, and who gives way to whom; in memory and on a real API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from quarterdeck.errors import NotFound
from quarterdeck.placement import KEY_USES, KEY_USES_ENTRY
from quarterdeck.storage import open_storage
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.infrastructures.cluster import ClusterApi
from quarterdeck_deployer.infrastructures.cluster_base import Cluster, ClusterFailure, Place
from quarterdeck_deployer.infrastructures.kubernetes_resource import REVISION, WHO
from quarterdeck_deployer.infrastructures.kubernetes_rows import write_clusters
from quarterdeck_deployer.keys import KeyInput
from quarterdeck_deployer.listing import Window
from quarterdeck_deployer.models import InfrastructureRow
from quarterdeck_deployer.revisions import ChallengerInput, RollbackInput
from quarterdeck_deployer.settings import Settings
from tests.apiserver import ApiServer
from tests.cluster_twin import DeployerTwin
from tests.deployer_cluster import NAME, PERSON, STAGE, ClusterWorld
from tests.deployer_world import TOKENS, manifest, publish

GITOPS, BY_HAND = "argocd-controller", "kubectl-edit"


class Stage:
    """A deployer's part, and other people's hands in its cluster."""

    def __init__(self, world: ClusterWorld) -> None:
        self.world = world

    def say(self, manager: str, **spec: Any) -> None:
        """Apply the resource as somebody else."""
        raise NotImplementedError

    def remove(self) -> None:
        """Delete it."""
        raise NotImplementedError


class InMemory(Stage):
    """On the twin."""

    def __init__(self, folder: Path) -> None:
        self.twin = DeployerTwin()
        super().__init__(ClusterWorld(folder, self.twin, self.twin.namespace))

    def say(self, manager: str, **spec: Any) -> None:
        """Apply the resource as somebody else."""
        self.twin.say(NAME, spec, manager)

    def remove(self) -> None:
        """Delete it."""
        self.twin.remove(NAME)


class OnServer(Stage):
    """On an API server, by kubectl."""

    def __init__(self, folder: Path, server: ApiServer) -> None:
        self._server, self._namespace = server, server.namespace()
        cluster: Cluster = ClusterApi(Place(self._namespace, str(server.kubeconfig)))
        super().__init__(ClusterWorld(folder, cluster, self._namespace))

    def say(self, manager: str, **spec: Any) -> None:
        """Apply the resource as somebody else."""
        head = {"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": NAME}}
        words = ("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "--filename", "-")
        self._server.kubectl(*words, stdin=json.dumps({**head, "spec": spec}), namespace=self._namespace)

    def remove(self) -> None:
        """Delete it."""
        self._server.kubectl("delete", "modeldeployment", NAME, namespace=self._namespace)


@pytest.fixture(params=["twin", "kube-apiserver"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """An empty namespace, and a deployer that has not looked yet."""
    if request.param == "twin":
        found: Stage = InMemory(tmp_path)
    else:
        found = OnServer(tmp_path, request.getfixturevalue("api_server"))
    yield found
    found.world.cluster.close()
    found.world.close()


def file(version: int, **more: Any) -> dict[str, Any]:
    """The spec of a file that names a version."""
    return {"model": {"name": "flights", "version": version}, **more}


def test_a_wish_is_written_with_its_number_and_its_author(stage: Stage) -> None:
    """The first one makes the resource, later ones change it; a step without news writes nothing."""
    world = stage.world
    world.put(1, challenger=2, access="public")
    world.settle()
    found = world.resource()
    assert found["spec"]["model"]["digest"] == world.digests[1]
    assert found["spec"]["challenger"]["version"] == 2
    assert (found["spec"]["access"], found["spec"]["stage"]) == ("public", STAGE)
    assert found["metadata"]["annotations"] == {REVISION: "1", WHO: "ann", "quarterdeck.dev/why": "because"}
    world.put(3)
    world.settle()
    assert world.spec()["model"]["version"] == 3
    assert "challenger" not in world.spec()
    version = world.resource()["metadata"]["resourceVersion"]
    world.settle()
    assert world.resource()["metadata"]["resourceVersion"] == version
    assert world.wish().number == 2


def test_a_deleted_deployment_takes_its_resource_along(stage: Stage) -> None:
    """And is held by nobody once that is gone."""
    world = stage.world
    world.put(1)
    world.settle()
    assert world.infrastructure.holders(NAME) == [f"ModelDeployment {NAME}"]
    world.deployments.delete(NAME, PERSON)
    world.settle()
    assert world.cluster.resources() == []
    assert world.infrastructure.holders(NAME) == []


def test_a_resource_of_somebody_else_is_adopted(stage: Stage) -> None:
    """It becomes a deployment of the first stage there, by the name of whoever wrote it, and is left as it is."""
    world = stage.world
    stage.say(GITOPS, **file(2, challenger={"version": 3}, access="public"))
    world.settle()
    wish = world.wish()
    assert (wish.kind, wish.who, wish.number, wish.stage) == ("adopt", GITOPS, 1, STAGE)
    assert (wish.main.version, wish.challenger and wish.challenger.version, wish.access) == (2, 3, "public")
    assert wish.main.digest == world.digests[2]
    # Its own mark, and what the file leaves open.
    assert world.resource()["metadata"]["annotations"][REVISION] == "1"
    assert "pin" not in world.spec()


def test_a_change_of_a_file_is_adopted(stage: Stage) -> None:
    """As the next revision, whose author is whoever changed it."""
    world = stage.world
    stage.say(GITOPS, **file(1))
    world.settle()
    stage.say(GITOPS, **file(2))
    world.settle()
    wish = world.wish()
    assert (wish.kind, wish.who, wish.number, wish.main.version) == ("adopt", GITOPS, 2, 2)
    assert wish.why == "Changed in the cluster: spec.model."


def test_where_a_file_owns_main_a_rollback_is_a_pin_that_goes_when_the_file_follows(stage: Stage) -> None:
    """The file is never written; when it says the same, it leads again."""
    world = stage.world
    stage.say(GITOPS, **file(1))
    world.settle()
    stage.say(GITOPS, **file(2))
    world.settle()
    world.deployments.rollback(NAME, RollbackInput(why="v2 is worse"), PERSON)
    world.settle()
    spec = world.spec()
    assert spec["model"]["version"] == 2
    assert spec["pin"] == {"version": 1, "digest": world.digests[1], "reason": "because"}
    assert (world.wish().kind, world.wish().main.version) == ("rollback", 1)
    stage.say(GITOPS, **file(1))
    world.settle()
    assert "pin" not in world.spec()
    assert world.wish().kind == "rollback"
    # And the next change of the file counts again.
    stage.say(GITOPS, **file(3))
    world.settle()
    assert (world.wish().kind, world.wish().main.version) == ("adopt", 3)


def test_what_a_file_says_otherwise_is_adopted_back_with_words(stage: Stage) -> None:
    """A wish that only the file's owner can fulfil ends as a revision that says whose it is."""
    world = stage.world
    stage.say(GITOPS, **file(1, access="public"))
    world.settle()
    world.put(1, access="project")
    world.settle()
    wish = world.wish()
    assert (wish.kind, wish.access, wish.number) == ("adopt", "public", 3)
    assert wish.why == f"Stays as it is in the cluster: spec.access is {GITOPS}'s. Change it in its file."
    assert world.spec()["access"] == "public"


def test_what_was_changed_by_hand_is_adopted_and_can_be_changed_here(stage: Stage) -> None:
    """`kubectl edit` has no file behind it that would say the same again."""
    world = stage.world
    world.put(1)
    world.settle()
    stage.say(BY_HAND, **file(2, challenger={"version": 3}, access="public"))
    world.settle()
    wish = world.wish()
    assert (wish.kind, wish.who, wish.main.version, wish.access) == ("adopt", BY_HAND, 2, "public")
    assert wish.challenger is not None
    world.deployments.clear_challenger(NAME, PERSON)
    world.settle()
    assert "challenger" not in world.spec()
    world.put(4, access="project")
    world.settle()
    spec = world.spec()
    assert (spec["model"]["version"], spec["access"], spec["model"]["digest"]) == (4, "project", world.digests[4])
    assert "pin" not in spec
    assert world.wish().kind == "change"


def test_a_pin_by_hand_is_adopted_and_turned_before_it_goes(stage: Stage) -> None:
    """In between nothing else may answer than what was wished for."""
    world = stage.world
    world.put(2)
    world.settle()
    stage.say("kubectl-patch", pin={"version": 1, "reason": "worse"})
    world.settle()
    assert (world.wish().kind, world.wish().who, world.wish().main.version) == ("adopt", "kubectl-patch", 1)
    world.put(3)
    world.infrastructure.step()
    assert world.spec()["model"]["version"] == 3
    assert world.spec().get("pin", {"version": 3})["version"] == 3
    world.settle()
    world.settle()
    assert "pin" not in world.spec()
    assert (world.wish().kind, world.wish().main.version) == ("change", 3)


def test_a_database_that_was_restored_adopts_what_runs(stage: Stage) -> None:
    """A lower number is never written over a higher one; the next revision lies above both."""
    world = stage.world
    world.put(1)
    world.settle()
    document = world.resource()
    newer = {**document["metadata"]["annotations"], REVISION: "7"}
    spec = {"model": {"name": "flights", "version": 3}, "stage": STAGE}
    world.cluster.apply(
        {
            "apiVersion": document["apiVersion"],
            "kind": document["kind"],
            "metadata": {"name": NAME, "annotations": newer},
            "spec": spec,
        }
    )
    world.settle()
    wish = world.wish()
    assert (wish.kind, wish.number, wish.main.version) == ("adopt", 8, 3)
    assert "restored from an older copy" in wish.why
    assert world.resource()["metadata"]["annotations"][REVISION] == "8"
    assert world.spec()["model"]["version"] == 3


def test_a_resource_that_outlived_the_database_comes_back_as_a_deployment(stage: Stage) -> None:
    """It has our mark, and the database has never heard of it: it is adopted, not deleted."""
    world = stage.world
    head = {"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "ModelDeployment"}
    world.cluster.apply({**head, "metadata": {"name": NAME, "annotations": {REVISION: "4"}}, "spec": file(2)})
    world.settle()
    assert (world.wish().kind, world.wish().number, world.wish().main.version) == ("adopt", 5, 2)


def test_a_file_outlives_a_deletion_here(stage: Stage) -> None:
    """What is ours goes, what the file says stays and is a deployment again."""
    world = stage.world
    stage.say(GITOPS, **file(2))
    world.settle()
    world.put(1)
    world.settle()
    assert world.spec()["pin"]["version"] == 1
    world.deployments.delete(NAME, PERSON)
    world.settle()
    assert "pin" not in world.spec()
    assert (world.wish().kind, world.wish().main.version) == ("adopt", 2)


def test_what_was_made_here_is_made_again_and_what_was_adopted_is_not(stage: Stage) -> None:
    """A cluster that lost its resources gets them back; a file that was withdrawn stays withdrawn."""
    world = stage.world
    world.put(1)
    world.settle()
    stage.remove()
    world.settle()
    assert world.spec()["model"]["version"] == 1
    stage.say(BY_HAND, **file(2))
    world.settle()
    stage.remove()
    world.settle()
    assert world.cluster.resources() == []
    assert "deleted in the cluster by somebody else" in world.seen().waiting_for
    world.put(3)
    world.settle()
    assert world.spec()["model"]["version"] == 3


def test_a_version_that_the_registry_does_not_know_is_waited_for(stage: Stage) -> None:
    """It is shown as a stranger, with the next step; once registered it is adopted."""
    world = stage.world
    stage.say(GITOPS, **file(9))
    world.settle()
    assert "the registry has no such version" in world.infrastructure.strangers[NAME]
    with pytest.raises(NotFound):
        world.wish()
    stage.say(GITOPS, **file(2))
    world.settle()
    assert world.wish().main.version == 2
    assert world.infrastructure.strangers == {}


def test_a_version_that_only_the_store_knows_is_registered(stage: Stage) -> None:
    """Whoever pushes to the bucket and applies by kubectl has never heard of a registry."""
    world = stage.world
    publish(world.storage, 5, manifest("flights", salt=5))
    stage.say(GITOPS, **file(5))
    world.settle()
    assert world.wish().main.digest == manifest("flights", salt=5).digest
    assert max(one.version for one in world.registry.model("flights").items) == 5


def test_keys_are_written_when_they_change_and_taken_back(stage: Stage) -> None:
    """As nodes read them: digests, scopes, no secret."""
    world = stage.world
    made = world.keys.create(KeyInput(name="ann"), PERSON)
    world.settle()
    ring = world.cluster.config_map("quarterdeck-keyring")
    assert ring is not None
    (key,) = json.loads(ring["keyring.json"])
    assert (key["id"], key["project"]) == (made.id, "*")
    assert made.secret not in ring["keyring.json"]
    world.keys.revoke(made.id, PERSON)
    world.settle()
    assert (world.cluster.config_map("quarterdeck-keyring") or {})["keyring.json"] == "[]"


def test_the_operators_notes_tell_when_keys_were_used_last(stage: Stage) -> None:
    """The newest counts, what nobody knows is passed over, and notes that cannot be read hold nothing up."""
    world = stage.world
    made = world.keys.create(KeyInput(name="ann"), PERSON)

    def told(text: str) -> float:
        world.cluster.write_keyring(KEY_USES, {KEY_USES_ENTRY: text})
        world.now += 60
        world.settle()
        (key,) = world.keys.all()
        return key.last_used.timestamp() if key.last_used else 0.0

    world.settle()
    note = {"id": made.id, "requests": 3, "last": 1_700_000_000.0}
    assert told(json.dumps([note, {**note, "id": "console0"}])) == note["last"]
    assert told(json.dumps([{**note, "last": 1_600_000_000.0}])) == note["last"]
    assert told("[") == note["last"]
    assert told(json.dumps([{**note, "last": 1_700_000_060.0}])) == 1_700_000_060.0


def test_the_same_wish_after_a_refusal_is_a_new_attempt(stage: Stage) -> None:
    """The operator looks again only at a spec that has changed, so the attempt is part of it."""
    world = stage.world
    world.put(1)
    world.settle()
    before = world.resource()["metadata"]["generation"]
    world.infrastructure.refused = lambda name: True  # type: ignore[method-assign]
    assert world.put(1) == 2
    world.settle()
    found = world.resource()
    assert found["metadata"]["generation"] == before + 1
    assert found["spec"]["attempt"] == 2


def test_a_challenger_comes_and_goes(stage: Stage) -> None:
    """A change of the challenger chooses main not again."""
    world = stage.world
    world.put(1)
    world.deployments.set_challenger(NAME, ChallengerInput(version=2), PERSON)
    world.settle()
    assert world.spec()["challenger"]["version"] == 2
    assert world.spec()["attempt"] == 1
    world.deployments.clear_challenger(NAME, PERSON)
    world.settle()
    assert "challenger" not in world.spec()


def test_kubectl_apply_owns_what_its_file_says_and_no_default(api_server: ApiServer, tmp_path: Path) -> None:
    """Client-side apply sends a whole object; what the API server filled in is changed here as if nobody had said it."""
    stage = OnServer(tmp_path, api_server)
    world = stage.world
    head = {"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": NAME}}
    words = ("apply", "--filename", "-")
    api_server.kubectl(*words, stdin=json.dumps({**head, "spec": file(2)}), namespace=world.namespace)
    world.settle()
    assert (world.wish().who, world.wish().main.version) == ("kubectl-client-side-apply", 2)
    world.deployments.stop(NAME, PERSON)
    world.settle()
    assert world.spec()["running"] is False
    assert world.wish().kind == "stop"
    world.put(1, running=False)
    world.settle()
    assert (world.spec()["model"]["version"], world.spec()["pin"]["version"]) == (2, 1)
    # The same file again says nothing new about what it never said.
    api_server.kubectl(*words, stdin=json.dumps({**head, "spec": file(2)}), namespace=world.namespace)
    world.settle()
    assert (world.wish().kind, world.spec()["running"]) == ("change", False)
    world.cluster.close()
    world.close()


@pytest.mark.parametrize(
    ("status", "again"),
    [(403, False), (422, False), (409, True), (429, True), (500, True)],
)
def test_a_refusal_is_shown_at_its_deployment_and_holds_up_no_other_step(tmp_path: Path, status: int, again: bool) -> None:
    """With the next step; once the cluster takes it again, all is well."""
    twin = DeployerTwin()
    world = ClusterWorld(tmp_path, twin, twin.namespace)
    world.settle()
    world.put(1)
    twin.refuse = status
    assert world.infrastructure.step() is again
    seen = world.seen()
    assert str(status) in seen.waiting_for
    assert not seen.applied
    twin.refuse = 0
    world.settle()
    assert world.spec()["model"]["version"] == 1
    assert "operator has not looked" in world.seen().waiting_for
    world.close()


def test_a_wish_is_written_at_once_and_a_silent_cluster_is_told_of(tmp_path: Path) -> None:
    """The loop turns by itself: a wake writes, silence is said, and what was wished meanwhile is written afterwards."""
    twin = DeployerTwin()
    world = ClusterWorld(tmp_path, twin, twin.namespace)

    async def life() -> None:
        loop = asyncio.create_task(world.infrastructure.run())
        await until(world, lambda: world.infrastructure.counts.steps > 0)
        world.put(1)
        world.infrastructure.wake()
        await until(world, lambda: ("APPLY", NAME) in twin.written)
        twin.silent = True
        world.put(2)
        world.infrastructure.wake()
        await until(world, lambda: "did not answer" in world.seen().waiting_for)
        twin.silent = False
        await until(world, lambda: world.spec()["model"]["version"] == 2)
        # Somebody else's change comes by the watch: nobody has to ask.
        await asyncio.to_thread(twin.say, NAME, file(3), BY_HAND)
        await until(world, lambda: world.wish().kind == "adopt")
        loop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loop

    asyncio.run(life())
    assert twin.closed
    world.close()


async def until(world: ClusterWorld, check: Callable[[], bool]) -> None:
    """Wait for the loop's next steps until something is so."""
    async with asyncio.timeout(60):
        while True:
            stepped = world.infrastructure.next_step
            with suppress(ClusterFailure):
                if await asyncio.to_thread(check):
                    return
            with suppress(TimeoutError):
                await asyncio.wait_for(stepped.wait(), 0.2)


def test_namespaces_of_the_own_cluster_are_infrastructures_from_the_start(tmp_path: Path) -> None:
    """The first one ever is called `cluster`, others by their namespace; none is written twice or renamed."""
    twin = DeployerTwin()
    world = ClusterWorld(tmp_path, twin, twin.namespace)
    with world.database.writing.begin() as session:
        session.get_one(InfrastructureRow, "cluster").settings = {"namespace": "far", "kubeconfig": "/etc/other.conf"}
    assert write_clusters(world.database.writing, [], "s3://a") == ""
    assert write_clusters(world.database.writing, ["models"], "s3://a") == "models"
    assert write_clusters(world.database.writing, ["far", "models", "late"], "s3://a") == "far"
    with world.database.sessions() as session:
        found = {row.name: row.settings["namespace"] for row in session.scalars(select(InfrastructureRow))}
    assert found == {"cluster": "far", "far": "far", "models": "models", "late": "late"}
    world.close()


def test_a_deployer_in_a_cluster_has_its_first_stages_there(tmp_path: Path) -> None:
    """As the chart tells it; the local infrastructure is there too, and nothing is on it."""
    settings = Settings(data=tmp_path, store=f"memory://{tmp_path}", cluster_namespaces="models, late")
    deployer = Deployer(settings, TOKENS, open_storage(settings.store_url))
    assert {name: place.kind for name, place in deployer.infrastructures.items()} == {
        "local": "local",
        "cluster": "kubernetes",
        "late": "kubernetes",
    }
    assert {deployer.infrastructures.placed(one.name) for one in deployer.stages.listed(Window()).items} == {"cluster"}
    assert deployer.infrastructures["cluster"].urls("late-flights").main == "http://late-flights.models.svc"
    deployer.database.close()
