"""The one inner object: every door's rows are answered, recorded and mirrored here.

What serves is one dictionary of slots that is replaced as a whole. A request takes one snapshot of it and keeps it to its end,
so version, revision and record always belong together, whatever is switched meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from quarterdeck.errors import ModelFailed, NotFound, NotReady
from quarterdeck.manifest import Manifest
from quarterdeck.plan import DeploymentPlan, VersionRef
from quarterdeck.records import Answer, MainRecord
from quarterdeck.schema import Row
from quarterdeck_node.binding import Binder
from quarterdeck_node.runtimes import Runtime
from quarterdeck_node.spool import RecordSpool


class Mirroring(Protocol):
    """Who sends copies to the challenger."""

    def offer(self, deployment: DeploymentPlan, request_id: str, rows: list[Row]) -> None:
        """Take a copy of the rows, or count them as dropped. Never blocks, never raises."""


class Resident:
    """One version in memory, proven by its golden rows. It is closed when it is retired and its last request is done."""

    def __init__(self, ref: VersionRef, manifest: Manifest, runtime: Runtime) -> None:
        self.ref = ref
        self.manifest = manifest
        self.runtime = runtime
        self.binder = Binder(manifest.data_schema)
        self.users = 0


@dataclass(frozen=True, slots=True)
class Live:
    """What a deployment answers with: a version together with the plan that made it active."""

    plan: DeploymentPlan
    resident: Resident


@dataclass(frozen=True, slots=True)
class Slot:
    """One deployment: the newest wish (who may ask), what answers now, and every version that is ready, by number."""

    plan: DeploymentPlan
    live: Live | None = None
    versions: Mapping[int, Resident] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one request is answered with. `active` is False on versioned paths to a version that is not the active one."""

    plan: DeploymentPlan
    resident: Resident
    active: bool = True

    @property
    def ref(self) -> VersionRef:
        """The version."""
        return self.resident.ref


class Context(NamedTuple):
    """Where a request came from. `started` is `time.perf_counter()` at its arrival."""

    request_id: str
    door: str
    started: float
    caller_id: str = ""
    key_id: str = ""


class Predicted(NamedTuple):
    """The answers, one per row, and what gave them."""

    snapshot: Snapshot
    answers: list[Answer]


@dataclass(slots=True)
class Count:
    """Rows of one version of one deployment in this boot."""

    answered: int = 0
    failed: int = 0


class Predictor:
    """Answers rows with what is live.

    Args:
        spool: written to before an answer leaves.
        mirroring: offered every recorded request.
    """

    def __init__(self, spool: RecordSpool, mirroring: Mirroring) -> None:
        self.slots: Mapping[str, Slot] = {}
        self.counts: dict[tuple[str, str], Count] = {}
        self._spool = spool
        self._mirroring = mirroring

    def slot(self, deployment: str) -> Slot:
        """One deployment as it is now.

        Raises:
            NotFound: the plan does not name it.
        """
        slot = self.slots.get(deployment)
        if slot is None:
            raise NotFound(
                "There is no deployment of this name on this node.", kind="deployment", hint="GET /deployments lists them."
            )
        return slot

    def at(self, deployment: str, version: int | None = None) -> Snapshot:
        """What a request that starts now is answered with.

        Args:
            deployment: its name.
            version: a version number on versioned paths; None: the active one.

        Raises:
            NotFound: no such deployment, or the version is not held here.
            NotReady: nothing is active yet.
        """
        slot = self.slot(deployment)
        if slot.live is None:
            raise NotReady(
                f"{deployment} has no active version.",
                kind="deployment",
                name=deployment,
                hint="GET /ready says what it waits for.",
            )
        # From here on only this reference is used: a swap replaces it, and never changes what it points to.
        live = slot.live
        if version is None or version == live.resident.ref.version:
            return Snapshot(live.plan, live.resident)
        if version not in slot.versions:
            held = ", ".join(str(number) for number in sorted({*slot.versions, live.resident.ref.version}))
            raise NotFound(f"{deployment} does not hold this version.", kind="version", hint=f"It holds {held}.")
        return Snapshot(live.plan, slot.versions[version], active=False)

    async def predict(self, snapshot: Snapshot, rows: list[Row], context: Context) -> Predicted:
        """Answer rows that were bound to the snapshot's schema, and have them recorded and mirrored.

        Raises:
            ModelFailed: none of the rows is answered; nothing is recorded.
            Overloaded: shed before any work.
        """
        resident = snapshot.resident
        count = self.counts.setdefault((snapshot.plan.name, resident.ref.digest), Count())
        resident.users += 1
        try:
            answers = await resident.runtime.predict(rows)
            # A runtime that forgets a row would shift every answer after it to its neighbour.
            if len(answers) != len(rows):
                raise ModelFailed(f"The model answered {len(answers)} rows for {len(rows)}.")
        except ModelFailed:
            count.failed += len(rows)
            raise
        finally:
            resident.users -= 1
        # Counted before it is recorded: answered rows are what written and dropped must add up to.
        count.answered += len(rows)
        if snapshot.active and snapshot.plan.role == "main":
            self._keep(snapshot, rows, answers, context)
        return Predicted(snapshot, answers)

    def _keep(self, snapshot: Snapshot, rows: list[Row], answers: list[Answer], context: Context) -> None:
        plan, ref = snapshot.plan, snapshot.ref
        if plan.records == "spooled":
            record = MainRecord(
                ts=time.time_ns() // 1000,
                request_id=context.request_id,
                deployment=plan.name,
                project=plan.project,
                stage=plan.stage,
                revision=plan.revision,
                model=ref.model,
                version=ref.version,
                digest=ref.digest,
                door=context.door,
                latency_us=round((time.perf_counter() - context.started) * 1e6),
                rows=rows,
                answers=answers,
                caller_id=context.caller_id,
                key_id=context.key_id,
            )
            # A full or broken disk costs the record, never the answer: the spool counts what it had to drop.
            self._spool.append(record)
        if plan.mirror is not None:
            self._mirroring.offer(plan, context.request_id, rows)
