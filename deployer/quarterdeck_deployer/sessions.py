"""Browser sessions of the console: begun by a sign-in, ended by the clock, by a log-out, or by what the person loses."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.cookies import CookieError, SimpleCookie

from sqlalchemy import delete, func, select
from starlette.datastructures import Headers
from starlette.types import Scope

from quarterdeck.schema import Frozen
from quarterdeck_deployer import audit
from quarterdeck_deployer.access import NOBODY, Caller
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.idempotency import once
from quarterdeck_deployer.models import LoginSession
from quarterdeck_deployer.people import People
from quarterdeck_deployer.settings import Settings

COOKIE = "quarterdeck_session"
SESSION_HOURS = 8
IDLE = timedelta(minutes=30)
_TO_THE_MINUTE = timedelta(minutes=1)
_ADMIN = Caller("admin (console)", "admin", "session", None)

FORM_FIELD = "form-token"
"""The field of a console's form that shows whose page it stands on."""


@dataclass(frozen=True, slots=True)
class Visit:
    """For whom a page is made: their name, their role, and what its forms carry."""

    name: str
    role: str
    form_token: str


visit: ContextVar[Visit | None] = ContextVar("visit", default=None)
"""The visit that is being answered; None where no session asks."""

asking: ContextVar[Caller] = ContextVar("asking", default=NOBODY)
"""Who sent the request that is being answered: pages offer them what they may do, and nothing else."""


class EndedSessions(Frozen):
    """Sessions of a person that were ended."""

    person: str
    sessions: int


def cookie_of(settings: Settings, host: str, name: str = COOKIE) -> str:
    """A cookie's name for browsers that ask for this host."""
    # The prefix makes browsers refuse it from other hosts of the domain, and over plain http.
    return f"__Host-{name}" if settings.secure(host) else name


def session_of(scope: Scope, settings: Settings) -> str:
    """The id that a browser sent; empty where it sent none."""
    headers = Headers(scope=scope)
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(cookie_of(settings, headers.get("host", "")))
    except CookieError:
        return ""
    return found.value if found else ""


class Sessions:
    """The sessions; the database knows their ids by a digest only.

    Args:
        database: keeps them.
        people: who the sessions are of.
        admin_token: part of the digest, so that a new token ends all sessions.
        clock: UTC; sessions end by it.
    """

    def __init__(self, database: Database, people: People, admin_token: str, clock: Callable[[], datetime] = utc_now) -> None:
        self._database, self._people, self._token, self._clock = database, people, admin_token.encode(), clock

    def open(self, person: str | None = None) -> str:
        """The id of a new session: a person's, or the admin token's where no person is named."""
        # The id is new at every sign-in, so nobody can plant one beforehand.
        ident, now = secrets.token_urlsafe(32), self._clock()
        with self._database.writing.begin() as session:
            # Expired sessions go when a new one comes: no job of its own is needed for a handful of rows.
            session.execute(delete(LoginSession).where(LoginSession.expires <= now))
            ends = now + timedelta(hours=SESSION_HOURS)
            session.add(LoginSession(sha256=self._digest(ident), person=person, created=now, expires=ends, seen=now))
        return ident

    def caller(self, ident: str, *, moved: bool) -> Caller | None:
        """Whose session this is; None where there is none any more.

        Args:
            ident: as the browser sent it.
            moved: whether a person did something, and not a page by itself: only that keeps a session from ending idle.
        """
        now = self._clock()
        with self._database.sessions() as session:
            found = session.get(LoginSession, self._digest(ident))
        if found is None or found.expires <= now or found.seen + IDLE <= now:
            return None
        # To the minute: a click costs a read, and seldom a write.
        if moved and found.seen + _TO_THE_MINUTE <= now:
            self._seen(found.sha256, now)
        return self._people.caller(found.person, "session") if found.person is not None else _ADMIN

    def close(self, ident: str) -> None:
        """End a session, whoever still holds its id; none of this id is fine."""
        with self._database.writing.begin() as session:
            session.execute(delete(LoginSession).where(LoginSession.sha256 == self._digest(ident)))

    def of_people(self, people: Collection[str]) -> dict[str, int]:
        """How many sessions each of these people has now, in one question; who has none is left out."""
        now = self._clock()
        query = select(LoginSession.person, func.count()).group_by(LoginSession.person)
        query = query.where(LoginSession.person.in_(people), LoginSession.expires > now, LoginSession.seen > now - IDLE)
        with self._database.sessions() as session:
            return {str(person): count for person, count in session.execute(query)}

    def end(self, person: str, act: Act) -> EndedSessions:
        """End all sessions of a person, wherever they are signed in; they may sign in again.

        Raises:
            NotFound: no such person.
        """
        self._people.one(person)

        def do() -> EndedSessions:
            found = len(session.scalars(select(LoginSession.sha256).where(LoginSession.person == person)).all())
            session.execute(delete(LoginSession).where(LoginSession.person == person))
            if found:
                audit.write(session, act, Change("end-sessions", f"person/{person}", None, {"sessions": found}))
            return EndedSessions(person=person, sessions=found)

        with self._database.writing.begin() as session:
            return once(session, act, EndedSessions, do)

    def form_token(self, ident: str) -> str:
        """What the forms of a session's pages carry: another site can neither read nor guess it."""
        return hmac.new(self._token, f"form {ident}".encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def _seen(self, digest: str, now: datetime) -> None:
        with self._database.writing.begin() as session:
            row = session.get(LoginSession, digest)
            if row is not None:
                row.seen = now

    def _digest(self, ident: str) -> str:
        return hmac.new(self._token, ident.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
