"""Who gets in, in a cluster: keys and tokens that the deployer made, at the Service and at every node behind it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest

from quarterdeck.client import Client
from quarterdeck.placement import KEY_USES, KEY_USES_ENTRY
from quarterdeck.plan import AccessMode
from quarterdeck.schema import Row, Schema
from quarterdeck_operator.names import GRPC_PORT
from tests import access_table
from tests.cluster.behind_keys import STAGE, Door, deployed, doors_of
from tests.cluster.control import Control
from tests.support import eventually

ROW: Row = {"number": 1.0}
NODES = 2
REVOKED_SECONDS = 10.0
TOLD_SECONDS = 180.0


@dataclass(frozen=True)
class World:
    """One deployment for each mode, and what callers send.

    Attributes:
        deployments: mode → name.
        doors: mode → its Service, and each of its nodes.
    """

    schema: Schema
    deployments: Mapping[AccessMode, str]
    doors: Mapping[AccessMode, list[Door]]
    secrets: Mapping[str, str]

    def statuses(self, mode: AccessMode, caller: str) -> list[dict[str, int]]:
        """What each door answers in each dialect."""
        return [self._at(door, mode, caller) for door in self.doors[mode]]

    def all_answer(self, mode: AccessMode, caller: str, status: int) -> None:
        """Wait until every node answers one row of JSON with this status."""
        name, headers = self.deployments[mode], {"authorization": f"Bearer {self.secrets[caller]}"}
        places = [f"{door.url}/deployments/{name}/predict" for door in self.doors[mode]]

        def reached() -> bool:
            found = [httpx.post(place, json=[ROW], headers=headers, trust_env=False).status_code for place in places]
            assert found == [status] * len(places), (mode, caller, found)
            return True

        eventually(reached, REVOKED_SECONDS)

    def _at(self, door: Door, mode: AccessMode, caller: str) -> dict[str, int]:
        with (
            httpx.Client(base_url=door.url, trust_env=False, timeout=20) as http,
            grpc.insecure_channel(f"{door.host}:{GRPC_PORT}") as channel,
        ):
            secret = self.secrets.get(caller, "")
            return access_table.statuses(http, self.deployments[mode], self.schema, [ROW], secret, channel)


@pytest.fixture(scope="module")
def world(control: Control) -> Iterator[World]:
    """Every node knows the keys; one has expired since, and one was taken back."""
    mark = secrets.token_hex(3)
    ours, theirs = f"ours-{mark}", f"theirs-{mark}"
    with control.client() as client:
        for project in (ours, theirs):
            client.create_project(project)
        found = access_table.made(client, ours, theirs)
        names = {mode: f"access-{mode}-{mark}" for mode in access_table.MODES}
        try:
            schema = deployed(control, client, names, ours, NODES)
            doors = {mode: doors_of(control, name) for mode, name in names.items()}
            assert {len(each) for each in doors.values()} == {1 + NODES}
            here = World(schema, names, doors, {name: one["secret"] for name, one in found.items()})
            _end(client, here, {caller: found[caller]["id"] for caller in ("revoked", "expired")})
            yield here
        finally:
            for name in names.values():
                client.delete(name)


def _end(client: Client, here: World, keys: Mapping[str, str]) -> None:
    """Take one key back and let the other expire; every node knew both, and knows them no more."""
    for caller in keys:
        here.all_answer("project", caller, 200)
    client.revoke_key(keys["revoked"])
    client.rotate_key(keys["expired"], 0.0)
    for mode in (mode for mode in access_table.MODES if mode != "public"):
        for caller in keys:
            here.all_answer(mode, caller, 401)


@pytest.mark.parametrize("caller", access_table.CALLERS)
@pytest.mark.parametrize("mode", access_table.MODES)
def test_every_dialect_lets_in_the_same_callers(world: World, mode: AccessMode, caller: str) -> None:
    """200, 401 or 403 by mode and caller, whichever way rows are asked for, at the Service and at each node."""
    found = world.statuses(mode, caller)
    assert found == [dict.fromkeys(found[0], access_table.EXPECTED[mode][caller])] * (1 + NODES)
    print(f"\n{mode} × {caller}: {len(found[0])} dialects at the Service and {NODES} nodes")


def test_the_deployer_learns_when_a_key_was_used_last(world: World, control: Control) -> None:
    """Nodes look twice a minute, the operator notes it once a minute, and the deployer reads the note."""
    world.all_answer("project", "good", 200)
    with control.client() as client:
        told = eventually(lambda: _told(client, world.secrets["good"]), TOLD_SECONDS, every=2)
    note = control.node.get("configmap", KEY_USES, control.namespaces[STAGE])["data"]
    assert told["id"] in note[KEY_USES_ENTRY]


def _told(client: Client, secret: str) -> dict[str, Any]:
    """The key with this secret, once somebody has told of its use; AssertionError before."""
    listed = client.keys()
    (found,) = (one for one in listed if secret.startswith(f"qdk_{one['id']}_"))
    assert found["last_used"]
    return found
