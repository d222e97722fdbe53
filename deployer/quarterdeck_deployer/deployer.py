"""The deployer as one object: what API, console and plan server share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from starlette.concurrency import run_in_threadpool

from quarterdeck.errors import NotFound
from quarterdeck.rollout import decide
from quarterdeck.schema import Frozen
from quarterdeck.storage import Storage
from quarterdeck_deployer.audit import Audit
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.deployments import Deployments, Living
from quarterdeck_deployer.keys import Keys, console_key
from quarterdeck_deployer.nodes import NODES, Nodes
from quarterdeck_deployer.observed import ObservedDeployment, observe
from quarterdeck_deployer.plans import Decided, PlanBuilder
from quarterdeck_deployer.reconciler import Reconciler
from quarterdeck_deployer.registry import Registry
from quarterdeck_deployer.revisions import RevisionView
from quarterdeck_deployer.security import Sessions
from quarterdeck_deployer.settings import Settings, Tokens


class Applied(Frozen):
    """Whether nodes do what a revision says; `reason` tells what is missing where they do not."""

    applied: bool
    reason: str = ""


class Deployer:
    """Holds the services and the loop.

    Attributes:
        sessions: for reading the database.
        writing: for changing it; takes the write lock at once.
        console_key: the API key that the console predicts with; nodes know it by its digest.
    """

    def __init__(self, settings: Settings, tokens: Tokens, storage: Storage, clock: Callable[[], float] = time.time) -> None:
        self.settings, self.tokens, self.storage = settings, tokens, storage
        self.database = Database(settings.database)
        # Before anything reads: services may rely on the newest schema.
        self.database.migrate()
        self.sessions, self.writing = self.database.sessions, self.database.writing
        self.nodes = Nodes(clock)
        self.reconciler = Reconciler(self.database, PlanBuilder(settings, tokens), self.nodes, clock=clock)
        self.registry = Registry(self.database, storage)
        self.deployments = Deployments(self.database, self.wake, self.nodes.refused)
        self.keys = Keys(self.database, self.wake)
        self.audit = Audit(self.sessions)
        self.logins = Sessions(self.database, tokens.admin)
        self.console_key = console_key(tokens.admin)
        self.closing = False
        self._clock = clock

    def wake(self) -> None:
        """Ask the reconcile loop for a step; from any thread."""
        self.reconciler.wake()

    def close_waits(self) -> None:
        """Answer all long polls and waits now, so that the server can end; from the event loop."""
        self.closing = True
        self.reconciler.release()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the reconcile loop for as long as the context lasts."""
        await run_in_threadpool(self.reconciler.restore)
        loop = asyncio.create_task(self.reconciler.run(), name="reconcile")
        try:
            yield
        finally:
            # A step in its worker thread ends by itself; cancelling only stops the next one.
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop
            self.database.close()

    def observed(self, name: str) -> ObservedDeployment:
        """What is so of one deployment.

        Raises:
            NotFound: no such deployment.
        """
        return self.observe(self.deployments.one(name))

    def seen(self, name: str) -> tuple[RevisionView, ObservedDeployment]:
        """The wish, and what is so of the very same wish. Raises as `observed` does."""
        one = self.deployments.one(name)
        return one.wish, self.observe(one)

    def observe(self, one: Living) -> ObservedDeployment:
        """What is so of a deployment that has just been read."""
        now = self._clock()
        # Deciding is pure: asking again here shows the newest facts without waiting for the loop.
        decision = decide(one.wish.spec(), one.record, self.nodes.live(), now)
        heard = [found for node in NODES if (found := self.nodes.heard(node))]
        return observe(Decided(one.wish, decision), heard, now)

    async def applied(self, name: str, revision: int, seconds: float) -> Applied:
        """Wait until nodes do what a revision says, `seconds` at most; sooner where it is clear that they will not."""
        deadline = time.monotonic() + seconds
        while True:
            stepped = self.reconciler.next_step
            outcome, final = await run_in_threadpool(self._outcome, name, revision)
            left = deadline - time.monotonic()
            if final or left <= 0 or self.closing:
                return outcome
            with suppress(TimeoutError):
                await asyncio.wait_for(stepped.wait(), left)

    def _outcome(self, name: str, revision: int) -> tuple[Applied, bool]:
        """How far it is, and whether waiting longer is useless."""
        try:
            seen = self.observed(name)
        except NotFound:
            return self._gone(name)
        # A newer wish has overtaken this one; whether it was ever applied can no longer be told.
        if seen.generation > revision:
            return Applied(applied=False, reason=f"Revision {seen.generation} has taken its place."), True
        # Nobody should wait ten minutes for what has been refused already.
        stuck = seen.hold is not None or (seen.main_applied and seen.failure is not None)
        return Applied(applied=seen.applied, reason=seen.waiting_for), seen.applied or stuck

    def _gone(self, name: str) -> tuple[Applied, bool]:
        holders = [report.node for report in self.nodes.live() if any(one.name == name for one in report.deployments)]
        if holders:
            return Applied(applied=False, reason=f"node {holders[0]} still holds it"), False
        return Applied(applied=True), True
