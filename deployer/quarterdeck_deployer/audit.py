"""The audit trail: one row per action, written inside the action's own transaction, each sealed with the row before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from quarterdeck.audit_chain import MEMBERS, Chain, seal
from quarterdeck.errors import Conflict, Forbidden
from quarterdeck.schema import Frozen
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import AuditEntry

_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Once:
    """A request that shall be done once: the caller's key for it, and a digest of what it asks for."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Act:
    """Who acts, why, and which revision they believe to be the newest (None: whatever it is).

    `once` is there where the caller may send the same request again; `projects` are those that the author may change things
    in, None: all.
    """

    who: str
    why: str = ""
    expected: int | None = None
    once: Once | None = None
    projects: frozenset[str] | None = None

    def require(self, project: str) -> None:
        """Refuse an author who is not in a project.

        Raises:
            Forbidden: ``other-project``.
        """
        if self.projects is not None and project not in self.projects:
            raise Forbidden(
                "Only people of its project may change this.",
                code="other-project",
                kind="project",
                name=project,
                hint="Ask an admin of this instance to add you: `quarterdeck people change`.",
            )

    def require_newest(self, deployment: str, newest: int) -> None:
        """Refuse an author who believes another revision of a deployment to be the newest; 0: there is none.

        Raises:
            Conflict: ``changed-meanwhile``.
        """
        if self.expected is not None and self.expected != newest:
            raise Conflict(
                f"The deployment has changed meanwhile: its newest revision is {newest}.",
                code="changed-meanwhile",
                kind="deployment",
                name=deployment,
                extra={"revision": newest},
                hint="Look at what changed, then try again.",
            )


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
    sha256: str = Field(description="Seal over this entry and the seal of the one before.")


class TrailVerdict(Frozen):
    """Whether the trail is as it was written."""

    whole: bool
    entries: int = Field(description="How many were found whole, from the first on.")
    sequence: int | None = Field(description="The first entry that is broken; None where all are whole.")
    reason: str = Field(description="What is wrong with it; empty where all are whole.")
    head: str = Field(description="Seal of the last whole entry: noted outside, it shows later that nothing was cut off.")


@dataclass(frozen=True, slots=True)
class Known:
    """An entry that somebody has noted outside: its number and its seal."""

    sequence: int
    sha256: str


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries a list holds; empty: whichever."""

    object: str = ""
    who: str = ""
    verb: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What an audit row tells of an action: its verb, the object, and the object before and after."""

    verb: str
    object: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


def write(session: Session, act: Act, change: Change) -> None:
    """Add the audit row to a transaction; it commits with the action or not at all."""
    newest = select(AuditEntry.sequence, AuditEntry.sha256).order_by(AuditEntry.sequence.desc()).limit(1)
    # The write lock is held: nobody else can follow the same entry.
    last = session.execute(newest).one_or_none()
    row: dict[str, Any] = {
        "sequence": last.sequence + 1 if last else 1,
        "at": utc_now(),
        "who": act.who,
        "verb": change.verb,
        "object": change.object,
        "before": change.before,
        "after": change.after,
        "reason": act.why,
    }
    session.add(AuditEntry(**row, sha256=seal(last.sha256 if last else "", row)))


class Audit:
    """Reading the trail."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def listed(self, window: Window, wanted: AuditFilter) -> Listed[AuditView]:
        """The newest entries first, page by page."""
        query = windowed(select(AuditEntry), window, AuditEntry.sequence, descending=True)
        for column, value in (
            (AuditEntry.object, wanted.object),
            (AuditEntry.who, wanted.who),
            (AuditEntry.verb, wanted.verb),
        ):
            if value:
                query = query.where(column == value)
        if wanted.since:
            query = query.where(AuditEntry.at >= wanted.since)
        if wanted.until:
            query = query.where(AuditEntry.at < wanted.until)
        with self._sessions() as session:
            found = session.scalars(query).all()
        return page(found, window, lambda row: (row.sequence,)).of(_view)

    def oldest_first(self) -> Iterator[AuditView]:
        """The whole trail, read part by part."""
        last = 0
        while True:
            query = select(AuditEntry).where(AuditEntry.sequence > last).order_by(AuditEntry.sequence).limit(_AT_ONCE)
            # A session for each part: a slow reader of an export must hold no transaction open.
            with self._sessions() as session:
                found = session.scalars(query).all()
            yield from (_view(row) for row in found)
            if len(found) < _AT_ONCE:
                return
            last = found[-1].sequence

    def verify(self, known: Known | None = None) -> TrailVerdict:
        """Hold every entry against its seal.

        Args:
            known: an entry that must be there as it was noted; without one, entries cut off the end go unnoticed.
        """
        chain = Chain()
        for entry in self.oldest_first():
            reason = chain.fault({**{name: getattr(entry, name) for name in MEMBERS}, "sha256": entry.sha256})
            if not reason and known is not None and entry.sequence == known.sequence and entry.sha256 != known.sha256:
                # The seals fit each other, yet they are not those of then: the trail was written anew.
                return _broken(chain, entry.sequence, "It is whole in itself, but not the entry that was noted.")
            if reason:
                return _broken(chain, chain.rows + 1, reason)
        if known is not None and known.sequence > chain.rows:
            return _broken(chain, chain.rows + 1, f"The trail ends here, and entry {known.sequence} was noted.")
        return TrailVerdict(whole=True, entries=chain.rows, sequence=None, reason="", head=chain.head)


def _broken(chain: Chain, sequence: int, reason: str) -> TrailVerdict:
    return TrailVerdict(whole=False, entries=chain.rows, sequence=sequence, reason=reason, head=chain.head)


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
        sha256=entry.sha256,
    )
