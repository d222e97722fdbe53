"""The one edge: who may enter, under which id, and how every answer and every error leaves.

Doors are a table. Each becomes a route of the FastAPI application through `_Edge`, so a path that is not in a table, or a door
that states no access, cannot exist.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from quarterdeck.errors import NotFound, Overloaded, QuarterdeckError, TooLarge
from quarterdeck_node.doors import mirror, oip, ops, plain
from quarterdeck_node.doors.call import Call, CallerGone, Door, Receive, Reply, Send, problem
from quarterdeck_node.metrics import Outcome
from quarterdeck_node.node import Node

DOORS: tuple[Door, ...] = (*plain.DOORS, *oip.DOORS, *ops.DOORS, *mirror.DOORS)
MAX_INFLIGHT = 1_024
_MAX_HEADERS = 64
_MAX_HEADER_BYTES = 16_384
_REASONS = {400: "format", 401: "auth", 403: "auth", 404: "unknown", 405: "unknown", 413: "size", 415: "type", 422: "schema"}
_log = logging.getLogger(__name__)


class MethodNotAllowed(QuarterdeckError):
    """The path exists, for another method."""

    status = 405
    default_code = "method-not-allowed"


def create_app(node: Node) -> FastAPI:
    """The ASGI application around a node. Its lifespan is the node's: whoever serves it starts and stops the node."""
    # FastAPI's own pages load scripts from a CDN and its redirects trust the Host header: neither is wanted here.
    app = _Application(
        title="Quarterdeck API node",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Asked for again at each request where it is left on, although nothing here is configured for it.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for path in dict.fromkeys(door.path for door in DOORS):
        doors: dict[str, Door] = {door.method: door for door in DOORS if door.path == path}
        app.router.routes.append(Route(path, _Edge(node, doors), methods=list(doors)))

    async def unknown(request: Request, error: Exception) -> Response:
        call = Call(node, request.scope, request.receive)
        node.metrics.rejection("unknown")
        reply = problem(_unknown(error, request.scope["path"]), call)
        headers = {name.decode(): value.decode() for name, value in _headers(call, reply)}
        # The router knows the path's methods, and a 405 must name them.
        headers |= (error.headers or {}) if isinstance(error, HTTPException) else {}
        return Response(reply.body, reply.status, headers)

    # Only the router raises these: every door answers its own errors.
    app.add_exception_handler(HTTPException, unknown)
    return app


class _Application(FastAPI):
    """FastAPI without the layers that no door uses: they were a quarter of what a plain request costs in here."""

    def build_middleware_stack(self) -> ASGIApp:
        """Called once. Doors answer every error of their own and leave nothing open; only what the router raises is handled."""
        return ExceptionMiddleware(self.router, handlers=self.exception_handlers)


class _Edge:
    """One path as an ASGI application."""

    def __init__(self, node: Node, doors: dict[str, Door]) -> None:
        self._node = node
        self._doors: dict[str, Door] = {**({"HEAD": doors["GET"]} if "GET" in doors else {}), **doors}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        node, door = self._node, self._doors[scope["method"]]
        call = Call(node, scope, receive)
        # Counted from here, so that a slow body counts as load as well.
        node.inflight += 1
        outcome: Outcome = "ok"
        try:
            reply = await self._answer(call, door)
            if reply.status >= 400:
                outcome = "error" if reply.status >= 500 else "rejected"
        except QuarterdeckError as error:
            outcome = _outcome(error)
            reply = door.refusal(error, call)
            if outcome == "rejected":
                node.metrics.rejection(_REASONS.get(error.status, "schema"))
        # Nobody is there to answer; it is still a request that was received.
        except CallerGone:
            _count(call, door, "cancelled")
            return
        except Exception:
            # The caller learns an id and nothing else; the log has the rest under the same id.
            _log.exception("request %s failed", call.request_id)
            outcome = "error"
            failed = QuarterdeckError("Something failed inside the node.", hint="Look for the request id in its log.")
            reply = door.refusal(failed, call)
        finally:
            node.inflight -= 1
        _count(call, door, outcome)
        await send({"type": "http.response.start", "status": reply.status, "headers": _headers(call, reply)})
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(self, call: Call, door: Door) -> Reply:
        headers = call.scope["headers"]
        if len(headers) > _MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > _MAX_HEADER_BYTES:
            raise TooLarge("The request's headers are too large.", code="headers-too-large")
        if call.node.inflight > MAX_INFLIGHT and door.protocol is not None:
            raise Overloaded("Too many requests are being answered already.", hint="Try again in a second.")
        if door.access == "mirror":
            call.admit(call.secret(), "mirror")
        elif door.access == "predict":
            call.admit(call.secret(), "predict")
        elif door.access == "read":
            call.admit(call.secret(), "read", "predict")
        return await door.answer(call)


def _outcome(error: QuarterdeckError) -> Outcome:
    if error.status < 500:
        return "rejected"
    return "shed" if error.status == 503 else "error"


def _count(call: Call, door: Door, outcome: Outcome) -> None:
    """Count a request to a deployment; requests that reached none are rejections only."""
    if door.protocol is None or call.slot is None:
        return
    version = call.snapshot.ref.version if call.snapshot else call.slot.live.resident.ref.version if call.slot.live else 0
    call.node.metrics.request(call.slot, version, door.protocol, outcome, time.perf_counter() - call.started, call.rows)


def _headers(call: Call, reply: Reply) -> list[tuple[bytes, bytes]]:
    """Headers of every answer: what it is, its id, what gave it, and whether the connection goes on."""
    headers = [
        (b"content-type", reply.media.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        (b"x-request-id", call.request_id.encode()),
        *reply.headers,
    ]
    # Refusals name the version too, once one was taken: the schema that refused was its schema.
    if call.snapshot is not None:
        plan, ref = call.snapshot.plan, call.snapshot.ref
        headers += [
            (b"quarterdeck-model", ref.model.encode()),
            (b"quarterdeck-version", str(ref.version).encode()),
            (b"quarterdeck-digest", ref.digest.encode()),
            (b"quarterdeck-revision", str(plan.revision).encode()),
        ]
    if reply.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if reply.status == 503:
        headers.append((b"retry-after", b"1"))
    # An unread body would be taken for the next request's start; a node that leaves wants no next request.
    if call.node.draining or (call.scope["method"] == "POST" and not call.body_read):
        headers.append((b"connection", b"close"))
    return headers


def _unknown(error: Exception, path: str) -> QuarterdeckError:
    if isinstance(error, HTTPException) and error.status_code == 405:
        methods = sorted({door.method for door in DOORS if _fits(door.path, path)})
        return MethodNotAllowed("This path is not for that method.", hint=f"Use {' or '.join(methods)}.")
    return NotFound("There is nothing at this path.", code="route-unknown", hint=f"There is {', '.join(_paths())}.")


def _fits(pattern: str, path: str) -> bool:
    ours, theirs = pattern.split("/"), path.split("/")
    same = (part.startswith("{") or part == given for part, given in zip(ours, theirs, strict=False))
    return len(ours) == len(theirs) and all(same)


def _paths() -> list[str]:
    return sorted({door.path for door in DOORS})
