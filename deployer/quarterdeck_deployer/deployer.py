"""The deployer as one object: what API, console and plan server share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

from starlette.concurrency import run_in_threadpool

from quarterdeck.errors import NotFound
from quarterdeck.plan import TokenIssuer, VersionName
from quarterdeck.schema import Frozen
from quarterdeck.storage import Storage
from quarterdeck_deployer.actions import Actions, Settler
from quarterdeck_deployer.audit import Act, Audit
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.deployments import Deployments, Living
from quarterdeck_deployer.infrastructures.base import LOCAL, Kind, Records, Urls
from quarterdeck_deployer.infrastructures.by_nodes import ByNodes
from quarterdeck_deployer.infrastructures.joining import JoinedNodes
from quarterdeck_deployer.infrastructures.kubernetes_adoption import learn
from quarterdeck_deployer.infrastructures.kubernetes_infrastructure import OnKubernetes, Ring
from quarterdeck_deployer.infrastructures.kubernetes_rows import write_clusters
from quarterdeck_deployer.infrastructures.kubernetes_settings import on_kubernetes
from quarterdeck_deployer.infrastructures.rows import InfrastructureRows, write_local
from quarterdeck_deployer.infrastructures.running import Facts, Infrastructures, Maker, any_of
from quarterdeck_deployer.infrastructures.scope import Scope, joined
from quarterdeck_deployer.issuing import Issuer
from quarterdeck_deployer.keys import Keys, console_entry, console_key
from quarterdeck_deployer.nodes import Member
from quarterdeck_deployer.observed import ObservedDeployment
from quarterdeck_deployer.oidc import Provider
from quarterdeck_deployer.people import People
from quarterdeck_deployer.projects import Projects
from quarterdeck_deployer.promoter import Promoter
from quarterdeck_deployer.promotions import Promotions
from quarterdeck_deployer.query_runs import QueryRuns
from quarterdeck_deployer.registry import Registry
from quarterdeck_deployer.revisions import RevisionView
from quarterdeck_deployer.sessions import Sessions
from quarterdeck_deployer.settings import Settings, Tokens
from quarterdeck_deployer.stages import Stages
from quarterdeck_deployer.supply import Stores, Supply
from quarterdeck_deployer.test_queries import Queries
from quarterdeck_deployer.trials import Trials
from quarterdeck_deployer.uploads import Uploads
from quarterdeck_deployer.usage import Usage
from quarterdeck_deployer.ways import Ways


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
        self.database = Database(settings.database_place, settings.database_password_file)
        # Before anything reads: services may rely on the newest schema.
        self.database.migrate()
        self.sessions, self.writing = self.database.sessions, self.database.writing
        write_local(self.writing, settings)
        self._clock = clock
        self.issuer = Issuer(self.database, tokens.admin, settings.name, clock)
        self.stages = Stages(self.database, self._stages_changed)
        self.stages.ensure(write_clusters(self.writing, settings.clusters, settings.store_url) or LOCAL)
        self.infrastructures = Infrastructures(self.database, storage, self._makers())
        self.infrastructure_rows = InfrastructureRows(self.database, self.infrastructures.refresh)
        self.joined = JoinedNodes(self.database, tokens.node, self.infrastructures.refresh)
        self.usage = Usage(self.database, self.infrastructures, clock)
        self.registry = Registry(self.database, storage, self.infrastructures.other_storages)
        self.uploads = Uploads(self.registry, storage, settings.data / "uploads", settings.upload_bytes)
        copying = settings.data / "copying"
        supply = Supply(Stores(storage, self.infrastructures.apart, self.infrastructures.storage_of), copying)
        self.deployments = Deployments(self.database, supply, self.wake, self.infrastructures.refused)
        self.keys = Keys(self.database, self.wake)
        self.projects, self.people = Projects(self.database), People(self.database)
        self.provider = Provider(settings, tokens.admin) if settings.oidc_issuer else None
        self.actions = Actions(self.database)
        self.trials = Trials(settings.data / "packages", allow_code=settings.gates_run_code)
        self.queries = Queries(self.database, self.deployments)
        self.query_runs = QueryRuns(self.database, self.deployments, self.infrastructures, self.trials)
        self.promotions = Promotions(self.database, lambda: self.promoter.wake(), self.wake)
        ways = Ways(self.database, self.infrastructures, self.deployments, self.registry, copying)
        self.promoter = Promoter(self.promotions, self.trials, ways.of)
        self.settler = Settler(self.database, self.observe, self.infrastructures.holders)
        self.audit = Audit(self.sessions)
        self.logins = Sessions(self.database, self.people, tokens.admin)
        self.console_key = console_key(tokens.admin)
        self.closing = False

    @property
    def local(self) -> ByNodes:
        """The infrastructure that every instance has."""
        found = self.infrastructures[LOCAL]
        assert isinstance(found, ByNodes), "its row is written at each start"
        return found

    def issuers(self) -> list[TokenIssuer]:
        """Whose people's tokens open nodes: this instance's, by the keys of this moment."""
        return [self.issuer.public()]

    def wake(self) -> None:
        """Ask the reconcile loops for a step; from any thread."""
        self.infrastructures.wake()

    def _stages_changed(self) -> None:
        # Where deployments live may have changed with the stages.
        self.infrastructures.refresh()
        self.wake()

    def close_waits(self) -> None:
        """Answer all long polls and waits now, so that the server can end; from the event loop."""
        self.closing = True
        self.infrastructures.release()
        self.promoter.release()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the loops for as long as the context lasts."""
        loops = [
            asyncio.create_task(self.infrastructures.run(), name="infrastructures"),
            asyncio.create_task(self.settler.run(), name="actions"),
            asyncio.create_task(self.usage.run(), name="usage"),
        ]
        self.promoter.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.promoter.close)
            for loop in loops:
                loop.cancel()
            for loop in loops:
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
        return self.infrastructures.of(one).observe(one)

    def records(self, name: str) -> Records:
        """Where the records of one deployment lie.

        Raises:
            NotFound: no such deployment.
            InvalidInput, StorageError: its infrastructure's store cannot be used.
        """
        return self.infrastructures.records(self.deployments.one(name))

    def urls(self, wish: RevisionView) -> Urls:
        """Where a deployment is reached."""
        return self.infrastructures.named(self.infrastructures.placed(wish.stage)).urls(wish.deployment)

    async def applied(self, name: str, revision: int, seconds: float) -> Applied:
        """Wait until nodes do what a revision says, `seconds` at most; sooner where it is clear that they will not."""
        deadline = time.monotonic() + seconds
        while True:
            steps = self.infrastructures.next_steps()
            outcome, final = await run_in_threadpool(self._outcome, name, revision)
            left = deadline - time.monotonic()
            if final or left <= 0 or self.closing:
                return outcome
            await any_of(steps, left)

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
        holders = self.infrastructures.holders(name)
        if holders:
            return Applied(applied=False, reason=f"{holders[0]} still holds it"), False
        return Applied(applied=True), True

    def _makers(self) -> Mapping[Kind, Maker]:
        """What makes the running object of each kind of infrastructure."""
        main, challenger = Member("main", self.settings.main_url), Member("challenger", self.settings.challenger_url)

        def local(facts: Facts) -> ByNodes:
            scope = Scope(facts.name, lambda _: {"main": main, "challenger": challenger})
            return ByNodes("local", facts.store, self.database, scope, self.tokens, self._clock, self.issuers)

        def static(facts: Facts) -> ByNodes:
            scope = Scope(facts.name, partial(joined, facts.name))
            return ByNodes("static", facts.store, self.database, scope, self.tokens, self._clock, self.issuers)

        def kubernetes(facts: Facts) -> OnKubernetes:
            ring = Ring([console_entry(self.tokens.admin)], self.issuers, lambda uses: self.keys.told(uses))

            def learned(version: VersionName, act: Act) -> None:
                learn(self.registry, self.storage, version, act)

            return on_kubernetes(facts.store, self.database, Scope(facts.name), facts.settings, ring, learned)

        return {"local": local, "static": static, "kubernetes": kubernetes}
