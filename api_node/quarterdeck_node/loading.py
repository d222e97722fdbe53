"""Level-triggered loading: from a plan to slots.

Every resident version is brought here by a task of its own: agent, load, golden rows. After every step the slots are worked out
anew from the plan and what is ready, and replaced as a whole. A version that fails changes nothing of what serves.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quarterdeck.errors import PackageRefused, QuarterdeckError, StorageError
from quarterdeck.plan import DeploymentPlan, LoadState, Plan, VersionRef, VersionReport
from quarterdeck_node.agent_client import Agent
from quarterdeck_node.predictor import Live, Predictor, Resident, Slot

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
CORRECTION_PAUSE = 30.0
"""Pause before the store is tried again where only a person can mend it: credentials, rights, a bucket that is not there."""
_log = logging.getLogger(__name__)

Opener = Callable[[VersionRef, Path], Awaitable[Resident]]


@dataclass(slots=True)
class _Version:
    """How far one wanted version is."""

    ref: VersionRef
    state: LoadState = "fetching"
    code: str = ""
    reason: str = ""
    place: str = ""
    memory_bytes: int = 0
    load_seconds: float = 0.0
    resident: Resident | None = None
    task: asyncio.Task[None] | None = None
    # Waits for a person; so a person's new wish need not wait for it.
    waits: bool = False

    @property
    def settled(self) -> bool:
        """Nothing will change it soon, or without somebody's doing."""
        return self.waits or self.state in ("ready", "failed")

    def report(self) -> VersionReport:
        """As the plan server sees it."""
        return VersionReport(
            digest=self.ref.digest,
            version=self.ref.version,
            accelerator=self.ref.accelerator,
            state=self.state,
            code=self.code,
            reason=self.reason,
            place=self.place,
            memory_bytes=self.memory_bytes,
            load_seconds=self.load_seconds,
        )


class Loader:
    """Brings the predictor's slots to what the plan says.

    Args:
        predictor: its `slots` are replaced here and nowhere else.
        agent: fetches and verifies.
        opener: loads and proves a folder.
        changed: called after every change of any state or slot.
        correction_pause: seconds between tries where the store's error is one that waiting alone does not mend.
    """

    def __init__(
        self,
        predictor: Predictor,
        agent: Agent,
        opener: Opener,
        changed: Callable[[], None],
        *,
        correction_pause: float = CORRECTION_PAUSE,
    ) -> None:
        self._predictor = predictor
        self._agent = agent
        self._open = opener
        self._changed = changed
        self._correction_pause = correction_pause
        self._plan: Plan | None = None
        self._versions: dict[VersionRef, _Version] = {}
        self._generations: dict[str, int] = {}
        self._closing: set[asyncio.Task[None]] = set()
        # One at a time: two models that load side by side would both slow down what serves.
        self._loading = asyncio.Lock()

    def apply(self, plan: Plan) -> None:
        """Take over a plan. Returns at once; `changed` tells of progress."""
        # Never a difference to the plan before: whatever was missed in between is made good here.
        self._plan = plan
        wanted = _wanted(plan)
        for ref in [ref for ref in self._versions if ref not in wanted]:
            version = self._versions[ref]
            if version.task is not None:
                version.task.cancel()
            if version.resident is None:
                del self._versions[ref]
        # A refusal is final for its wish; without this a person could never say "try it again".
        again = self._wished_again(plan)
        for ref in wanted:
            before = self._versions.get(ref)
            if before is None or (ref in again and (before.waits or before.state == "failed")):
                if before is not None and before.task is not None:
                    before.task.cancel()
                version = self._versions[ref] = _Version(ref)
                version.task = asyncio.create_task(self._bring(version))
        self._settle()

    def _wished_again(self, plan: Plan) -> set[VersionRef]:
        """Versions of deployments whose wish is a newer one: what failed under the old wish gets another try."""
        before = self._generations
        self._generations = {deployment.name: deployment.generation for deployment in plan.deployments}
        newer = [deployment for deployment in plan.deployments if deployment.generation > before.get(deployment.name, 0)]
        return {ref for deployment in newer for ref in _refs(deployment)}

    def reports(self, deployment: DeploymentPlan) -> list[VersionReport]:
        """States of the versions that a deployment names."""
        return [self._versions[ref].report() for ref in _refs(deployment) if ref in self._versions]

    async def close(self) -> None:
        """Stop loading and unload everything."""
        tasks = [version.task for version in self._versions.values() if version.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._closing, return_exceptions=True)
        self._predictor.slots = {}
        # Together, since ending a process takes its time and there may be dozens.
        await asyncio.gather(*(one.resident.runtime.close() for one in self._versions.values() if one.resident is not None))
        self._versions = {}

    async def _bring(self, version: _Version) -> None:
        """Fetch, load and prove one version, for as long as it takes or until it is refused."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._load(version)
                break
            except StorageError as error:
                # Never given up: whoever corrects credentials or a bucket's name must not have to say so here as well.
                version.waits = not error.retryable
                _say(version, "fetching", error)
            # The bytes themselves are wrong: trying again would find the same ones.
            except PackageRefused as error:
                _say(version, "failed", error)
                break
            except Exception as error:
                _log.exception("loading %s failed", version.ref)
                _say(version, "failed", PackageRefused(f"Loading raised {type(error).__name__}.", code="load-failed"))
                break
            self._changed()
            await asyncio.sleep(self._correction_pause if version.waits else pause)
            # Each node doubles for itself; a store that returns is found again within ten seconds.
            pause = min(pause * 2, LONGEST_PAUSE)
        version.waits = False
        self._settle()
        if all(version.settled for version in self._versions.values()):
            # Room in the agent's cache is the agent's business; what it may free is known here.
            with suppress(QuarterdeckError):
                await self._agent.forget([ref.digest for ref in self._versions])

    async def _load(self, version: _Version) -> None:
        # The newest plan's store, not that of the plan which began this: its URL may be what was corrected.
        ensured = await self._agent.ensure(version.ref, self._plan.store if self._plan else "")
        async with self._loading:
            version.state = "loading"
            self._changed()
            started = time.monotonic()
            version.resident = await self._open(version.ref, ensured.folder)
        version.memory_bytes = ensured.memory_bytes
        version.load_seconds = time.monotonic() - started
        version.state, version.code, version.reason, version.place = "ready", "", "", ""
        # What is loaded stays: without this the collector walks through all of it again and again while requests wait.
        gc.freeze()
        _log.info("%s is ready after %.2f s", version.ref, version.load_seconds)

    def _settle(self) -> None:
        """Work out the slots from the plan and what is ready; let go of what neither names nor serves."""
        if self._plan is None:
            return
        old = self._predictor.slots
        slots = {plan.name: self._slot(plan, old.get(plan.name)) for plan in self._plan.deployments}
        self._predictor.slots = slots
        wanted = _wanted(self._plan)
        serving = {id(slot.live.resident) for slot in slots.values() if slot.live is not None}
        for ref, version in list(self._versions.items()):
            if ref not in wanted and (version.resident is None or id(version.resident) not in serving):
                del self._versions[ref]
                if version.resident is not None:
                    self._retire(version.resident)
        self._changed()

    def _slot(self, plan: DeploymentPlan, old: Slot | None) -> Slot:
        # The active one last, lest the same version for another accelerator takes its number.
        ready = {ref.version: resident for ref in reversed(_refs(plan)) if (resident := self._resident(ref)) is not None}
        if plan.active is None:
            return Slot(plan, None, ready)
        resident = self._resident(plan.active)
        if resident is not None:
            return Slot(plan, Live(plan, resident), ready)
        # Not ready, or refused: what served goes on serving, under its own revision.
        return Slot(plan, old.live if old else None, ready)

    def _resident(self, ref: VersionRef) -> Resident | None:
        version = self._versions.get(ref)
        return version.resident if version else None

    def _retire(self, resident: Resident) -> None:
        task = asyncio.create_task(_close_when_idle(resident))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close_when_idle(resident: Resident) -> None:
    """No new request can reach it any more; close it after the last one that still runs."""
    # Polling costs nothing here: a version is unloaded a few times a day.
    while resident.users:
        await asyncio.sleep(0.01)
    await resident.runtime.close()
    ref = resident.ref
    del resident
    # Functions that were made for the version hold on to each other: only the collector frees them, once they are thawed.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    _log.info("%s is unloaded", ref)


def _say(version: _Version, state: LoadState, error: QuarterdeckError) -> None:
    version.state, version.code, version.reason = state, error.code, str(error)
    version.place = str(error.extra.get("place", ""))
    _log.warning("%s is %s: %s (%s)", version.ref, state, error, error.code)


def _refs(plan: DeploymentPlan) -> list[VersionRef]:
    """The versions of one deployment, the active one first."""
    return list(dict.fromkeys([*([plan.active] if plan.active else []), *plan.resident]))


def _wanted(plan: Plan) -> list[VersionRef]:
    """Every version that the plan names, once, those that shall answer first."""
    active = [deployment.active for deployment in plan.deployments if deployment.active]
    return list(dict.fromkeys([*active, *(ref for deployment in plan.deployments for ref in deployment.resident)]))
