"""Looking up digests for whoever decides: found once, tried again while it is not, and asked for one wish at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from quarterdeck.errors import PackageRefused, StorageError
from quarterdeck.manifest import Digest
from quarterdeck.plan import DeploymentPlan, Plan, Resolved, VersionName
from quarterdeck_node.agent_client import MemoryAgent
from quarterdeck_node.resolving import Resolver

ONE, TWO = VersionName(model="m", version=1), VersionName(model="m", version=2)
DIGEST = "sha256:" + "1" * 64


class World:
    """A resolver with a twin of the agent."""

    def __init__(self, correction_pause: float) -> None:
        self.agent, self.changes, self.sequence = MemoryAgent(), 0, 0
        self.agent.digests = {"m v1": DIGEST}
        self.resolver = Resolver(self.agent, self._changed, correction_pause=correction_pause)
        self.plan = deployment()

    def _changed(self) -> None:
        self.changes += 1

    def apply(self, plan: DeploymentPlan, store: str = "memory://one") -> None:
        """The next plan."""
        self.sequence += 1
        self.plan = plan
        self.resolver.apply(Plan(node="main", sequence=self.sequence, store=store, deployments=[plan]))

    @property
    def resolved(self) -> list[Resolved]:
        """What the report says."""
        return self.resolver.resolved(self.plan)

    @property
    def codes(self) -> list[str]:
        """The codes in it; empty ones are digests."""
        return [one.code for one in self.resolved]


def deployment(*resolve: VersionName, generation: int = 1) -> DeploymentPlan:
    """A plan that asks for digests and nothing else."""
    return DeploymentPlan(
        name="d", role="main", revision=0, generation=generation, active=None, resident=[], resolve=list(resolve)
    )


async def until(check: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.001)


def run(story: Callable[[World], Awaitable[None]], correction_pause: float = 3_600.0) -> None:
    """A story in a loop of its own; nothing is left running."""

    async def whole() -> None:
        world = World(correction_pause)
        try:
            await story(world)
        finally:
            await world.resolver.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole())


def test_what_is_asked_for_is_answered_in_order() -> None:
    """One that is there and one that is not; the store is asked once for what was found."""

    async def story(world: World) -> None:
        world.apply(deployment(TWO, ONE))
        await until(lambda: len(world.resolved) == 2)
        missing, found = world.resolved
        assert (missing.version, missing.digest, missing.code) == (2, None, "not-found")
        assert missing.reason == "The store has no m v2."
        assert found == Resolved(model="m", version=1, digest=DIGEST)
        world.apply(deployment(TWO, ONE))
        world.apply(deployment(ONE, generation=2))
        await asyncio.sleep(0.01)
        assert world.agent.asked.count("m v1") == 1
        assert world.changes == 2
        world.apply(deployment())
        assert world.resolved == []

    run(story)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StorageError("away", code="unreachable"), "unreachable"),
        (StorageError("no", code="access-denied", retryable=False), "access-denied"),
        (PackageRefused("odd", code="manifest-invalid"), "manifest-invalid"),
        (ZeroDivisionError(), "resolve-failed"),
    ],
)
def test_every_error_is_told_and_tried_again(error: Exception, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever corrects the store need not say so here as well; a bug of ours does not end the asking either."""

    async def story(world: World) -> None:
        broken = True

        async def resolve(wanted: VersionName, store: str) -> Digest:
            if broken:
                raise error
            return DIGEST

        monkeypatch.setattr(world.agent, "resolve", resolve)
        world.apply(deployment(ONE))
        await until(lambda: world.codes == [code])
        broken = False
        await until(lambda: world.resolved[0].digest == DIGEST)

    run(story, correction_pause=0.01)


def test_a_new_wish_or_store_is_asked_for_at_once() -> None:
    """Given a failure that waits for a person, when a person changes something, then nobody waits for the end of the pause."""

    async def story(world: World) -> None:
        world.apply(deployment(TWO))
        await until(lambda: world.codes == ["not-found"])
        world.agent.digests["m v2"] = DIGEST
        world.apply(deployment(TWO, generation=2))
        await until(lambda: world.codes == [""])
        world.agent.failures["m v2"] = StorageError("gone", code="no-such-bucket", retryable=False)
        world.apply(deployment(TWO, generation=2), "memory://other")
        assert world.resolved == [], "what another store said is no answer"
        await until(lambda: world.codes == ["no-such-bucket"])

    run(story)
