"""The node: every part of the serve process, put together once, with or without a network around it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from quarterdeck.plan import DeploymentPlan, DeploymentReport, NodeReport, Plan, VersionRef
from quarterdeck.schema import Schema
from quarterdeck_node.agent_client import Agent, HttpAgent
from quarterdeck_node.auth import Keyring
from quarterdeck_node.key_uses import KeyUses
from quarterdeck_node.loading import Loader
from quarterdeck_node.metrics import Metrics, State
from quarterdeck_node.mirror import Mirror
from quarterdeck_node.opening import open_version
from quarterdeck_node.plan_client import PlanClient
from quarterdeck_node.predictor import Predictor, Resident
from quarterdeck_node.probing import Prober
from quarterdeck_node.resolving import Resolver
from quarterdeck_node.runtimes.process import ModelProcess
from quarterdeck_node.settings import Settings
from quarterdeck_node.spool import Spool
from quarterdeck_node.used import used

RUNNING_SECONDS = 30.0
BEAT_SECONDS = 0.5


class Node:
    """One serve process. Made anywhere, started and stopped inside the event loop that serves.

    Args:
        settings: of the process.
        agent: who fetches packages; the one behind `agent.sock` where None.
    """

    def __init__(self, settings: Settings, agent: Agent | None = None) -> None:
        self.settings = settings
        self.limits = settings.limits
        # Sorts by time, so the spool's files of several boots are shipped in order.
        self.boot = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"
        self.plan: Plan | None = None
        self.keyring = Keyring()
        self._uses = KeyUses()
        # Draining: the door closes when nobody comes any more. Leaving: nobody comes, and nobody shall be led here.
        self.draining = self.leaving = False
        # Requests being answered and bytes of bodies being received: doors count both and shed by them.
        self.inflight = self.receiving = 0
        self.lag = 0.0
        self.agent = agent or HttpAgent(settings.folder)
        self.spool = Spool(settings.folder / "spool", self.boot, max_age=settings.ship_seconds)
        self.mirror = Mirror(self.spool, self._schema)
        self.predictor = Predictor(self.spool, self.mirror)
        self.metrics = Metrics(self.state, cache_seconds=settings.metrics_seconds)
        self._loader: Loader | None = None
        self._resolver = Resolver(self.agent, self._changed)
        self._client: PlanClient | None = None
        self._prober = Prober(lambda: self.predictor.slots, settings.probe_seconds, self._tell)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin: the stored plan is taken over at once, everything else follows by itself."""
        self._loader = Loader(self.predictor, self.agent, self._open, self._changed)
        self._client = PlanClient(self.settings, self.apply, self.report)
        # Before any plan: a mirror that is applied first would queue rows that nobody sends.
        self.mirror.start()
        self._tasks = [asyncio.create_task(work) for work in (self.spool.run(), self._prober.run(), self._beat())]
        self._client.start()

    async def stop(self) -> None:
        """End, after the last request was answered: nothing that was answered is lost."""
        self.draining = True
        try:
            await self.mirror.stop()
            if self._client is not None:
                await self._client.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._resolver.close()
            if self._loader is not None:
                await self._loader.close()
            await self.agent.close()
        finally:
            # Last, since the mirror writes to the end; always, since the agent waits for it.
            self.spool.close()

    def drain(self) -> None:
        """Say that this node is about to leave; answers ask for their connections to be closed from now on."""
        self.draining = True
        self._tell()

    def apply(self, plan: Plan) -> None:
        """Take over a plan. Keys count from this moment, versions as soon as they are proven."""
        self.plan = plan
        # The meters go on: otherwise every plan would be a new allowance for every key.
        self.keyring = Keyring(plan.keyring, plan.issuers, self.keyring.meters)
        if self._loader is not None:
            self._loader.apply(plan)
            self._resolver.apply(plan)

    def missing(self) -> list[str]:
        """What keeps this node from being ready, in words; empty when it is."""
        if self.plan is None:
            return ["No plan has arrived yet."]
        slots = self.predictor.slots
        # A version that is refused while an older one answers does not make the node unready.
        waiting = [
            f"{plan.name}: {plan.active} is not ready yet."
            for plan in self.plan.deployments
            if plan.active is not None and (plan.name not in slots or slots[plan.name].live is None)
        ]
        nothing = not waiting and all(slot.live is None for slot in slots.values())
        return ["No deployment has an active version."] if nothing else waiting

    def report(self) -> NodeReport:
        """A snapshot for the plan server."""
        rss, cpu = used({one.runtime.pid for one in self._residents() if isinstance(one.runtime, ModelProcess)})
        return NodeReport(
            node=self.settings.node,
            boot=self.boot,
            role=self.settings.role,
            url=self.settings.base_url,
            sequence=self.plan.sequence if self.plan else 0,
            ready=not self.missing(),
            draining=self.draining,
            deployments=[self._deployment(plan) for plan in self.plan.deployments] if self.plan else [],
            spool_rows=self.spool.rows,
            spool_bytes=self.spool.bytes,
            spool_oldest_seconds=self.spool.oldest_age,
            keys=self._uses.of(self.keyring.meters.values()),
            rss_bytes=rss,
            cpu_seconds=cpu,
        )

    def state(self) -> State:
        """A snapshot for metrics."""
        slots = self.predictor.slots
        return State(
            role=self.settings.role,
            slots=slots,
            inflight=self.inflight,
            running={
                name: (age := self._prober.age(name, slot)) is not None and age < RUNNING_SECONDS for name, slot in slots.items()
            },
            mirrors={name: self.mirror.report(name) for name, slot in slots.items() if slot.plan.role == "main"},
            records_written=self.spool.written,
            records_dropped=self.spool.dropped,
            spool_rows=self.spool.rows,
            spool_bytes=self.spool.bytes,
            spool_oldest_seconds=self.spool.oldest_age,
            queues={one.ref: one.runtime.figures for one in self._residents() if isinstance(one.runtime, ModelProcess)},
            loop_lag_seconds=self.lag,
        )

    def _residents(self) -> Iterator[Resident]:
        """Every version in memory, those of several deployments several times."""
        for slot in self.predictor.slots.values():
            yield from slot.versions.values()
            if slot.live is not None:
                yield slot.live.resident

    async def _open(self, ref: VersionRef, folder: Path) -> Resident:
        return await open_version(ref, folder, self.settings.budget, self.limits)

    def _changed(self) -> None:
        """Slots or states changed: mirror what answers now, show it, tell the plan server."""
        slots = self.predictor.slots
        self.mirror.apply([slot.live.plan for slot in slots.values() if slot.live is not None])
        self.metrics.prepare(slots)
        self._prober.wake()
        self._tell()

    def _tell(self) -> None:
        if self._client is not None:
            self._client.changed()

    async def _beat(self) -> None:
        """See how late the loop is: whatever keeps it from this keeps it from requests."""
        while True:
            due = time.monotonic() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self.lag = max(0.0, time.monotonic() - due)

    def _schema(self, name: str) -> Schema | None:
        slot = self.predictor.slots.get(name)
        return slot.live.resident.manifest.data_schema if slot and slot.live else None

    def _deployment(self, plan: DeploymentPlan) -> DeploymentReport:
        slot = self.predictor.slots.get(plan.name)
        live = slot.live if slot else None
        counts = {digest: count for (name, digest), count in self.predictor.counts.items() if name == plan.name}
        return DeploymentReport(
            name=plan.name,
            role=plan.role,
            revision=live.plan.revision if live else 0,
            generation=plan.generation,
            active=live.resident.ref.digest if live else None,
            versions=self._loader.reports(plan) if self._loader else [],
            answered={digest: count.answered for digest, count in counts.items()},
            errors={digest: count.failed for digest, count in counts.items()},
            requests={digest: count.requests for digest, count in counts.items()},
            failures={digest: count.failures for digest, count in counts.items()},
            resolved=self._resolver.resolved(plan),
            probe_failure=self._prober.failure(plan.name, slot) if slot else "",
            probe_age_seconds=self._prober.age(plan.name, slot) if slot else None,
            mirroring=live.plan.mirror.version.digest if live and live.plan.mirror else None,
            mirror=self.mirror.report(plan.name),
        )
