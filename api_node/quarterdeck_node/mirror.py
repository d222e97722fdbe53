"""Mirroring: copies of main's rows go to the challenger node, and main never feels how that node is.

`offer` only puts rows into a bounded queue. One task per deployment sends them in coalesced batches and writes what became of
them down through the spool; rows that were dropped are counted only. Work on the loop is cut into pieces of a few dozen rows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from quarterdeck.errors import NotReady
from quarterdeck.plan import DeploymentPlan, MirrorReport
from quarterdeck.records import ChallengerRecord, MirroredRow
from quarterdeck.schema import Row, Schema
from quarterdeck_node.mirror_answers import Judge, largest_body
from quarterdeck_node.mirror_lane import Batch, Lane, Outcome
from quarterdeck_node.mirror_link import Link, Reply
from quarterdeck_node.spool import RecordSpool

log = logging.getLogger(__name__)

PIECE_ROWS = 64
STOP_SECONDS = 2.0
_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)


class _Verdict(NamedTuple):
    """What became of one batch: by row where the challenger answered, else one error for all."""

    error: str
    detail: str
    judged: Iterator[MirroredRow]


class Mirror:
    """All mirroring of one node. Belongs to one event loop; every method but `stop` returns at once.

    Args:
        spool: where the challenger's answers are written down.
        schema: gives the schema of what a deployment answers with now; None where it is not known (yet).
        connection_seconds: connections are renewed this often, so that a new challenger node behind a name gets its share.
    """

    def __init__(self, spool: RecordSpool, schema: Callable[[str], Schema | None], *, connection_seconds: float = 60.0) -> None:
        self._spool, self._schema, self._connection_seconds = spool, schema, connection_seconds
        self._senders: dict[str, _Sender] = {}
        self._running = False

    def start(self) -> None:
        """Begin to send; call it inside the running loop."""
        self._running = True
        for sender in self._senders.values():
            sender.start()

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Send what is queued for at most `seconds`; what is left is dropped, what is on its way failed as ``node-stopped``."""
        self._running = False
        await asyncio.gather(*(sender.stop(seconds) for sender in self._senders.values()))

    def apply(self, deployments: Sequence[DeploymentPlan]) -> None:
        """Take over a plan: the whole wish. Rows queued for a version that is not asked any more are dropped."""
        plans = {plan.name: plan for plan in deployments if plan.role == "main"}
        for name in plans.keys() | self._senders.keys():
            plan = plans.get(name)
            if name in self._senders or (plan and plan.mirror):
                self._sender(name).retarget(plan)

    def offer(self, deployment: DeploymentPlan, request_id: str, rows: list[Row]) -> None:
        """Queue copies of rows that main answered. Never waits, never raises; without a mirror in the plan nothing happens."""
        if deployment.mirror is not None and rows:
            self._sender(deployment.name).offer(deployment, request_id, rows)

    def report(self, name: str) -> MirrorReport:
        """The ledger of one deployment in this boot."""
        sender = self._senders.get(name)
        return sender.lane.report() if sender else MirrorReport()

    def _sender(self, name: str) -> _Sender:
        if name not in self._senders:
            self._senders[name] = _Sender(name, self._spool, self._schema, self._connection_seconds)
            if self._running:
                self._senders[name].start()
        return self._senders[name]


class _Sender:
    """Sends one deployment's lane."""

    def __init__(self, name: str, spool: RecordSpool, schema: Callable[[str], Schema | None], connection_seconds: float) -> None:
        self.lane = Lane()
        self._connection_seconds = connection_seconds
        self._name, self._spool, self._schema = name, spool, schema
        self._wake = asyncio.Event()
        self._idle: list[Link] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop_task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        if self._loop_task is None:
            self._loop_task = asyncio.get_running_loop().create_task(self._run(), name=f"mirror {self._name}")

    async def stop(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (self.lane.queue or self._tasks) and self._loop_task and not self.lane.circuit.open and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._stopping = True
        self._wake.set()
        if self._loop_task:
            await self._loop_task
        # A task that is cancelled before its first step never runs its `finally`, and its rows would stay pending.
        await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.lane.drop_queue()
        self._close_links()

    def offer(self, plan: DeploymentPlan, request_id: str, rows: list[Row]) -> None:
        lane, before = self.lane, self.lane.rows
        lane.offer(plan, request_id, rows, time.monotonic())
        # A sleeping sender wakes for the first row, and again only once a batch need not wait for more rows.
        if not before or before < lane.batch_rows <= lane.rows:
            self._wake.set()

    def retarget(self, plan: DeploymentPlan | None) -> None:
        before = self.lane.target
        self.lane.retarget(plan)
        if self.lane.target != before:
            self._close_links()
        self._wake.set()

    async def _run(self) -> None:
        while not self._stopping:
            now = time.monotonic()
            if expired := self.lane.expire(now):
                await self._settle(expired, now, _Verdict("expired", "", iter(())))
            elif batch := self.lane.take(now):
                task = asyncio.get_running_loop().create_task(self._send(batch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                await self._sleep(self.lane.due(now))

    async def _sleep(self, seconds: float | None) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _send(self, batch: Batch) -> None:
        began, failed = time.monotonic(), True
        verdict = _Verdict("node-stopped", "The node stopped before the challenger answered.", iter(()))
        try:
            verdict = await self._ask(batch)
            failed = bool(verdict.error)
        except NotReady as error:
            verdict = _Verdict(error.code, error.detail, iter(()))
        except (ValueError, TypeError):
            verdict = _Verdict("not-encodable", "A row cannot be written as JSON.", iter(()))
        finally:
            self.lane.land(failed, time.monotonic())
            self._wake.set()
            await self._settle(batch, began, verdict)

    async def _ask(self, batch: Batch) -> _Verdict:
        schema = self._schema(self._name)
        body = await _body(batch)
        reply = await self._post(batch, body, largest_body(batch.rows, schema))
        if reply.status != 200:
            return _Verdict(f"challenger-http-{reply.status}", f"The challenger node answered {reply.status}.", iter(()))
        judge = Judge.of(reply.body, batch.mirror.version, batch.rows, schema)
        if judge.error:
            return _Verdict(judge.error, judge.detail, iter(()))
        ids = (row_id for item in batch.items for row_id in item.ids())
        return _Verdict("", "", judge.rows(ids))

    async def _post(self, batch: Batch, body: bytes, limit: int) -> Reply:
        mirror, deadline = batch.mirror, time.monotonic() + batch.mirror.timeout_seconds
        path = f"/mirror/{self._name}"
        while True:
            link = self._idle_link() or await Link.to(mirror.url, deadline - time.monotonic())
            fresh = not link.used
            try:
                reply = await link.post(path, mirror.token, body, limit, deadline - time.monotonic())
            except NotReady as error:
                # The other side may close an idle connection in the very moment we use it; predictions are safe to ask twice.
                if fresh or error.code != "challenger-disconnected":
                    raise
                continue
            # The plan may have moved on while we waited; such a connection leads to the wrong node.
            if link.usable and self.lane.target == (mirror.url, mirror.version.digest):
                self._idle.append(link)
            else:
                link.close()
            return reply

    def _idle_link(self) -> Link | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            link = self._idle.pop()
            if link.usable and now - link.opened < self._connection_seconds:
                return link
            link.close()
        return None

    async def _settle(self, batch: Batch, began: float, verdict: _Verdict) -> None:
        """Write down what became of the batch and count it, a piece at a time."""
        latency = int((time.monotonic() - began) * 1e6)
        outcome: Outcome = "expired" if verdict.error == "expired" else "failed"
        detail = f"{verdict.error}: {verdict.detail}" if verdict.detail else ""
        rows = verdict.judged
        if verdict.error:
            rows = (MirroredRow(name, outcome, None, [], verdict.error) for item in batch.items for name in item.ids())
        while piece := list(islice(rows, PIECE_ROWS)):
            counts: dict[Outcome, int] = {"answered": 0, "failed": 0, "expired": 0}
            for row in piece:
                if row.result != "dropped":
                    counts[row.result] += 1
            self.lane.settle(counts, detail or next((row.error_code for row in piece if row.error_code), ""))
            self._write(batch, latency, piece)
            await asyncio.sleep(0)

    def _write(self, batch: Batch, latency_us: int, rows: list[MirroredRow]) -> None:
        plan, version = batch.plan, batch.mirror.version
        # Counted in the ledger all the same: the mirror's identity does not depend on what is recorded.
        if plan.records == "off":
            return
        self._spool.append(
            ChallengerRecord(
                ts=time.time_ns() // 1000,
                deployment=plan.name,
                project=plan.project,
                stage=plan.stage,
                revision=plan.revision,
                model=version.model,
                version=version.version,
                digest=version.digest,
                latency_us=latency_us,
                rows=rows,
            )
        )

    def _close_links(self) -> None:
        for link in self._idle:
            link.close()
        self._idle.clear()


async def _body(batch: Batch) -> bytes:
    """The request's JSON, with a pause for the loop after every few dozen rows."""
    pieces: list[str] = []
    for item in batch.items:
        for start in range(0, len(item.rows), PIECE_ROWS):
            pieces.append(_JSON.encode(item.rows[start : start + PIECE_ROWS])[1:-1])
            if len(pieces) % PIECE_ROWS == 0 or len(item.rows) > PIECE_ROWS:
                await asyncio.sleep(0)
    return ('{"rows":[' + ",".join(pieces) + "]}").encode()
