"""The stored plan: whole or not there, this node's only, and nobody else's to read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from quarterdeck.plan import DeploymentPlan, Key, Mirror, NodeReport, Plan, VersionRef
from quarterdeck_node.plan_client import PlanClient, PlanFile
from quarterdeck_node.settings import Settings
from tests.plan_server import TOKEN, PlanServer, plan_server

PLAN = Plan(node="main", sequence=3, store="memory://")


def test_a_stored_plan_comes_back(tmp_path: Path) -> None:
    """As it was written, the newest one, readable by its owner only."""
    file = PlanFile(tmp_path)
    file.write(PLAN.model_copy(update={"sequence": 2}))
    file.write(PLAN)
    assert file.read("main") == PLAN
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"plan": 2}', PLAN.model_dump_json().encode()[:-1], b"\xff"])
def test_a_broken_plan_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    """The node then waits for its plan server."""
    (tmp_path / "plan.json").write_bytes(content)
    assert PlanFile(tmp_path).read("main") is None


def test_another_nodes_plan_is_not_taken(tmp_path: Path) -> None:
    """A folder that was copied must not make two nodes of one name."""
    PlanFile(tmp_path).write(PLAN)
    assert PlanFile(tmp_path).read("challenger") is None
    assert PlanFile(tmp_path / "empty").read("main") is None


def test_settings_are_read_from_their_variables_only() -> None:
    """Empty is not set, others are not ours, and paths are paths."""
    found = Settings.from_environment({"QUARTERDECK_NODE": "blue", "QUARTERDECK_PORT": "", "QUARTERDECK_OTHER": "x", "PORT": "1"})
    assert (found.node, found.port, found.base_url) == ("blue", 8401, "http://127.0.0.1:8401")
    assert Settings.from_environment({"QUARTERDECK_URL": "https://node.example/"}).base_url == "https://node.example"


class Taker:
    """What a node does with plans, and what it says of itself."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.trouble: Exception | None = None

    def apply(self, plan: Plan) -> None:
        """Remember the plan's number."""
        self.taken.append(plan.sequence)

    def report(self) -> NodeReport:
        """A report that says what was taken; or the trouble that there is."""
        if self.trouble is not None:
            raise self.trouble
        return NodeReport(node="main", boot="boot", role="main", url="", sequence=max(self.taken, default=0), ready=True)


@asynccontextmanager
async def client(folder: Path, server: PlanServer, taker: Taker) -> AsyncIterator[None]:
    """A plan client in this loop, closed at the end."""
    told = Settings(folder=folder, plan_server=server.url, node_token_file=folder / "token")
    made = PlanClient(told, taker.apply, taker.report)
    made.start()
    try:
        yield
    finally:
        await made.close()


async def until(check: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.01)


def plan(sequence: int, node: str = "main") -> Plan:
    """An empty plan."""
    return Plan(node=node, sequence=sequence, store="memory://")


def test_plans_only_rise_and_are_kept(tmp_path: Path) -> None:
    """Older ones and those of other nodes are not taken; the newest lies on disk; reports say which it is."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    taker = Taker()

    async def story(server: PlanServer) -> None:
        async with client(tmp_path, server, taker):
            for offered in (plan(3), plan(2), plan(9, "challenger"), plan(4)):
                server.publish(offered)
                await until(lambda: 3 in taker.taken)
            await until(lambda: taker.taken == [3, 4])
            await until(lambda: server.reports and server.newest().sequence == 4)
            await until(lambda: PlanFile(tmp_path).read("main") == plan(4))

    with plan_server() as server:
        asyncio.run(story(server))


def test_a_node_tells_what_it_was_told_when_it_is_asked_and_only_then(tmp_path: Path) -> None:
    """Also from the stored plan, before there is any other one; the mirroring token is nobody's business."""
    (tmp_path / "token").write_text(TOKEN)
    version = VersionRef(model="late", version=2, digest=f"sha256:{2:064x}")
    mirror = Mirror(url="http://127.0.0.1:1", version=version, token="m" * 40)
    given = {"name": "late", "project": "ours", "role": "main", "revision": 3, "generation": 7, "resident": [version]}
    told = DeploymentPlan(**given, active=version, mirror=mirror)
    PlanFile(tmp_path).write(plan(5).model_copy(update={"deployments": [told]}))

    async def story(server: PlanServer) -> None:
        async with client(tmp_path, server, Taker()):
            await until(lambda: server.reports)
            assert server.newest().told == []
            server.asks = True
            await until(lambda: server.newest().told)
            server.asks = False
            await until(lambda: not server.newest().told)

    with plan_server() as server:
        asyncio.run(story(server))
        [said] = next(report.told for report in server.reports if report.told)
    assert said == told.model_copy(update={"mirror": mirror.model_copy(update={"token": ""})})


def test_a_plan_that_could_not_be_applied_is_asked_for_again(tmp_path: Path) -> None:
    """Whatever the trouble was, the node does not wait for a newer plan to follow this one."""
    (tmp_path / "token").write_text(TOKEN)
    taker, troubles = Taker(), [ZeroDivisionError()]
    apply = taker.apply

    def fail_once(plan: Plan) -> None:
        if troubles:
            raise troubles.pop()
        apply(plan)

    taker.apply = fail_once  # type: ignore[method-assign]

    async def story(server: PlanServer) -> None:
        server.publish(plan(3))
        async with client(tmp_path, server, taker):
            await until(lambda: taker.taken == [3])

    with plan_server() as server:
        asyncio.run(story(server))


def test_a_plan_that_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    """It counts at once; the disk may take its time, and no newer plan is needed for it."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "plan.part").mkdir()
    taker = Taker()

    async def story(server: PlanServer) -> None:
        async with client(tmp_path, server, taker):
            server.publish(plan(1))
            await until(lambda: taker.taken == [1])
            assert PlanFile(tmp_path).read("main") is None
            (tmp_path / "plan.part").rmdir()
            await until(lambda: PlanFile(tmp_path).read("main") == plan(1))

    with plan_server() as server:
        asyncio.run(story(server))


@pytest.mark.parametrize("token", [b"\xff\xfe", "clé".encode(), b"wrong"], ids=["no text", "no header", "wrong"])
def test_a_token_that_cannot_be_used_ends_nothing(tmp_path: Path, token: bytes) -> None:
    """It is read anew each time, so the right one helps without a restart; a report that cannot be made is skipped likewise."""
    (tmp_path / "token").write_bytes(token)
    taker = Taker()
    taker.trouble = ZeroDivisionError()

    async def story(server: PlanServer) -> None:
        async with client(tmp_path, server, taker):
            server.publish(plan(1))
            await asyncio.sleep(0.2)
            assert (taker.taken, server.reports) == ([], [])
            (tmp_path / "token").write_text(TOKEN)
            taker.trouble = None
            await until(lambda: taker.taken == [1])
            await until(lambda: server.reports)

    with plan_server() as server:
        asyncio.run(story(server))


class Keeper(Taker):
    """Remembers the plans whole."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: list[Plan] = []

    def apply(self, plan: Plan) -> None:
        """Take it."""
        super().apply(plan)
        self.whole.append(plan)


@pytest.mark.parametrize(("refusal", "left"), [("node-revoked", True), ("unauthenticated", False), ("other-node", False)])
def test_a_revoked_node_lets_go_of_everything_and_no_other_refusal_does_that(tmp_path: Path, refusal: str, left: bool) -> None:
    """Deployments and keys are gone, on disk too, and the store's name stays for the last records; a mistake changes nothing."""
    (tmp_path / "token").write_text(TOKEN)
    key = Key(id="abcd1234", sha256="0" * 64, project="*", scopes=["predict"])
    served, taker = plan(4).model_copy(update={"keyring": [key]}), Keeper()
    applied = taker.whole

    async def story(server: PlanServer) -> None:
        async with client(tmp_path, server, taker):
            server.publish(served)
            await until(lambda: PlanFile(tmp_path).read("main") == served)
            server.refusal = refusal
            await until(lambda: applied[-1] != served or server.refused > 3)
            if left:
                await until(lambda: PlanFile(tmp_path).read("main") == plan(4))

    with plan_server() as server:
        asyncio.run(story(server))
    assert applied == ([served, plan(4)] if left else [served])
    assert PlanFile(tmp_path).read("main") == applied[-1]
