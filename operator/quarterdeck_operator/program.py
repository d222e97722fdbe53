"""The running operator: kopf watches in the main thread; reconciles, plans, Lease and clock have a loop of their own beside it.

So neither can hold the other up: a storm of events does not delay a plan, and a slow reconcile loses no event.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import kopf

from quarterdeck.errors import QuarterdeckError
from quarterdeck_operator import tls
from quarterdeck_operator.apply import ClusterWrites
from quarterdeck_operator.board import Board
from quarterdeck_operator.decision import Context
from quarterdeck_operator.handlers import Handlers, operator_settings, registry
from quarterdeck_operator.health import Health, HealthServer, Metrics
from quarterdeck_operator.identity import Guard
from quarterdeck_operator.key_uses import KeyUseNotes, noting
from quarterdeck_operator.lease import Lease
from quarterdeck_operator.observe import ClusterReads, Connection, keys, read_keyring
from quarterdeck_operator.plan_server import PlanServer, create_app, listen
from quarterdeck_operator.reconcile import SOON_SECONDS, Reconciler
from quarterdeck_operator.relisting import Relisting
from quarterdeck_operator.review import ClusterReviewer, ClusterSecret
from quarterdeck_operator.settings import Settings
from quarterdeck_operator.work_queue import Workers
from quarterdeck_operator.world import Object, ResourceKey

CERTIFICATE_SECONDS = 3_600.0
TURN_SECONDS = 1.0
T = TypeVar("T")
log = logging.getLogger(__name__)


class Operator:
    """Everything wired together. `run` returns when the program is told to end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = connection = Connection(settings)
        self._reads = ClusterReads(connection)
        # The Lease itself is written by those who do not lead yet; so is the Secret, and tokens are only asked about.
        self._open = ClusterWrites(connection, lambda: True)
        place = (settings.namespace, settings.lease)
        self._lease = Lease(self._reads, self._open, place, settings.identity, settings.lease_seconds)
        self._writes = ClusterWrites(connection, self._lease.leads)
        self._workers = Workers(self._reconcile, settings.workers)
        self._board = Board(self._workers.add)
        self._health, self._metrics = Health(settings.stuck_seconds), Metrics()
        self._pool = ThreadPoolExecutor(settings.workers, "reconcile")
        # Apart from the reconciles: what lets nodes in must not queue behind them; nor may the Lease behind those who ask.
        self._aside, self._keeping = ThreadPoolExecutor(4, "aside"), ThreadPoolExecutor(1, "lease")
        self._relisting = Relisting(self._keys, self._workers.add, self._lease.leads, settings.relist_seconds)
        self._ending, self._failed = threading.Event(), False
        self._reconciler: Reconciler | None = None

    def run(self) -> bool:
        """Run until SIGTERM or SIGINT; gives back whether it ended in good order.

        Raises:
            QuarterdeckError: the plan server's Secret or port cannot be used.
        """
        settings = self._settings
        store = ClusterSecret(self._reads, self._open, settings.namespace, settings.plan_server_secret)
        service = (urlsplit(settings.plan_server_url).hostname or "").partition(".")[0]
        hosts = tls.hosts_of(settings.plan_server_url, service, settings.namespace)
        material = tls.ensure(store, hosts, datetime.now(UTC))
        self._reconciler = Reconciler(
            self._reads, self._writes, self._board, Context(settings, material.ca, material.seed), settings.identity
        )
        health = HealthServer(settings.host, settings.metrics_port, self._health, self._metrics)
        health.start()
        beside = threading.Thread(target=self._beside, args=(tls.server_context(material), store, hosts), name="beside")
        beside.start()
        try:
            self._watch()
        finally:
            self._ending.set()
            beside.join()
            # After the last write: whoever waits for it may begin at once. A renewal that is under way would take it again.
            self._pool.shutdown(cancel_futures=True)
            self._keeping.shutdown(cancel_futures=True)
            self._lease.release()
            self._connection.close()
            health.stop()
        return not self._failed

    def _watch(self) -> None:
        """kopf, until a signal comes or the other loop has ended."""
        handlers = Handlers(self._settings, self._workers.add, self._rekey)
        watches = registry(handlers, lambda: self._health.beat("watches"))
        # kopf waits for the flag in a thread, and at its end for that thread: a signal has to set the flag too.
        kopf.on.cleanup(registry=watches)(self._end)
        kopf.run(
            registry=watches,
            settings=operator_settings(self._settings),
            # kopf would ask who the user is, and in a container nobody is.
            identity=self._settings.identity,  # type: ignore[arg-type]  # its own sort of text, which it does not export
            clusterwide=not self._settings.namespaces,
            namespaces=self._settings.namespaces,
            standalone=True,
            stop_flag=self._ending,
        )

    def _rekey(self, named: Sequence[ResourceKey], config_map: Object) -> None:
        ring, issuers, problem = read_keyring(config_map)
        # One that cannot be read takes nothing from anybody; the looks at the deployments say so.
        if not problem:
            self._board.rekey(named, ring, issuers)

    async def _end(self, **_: Any) -> None:
        self._ending.set()

    def _beside(self, context: ssl.SSLContext, store: ClusterSecret, hosts: list[str]) -> None:
        try:
            asyncio.run(self._loop(context, store, hosts))
        except Exception:
            self._failed = True
            log.exception("the operator cannot go on")
        finally:
            self._ending.set()

    async def _loop(self, context: ssl.SSLContext, store: ClusterSecret, hosts: list[str]) -> None:
        with listen(self._settings.host, self._settings.port) as listener:
            notes = KeyUseNotes(self._board, self._writes)
            guard = Guard(ClusterReviewer(self._reads, self._open), self._aside)
            server = PlanServer(create_app(self._board, guard), context, listener)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(work)
                    for work in (
                        self._workers.run(),
                        self._lead(),
                        self._turn(),
                        self._relisting.run(),
                        self._renew(context, store, hosts),
                        noting(lambda: self._aside_do(notes.write), self._lease.leads),
                    )
                ]
                serving = group.create_task(server.serve())
                await self._until_ending(serving)
                # Polls that wait are let go, so that the server need not wait for them.
                self._board.leading = False
                self._board.clear()
                server.stop()
                for task in tasks:
                    task.cancel()

    async def _until_ending(self, serving: asyncio.Task[None]) -> None:
        while not self._ending.is_set() and not serving.done():
            await asyncio.sleep(0.1)

    async def _reconcile(self, key: ResourceKey) -> float | None:
        """One look, in a worker thread, with its duration and outcome counted."""
        assert self._reconciler is not None
        if not self._lease.leads():
            # A renewal may be late and still come; then nobody would ask again for what is not looked at now.
            return SOON_SECONDS if self._board.leading else None
        began, what = time.monotonic(), f"reconcile of {key}"
        self._health.beat(what)
        outcome = "failed"
        try:
            again = await asyncio.get_running_loop().run_in_executor(self._pool, self._reconciler.reconcile, key)
            outcome = "done"
            return again
        finally:
            self._health.rest(what)
            self._metrics.reconciles.labels(outcome).inc()
            self._metrics.seconds.observe(time.monotonic() - began)

    async def _lead(self) -> None:
        """Keep the Lease, or wait for it; whoever begins to lead looks at everything."""
        while True:
            leads = await asyncio.get_running_loop().run_in_executor(self._keeping, self._lease.step)
            if leads != self._board.leading:
                log.info("leading" if leads else "following: another operator holds the Lease")
                self._board.leading = leads
                if leads:
                    self._relisting.ask()
                else:
                    self._workers.queue.clear()
                    self._board.clear()
            await asyncio.sleep(self._settings.lease_seconds / 5)

    async def _turn(self) -> None:
        """Show that the loop turns, and find out who has fallen silent."""
        while True:
            self._health.beat("loop")
            self._board.sweep()
            queue = self._workers.queue
            self._metrics.queue.set(len(queue))
            self._metrics.failing.set(len(queue.failing()))
            self._metrics.leading.set(self._board.leading)
            await asyncio.sleep(TURN_SECONDS)

    async def _keys(self) -> list[ResourceKey]:
        return await self._aside_do(lambda: keys(self._reads, self._settings))

    async def _renew(self, context: ssl.SSLContext, store: ClusterSecret, hosts: list[str]) -> None:
        """See to the certificates now and then; a new authority reaches nodes with their plans, long before it signs anything."""
        while True:
            await asyncio.sleep(CERTIFICATE_SECONDS)
            with suppress(QuarterdeckError):
                material = await self._aside_do(lambda: tls.ensure(store, hosts, datetime.now(UTC)))
                tls.load(context, material)
                assert self._reconciler is not None
                self._reconciler.context = Context(self._settings, material.ca, material.seed)
                self._relisting.ask()

    async def _aside_do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._aside, work)
