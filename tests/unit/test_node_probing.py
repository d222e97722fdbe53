"""Golden rows through what is live: what is told, when, and what is not the version's fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from quarterdeck.errors import ModelFailed, Overloaded
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node import probing
from quarterdeck_node.predictor import Live, Resident, Slot
from quarterdeck_node.probing import TRIES, Prober
from tests.nodes import deployment, encoding, ref

RIGHT, WRONG = Answer(1.0, []), Answer(2.0, [])
DIED, SHED = ModelFailed("The model process is not running.", code="model-died"), Overloaded("Too many rows wait.")


class Scripted:
    """A runtime that answers or raises what it was told, one after the other, and the last of it for ever."""

    def __init__(self, *script: Answer | Exception | None) -> None:
        self.script = list(script)
        self.asked = 0

    async def predict(self, rows: Sequence[Row], deadline: float = 0.0) -> list[Answer]:
        """The next one; None hangs."""
        self.asked += 1
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if said is None:
            await asyncio.sleep(3_600)
        if isinstance(said, Exception):
            raise said
        assert isinstance(said, Answer)
        return [said]

    async def close(self) -> None:
        """Nothing to end."""


class World:
    """One deployment, its model and its prober; what is told is counted."""

    def __init__(self, *script: Answer | Exception | None) -> None:
        self.tellings = 0
        self.slot = Slot(deployment(None))
        self.runtime = self.live(1, *script)
        self.prober = Prober(lambda: {"numbers": self.slot}, 0.0, self._told)

    def _told(self) -> None:
        self.tellings += 1

    def live(self, version: int, *script: Answer | Exception | None) -> Scripted:
        """Another version becomes active."""
        runtime, wanted = Scripted(*script), ref(encoding(version), version)
        plan = deployment(wanted)
        # The rows and the expected answer of version 1: what is active is told apart by its digest only.
        self.slot = Slot(plan, Live(plan, Resident(wanted, encoding(1).manifest, runtime)))
        return runtime

    @property
    def failure(self) -> str:
        """What the report says."""
        return self.prober.failure("numbers", self.slot)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(probing, "PROBE_SECONDS", 0.05)


def run(world: World, story: Callable[[], Awaitable[None]]) -> None:
    """A story beside the prober."""

    async def whole() -> None:
        task = asyncio.create_task(world.prober.run())
        try:
            async with asyncio.timeout(60):
                await story()
        finally:
            task.cancel()

    asyncio.run(whole())


async def until(check: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    while not check():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        pytest.param([WRONG], "another number than expected.", id="a wrong answer"),
        pytest.param([DIED] * TRIES, "The model process is not running.", id="an error that stays"),
        pytest.param([None], "no answer within 0.05 s.", id="no answer"),
        pytest.param([ZeroDivisionError()] * TRIES, "ZeroDivisionError.", id="a mistake of ours, by its name alone"),
    ],
)
def test_a_failure_is_told_once_and_taken_back_when_it_is_over(script: list[Answer | Exception | None], told: str) -> None:
    """As long as it lasts the report says it; the first right answer ends it."""
    world = World(*script)

    async def story() -> None:
        await until(lambda: world.failure == told)
        asked = world.runtime.asked
        await until(lambda: world.runtime.asked > asked + TRIES)
        assert (world.tellings, world.prober.age("numbers", world.slot)) == (1, None)
        world.runtime.script = [RIGHT]
        await until(lambda: world.failure == "")
        assert world.tellings == 2
        assert world.prober.age("numbers", world.slot) is not None

    run(world, story)


@pytest.mark.parametrize(
    "script", [[DIED, RIGHT], [*[DIED] * (TRIES - 1), RIGHT], [SHED]], ids=["a process died", "and took its time", "overload"]
)
def test_what_is_not_the_versions_fault_is_not_told(script: list[Answer | Exception | None]) -> None:
    """A process that somebody killed is started again; a model under too much load sheds its probe like a caller."""
    world = World(*script)

    async def story() -> None:
        await until(lambda: world.runtime.asked > 3 * TRIES)
        assert (world.failure, world.tellings) == ("", 0)

    run(world, story)


def test_a_failure_speaks_of_its_own_version_only() -> None:
    """The next one that becomes active starts clean, before it was probed at all."""
    world = World(WRONG)

    async def story() -> None:
        await until(lambda: world.failure)
        runtime = world.live(2, RIGHT)
        assert (world.failure, world.prober.age("numbers", world.slot)) == ("", None)
        await until(lambda: runtime.asked)

    run(world, story)


def test_a_version_is_held_while_it_is_probed() -> None:
    """It must not be closed under its last row."""
    world = World(None)

    async def story() -> None:
        await until(lambda: world.slot.live is not None and world.slot.live.resident.users == 1)
        world.runtime.script = [RIGHT]
        await until(lambda: world.slot.live is not None and world.slot.live.resident.users == 0)

    run(world, story)
