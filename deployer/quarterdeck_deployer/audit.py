"""The audit trail: one row per action, written inside the action's own transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from quarterdeck.schema import Frozen
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.models import AuditEntry


@dataclass(frozen=True, slots=True)
class Act:
    """Who acts, why, and which revision they believe to be the newest (None: whatever it is)."""

    who: str
    why: str = ""
    expected: int | None = None


class AuditView(Frozen):
    """One entry of the trail; `before` and `after` are what the action changed, None where there was or is nothing."""

    sequence: int
    at: datetime
    who: str
    verb: str
    object: str = Field(description="Kind and name, e.g. deployment/late-flights.")
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """What an audit row tells of an action: its verb, the object, and the object before and after."""

    verb: str
    object: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


def write(session: Session, act: Act, change: Change) -> None:
    """Add the audit row to a transaction; it commits with the action or not at all."""
    session.add(
        AuditEntry(
            at=utc_now(),
            who=act.who,
            verb=change.verb,
            object=change.object,
            before=change.before,
            after=change.after,
            reason=act.why,
        )
    )


class Audit:
    """Reading the trail."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def entries(self, object: str = "", before: int | None = None, limit: int = 100) -> list[AuditView]:
        """The newest entries first.

        Args:
            object: only of this object, e.g. ``deployment/late-flights``; empty: of all.
            before: only entries older than this sequence number.
            limit: at most so many.
        """
        query = select(AuditEntry).order_by(AuditEntry.sequence.desc()).limit(limit)
        if object:
            query = query.where(AuditEntry.object == object)
        if before is not None:
            query = query.where(AuditEntry.sequence < before)
        with self._sessions() as session:
            return [_view(entry) for entry in session.scalars(query)]


def _view(entry: AuditEntry) -> AuditView:
    return AuditView(
        sequence=entry.sequence,
        at=entry.at,
        who=entry.who,
        verb=entry.verb,
        object=entry.object,
        before=entry.before,
        after=entry.after,
        reason=entry.reason,
    )
