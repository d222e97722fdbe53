"""What nodes talk to, over TLS: plans by long poll, reports by POST. Nothing else is theirs to ask.

It runs in an event loop of its own. The board between it and the reconciler is in memory: a node that finds this operator gone
keeps its last plan, and another operator knows all plans again after one look at the cluster.
"""

from __future__ import annotations

import socket
import ssl
from typing import Annotated, Any, TypeVar

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from quarterdeck.errors import Conflict, InvalidInput, Malformed, NotFound, QuarterdeckError, TooLarge
from quarterdeck.plan import NodeReport, Plan
from quarterdeck_operator.board import Board
from quarterdeck_operator.bounds import BoundedProtocol, BoundedServer, allow_files, bounded
from quarterdeck_operator.identity import Guard, Identity, require_node, require_plan

MAX_WAIT_SECONDS = 60.0
MAX_REPORT_BYTES = 1_048_576
MAX_WORDS = 2_000
"""Characters of a reason that are kept: it ends up in the record and several times in the status, whose size has an end."""
_Told = TypeVar("_Told", bound=BaseModel)
_BACKLOG = 2_048
_KEEP_ALIVE_SECONDS = 75


def create_app(board: Board, guard: Guard) -> FastAPI:
    """The application: two routes, both for pods with a token only."""
    app = FastAPI(title="Quarterdeck plan server", docs_url=None, redoc_url=None, openapi_url=None)
    routes = _Routes(board, guard)
    app.get("/plans/{plan}", response_model=None)(routes.plan)
    app.post("/nodes/{node}/report", response_model=None)(routes.report)
    for kind in (QuarterdeckError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _refuse)
    return app


class PlanServer:
    """The server in the event loop that calls `serve`.

    Args:
        app: the application.
        context: TLS with the server's certificate; loading another one into it counts from the next connection on.
        listener: bound socket; whoever made it closes it.
        protocol: with its bounds; None: as many connections as there are files for.
    """

    def __init__(
        self,
        app: FastAPI,
        context: ssl.SSLContext,
        listener: socket.socket,
        protocol: type[BoundedProtocol] | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=protocol or bounded(allow_files()),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=2,
            ssl_context_factory=lambda _config, _default: context,
        )
        self._server, self._listener = BoundedServer(config), listener

    @property
    def started(self) -> bool:
        """Whether it takes connections."""
        return self._server.started

    async def serve(self) -> None:
        """Serve until `stop`; in a thread other than the main one, whose signals uvicorn would take for its own."""
        await self._server.serve(sockets=[self._listener])

    def stop(self) -> None:
        """End soon; safe from any thread."""
        self._server.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """The listening socket, long enough a queue for every node of a cluster that comes back at once.

    Raises:
        InvalidInput: the port is taken, or the address is not this machine's.
    """
    try:
        return socket.create_server((host, port), backlog=_BACKLOG)
    except OSError as error:
        raise InvalidInput(
            f"{host}:{port} cannot be listened on: {error.strerror}.",
            code="port-unusable",
            kind="port",
            name=str(port),
            hint="Choose another QUARTERDECK_PORT.",
        ) from None


class _Routes:
    """Both routes: who, then whether we lead, then what."""

    def __init__(self, board: Board, guard: Guard) -> None:
        self._board, self._guard = board, guard
        self._texts: dict[tuple[str, str], tuple[Plan, bytes]] = {}

    async def plan(
        self,
        request: Request,
        plan: str,
        after: Annotated[int, Query(description="The newest sequence that the node has.")] = 0,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for a newer one.")] = 0,
    ) -> Response:
        """The pod's plan as soon as there is one with a sequence above `after`; 204 where none came in time."""
        identity = await self._enter(request)
        require_plan(identity, plan)
        found = await self._board.newer(identity.deployment, plan, after, wait)
        # It may have waited over a change of leaders.
        self._require_leading()
        if found is None:
            return Response(status_code=204)
        return Response(self._text(identity.namespace, found), media_type="application/json")

    async def report(self, request: Request, node: str) -> Response:
        """Take a pod's snapshot of itself; it replaces the one before."""
        identity = await self._enter(request)
        require_node(identity, node)
        try:
            report = NodeReport.model_validate_json(await _body(request))
        except ValidationError as error:
            # The first part of its place is one of our own words, unless just that is unknown here.
            first = error.errors(include_url=False, include_input=False)[0]
            known = first["loc"] and first["loc"][0] in NodeReport.model_fields
            place = f"{first['loc'][0]}: " if known else ""
            raise InvalidInput(
                f"{place}This is no report that this operator can read.",
                kind="report",
                name=node,
                hint="Run an operator that is at least as new as its nodes.",
            ) from None
        _require_own(identity, report)
        self._board.take(identity.deployment, _shortened(report))
        return Response(status_code=204)

    async def _enter(self, request: Request) -> Identity:
        # Before the token is looked at: a follower has nothing to tell anybody, and must not load the API server.
        self._require_leading()
        return await self._guard.identify(request.headers.get("authorization", ""))

    def _require_leading(self) -> None:
        if not self._board.leading:
            raise Conflict("This operator does not lead.", code="not-leading", hint="Ask again; the other one answers soon.")

    def _text(self, namespace: str, plan: Plan) -> bytes:
        """The plan as JSON, written once for all pods that wait for it."""
        place = (namespace, plan.node)
        kept = self._texts.get(place)
        if kept is None or kept[0] is not plan:
            if len(self._texts) > 2_000:
                self._texts.clear()
            kept = self._texts[place] = (plan, plan.model_dump_json().encode())
        return kept[1]


async def _body(request: Request) -> bytes:
    """The body, piece by piece, so that too large a one is never in memory."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_REPORT_BYTES:
            raise TooLarge(f"A report has at most {MAX_REPORT_BYTES:,} bytes.", kind="report")
        pieces.append(piece)
    return b"".join(pieces)


def _require_own(identity: Identity, report: NodeReport) -> None:
    """A pod speaks for itself, its role and its deployment: another's rollout must not turn on its word."""
    own = all(one.name == identity.deployment.name and one.role == identity.role for one in report.deployments)
    if report.node != identity.pod or report.role != identity.role or not own:
        raise InvalidInput(
            "The report is of another node, role or deployment than the pod's labels say.",
            kind="node",
            name=identity.pod,
            hint="Check QUARTERDECK_NODE and QUARTERDECK_ROLE.",
        )


def _shortened(report: NodeReport) -> NodeReport:
    """The report with its sentences cut where they are too long to be passed on."""

    def cut(one: _Told, *fields: str) -> _Told:
        return one.model_copy(update={field: getattr(one, field)[:MAX_WORDS] for field in fields})

    deployments = [
        cut(one, "probe_failure").model_copy(
            update={
                "versions": [cut(version, "code", "reason", "place") for version in one.versions],
                "resolved": [cut(found, "code", "reason") for found in one.resolved],
            }
        )
        for one in report.deployments
    ]
    return report.model_copy(update={"deployments": deployments})


def _refuse(request: Request, error: Exception) -> Response:
    """Every error as problem+json, without a word of what was sent."""
    known = _known(error)
    # A follower hangs up: over another connection the Service may lead to the one that leads.
    told = {401: {"www-authenticate": "Bearer"}, 409: {"connection": "close"}, 503: {"retry-after": "1"}}
    headers = told.get(known.status)
    return JSONResponse(known.problem(), status_code=known.status, media_type="application/problem+json", headers=headers)


def _known(error: Exception) -> QuarterdeckError:
    if isinstance(error, QuarterdeckError):
        return error
    if isinstance(error, RequestValidationError):
        first: Any = error.errors()[0]
        return InvalidInput(f"{'.'.join(str(part) for part in first['loc'])}: it cannot be that.", kind="request")
    if isinstance(error, HTTPException) and error.status_code == 404:
        return NotFound("There is nothing at this path.", kind="path")
    return Malformed("This path does not take that method.", kind="request")
