"""The edge: every request passes here first. Deny by default: what no row of `access.RULES` names needs the role admin."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quarterdeck.errors import Forbidden, Malformed, QuarterdeckError, TooLarge, Unauthenticated
from quarterdeck_deployer.access import NOBODY, Access, Caller, access_of, require
from quarterdeck_deployer.api.problems import DATABASE_AWAY, Answer, Failed, database_away
from quarterdeck_deployer.infrastructures.joining import JoinedNodes
from quarterdeck_deployer.issuing import ADMIN, Issuer
from quarterdeck_deployer.people import People
from quarterdeck_deployer.projects import Projects
from quarterdeck_deployer.sessions import FORM_FIELD, Sessions, Visit, asking, session_of, visit
from quarterdeck_deployer.settings import Settings, Tokens

MAX_BODY = 8 * 2**20
MAX_REPORT = 2**20

log = logging.getLogger(__name__)
_UNFORESEEN = Failed("Something failed that should not.", hint="The deployer's log tells more under the x-request-id.")
_SAFE = {"GET", "HEAD", "OPTIONS"}
_DEPLOYMENT = re.compile(r"/(?:api/)?deployments/([a-z0-9-]+)(?:/.*)?")
_MAX_FIELDS = 2_000
_STREAMED = re.compile(r"/api/models/[^/]+/blobs/[^/]+")
_HEADERS = {
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: under that, browsers send forms with `Origin: null`, which nobody could tell from another site's.
    "referrer-policy": "same-origin",
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


class Known(Protocol):
    """Where the edge finds out who somebody is: the deployer."""

    logins: Sessions
    people: People
    projects: Projects
    issuer: Issuer
    joined: JoinedNodes


class Edge:
    """ASGI middleware: host, origin, credential and size of every request; headers of every answer.

    The body is read whole before the program sees the request, so a limit holds whatever length the client announced.
    """

    def __init__(self, app: ASGIApp, settings: Settings, tokens: Tokens, known: Known, answer: Answer) -> None:
        self._app, self._settings, self._tokens, self._answer = app, settings, tokens, answer
        self._logins, self._people, self._projects, self._issuer = known.logins, known.people, known.projects, known.issuer
        self._nodes = known.joined
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
            scope["state"]["caller"] = caller = await self._caller(scope)
            await self._check_project(scope, caller)
            body, replay = await _bounded(scope, receive)
            self._check_form(scope, body)
            with self._visiting(scope, caller):
                await self._app(scope, replay, send_with_headers)
        except QuarterdeckError as error:
            await self._answer(scope, error)(scope, receive, send_with_headers)
        except DATABASE_AWAY as error:
            await self._answer(scope, database_away(request_id, error))(scope, receive, send_with_headers)
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

    async def _caller(self, scope: Scope) -> Caller:
        """Whoever asks, if they may ask this."""
        access = _access(scope)
        # Public routes do not look at credentials at all, so a wrong one is no error there.
        if access == "public":
            return NOBODY
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        bearer = token.strip() if kind.lower() == "bearer" else ""
        if access == "node":
            node = scope["path"].split("/")[2]
            if not bearer:
                raise Unauthenticated("This needs a node's token, and none was sent.", hint="Join with `quarterdeck node join`.")
            self._nodes.check(bearer, node)
            return Caller(f"node {node}", None, "node")
        caller = await self._person(scope, bearer)
        require(caller, access)
        return caller

    async def _person(self, scope: Scope, bearer: str) -> Caller:
        # A bearer token goes first: programs must not be lifted by a browser's cookie jar.
        if bearer and not same(bearer, self._tokens.admin) and (found := await run_in_threadpool(self._holder, bearer)):
            return found
        if bearer.startswith("eyJ"):
            raise Unauthenticated("The token is not good here, or not any more.", hint="Make a new one: `quarterdeck token`.")
        session = "" if bearer else session_of(scope, self._settings)
        if session and (caller := await run_in_threadpool(self._logins.caller, session, moved=not _by_itself(scope))):
            scope["state"]["session"] = session
            return caller
        _require(bearer, self._tokens.admin, "admin token")
        return Caller("admin", "admin", "token", None)

    def _holder(self, token: str) -> Caller | None:
        """Whose token it is, with the role and the projects of this moment: what the token says of them counts at nodes only."""
        subject = self._issuer.subject(token)
        if subject is None:
            return None
        return Caller("admin", "admin", "jwt", None) if subject == ADMIN else self._people.caller(subject, "jwt")

    @contextmanager
    def _visiting(self, scope: Scope, caller: Caller) -> Iterator[None]:
        """Let pages know who asks, and by which session."""
        session = scope["state"].get("session")
        token = visit.set(Visit(caller.name, str(caller.role), self._logins.form_token(session)) if session else None)
        whoever = asking.set(caller)
        try:
            yield
        finally:
            asking.reset(whoever)
            visit.reset(token)

    async def _check_project(self, scope: Scope, caller: Caller) -> None:
        """Refuse changes of deployments of other people's projects, whichever route they come by."""
        found = _DEPLOYMENT.fullmatch(scope["path"])
        if found is None or caller.projects is None or scope["method"] in _SAFE:
            return
        project = await run_in_threadpool(self._projects.of_deployment, found.group(1))
        if project is not None:
            caller.act().require(project)

    def _check_form(self, scope: Scope, body: bytes) -> None:
        """Refuse what comes by a session and shows nothing that another site's page could not have sent."""
        session = scope["state"].get("session")
        if session is None or scope["method"] in _SAFE:
            return
        # A page elsewhere cannot send JSON without asking us first, and we would refuse; a form it can.
        if Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            return
        if not same(_field(body, FORM_FIELD), self._logins.form_token(session)):
            raise Forbidden(
                "This form is not of a page of your session.",
                code="form-stale",
                kind="form",
                hint="Open the page again, and send its form.",
            )

    def _caching(self, scope: Scope) -> dict[str, str]:
        # Pages show states and secrets shown once; nothing of them may come from a cache.
        return {} if scope["path"].startswith("/static/") else {"cache-control": "no-store"}


def _access(scope: Scope) -> Access:
    return access_of(scope["method"], scope["path"]) or "admin"


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


def _field(body: bytes, name: str) -> str:
    """A field of a form; empty where there is none, or too many fields for one to be looked for."""
    try:
        return parse_qs(body.decode("utf-8", "replace"), max_num_fields=_MAX_FIELDS).get(name, [""])[0]
    except ValueError:
        return ""


def _by_itself(scope: Scope) -> bool:
    """Whether a page asks to refresh a part of itself: that is no sign of anybody being there."""
    return scope["method"] == "GET" and "hx-request" in Headers(scope=scope)


async def _bounded(scope: Scope, receive: Receive) -> tuple[bytes, Receive]:
    """Read the body up to its limit; gives it back, and a `receive` that replays it."""
    # Files of packages go to disk as they come, with a limit of their own.
    if scope["method"] in _SAFE or (scope["method"] == "PUT" and _STREAMED.fullmatch(scope["path"])):
        return b"", receive
    # Nodes send small reports, strangers at most a token; only who is known may send labels by the thousand.
    limit = MAX_BODY if _access(scope) not in ("node", "public") else MAX_REPORT
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

    return bytes(body), replay


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
