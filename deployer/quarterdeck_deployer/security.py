"""The edge: every request passes here first. Deny by default: a path that no rule names needs the admin's credential."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import uuid
from datetime import timedelta
from http.cookies import CookieError, SimpleCookie
from typing import Literal

from sqlalchemy import delete
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quarterdeck.errors import Forbidden, Malformed, QuarterdeckError, TooLarge, Unauthenticated
from quarterdeck_deployer.api.problems import Answer, Failed
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.models import LoginSession
from quarterdeck_deployer.settings import Settings, Tokens

COOKIE = "quarterdeck_session"
SESSION_HOURS = 8
MAX_BODY = 8 * 2**20
MAX_REPORT = 2**20

log = logging.getLogger(__name__)
Access = Literal["public", "node", "admin"]
RULES: tuple[tuple[re.Pattern[str], Access], ...] = (
    (re.compile(r"/(health|metrics|login|docs|openapi\.json)"), "public"),
    (re.compile(r"/static/.*"), "public"),
    (re.compile(r"/(plans|nodes)/.*"), "node"),
    (re.compile(r"/api/.*"), "admin"),
    (re.compile(r"/|/(deployments|models|keys|audit)(/.*)?"), "admin"),
)
"""Which credential each path needs; a test compares this with the routes that there are."""

_UNFORESEEN = Failed("Something failed that should not.", hint="The deployer's log tells more under the x-request-id.")
_SAFE = {"GET", "HEAD", "OPTIONS"}
_HEADERS = {
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: under that, browsers send forms with `Origin: null`, which nobody could tell from another site's.
    "referrer-policy": "same-origin",
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


def access_of(path: str) -> Access | None:
    """What a path needs; None where no rule names it."""
    return next((access for pattern, access in RULES if pattern.fullmatch(path)), None)


class Sessions:
    """Browser sessions; the database knows their ids by a digest only.

    Args:
        database: keeps them.
        admin_token: part of the digest, so that a new token ends all sessions that the old one has begun.
    """

    def __init__(self, database: Database, admin_token: str) -> None:
        self._database, self._token = database, admin_token.encode()

    def open(self) -> str:
        """The id of a new session."""
        # The id is new at every login, so nobody can plant one beforehand.
        ident, now = secrets.token_urlsafe(32), utc_now()
        with self._database.writing.begin() as session:
            # Expired sessions go when a new one comes: no job of its own is needed for a handful of rows.
            session.execute(delete(LoginSession).where(LoginSession.expires <= now))
            session.add(LoginSession(sha256=self._digest(ident), created=now, expires=now + timedelta(hours=SESSION_HOURS)))
        return ident

    def valid(self, ident: str) -> bool:
        """Whether there is such a session and its time is not over."""
        with self._database.sessions() as session:
            found = session.get(LoginSession, self._digest(ident))
        return found is not None and found.expires > utc_now()

    def _digest(self, ident: str) -> str:
        return hmac.new(self._token, ident.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


class Edge:
    """ASGI middleware: host, origin, credential and size of every request; headers of every answer.

    The body is read whole before the program sees the request, so a limit holds whatever length the client announced.
    """

    def __init__(self, app: ASGIApp, settings: Settings, tokens: Tokens, logins: Sessions, answer: Answer) -> None:
        self._app, self._tokens, self._logins, self._answer = app, tokens, logins, answer
        self._hosts, self._origins = settings.allowed_hosts, settings.origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update({**_HEADERS, **self._caching(scope), "x-request-id": request_id})
            await send(message)

        try:
            self._check_host(scope)
            self._check_origin(scope)
            scope["state"]["who"] = await self._who(scope)
            await self._app(scope, await _bounded(scope, receive), send_with_headers)
        except QuarterdeckError as error:
            await self._answer(scope, error)(scope, receive, send_with_headers)
        except Exception:
            if started:
                raise
            # The answer tells nothing of the reason; the log has the story under the request's id.
            log.exception("request %s failed", request_id)
            await self._answer(scope, _UNFORESEEN)(scope, receive, send_with_headers)

    def _check_host(self, scope: Scope) -> None:
        # A name that was rebound to 127.0.0.1 reaches us under its own Host header.
        if Headers(scope=scope).get("host", "") not in self._hosts:
            raise Forbidden(
                "This server does not answer to that host name.",
                code="host-not-allowed",
                hint="Use 127.0.0.1 or localhost with the server's port, or an address that QUARTERDECK_URLS names.",
            )

    def _check_origin(self, scope: Scope) -> None:
        if scope["method"] in _SAFE:
            return
        headers = Headers(scope=scope)
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") or headers.get("origin", "") not in {
            "",
            *self._origins,
        }:
            raise Forbidden("Another site has sent this request.", code="cross-site", hint="Act from the console itself.")

    async def _who(self, scope: Scope) -> str:
        """The name of whoever asks, as the audit trail shows it."""
        access = access_of(scope["path"])
        # Public routes do not look at credentials at all, so a wrong one is no error there.
        if access == "public":
            return ""
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        bearer = token.strip() if kind.lower() == "bearer" else ""
        if access == "node":
            _require(bearer, self._tokens.node, "node token")
            return "node"
        # A bearer token goes first: programs must not be lifted by a browser's cookie jar.
        session = _cookie(scope)
        if not bearer and session and await run_in_threadpool(self._logins.valid, session):
            return "admin (console)"
        _require(bearer, self._tokens.admin, "admin token")
        return "admin"

    def _caching(self, scope: Scope) -> dict[str, str]:
        # Pages show states and secrets shown once; nothing of them may come from a cache.
        return {} if scope["path"].startswith("/static/") else {"cache-control": "no-store"}


def same(given: str, expected: str) -> bool:
    """Compare secrets without telling by timing how far they agree."""
    # Digests have one length, so not even the length of the secret shows in the timing.
    return hmac.compare_digest(_sha256(given), _sha256(expected))


def _require(given: str, expected: str, name: str) -> None:
    if not given:
        raise Unauthenticated(
            f"This needs the {name}, and none was sent.", hint="Send it as `Authorization: Bearer …`, or log in."
        )
    if not same(given, expected):
        raise Unauthenticated(f"This is not the {name} of this instance.", hint="`quarterdeck status` tells where it lies.")


def _cookie(scope: Scope) -> str:
    try:
        found = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


async def _bounded(scope: Scope, receive: Receive) -> Receive:
    """Read the body up to its limit; gives back a `receive` that replays it."""
    if scope["method"] in _SAFE:
        return receive
    # Nodes send small reports, strangers at most a token; only who is known may send labels by the thousand.
    limit = MAX_BODY if access_of(scope["path"]) not in ("node", "public") else MAX_REPORT
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            # A beginning can look like a whole: half a form must not act with half a reason.
            raise Malformed("The connection ended before the body did.", hint="Send it again.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            raise TooLarge(f"The body is larger than {limit // 2**20} MiB.", hint="Send it in parts.")
    replayed = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

    async def replay() -> Message:
        # What comes after the body is the client's going away.
        return next(replayed, None) or await receive()

    return replay


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
