"""A node in a cluster: its plan has a name of its own, comes over TLS or from a mounted file, and the newest one counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.plan import NodeReport, Plan
from quarterdeck_node import plan_client
from quarterdeck_node.plan_client import PlanClient, PlanFile
from quarterdeck_node.settings import Settings
from tests.plan_server import TOKEN, PlanServer, plan_server
from tests.s3 import self_signed

NAME = "flights-main-0123456789"
POD = "flights-main-0123456789-abcde"


def plan(sequence: int, node: str = NAME) -> Plan:
    """An empty plan."""
    return Plan(node=node, sequence=sequence, store="memory://")


class Folder:
    """A pod's folders: the node's own, and the mounted one, whose files are exchanged as Kubernetes does it."""

    def __init__(self, path: Path) -> None:
        self.own, self.mounted, self.token = path / "own", path / "mounted", path / "token"
        self.own.mkdir()
        self.mounted.mkdir()
        self.token.write_text(TOKEN)

    def mount(self, name: str, content: bytes) -> None:
        """Have the file there with this content, at once."""
        part = self.mounted / f"..{name}"
        part.write_bytes(content)
        part.replace(self.mounted / name)

    def mount_plan(self, wanted: Plan) -> None:
        """What the operator writes into the plan's ConfigMap."""
        self.mount("plan.json", wanted.model_dump_json().encode())

    @property
    def stored(self) -> Plan | None:
        """What the next process and the agent find."""
        return PlanFile(self.own).read(NAME)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Empty folders; mounted files are looked at all the time."""
    monkeypatch.setattr(plan_client, "MOUNTED_SECONDS", 0.01)
    return Folder(tmp_path)


class Taker:
    """What a node does with plans."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def report(self) -> NodeReport:
        """What was taken last."""
        return NodeReport(node=POD, boot="boot", role="main", url="", sequence=max(self.taken, default=0), ready=True)


@asynccontextmanager
async def pod(folder: Folder, url: str = "", **more: Any) -> AsyncIterator[Taker]:
    """A plan client as a pod has it."""
    taker = Taker()
    given = {"node": POD, "plan": NAME, "folder": folder.own, "plan_folder": folder.mounted, "node_token_file": folder.token}
    settings = Settings(**{**given, "plan_server": url, **more})
    client = PlanClient(settings, lambda taken: taker.taken.append(taken.sequence), taker.report)
    client.start()
    try:
        yield taker
    finally:
        await client.close()


async def until(check: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("stored", "mounted", "taken"),
    [(None, 4, [4]), (5, 4, [5]), (5, 6, [5, 6]), (5, None, [5]), (None, None, [])],
    ids=["a fresh pod", "the served plan of the same decision says more", "a newer decision", "no mount yet", "nothing yet"],
)
def test_a_node_starts_from_the_newest_plan_there_is(
    folder: Folder, stored: int | None, mounted: int | None, taken: list[int]
) -> None:
    """Given a stored and a mounted plan, then it starts without any server, never from the older of them."""
    if stored is not None:
        PlanFile(folder.own).write(plan(stored))
    if mounted is not None:
        folder.mount_plan(plan(mounted))

    async def story() -> None:
        async with pod(folder) as taker:
            await until(lambda: taker.taken == taken)
            await until(lambda: folder.stored is None or folder.stored.sequence == max(taken))

    asyncio.run(story())


def test_a_mounted_plan_is_followed_while_the_server_is_gone(folder: Folder) -> None:
    """A revoked key reaches nodes without their operator; what is taken is kept for the agent and the next start."""
    folder.mount_plan(plan(2))

    async def story() -> None:
        async with pod(folder, "http://127.0.0.1:9") as taker:
            await until(lambda: taker.taken == [2])
            for each in (plan(4), plan(3), plan(9, "other-main-0123456789"), plan(6)):
                folder.mount_plan(each)
                await until(lambda: 4 in taker.taken)
            await until(lambda: taker.taken == [2, 4, 6])
            await until(lambda: folder.stored == plan(6))

    asyncio.run(story())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"plan": 2}'])
def test_a_broken_mounted_plan_changes_nothing(folder: Folder, content: bytes) -> None:
    """The last good one stays, and the next good one is taken."""
    folder.mount_plan(plan(2))

    async def story() -> None:
        async with pod(folder) as taker:
            await until(lambda: taker.taken == [2])
            folder.mount("plan.json", content)
            await asyncio.sleep(0.05)
            (folder.mounted / "plan.json").unlink()
            await asyncio.sleep(0.05)
            folder.mount_plan(plan(4))
            await until(lambda: taker.taken == [2, 4])

    asyncio.run(story())


def test_a_served_plan_outranks_the_mounted_one_of_the_same_decision(folder: Folder) -> None:
    """The mounted copy lags and holds no token: it neither replaces the served plan nor is it needed while that is newer."""
    folder.mount_plan(plan(2))

    async def story(server: PlanServer) -> None:
        async with pod(folder, server.url) as taker:
            server.publish(plan(3))
            await until(lambda: taker.taken == [2, 3])
            server.publish(plan(7))
            await until(lambda: taker.taken == [2, 3, 7])
            folder.mount_plan(plan(6))
            await asyncio.sleep(0.1)
            folder.mount_plan(plan(8))
            await until(lambda: taker.taken == [2, 3, 7, 8])
            assert server.paths == {f"/plans/{NAME}", f"/nodes/{POD}/report"}

    with plan_server() as server:
        asyncio.run(story(server))


def test_a_token_that_is_not_there_yet_ends_nothing(folder: Folder) -> None:
    """It is mounted a moment later than the process starts."""
    folder.token.unlink()

    async def story(server: PlanServer) -> None:
        async with pod(folder, server.url) as taker:
            server.publish(plan(1))
            await asyncio.sleep(0.1)
            assert (taker.taken, server.reports) == ([], [])
            folder.token.write_text(TOKEN)
            await until(lambda: taker.taken == [1] and server.reports)

    with plan_server() as server:
        asyncio.run(story(server))


@pytest.mark.parametrize("before", ["nothing", "half a file", "another authority"])
def test_only_the_mounted_authority_is_trusted_and_it_may_come_later(folder: Folder, tmp_path: Path, before: str) -> None:
    """Given a plan server with TLS, then its plan is taken as soon as the right authority lies there, without a restart."""
    right, other = (tmp_path / "right.pem", tmp_path / "right.key"), (tmp_path / "other.pem", tmp_path / "other.key")
    self_signed(*right)
    self_signed(*other)
    contents = {"half a file": right[0].read_bytes()[:100], "another authority": other[0].read_bytes()}
    if before in contents:
        folder.mount("ca.crt", contents[before])

    async def story(server: PlanServer) -> None:
        async with pod(folder, server.url) as taker:
            server.publish(plan(1))
            await asyncio.sleep(0.1)
            assert (taker.taken, server.reports) == ([], [])
            folder.mount("ca.crt", right[0].read_bytes())
            await until(lambda: taker.taken == [1] and server.reports)

    with plan_server(*right) as server:
        asyncio.run(story(server))


def test_an_authority_that_is_exchanged_ends_the_connections_that_it_signed(folder: Folder, tmp_path: Path) -> None:
    """Given a client, then it stays while the file does; another file, or none, makes another client and closes the former."""
    for name in ("one", "two"):
        self_signed(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")

    async def story() -> None:
        connection = plan_client.Connection("https://127.0.0.1:9", folder.mounted / "ca.crt")
        folder.mount("ca.crt", (tmp_path / "one.pem").read_bytes())
        first = await connection.client()
        assert await connection.client() is first
        folder.mount("ca.crt", (tmp_path / "two.pem").read_bytes())
        second = await connection.client()
        assert (first.is_closed, second.is_closed) == (True, False)
        (folder.mounted / "ca.crt").unlink()
        assert await connection.client() is not second
        await connection.close()

    asyncio.run(story())


def test_a_node_without_a_plan_of_its_own_name_follows_its_name() -> None:
    """Local nodes know no other name."""
    assert Settings.from_environment({"QUARTERDECK_NODE": "blue"}).plan_name == "blue"
    assert Settings.from_environment({"QUARTERDECK_NODE": "blue", "QUARTERDECK_PLAN": NAME}).plan_name == NAME
