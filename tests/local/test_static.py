"""A static infrastructure: three nodes from three folders, each by the real command, under calls all the while."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from quarterdeck.errors import Conflict
from quarterdeck.record_files import read_main
from tests.local.joined_nodes import Callers, JoinedNode
from tests.local.shared import Shared
from tests.local.system import cli
from tests.support import eventually

EDGE = "edge"


@dataclass
class World:
    """The system, and the nodes that joined it."""

    shared: Shared
    mains: list[JoinedNode]
    challenger: JoinedNode

    @property
    def nodes(self) -> list[JoinedNode]:
        """All three."""
        return [*self.mains, self.challenger]

    def deploy(self, name: str, version: int, challenger: int | None = None, **spec: object) -> None:
        """Apply a deployment in the stage of the static infrastructure, and wait until its nodes do so."""
        second = self.shared.version(challenger) if challenger else None
        self.shared.deploy(name, self.shared.version(version), second, stage=EDGE, **spec)


@pytest.fixture(scope="module")
def world(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An infrastructure and a stage on it; two main nodes and a challenger node have joined."""
    shared.client.put_infrastructure(EDGE, {"kind": "static"})
    shared.client.put_stage(EDGE, {"position": 9, "infrastructure": EDGE})
    folder = tmp_path_factory.mktemp("edge")
    nodes = [JoinedNode(folder / f"{place}", shared.client, role) for place, role in enumerate(("main", "main", "challenger"))]
    for node in nodes:
        node.start(shared.client.create_join_token({"infrastructure": EDGE, "role": node.role})["token"])
    for node in nodes:
        node.wait_up()
    yield World(shared, nodes[:2], nodes[2])
    for node in nodes:
        node.end()
    assert [node.stop() for node in nodes] == [0, 0, 0]


def test_nodes_get_names_of_their_own_and_keep_their_tokens_to_themselves(world: World) -> None:
    """Membership and token lie in the folder; nobody else may read the token, and the deployer's list names all three."""
    roles = {node.name: node.role for node in world.nodes}
    assert all(name.startswith(f"edge-{role}-") for name, role in roles.items())
    listed = [one for one in world.shared.client.nodes(EDGE) if not one["revoked"]]
    assert {one["node"]: one["role"] for one in listed} == roles
    assert all(one["live"] and one["rss_bytes"] > 2**20 for one in listed)
    for node in world.nodes:
        assert (node.folder / "node-token").stat().st_mode & 0o777 == 0o600


def test_rollout_and_rollback_reach_every_node_without_a_wrong_answer(world: World) -> None:
    """Two versions forth and back under calls: every node answers with what the newest revision says, never with a mixture."""
    name = "static-rollout"
    world.deploy(name, 1)
    with Callers(name, world.mains) as callers:
        world.deploy(name, 2, challenger=1)
        assert [node.ask(name).json()["version"] for node in world.mains] == [2, 2]
        assert world.shared.client.rollback(name, wait=60)["applied"]
        assert [node.ask(name).json()["version"] for node in world.mains] == [1, 1]
        for node in world.mains:
            callers.several(node)
    assert (callers.wrong, callers.gone) == ([], 0)
    ledger = world.shared.observed(name)
    assert {one["node"] for one in ledger["nodes"]} == {node.name for node in world.nodes}
    assert ledger["main"]["ref"]["version"] == 1


def test_every_main_node_mirrors_to_the_challenger_node_with_a_token_of_its_own(world: World) -> None:
    """Copies of both arrive; what opens the challenger node for one main node is no other's."""
    name = "static-mirror"
    world.deploy(name, 1, challenger=2)
    tokens = set()
    for node in world.mains:
        assert node.ask(name).is_success
        tokens.add((node.folder / "node" / "plan.json").read_text().split('"token":"')[1].split('"')[0])
    eventually(lambda: world.shared.observed(name)["mirror"]["answered"] >= 2, every=0.1)
    assert len(tokens) == 2


def test_a_killed_node_rejoins_with_what_its_folder_holds_and_ships_its_tail(world: World) -> None:
    """kill -9 of everything of one node under calls: the other answers on, the killed one comes back by itself, and every answer
    that a caller got is a record."""
    name, killed = "static-killed", world.mains[0]
    world.deploy(name, 1)
    with Callers(name, world.mains) as callers:
        callers.several(killed)
        killed.kill()
        callers.several(world.mains[1])
        before = killed.membership
        killed.start()
        killed.wait_up()
        callers.several(killed)
    assert (callers.wrong, killed.membership) == ([], before)
    answered = {row_id for ids in callers.answered.values() for row_id in ids}
    eventually(lambda: answered <= _shipped(world, name), every=0.2)


def _shipped(world: World, name: str) -> set[str]:
    return set(read_main(world.shared.storage, name)["row_id"].to_pylist())


def test_an_infrastructure_in_use_stays(world: World) -> None:
    """Neither deleted nor given another store while a stage is on it."""
    with pytest.raises(Conflict) as refused:
        world.shared.client.delete_infrastructure(EDGE)
    assert refused.value.code == "infrastructure-in-use"


def test_a_revoked_node_stops_answering_and_comes_back_only_with_a_new_token(world: World) -> None:
    """It hears of it with its next word; started again it is refused, until somebody lets it in anew, under another name."""
    name, client, folder, node = "static-revoked", world.shared.client, world.shared.system.folder, world.mains[1]
    world.deploy(name, 1)
    before = node.name
    assert client.revoke_node(before)["node"] == before
    eventually(lambda: node.ask(name).status_code == 404)
    assert client.node(before)["revoked"]
    assert node.stop() == 0
    refused = cli(folder, "node", "join", client.url, "--folder", str(node.folder), "--url", node.url)
    assert (refused.returncode, "was revoked" in refused.stderr) == (2, True)
    made = cli(folder, "node", "token", "create", "--infrastructure", EDGE, "--role", node.role)
    node.start(made.stdout.strip())
    eventually(lambda: node.membership.node != before)
    node.wait_up()
    eventually(lambda: node.ask(name).status_code == 200)
