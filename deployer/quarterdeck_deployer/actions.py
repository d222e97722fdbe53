"""What became of each action: accepted with its revision in one transaction, and ended by the loop once it is seen how.

An action ends exactly once. The loop looks at all that are accepted and at what is so, and writes the end; whatever a crash
took away is looked at again by the next process, so nothing has to be remembered in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from quarterdeck.errors import NotFound, QuarterdeckError
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.deployments import Living, living
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import Action, Deployment
from quarterdeck_deployer.observed import ObservedDeployment
from quarterdeck_deployer.revisions import Kind
from quarterdeck_deployer.threads import to_its_end

TICK_SECONDS = 1.0
GONE_SECONDS = 600
"""How long nodes may hold what was deleted, before that counts as failed."""

State = Literal["accepted", "applied", "failed", "overtaken"]
log = logging.getLogger(__name__)


class ActionView(Frozen):
    """One action: who wanted what, and how it ended."""

    id: str = Field(examples=["late-flights-4"])
    deployment: Name
    revision: int = Field(description="The revision that it made.")
    verb: Kind
    who: str
    why: str
    state: State = Field(
        description="`applied`: nodes were seen to do it. `failed`: they refused, or time ran out. "
        "`overtaken`: a newer revision came first."
    )
    reason: str = Field(description="Why it failed, or what has overtaken it; empty otherwise.")
    created: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class ActionFilter:
    """Which actions a list holds; empty: whichever."""

    deployment: str = ""
    state: State | None = None


class Actions:
    """Reading actions."""

    def __init__(self, database: Database) -> None:
        self._sessions = database.sessions

    def one(self, ident: str) -> ActionView:
        """One action.

        Raises:
            NotFound: no such action.
        """
        with self._sessions() as session:
            row = session.scalar(select(Action).where(Action.id == ident))
        if row is None:
            raise NotFound("There is no such action.", kind="action", name=ident, hint="List them: `quarterdeck actions list`.")
        return _view(row)

    def listed(self, window: Window, wanted: ActionFilter) -> Listed[ActionView]:
        """Actions, newest first."""
        query = windowed(select(Action), window, Action.sequence, descending=True)
        if wanted.deployment:
            query = query.where(Action.deployment == wanted.deployment)
        if wanted.state:
            query = query.where(Action.state == wanted.state)
        with self._sessions() as session:
            found = session.scalars(query).all()
        return page(found, window, lambda row: (row.sequence,)).of(_view)


@dataclass(frozen=True, slots=True)
class _End:
    """How an action has ended."""

    state: State
    reason: str = ""


class Settler:
    """The loop that ends actions. `settle` blocks and runs in a worker thread.

    Args:
        observe: what is so of a deployment, wherever it runs.
        holders: who still holds a deployment that was deleted.
        now: the present, in UTC.
        ticks: monotonic seconds; they tell how long this process has looked.
    """

    def __init__(
        self,
        database: Database,
        observe: Callable[[Living], ObservedDeployment],
        holders: Callable[[str], Sequence[str]],
        now: Callable[[], datetime] = utc_now,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._observe, self._holders, self._now = database, observe, holders, now
        self._ticks, self._began = ticks, ticks()

    async def run(self) -> None:
        """Look every second; until cancelled."""
        while True:
            try:
                await to_its_end(self.settle)
            except Exception:
                # What is accepted stays accepted; the next look finds it again. Nothing may end this loop.
                log.exception("looking after actions failed; trying again in %s s", TICK_SECONDS)
            await asyncio.sleep(TICK_SECONDS)

    def settle(self) -> None:
        """End what has ended."""
        with self._database.sessions() as session:
            ends = self._ends(session)
        if not ends:
            return
        with self._database.writing.begin() as session:
            for ident, end in ends.items():
                # Only over "accepted": two that look at once write one end.
                statement = update(Action).where(Action.id == ident, Action.state == "accepted")
                session.execute(statement.values(state=end.state, reason=end.reason, ended=self._now()))

    def _ends(self, session: Session) -> dict[str, _End]:
        query = select(Action, Deployment).join(Deployment, Deployment.name == Action.deployment)
        accepted = session.execute(query.where(Action.state == "accepted")).all()
        alive = {one.wish.deployment: one for one in living(session, {action.deployment for action, _ in accepted})}
        found = {action.id: self._looked(action, row, alive.get(action.deployment)) for action, row in accepted}
        return {ident: end for ident, end in found.items() if end is not None}

    def _looked(self, action: Action, row: Deployment, one: Living | None) -> _End | None:
        try:
            return self._end(action, row, one)
        except QuarterdeckError as error:
            # One that nothing can be said of must not keep the others from ending.
            log.warning("action %s cannot be looked after now: %s", action.id, error.detail)
            return None

    def _end(self, action: Action, row: Deployment, one: Living | None) -> _End | None:
        if action.revision < row.revision:
            return _End("overtaken", f"Revision {row.revision} has taken its place.")
        if one is None:
            return self._gone(action)
        # Read in a second statement: a change in between belongs to the next look.
        if one.wish.number != action.revision:
            return None
        seen = self._observe(one)
        if seen.applied:
            return _End("applied")
        if seen.hold is not None or (seen.main_applied and seen.failure is not None):
            return _End("failed", seen.waiting_for)
        return self._late(action, one.wish.progress_seconds, seen.waiting_for)

    def _gone(self, action: Action) -> _End | None:
        holders = self._holders(action.deployment)
        return self._late(action, GONE_SECONDS, f"node {holders[0]} still holds it") if holders else _End("applied")

    def _late(self, action: Action, seconds: int, waiting_for: str) -> _End | None:
        # The loop holds back a main version that takes too long; nodes that are gone, and challengers, it waits for forever.
        # While no process ran nobody could see anything: all of the time must have passed in this one, too.
        if self._now() - action.created <= timedelta(seconds=seconds) or self._ticks() - self._began <= seconds:
            return None
        return _End("failed", f"It was not seen within {seconds} s: {waiting_for}")


def _view(row: Action) -> ActionView:
    return ActionView(
        id=row.id,
        deployment=row.deployment,
        revision=row.revision,
        verb=row.verb,
        who=row.who,
        why=row.why,
        state=row.state,
        reason=row.reason,
        created=row.created,
        ended=row.ended,
    )
