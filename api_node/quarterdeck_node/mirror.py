"""Mirroring: copies of main's rows go to the challenger node, and main never feels how that node is.

`offer` only puts the text of the rows into a bounded queue. One task per deployment sends it in coalesced batches and writes
what became of them down through the spool; rows that were dropped are counted only. Rows are never read here: batches are
joined from the texts that callers sent, and records keep the text that the challenger answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from quarterdeck.errors import NotReady
from quarterdeck.plan import DeploymentPlan, MirrorReport
from quarterdeck.records import Stamp, no_answer, requests_text
from quarterdeck.schema import Schema
from quarterdeck_node.mirror_answers import Judge, Judged
from quarterdeck_node.mirror_lane import Batch, Lane, Outcome
from quarterdeck_node.mirror_link import Link, Reply
from quarterdeck_node.spool import RecordSpool

STOP_SECONDS = 2.0


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

    def offer(self, deployment: DeploymentPlan, request_id: str, rows: bytes, count: int) -> None:
        """Queue copies of rows that main answered. Never waits, never raises; without a mirror in the plan nothing happens.

        Args:
            deployment: the plan that they were answered under.
            request_id: their request.
            rows: JSON text of the array of objects, validated; it is sent as it is.
            count: how many these are, at least one.
        """
        if deployment.mirror is not None:
            sender = self._senders.get(deployment.name) or self._sender(deployment.name)
            if sender.lane.offer(deployment, request_id, rows, count, time.monotonic()):
                sender.wake()

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
        self._judge = Judge(None)
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

    def wake(self) -> None:
        self._wake.set()

    def retarget(self, plan: DeploymentPlan | None) -> None:
        before, schema = self.lane.target, self._schema(self._name)
        if schema is not self._judge.schema:
            self._judge = Judge(schema)
        self.lane.retarget(plan, 1 + len(schema.classes) if schema else 1)
        if self.lane.target != before:
            self._close_links()
        self._wake.set()

    async def _run(self) -> None:
        while not self._stopping:
            now = time.monotonic()
            wait = self.lane.due(now)
            if wait is None or wait > 0:
                await self._sleep(wait)
            elif expired := self.lane.expire(now):
                self._settle(expired, now, Judged("expired"))
                await asyncio.sleep(0)
            elif batch := self.lane.take(now):
                task = asyncio.get_running_loop().create_task(self._send(batch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _sleep(self, seconds: float | None) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _send(self, batch: Batch) -> None:
        began = time.monotonic()
        judged = Judged("node-stopped", "The node stopped before the challenger answered.")
        try:
            judged = await self._ask(batch)
        except NotReady as error:
            judged = Judged(error.code, error.detail)
        finally:
            self.lane.land(bool(judged.error), time.monotonic())
            self._wake.set()
            self._settle(batch, began, judged)

    async def _ask(self, batch: Batch) -> Judged:
        judge, rows = self._judge, batch.rows
        reply = await self._post(batch, batch.body(), judge.largest_body(rows))
        if reply.status != 200:
            return Judged(f"challenger-http-{reply.status}", f"The challenger node answered {reply.status}.")
        # Each of these steps is short; what main has to answer in between does not wait for all of them.
        await asyncio.sleep(0)
        judged = await judge.judge(reply.body, batch.mirror.version, rows)
        await asyncio.sleep(0)
        return judged

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

    def _settle(self, batch: Batch, began: float, judged: Judged) -> None:
        """Count what became of the batch and write it down."""
        rows, results = batch.rows, judged.results
        counts: dict[Outcome, int] = {"answered": judged.answered, "failed": judged.failed}
        said = judged.code
        if judged.error:
            outcome: Outcome = "expired" if judged.error == "expired" else "failed"
            counts, results = {outcome: rows}, no_answer(outcome, judged.error)
            said = f"{judged.error}: {judged.detail}" if judged.detail else judged.error
        self.lane.settle(counts, said)
        # Counted in the ledger all the same: the mirror's identity does not depend on what is recorded.
        if batch.plan.records == "off":
            return
        latency = int((time.monotonic() - began) * 1e6)
        stamp = Stamp.of(batch.plan, batch.mirror.version)
        self._spool.write_challenger(stamp, latency, requests_text(batch.request_ids, batch.counts), results, rows)

    def _close_links(self) -> None:
        for link in self._idle:
            link.close()
        self._idle.clear()
