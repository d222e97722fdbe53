"""The loop that turns wishes into plans: level-triggered, idempotent, safe to be killed at any statement.

Each step reads the whole world (deployments, revisions, keys, live reports), decides, stores what was decided together with
the number of the plans, and only then publishes. Whatever is lost by a crash is decided again, equally, from what was stored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from quarterdeck.plan import NodeReport, Plan
from quarterdeck.rollout import Decision, Record, Spec, decide
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.deployments import Living
from quarterdeck_deployer.infrastructures.base import Counts
from quarterdeck_deployer.infrastructures.catching_up import CatchUp
from quarterdeck_deployer.infrastructures.scope import Scope
from quarterdeck_deployer.keys import keyring
from quarterdeck_deployer.models import Deployment, NodeState
from quarterdeck_deployer.nodes import Nodes
from quarterdeck_deployer.plans import Decided, PlanBuilder, content_digest
from quarterdeck_deployer.threads import to_its_end

TICK_SECONDS = 1.0
PERSIST_SECONDS = 5.0

Decide = Callable[[Spec, Record, Sequence[NodeReport], float], Decision]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """What was decided about a deployment, and what lay in the database when that was done."""

    decided: Decided
    read: Living


class Reconciler:
    """Owns the published plans of one infrastructure. `step` blocks and runs in a worker thread; all else is the event loop's.

    Args:
        scope: which deployments it decides about, and for which nodes.
        decide: the rollout decision; a parameter so that tests can count and interrupt it.
        clock: Unix seconds.

    Attributes:
        plans: what is published, by node.
        considered: the nodes whose own words these plans were decided upon.
    """

    def __init__(
        self,
        database: Database,
        builder: PlanBuilder,
        nodes: Nodes,
        *,
        scope: Scope | None = None,
        decide: Decide = decide,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._builder, self._nodes, self._decide, self._clock = database, builder, nodes, decide, clock
        self._scope = scope or Scope()
        self.catch_up = CatchUp(database, nodes, self._scope.infrastructure, clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due = asyncio.Event()
        self._stepped = asyncio.Event()
        self._persisted = 0.0
        self._considered: frozenset[str] = frozenset()
        self.plans: dict[str, Plan] = {}
        self.considered: frozenset[str] = frozenset()
        self.counts = Counts()

    def wake(self) -> None:
        """Ask for a step soon; from any thread, any number of times."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._due.set)

    async def run(self) -> None:
        """Step whenever woken, and every second; until cancelled."""
        self._loop = asyncio.get_running_loop()
        # Whatever happened while no process ran is looked at first.
        self._due.set()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), TICK_SECONDS)
            # Cleared before reading: what changes during the step asks for another one.
            self._due.clear()
            await self._step_once()
            stepped, self._stepped = self._stepped, asyncio.Event()
            stepped.set()

    @property
    def next_step(self) -> asyncio.Event:
        """Set at the end of the next step. Take it before looking, so that nothing falls between the look and the wait."""
        return self._stepped

    def release(self) -> None:
        """Let everybody go who waits for a step, because the program ends."""
        self._stepped.set()

    def restore(self) -> None:
        """Read what earlier processes were told by nodes, so that "last seen" survives a restart."""
        with self._database.sessions() as session:
            self._nodes.members = self._scope.members(session)
            for state in session.scalars(select(NodeState).where(NodeState.node.in_(self._nodes.members))):
                if state.report is not None and state.reported is not None:
                    self._nodes.remember(state.node, NodeReport.model_validate(state.report), state.reported)

    def step(self) -> dict[str, Plan]:
        """Read, decide, store; gives back the plans to publish."""
        with self._database.sessions() as session:
            members = self._nodes.members = self._scope.members(session)
            # Before the look at their reports: who comes in during it may be missed, never be counted unread.
            considered = frozenset(heard.report.node for heard in self._nodes.words() if heard.present)
            world = self._world(session)
            forgotten = self.catch_up.needed(session, {one.read.wish.deployment: one.read.wish.number for one in world})
            decided = [stored.decided for stored in world]
            keys = keyring(session)
            mine = select(NodeState).where(NodeState.node.in_(members))
            states = {state.node: (state.sequence, state.plan) for state in session.scalars(mine)}
        # Whatever would be published now could take back what serves.
        if forgotten and self.catch_up.step(forgotten):
            return self.plans
        plans = self._builder.plans(decided, keys, members, self._nodes.live())
        # Comparing instead of remembering: a step after a crash sees the same difference and does the same.
        changed = [stored for stored in world if stored.decided.decision.record != stored.read.record]
        numbered = {node: self._numbered(plan, states) for node, plan in plans.items()}
        moved = [plan for node, plan in numbered.items() if states.get(node, (0, ""))[0] != plan.sequence]
        # Reports ride along with at most one write in five seconds: they are a memory, not a log.
        reports = self._reports_due()
        if changed or moved or reports:
            with self._database.writing.begin() as session:
                # Records and plan numbers commit together, and before anybody can see the plans.
                for stored in changed:
                    _swap_record(session, stored)
                for plan in moved:
                    _state(session, plan.node).sequence = plan.sequence
                    _state(session, plan.node).plan = content_digest(plan)
                for node in reports:
                    self._persist(session, node)
        self._considered = considered
        return numbered

    async def _step_once(self) -> None:
        try:
            plans = await to_its_end(self.step)
        # An action has won the race; its wake-up has set the event already, this makes sure.
        except _Overtaken:
            self._due.set()
        except Exception:
            # Nodes keep what they have; the next tick tries again. Nothing may end this loop.
            self.counts = self.counts._replace(failures=self.counts.failures + 1)
            log.exception("a reconcile step failed; trying again in %s s", TICK_SECONDS)
        else:
            self.plans, self.considered = plans, self._considered
            self.counts = self.counts._replace(steps=self.counts.steps + 1)

    def _world(self, session: Session) -> list[Stored]:
        # One look at nodes and clock for all deployments, so that a plan is one consistent decision.
        live, now = self._nodes.live(), self._clock()
        return [
            Stored(Decided(one.wish, self._decide(one.wish.spec(), one.record, live, now)), one)
            for one in self._scope.deployments(session)
        ]

    def _numbered(self, plan: Plan, states: dict[str, tuple[int, str]]) -> Plan:
        """The plan with its number: the stored one while the content is the same, a higher one otherwise."""
        sequence, digest = states.get(plan.node, (0, ""))
        heard = self._nodes.heard(plan.node)
        # A node ahead of us has seen plans of a database that was lost; it would ignore every lower number.
        ahead = heard.report.sequence if heard else 0
        # Numbers rise with the content only: nodes apply every new number, and idle ones must stay idle.
        if digest == content_digest(plan) and ahead <= sequence:
            return plan.model_copy(update={"sequence": sequence})
        return plan.model_copy(update={"sequence": max(sequence, ahead) + 1})

    def _reports_due(self) -> list[str]:
        now = self._clock()
        if abs(now - self._persisted) < PERSIST_SECONDS:
            return []
        self._persisted = now
        return [heard.report.node for heard in self._nodes.words() if heard.present]

    def _persist(self, session: Session, node: str) -> None:
        heard, state = self._nodes.heard(node), _state(session, node)
        if heard is not None:
            state.report, state.reported = heard.report.model_dump(mode="json", exclude={"told"}), heard.at


class _Overtaken(Exception):
    """Somebody else has written a decision record since this step read it."""


def _swap_record(session: Session, stored: Stored) -> None:
    """Compare and swap: the record is written only over the one that was decided upon."""
    decided = stored.decided
    statement = (
        update(Deployment)
        .where(Deployment.name == decided.wish.deployment, Deployment.record_version == stored.read.record_version)
        .values(record=decided.decision.record.model_dump(mode="json"), record_version=stored.read.record_version + 1)
    )
    if cast(CursorResult[Any], session.execute(statement)).rowcount != 1:
        raise _Overtaken


def _state(session: Session, node: str) -> NodeState:
    state = session.get(NodeState, node)
    if state is None:
        state = NodeState(node=node, sequence=0, plan="")
        session.add(state)
        session.flush()
    return state
