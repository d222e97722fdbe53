"""A namespace of a cluster: wishes become ModelDeployments, what others write there becomes revisions, keys a ConfigMap.

Level-triggered: each step reads the resources and the database anew, and does what differs. Whatever a crash takes away between
two writes is found different by the next step. The operator does everything else; nodes are its business alone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from sqlalchemy.orm import Session

from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck.placement import KEY_USES, KEY_USES_ENTRY, KEYRING
from quarterdeck.plan import Key, KeyUse, TokenIssuer, VersionName
from quarterdeck.resources import Spec
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.deployments import Living
from quarterdeck_deployer.infrastructures.base import Counts, Reading, Urls
from quarterdeck_deployer.infrastructures.cluster_base import Cluster, ClusterFailure
from quarterdeck_deployer.infrastructures.kubernetes_adoption import adopt, living_names, numbers, resolver
from quarterdeck_deployer.infrastructures.kubernetes_fields import Object
from quarterdeck_deployer.infrastructures.kubernetes_observed import Look, holds, observe
from quarterdeck_deployer.infrastructures.kubernetes_pods import PODS, Busy, usage
from quarterdeck_deployer.infrastructures.kubernetes_resource import (
    content_of,
    named_versions,
    released,
    revision_of,
    spec_of,
)
from quarterdeck_deployer.infrastructures.kubernetes_steps import (
    Adopt,
    Deed,
    Delete,
    Drop,
    Nothing,
    Release,
    Wait,
    Write,
    readable,
    without,
)
from quarterdeck_deployer.infrastructures.scope import Scope, stages_on
from quarterdeck_deployer.keys import keyring
from quarterdeck_deployer.observed import ObservedDeployment
from quarterdeck_deployer.revisions import RevisionView
from quarterdeck_deployer.threads import to_its_end

LOOK_SECONDS = 10.0
"""Between two looks that nothing has asked for."""
CALM_SECONDS = 0.2
"""A rollout changes a status many times in a moment; changes of the cluster are looked at together, wishes at once."""
AGAIN_SECONDS = 1.0
PODS_SECONDS = 9.0
USES_SECONDS = 30.0
TRY_SECONDS = 30.0
"""Between two looks into the store for a version that nobody has registered."""
_UNAUTHENTICATED = 401
KEYS_ENTRY, ISSUERS_ENTRY = "keyring.json", "issuers.json"
_KEYS, _ISSUERS, _USES = TypeAdapter(list[Key]), TypeAdapter(list[TokenIssuer]), TypeAdapter(list[KeyUse])
Learn = Callable[[VersionName, Act], None]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ring:
    """What a keyring holds beside the database's keys, and who is told of its uses.

    Attributes:
        keys: the deployer's own.
        issuers: whose people's tokens open the nodes, as of now.
        used: is told when nodes let keys in last.
    """

    keys: Sequence[Key] = ()
    issuers: Callable[[], list[TokenIssuer]] = list
    used: Callable[[Sequence[KeyUse]], None] = lambda uses: None


@dataclass(frozen=True, slots=True)
class Manner:
    """How one infrastructure writes to its cluster.

    Attributes:
        namespace: of everything.
        keyring: name of the ConfigMap with its keys.
        store: what `spec.store` shall say; None: the operator's default holds.
        url: where callers reach a deployment, with `{name}` and `{namespace}` in it.
        ring: what its keyring holds beside the database's keys.
    """

    namespace: str
    keyring: str = KEYRING
    store: Mapping[str, Any] | None = None
    url: str = "http://{name}.{namespace}.svc"
    ring: Ring = Ring()

    @property
    def extra(self) -> dict[str, Any]:
        """Parts that every spec gets from the infrastructure."""
        found: dict[str, Any] = {} if self.keyring == KEYRING else {"keyring": self.keyring}
        return {**found, **({"store": dict(self.store)} if self.store else {})}


@dataclass(slots=True)
class _World:
    """What one step has read, and what it could not do."""

    resources: dict[str, Object]
    numbers: dict[str, int] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    again: bool = False


class OnKubernetes:
    """One namespace; see `Infrastructure`.

    Args:
        store: URL of the packages and records of what runs there.
        database: holds deployments, revisions and keys.
        scope: which deployments are of this infrastructure.
        connect: opens the cluster; called when the first step needs it, and again after a failure of it.
        manner: how it writes.
        learn: registers a version that lies in the store.
        clock: monotonic seconds.

    Attributes:
        strangers: resources that could not be adopted, by name, each with the reason and the next step.
    """

    kind: Literal["kubernetes"] = "kubernetes"

    def __init__(
        self,
        store: str,
        database: Database,
        scope: Scope,
        connect: Callable[[], Cluster],
        manner: Manner,
        learn: Learn = lambda version, act: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.store = scope.infrastructure, store
        self._database, self._scope, self._connect, self._manner, self._clock = database, scope, connect, manner, clock
        self.counts = Counts()
        self.strangers: Mapping[str, str] = {}
        self._cluster: Cluster | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked, self._stirred, self._stepped = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._resources: Mapping[str, Object] = {}
        self._problems: Mapping[str, str] = {}
        self._failure = ""
        self._answered: float | None = None
        self._busy, self._readings = Busy(), list[Reading]()
        self._pods_seen: float | None = None
        self._uses_seen: float | None = None
        self._learn = learn
        self._tried: dict[VersionName, float] = {}
        self._ending, self._opening = threading.Event(), threading.Lock()

    @property
    def next_step(self) -> asyncio.Event:
        """Set at the end of the next step. Take it before looking."""
        return self._stepped

    def wake(self) -> None:
        """Ask for a step now; from any thread."""
        self._call(self._wake)

    def release(self) -> None:
        """Let everybody go who waits for a step, because the program ends."""
        self._stepped.set()

    async def run(self) -> None:
        """Step whenever a wish or the cluster has changed, and now and then; until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._ending.clear()
        # A thread of its own, and no pool's: it waits for the cluster's changes for minutes, and must hold up no ending.
        threading.Thread(target=self._watch, name=f"watch {self.name}", daemon=True).start()
        self._wake()
        try:
            while True:
                await self._due()
                again = await self._step_once()
                stepped, self._stepped = self._stepped, asyncio.Event()
                stepped.set()
                if again:
                    # What was refused is not asked for in a circle.
                    self._loop.call_later(AGAIN_SECONDS if self._failure or self._problems else CALM_SECONDS, self._wake)
        finally:
            self._ending.set()
            self._close()

    def step(self) -> bool:
        """Read everything, do what differs; blocks. Gives back whether there is more to do at once.

        Raises:
            ClusterFailure: the cluster could not be read.
        """
        cluster = self._open()
        world = _World({one["metadata"]["name"]: one for one in cluster.resources()})
        with self._database.sessions() as session:
            wishes = {one.wish.deployment: one.wish for one in self._scope.deployments(session)}
            others = world.resources.keys() - wishes.keys()
            alive, keys = living_names(session, others), keyring(session)
            world.numbers = {**numbers(session, others), **{name: wish.number for name, wish in wishes.items()}}
        deeds = {name: readable(wish, world.resources.get(name), self._manner.extra) for name, wish in wishes.items()}
        for name in sorted(others - alive):
            deeds[name] = without(world.resources[name], world.numbers.get(name, 0))
        elsewhere = dict.fromkeys(alive, "a deployment of this name lives on another infrastructure: rename one of them")
        # Keys first: whoever takes one back is in a hurry, and no resource that is refused may hold that up.
        self._keys(cluster, keys, world)
        for name, deed in deeds.items():
            self._perform(cluster, world, name, wishes.get(name), deed)
        self._resources, self._problems, self._answered = world.resources, world.problems, self._clock()
        self._look_at_pods(cluster)
        self.strangers = {**elsewhere, **{name: said for name, said in world.problems.items() if name in others}}
        self._look_at_uses(cluster)
        return world.again

    def observe(self, one: Living) -> ObservedDeployment:
        """What is so of a deployment that has just been read."""
        age = None if self._answered is None else max(0.0, self._clock() - self._answered)
        problem = self._failure or self._problems.get(one.wish.deployment, "")
        return observe(one.wish, Look(self._resources.get(one.wish.deployment), age, problem))

    def refused(self, name: str) -> bool:
        """Whether nodes have refused a version that this deployment wants, or a change of it was stopped."""
        resource = self._resources.get(name)
        return resource is not None and holds(resource)

    def holders(self, name: str) -> list[str]:
        """The resource, while the deployer's own mark is on it."""
        resource = self._resources.get(name)
        return [f"ModelDeployment {name}"] if resource is not None and revision_of(resource) is not None else []

    def spec(self, name: str) -> Spec | None:
        """What the resource of a deployment said at the last look; None: there is none, or it cannot be read."""
        resource = self._resources.get(name)
        if resource is None:
            return None
        with suppress(InvalidInput):
            return spec_of(resource)
        return None

    def readings(self) -> list[Reading]:
        """The pods, as of the last look at them."""
        return list(self._readings)

    def urls(self, name: str) -> Urls:
        """The Services of main and challenger."""
        main, challenger = (
            self._manner.url.format(name=one, namespace=self._manner.namespace) for one in (name, f"{name}-challenger")
        )
        return Urls(main, challenger, (main,))

    def _wake(self) -> None:
        self._asked.set()
        self._stirred.set()

    def _call(self, what: Callable[[], object]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(what)

    async def _due(self) -> None:
        """Wait until a step is due."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stirred.wait(), LOOK_SECONDS)
            await asyncio.wait_for(self._asked.wait(), CALM_SECONDS)
        # Cleared before reading: what changes during the step asks for another one.
        self._asked.clear()
        self._stirred.clear()

    async def _step_once(self) -> bool:
        try:
            again = await to_its_end(self.step)
        except ClusterFailure as failure:
            if str(failure) != self._failure:
                log.warning("infrastructure %s: %s", self.name, failure)
            self._failure = str(failure)
            if failure.http == _UNAUTHENTICATED:
                # The kubeconfig may have got new credentials since it was read.
                self._close()
            self.counts = self.counts._replace(failures=self.counts.failures + 1)
            return True
        except Exception:
            # What runs goes on running; the next step tries again. Nothing may end this loop.
            self.counts = self.counts._replace(failures=self.counts.failures + 1)
            log.exception("a step of infrastructure %s failed; trying again", self.name)
            return False
        self._failure = ""
        self.counts = self.counts._replace(steps=self.counts.steps + 1)
        return again

    def _open(self) -> Cluster:
        # Two threads want it: the one that steps and the one that watches.
        with self._opening:
            if self._cluster is None:
                self._cluster = self._connect()
            return self._cluster

    def _close(self) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()

    def _watch(self) -> None:
        """Ask for a step at each change of the cluster."""
        while not self._ending.is_set():
            try:
                for _ in self._open().changes():
                    self._call(self._stirred.set)
            except ClusterFailure:
                # The step says what is wrong; this only must not turn in a circle.
                pass
            self._ending.wait(AGAIN_SECONDS)

    def _keys(self, cluster: Cluster, keys: Sequence[Key], world: _World) -> None:
        ring = self._manner.ring
        wanted = {
            KEYS_ENTRY: _KEYS.dump_json([*ring.keys, *keys]).decode(),
            ISSUERS_ENTRY: _ISSUERS.dump_json(ring.issuers()).decode(),
        }
        try:
            there = cluster.config_map(self._manner.keyring)
            if there is None or any(there.get(entry) != text for entry, text in wanted.items()):
                cluster.write_keyring(self._manner.keyring, wanted)
        except ClusterFailure as failure:
            # Deployments go on; that keys do not reach their nodes is said at each of them.
            world.problems.update(dict.fromkeys(world.resources, f"keys could not be written: {failure}"))
            world.again = True

    def _look_at_uses(self, cluster: Cluster) -> None:
        """Pass on what the operator has noted about the keys' uses; nothing is decided by it."""
        now = self._clock()
        if self._uses_seen is not None and now - self._uses_seen < USES_SECONDS:
            return
        self._uses_seen = now
        try:
            noted = cluster.config_map(KEY_USES) or {}
            self._manner.ring.used(_USES.validate_json(noted.get(KEY_USES_ENTRY, "[]")))
        except ClusterFailure as failure:
            log.warning("infrastructure %s: %s", self.name, failure)
        except ValidationError:
            log.warning("infrastructure %s: ConfigMap %s cannot be read", self.name, KEY_USES)

    def _look_at_pods(self, cluster: Cluster) -> None:
        now = self._clock()
        if self._pods_seen is not None and now - self._pods_seen < PODS_SECONDS:
            return
        self._pods_seen = now
        try:
            pods, metrics = cluster.pods(PODS)
        except ClusterFailure as failure:
            # Pods are shown and nothing more: an account that may not list them does everything else all the same.
            log.warning("infrastructure %s: %s", self.name, failure)
            pods, metrics = [], []
        self._readings = self._busy.readings(pods, usage(metrics), now)

    def _perform(self, cluster: Cluster, world: _World, name: str, wish: RevisionView | None, deed: Deed) -> None:
        """Do one thing; what is refused is noted down, and holds up no other deployment."""
        try:
            if isinstance(deed, Wait):
                world.problems[name] = deed.sentence
            elif isinstance(deed, Adopt):
                self._adopt(world, name, wish, deed)
                world.again = True
            elif isinstance(deed, Write):
                world.resources[name] = self._write(cluster, world.resources.get(name), deed)
                # What the file says otherwise is adopted back at once.
                world.again |= wish is None or readable(wish, world.resources[name], self._manner.extra) != Nothing()
            elif isinstance(deed, Drop):
                live = world.resources[name]
                world.resources[name] = cluster.drop(name, deed.parts, live["metadata"]["resourceVersion"])
            elif isinstance(deed, Release):
                world.resources[name] = cluster.apply(released(name))
                world.again = True
            elif isinstance(deed, Delete):
                cluster.delete(name, world.resources.pop(name)["metadata"]["uid"])
        except ClusterFailure as failure:
            world.problems[name] = str(failure)
            # What somebody else changed at the same moment is looked at again at once, all else when something has changed.
            world.again |= failure.http in (0, 409, 429) or failure.http >= 500
        except QuarterdeckError as refusal:
            world.problems[name] = str(refusal)

    def _write(self, cluster: Cluster, live: Object | None, deed: Write) -> Object:
        name, version = deed.document["metadata"]["name"], ""
        if live is not None and deed.drop:
            live = cluster.drop(name, deed.drop, live["metadata"]["resourceVersion"])
        if live is not None and deed.force:
            version = live["metadata"]["resourceVersion"]
        return cluster.apply(deed.document, version)

    def _adopt(self, world: _World, name: str, wish: RevisionView | None, deed: Adopt) -> None:
        resource = world.resources[name]
        self._learn_versions(resource, deed.who)
        with self._database.writing.begin() as session:
            # The write lock is held: an action that came since this step has read goes first.
            if numbers(session, [name]).get(name, 0) != world.numbers.get(name, 0):
                return
            stage = wish.stage if wish else self._stage(session, resource)
            content = content_of(resource, stage, resolver(session), wish.main if wish else None)
            adopt(session, name, wish, content, Act(who=deed.who, why=deed.why), deed.above)

    def _learn_versions(self, resource: Object, who: str) -> None:
        """Register what the resource names and the store has: whoever works by kubectl alone knows of no registry."""
        with self._database.sessions() as session:
            resolve = resolver(session)
            unknown = [
                one for one in named_versions(spec_of(resource)) if resolve(one.model, one.version, None, "data", "none") is None
            ]
        for one in unknown:
            tried = self._tried.get(one)
            if tried is not None and self._clock() - tried < TRY_SECONDS:
                continue
            self._tried[one] = self._clock()
            try:
                self._learn(one, Act(who=who, why=f"Named by a resource on {self.name}."))
            except QuarterdeckError as refusal:
                # Adopting says next that the registry does not know it; why it could not learn of it is for the log.
                log.info("infrastructure %s: %s could not be registered: %s", self.name, one, refusal)

    def _stage(self, session: Session, resource: Object) -> str:
        """The stage that a new deployment lives in: the one that it names, if that is here; else the first one that is."""
        here = stages_on(session, self.name)
        named = resource["spec"].get("stage")
        if named in here:
            return str(named)
        if here and named is None:
            return here[0]
        raise _no_stage(self.name, named)


def _no_stage(infrastructure: str, named: str | None) -> QuarterdeckError:
    said = f"Its stage {named} is not on infrastructure {infrastructure}" if named else f"No stage is on {infrastructure}"
    return QuarterdeckError(
        f"{said}, so it cannot be adopted.",
        code="stage-missing",
        kind="infrastructure",
        name=infrastructure,
        hint="Put a stage there: `quarterdeck stage put NAME`.",
    )
