"""The infrastructures that run by plans and reports of nodes: those beside the deployer, and those that joined it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from quarterdeck.plan import Plan, TokenIssuer
from quarterdeck.rollout import decide
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.deployments import Living
from quarterdeck_deployer.infrastructures.base import Counts, Kind, Reading, Urls
from quarterdeck_deployer.infrastructures.scope import Scope
from quarterdeck_deployer.nodes import Member, Nodes
from quarterdeck_deployer.observed import ObservedDeployment, observe
from quarterdeck_deployer.plans import Decided, PlanBuilder, receiver
from quarterdeck_deployer.reconciler import Reconciler
from quarterdeck_deployer.settings import Tokens


class ByNodes:
    """One plan per node, decided by this process; see `Infrastructure`.

    Args:
        database: holds deployments, records and nodes.
        scope: which of them are of this infrastructure.
        tokens: of the instance.
        clock: Unix seconds.
        issuers: whose people's tokens open its nodes.

    Attributes:
        nodes: what the nodes have said.
        reconciler: the loop that decides, and the plans that it has published.
    """

    def __init__(
        self,
        kind: Kind,
        store: str,
        database: Database,
        scope: Scope,
        tokens: Tokens,
        clock: Callable[[], float] = time.time,
        issuers: Callable[[], list[TokenIssuer]] = list,
    ) -> None:
        self.name, self.kind, self.store = scope.infrastructure, kind, store
        self.nodes = Nodes(clock, {})
        self.reconciler = Reconciler(database, PlanBuilder(store, tokens, issuers), self.nodes, scope=scope, clock=clock)
        self._clock = clock
        # Whoever is restarted knows its nodes before the first of them asks.
        self.reconciler.restore()

    @property
    def counts(self) -> Counts:
        """What the loop has done in this process."""
        return self.reconciler.counts

    @property
    def next_step(self) -> asyncio.Event:
        """Set at the end of the next step."""
        return self.reconciler.next_step

    async def run(self) -> None:
        """Step whenever woken, and every second; until cancelled."""
        await self.reconciler.run()

    def wake(self) -> None:
        """Ask for a step soon; from any thread."""
        self.reconciler.wake()

    def release(self) -> None:
        """Let everybody go who waits for a step, because the program ends."""
        self.reconciler.release()

    def observe(self, one: Living) -> ObservedDeployment:
        """What is so of a deployment that has just been read."""
        now = self._clock()
        # Deciding is pure: asking again here shows the newest facts without waiting for the loop.
        decision = decide(one.wish.spec(), one.record, self.nodes.live(), now)
        return observe(Decided(one.wish, decision), self.nodes.words(), now, self.nodes.members)

    def refused(self, name: str) -> bool:
        """Whether a live node has refused a version that this deployment wants."""
        return self.nodes.refused(name)

    def holders(self, name: str) -> list[str]:
        """The live nodes that still hold a deployment."""
        reports = self.nodes.live()
        return [f"node {report.node}" for report in reports if any(one.name == name for one in report.deployments)]

    def readings(self) -> list[Reading]:
        """Every node that there should be, live or not."""
        return [self._reading(node, member) for node, member in self.nodes.members.items()]

    def urls(self, name: str) -> Urls:
        """The main nodes, those that live first, and the challenger node that takes the first one's copies."""
        members, live = self.nodes.members, [report.node for report in self.nodes.live()]
        mains = [node for node, member in members.items() if member.role == "main"]
        mains.sort(key=lambda node: node not in live)
        bases = tuple(members[node].url.rstrip("/") for node in mains)
        return Urls(bases[0] if bases else "", receiver(mains[0], members, live) if mains else "", bases)

    def refresh(self) -> None:
        """Look again at which nodes there are."""
        self.reconciler.restore()
        self.wake()

    def plan(self, node: str, after: int = 0) -> Plan | None:
        """The plan that a node is to follow; None where there is none above `after` yet.

        Args:
            after: the newest sequence that the node has; 0: it comes without any plan.

        Raises:
            NotFound: no such node.
        """
        self.nodes.member(node)
        # Whoever has a plan says what it does, and a step must have read it: a restored database may have forgotten that.
        if after > 0 and node not in self.reconciler.considered:
            return None
        found = self.reconciler.plans.get(node)
        return found if found is not None and found.sequence > after else None

    def _reading(self, node: str, member: Member) -> Reading:
        heard = self.nodes.heard(node)
        if heard is None:
            return Reading(node, member.role, member.url, False, False, None, 0, "", 0, 0.0)
        live, report = heard.live(self._clock()), heard.report
        return Reading(
            node=node,
            role=member.role,
            url=member.url,
            live=live,
            ready=live and report.ready,
            age=self.nodes.age(node),
            sequence=report.sequence,
            boot=report.boot,
            rss_bytes=report.rss_bytes,
            cpu_seconds=report.cpu_seconds,
        )
