"""The application: every door of the tables as a route, and nothing else.

Each door becomes a route of FastAPI through the edge, so a path that is not in a table, or a door that states no access, cannot
exist.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from quarterdeck.errors import NotFound, QuarterdeckError
from quarterdeck_node import doors
from quarterdeck_node.doors.call import Call, Door, Receive, Send, problem
from quarterdeck_node.doors.head import Head
from quarterdeck_node.edge import Edge
from quarterdeck_node.node import Node


def _tables() -> tuple[Door, ...]:
    """The doors of every module beside `doors.call` that has a table of them."""
    modules = (import_module(f"{doors.__name__}.{module.name}") for module in pkgutil.iter_modules(doors.__path__))
    # Some tables take in those of another module: each door once.
    return tuple(dict.fromkeys(door for module in modules for door in getattr(module, "DOORS", ())))


DOORS = _tables()


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
    edge = Edge(node)
    app.state.edge = edge
    for path in dict.fromkeys(door.path for door in DOORS):
        methods: dict[str, Door] = {door.method: door for door in DOORS if door.path == path}
        app.router.routes.append(Route(path, _Path(edge, methods), methods=list(methods)))

    async def unknown(request: Request, error: Exception) -> Response:
        call = Call(node, request.scope, request.receive)
        node.metrics.rejection("unknown")
        reply = problem(_unknown(error, request.scope["path"]), call)
        headers = {name.decode(): value.decode() for name, value in edge.headers(call, reply)}
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


class _Path:
    """One path as an ASGI application: the ordinary road through the edge."""

    def __init__(self, edge: Edge, doors: dict[str, Door]) -> None:
        self._edge = edge
        self._doors: dict[str, Door] = {**({"HEAD": doors["GET"]} if "GET" in doors else {}), **doors}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        edge, door = self._edge, self._doors[scope["method"]]
        target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        call = Call(edge.node, scope, receive, Head(scope["headers"], target))
        reply = await edge.answer(call, door)
        if reply is None:
            return
        if reply.status < 400:
            edge.learn(scope, door)
        await send({"type": "http.response.start", "status": reply.status, "headers": edge.headers(call, reply)})
        await send({"type": "http.response.body", "body": reply.body})


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
