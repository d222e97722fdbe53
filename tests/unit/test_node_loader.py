"""The loader alone, with twins for agent and runtime: what is tried again, what is final, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.errors import PackageRefused, StorageError
from quarterdeck.manifest import Manifest
from quarterdeck.plan import DeploymentPlan, Plan, VersionRef, VersionReport
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.agent_client import Ensured, MemoryAgent
from quarterdeck_node.loading import Loader
from quarterdeck_node.mirror import Mirror
from quarterdeck_node.predictor import Context, Predictor, Resident
from quarterdeck_node.spool import MemorySpool
from tests.nodes import deployment, encoding

LONG = 3_600.0


class Constant:
    """A runtime that answers zeros, and waits where it is told to."""

    def __init__(self) -> None:
        self.closed = 0
        self.gate: asyncio.Event | None = None

    async def predict(self, rows: Sequence[Row], deadline: float = 0.0) -> list[Answer]:
        """A zero for each row."""
        if self.gate is not None:
            await self.gate.wait()
        return [Answer(0.0, []) for _ in rows]

    async def close(self) -> None:
        """Counted: once is right."""
        self.closed += 1


class StoreAgent(MemoryAgent):
    """Knows every version, and remembers which store was asked for it."""

    def __init__(self) -> None:
        super().__init__()
        self.stores: list[str] = []

    async def ensure(self, ref: VersionRef, store: str) -> Ensured:
        """A folder for anything that has no failure."""
        self.stores.append(store)
        self.packages[ref.digest] = Path(ref.digest)
        return await super().ensure(ref, store)


class World:
    """A loader with everything around it."""

    def __init__(self, correction_pause: float = LONG) -> None:
        self.agent = StoreAgent()
        self.opened: list[Resident] = []
        self.refusals: dict[str, Exception] = {}
        self.predictor = Predictor(MemorySpool(), Mirror(MemorySpool(), lambda _: None))
        self.changes = 0
        self.loader = Loader(self.predictor, self.agent, self._open, self._changed, correction_pause=correction_pause)
        self._sequence = 0

    async def _open(self, ref: VersionRef, folder: Path) -> Resident:
        await asyncio.sleep(0)
        if ref.digest in self.refusals:
            raise self.refusals[ref.digest]
        self.opened.append(Resident(ref, manifest(), Constant()))
        return self.opened[-1]

    def _changed(self) -> None:
        self.changes += 1

    def apply(self, *deployments: DeploymentPlan, store: str = "memory://one") -> None:
        """The next plan."""
        self._sequence += 1
        self.loader.apply(Plan(node="main", sequence=self._sequence, store=store, deployments=list(deployments)))

    def state(self, wanted: DeploymentPlan) -> VersionReport:
        """Of the first version of a deployment."""
        return self.loader.reports(wanted)[0]

    def active(self, name: str = "numbers") -> int | None:
        """The version number that answers."""
        slot = self.predictor.slots.get(name)
        return slot.live.resident.ref.version if slot and slot.live else None


def manifest() -> Manifest:
    """Of a model of one number."""
    return encoding(1).manifest


def version(number: int) -> VersionRef:
    """A version without bytes."""
    return VersionRef(model="numbers", version=number, digest=f"sha256:{number:064x}")


def runtime(resident: Resident) -> Constant:
    """Its twin."""
    assert isinstance(resident.runtime, Constant)
    return resident.runtime


async def until(check: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.001)


def run(story: Callable[[World], Awaitable[None]], correction_pause: float = LONG) -> World:
    """Tell a story in a loop of its own and close the loader; then everything that was opened must be closed once."""

    async def main() -> World:
        world = World(correction_pause)
        try:
            await story(world)
        finally:
            await world.loader.close()
        return world

    world = asyncio.run(main())
    assert [runtime(one).closed for one in world.opened] == [1] * len(world.opened)
    return world


@pytest.mark.parametrize("code", ["wrong-credentials", "access-denied", "no-such-bucket", "not-found"])
def test_what_a_person_can_mend_is_never_given_up(code: str) -> None:
    """The version is `fetching` with code and reason, and is ready soon after the store is, under the same wish."""

    async def story(world: World) -> None:
        wish = deployment(version(1), generation=1)
        world.agent.failures[version(1).digest] = StorageError("The store said no.", code=code, hint="Mend it.", retryable=False)
        world.apply(wish)
        await until(lambda: len(world.agent.asked) >= 3)
        said = world.state(wish)
        assert (said.state, said.code, said.reason) == ("fetching", code, "The store said no. Mend it.")
        assert world.active() is None
        world.agent.failures.clear()
        await until(lambda: world.active() == 1)
        assert (world.state(wish).state, world.state(wish).code) == ("ready", "")

    run(story, correction_pause=0.001)


def test_a_persons_wish_does_not_wait_for_the_pause() -> None:
    """A newer generation asks at once; the same one waits, however often its plan comes."""

    async def story(world: World) -> None:
        world.agent.failures[version(1).digest] = StorageError("No.", code="wrong-credentials", retryable=False)
        world.apply(deployment(version(1), generation=1))
        await until(lambda: world.state(deployment(version(1))).code)
        world.agent.failures.clear()
        for _ in range(3):
            world.apply(deployment(version(1), generation=1))
            await asyncio.sleep(0.01)
        assert (len(world.agent.asked), world.active()) == (1, None)
        world.apply(deployment(version(1), generation=2))
        await until(lambda: world.active() == 1)

    run(story)


def test_a_store_that_moved_is_asked_where_it_is_now() -> None:
    """A corrected URL counts for what is on its way already."""

    async def story(world: World) -> None:
        world.agent.failures[version(1).digest] = StorageError("No.", code="no-such-bucket", retryable=False)
        world.apply(deployment(version(1)), store="memory://wrong")
        await until(lambda: world.agent.stores)
        world.apply(deployment(version(1)), store="memory://right")
        await until(lambda: "memory://right" in world.agent.stores)

    run(story, correction_pause=0.001)


@pytest.mark.parametrize("code", ["digest-mismatch", "golden-mismatch", "environment-mismatch", "trust-required"])
def test_a_refused_package_is_final_for_its_wish(code: str) -> None:
    """Whatever plan comes with the same generation; a newer one tries again."""

    async def story(world: World) -> None:
        world.refusals[version(1).digest] = PackageRefused("It is not sound.", code=code, extra={"place": "model.txt"})
        world.apply(deployment(version(1), generation=1))
        await until(lambda: world.state(deployment(version(1))).state == "failed")
        world.apply(deployment(version(1), generation=1))
        await asyncio.sleep(0.01)
        assert (len(world.agent.asked), world.state(deployment(version(1))).place) == (1, "model.txt")
        world.refusals.clear()
        world.apply(deployment(version(1), generation=2))
        await until(lambda: world.active() == 1)

    run(story)


def test_one_version_that_waits_does_not_keep_the_cache_full() -> None:
    """What may go is said although credentials for something else are wrong; what waits is kept."""

    async def story(world: World) -> None:
        world.agent.failures[version(2).digest] = StorageError("No.", code="access-denied", retryable=False)
        world.apply(deployment(version(1), version(2)))
        await until(lambda: world.state(deployment(version(2))).code)
        world.apply(deployment(version(3), version(2)))
        await until(lambda: world.active() == 3)
        await until(lambda: sorted(world.agent.kept) == [version(2).digest, version(3).digest])

    run(story)


def test_an_unexpected_error_is_named_and_final() -> None:
    """It names the kind of error, never its words."""

    async def story(world: World) -> None:
        world.refusals[version(1).digest] = ZeroDivisionError("secret")
        world.apply(deployment(version(1)))
        await until(lambda: world.state(deployment(version(1))).state == "failed")
        said = world.state(deployment(version(1)))
        assert (said.code, said.reason) == ("load-failed", "Loading raised ZeroDivisionError.")

    run(story)


def test_the_old_version_answers_until_the_new_one_is_proven() -> None:
    """Under its own revision; it is unloaded when its successor has taken over and nobody names it."""

    async def story(world: World) -> None:
        world.apply(deployment(version(1), revision=1))
        await until(lambda: world.active() == 1)
        world.agent.failures[version(2).digest] = StorageError("Not now.")
        world.apply(deployment(version(2), revision=2))
        await until(lambda: len(world.agent.asked) >= 2)
        live = world.predictor.slots["numbers"].live
        assert live is not None
        assert (world.active(), live.plan.revision, runtime(world.opened[0]).closed) == (1, 1, 0)
        world.agent.failures.clear()
        await until(lambda: world.active() == 2)
        await until(lambda: runtime(world.opened[0]).closed)

    run(story)


def test_a_version_is_unloaded_after_its_last_request() -> None:
    """A request that has begun is answered by the version that it began with."""

    async def story(world: World) -> None:
        world.apply(deployment(version(1)))
        await until(lambda: world.active() == 1)
        twin = runtime(world.opened[0])
        twin.gate = asyncio.Event()
        snapshot = world.predictor.at("numbers")
        request = asyncio.create_task(world.predictor.predict(snapshot, [{"number": 1.0}], Context("r", "plain", 0.0)))
        await until(lambda: world.opened[0].users)
        world.apply(deployment(version(2), revision=2))
        await until(lambda: world.active() == 2)
        await asyncio.sleep(0.05)
        assert twin.closed == 0
        twin.gate.set()
        assert (await request).snapshot.ref == version(1)
        await until(lambda: twin.closed)

    run(story)


PLANS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 4), st.lists(st.integers(1, 4), max_size=2), st.booleans()),
        max_size=2,
        unique_by=lambda one: one[0],
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(PLANS, st.sets(st.integers(1, 4), max_size=2), st.lists(st.integers(0, 3), max_size=6))
def test_any_series_of_plans_ends_where_the_last_one_alone_would(
    plans: list[list[tuple[str, int, list[int], bool]]], refused: set[int], turns: list[int]
) -> None:
    """Whatever came before and however far it got: the last plan's versions are in memory, nothing else, and each once."""

    async def story(world: World) -> None:
        for number in refused:
            world.refusals[version(number).digest] = PackageRefused("No.")
        for index, plan in enumerate(plans):
            world.apply(
                *(
                    deployment(
                        version(active) if runs else None, version(active), *map(version, others), name=name, revision=index
                    )
                    for name, active, others, runs in plan
                )
            )
            for _ in range(turns[index] if index < len(turns) else 0):
                await asyncio.sleep(0)
        wanted = {number for _, active, others, _ in plans[-1] for number in (active, *others)}
        names = {name for name, *_ in plans[-1]}
        await until(lambda: all(one.state in ("ready", "failed") for one in reports(world, plans[-1])))
        assert set(world.predictor.slots) == names
        for name, active, _, runs in plans[-1]:
            if not runs:
                assert world.active(name) is None
            elif active not in refused:
                assert world.active(name) == active
        serving = {slot.live.resident.ref.version for slot in world.predictor.slots.values() if slot.live}
        await until(lambda: in_memory(world) == sorted((wanted - refused) | serving))

    run(story)


def reports(world: World, plan: list[tuple[str, int, list[int], bool]]) -> list[VersionReport]:
    """Of every version that a plan names."""
    return [
        one
        for name, active, others, _ in plan
        for one in world.loader.reports(deployment(version(active), *map(version, others)))
    ]


def in_memory(world: World) -> list[int]:
    """Versions that were opened and not closed."""
    return sorted(one.ref.version for one in world.opened if not runtime(one).closed)
