"""The gRPC listener: the protocol's service, health and reflection beside the HTTP doors, in the same event loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from quarterdeck.errors import InvalidInput
from quarterdeck_node.grpc_door.service import SERVICE, Service
from quarterdeck_node.node import Node

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_WATCH_SECONDS = 0.5
_WATCHERS = 64
"""Callers that may watch health at once: each holds a call for as long as it likes."""
_LAST_SECONDS = 1.0
"""How long callers are told to go elsewhere before the server stops."""
_STREAMS = 2 * _WATCHERS
"""Calls beside those that predict: watching and reflection."""


class _Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """gRPC's own health service: of the node, and of each deployment under its name."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._leaving = asyncio.Event()
        self._watchers = 0

    def leave(self) -> None:
        """Let go of everybody who watches, or the server would wait for them."""
        self._leaving.set()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the method's name in the protocol
        """Whether the node, or the named deployment, answers now."""
        found = self._status(request.service)
        if found == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no deployment of this name on this node.")
        return health_pb2.HealthCheckResponse(status=found)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the method's name in the protocol
        """The same, told at once and at every change, until the caller or the node leaves."""
        if self._watchers >= _WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many callers watch already. Ask by Check.")
        self._watchers += 1
        try:
            await self._tell(request.service, context)
        finally:
            self._watchers -= 1

    async def _tell(self, service: str, context: Any) -> None:
        told = None
        # Looked at, not notified: a watcher that hangs must not hold up the one who changes anything.
        while not (context.cancelled() or self._leaving.is_set()):
            found = self._status(service)
            if found != told:
                told = found
                await context.write(health_pb2.HealthCheckResponse(status=found))
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_SECONDS):
                    await self._leaving.wait()

    def _status(self, service: str) -> Any:
        # Read at each call, never stored: what is told is what is true now. In drain it says no, so clients go elsewhere.
        answers = not self._node.draining
        if service in ("", SERVICE):
            answers = answers and not self._node.missing()
        elif service in self._node.predictor.slots:
            answers = answers and self._node.predictor.slots[service].live is not None
        else:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        return health_pb2.HealthCheckResponse.SERVING if answers else health_pb2.HealthCheckResponse.NOT_SERVING


class Listener:
    """A gRPC server that listens."""

    def __init__(self, server: grpc.aio.Server, service: Service, health: _Health) -> None:
        self._server, self._service, self._health = server, service, health

    async def stop(self, seconds: float) -> None:
        """Take no more calls, and finish those that there are for at most `seconds`."""
        self._health.leave()
        self._service.leave()
        # A call that arrives in the very moment of the stop would be cancelled without a word by gRPC. So callers who are still
        # here are told first, in words that are safe to act upon: nothing was done for them.
        await asyncio.sleep(_LAST_SECONDS)
        await self._server.stop(seconds)


async def listen(node: Node, host: str, port: int) -> Listener:
    """Start the gRPC server of a node.

    Args:
        node: answers.
        host: address to listen on.
        port: port to listen on.

    Raises:
        InvalidInput: the port is taken, or the address is not this machine's.
    """
    limits = node.settings.limits
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.max_metadata_size", limits.head_bytes),
            # Another process on the same port would get every second connection.
            ("grpc.so_reuseport", 0),
        ],
        # The last bound, by gRPC itself: calls beyond the node's own limit are shed by name, like requests over HTTP.
        maximum_concurrent_rpcs=limits.inflight + _STREAMS,
    )
    service = Service(node)
    server.add_generic_rpc_handlers((service.handler(),))
    health = _Health(node)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection((SERVICE, _HEALTH, reflection.SERVICE_NAME), server)
    try:
        server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise InvalidInput(
            f"{host}:{port} cannot be listened on.",
            code="port-unusable",
            kind="port",
            name=str(port),
            hint="Choose another QUARTERDECK_GRPC_PORT.",
        ) from None
    await server.start()
    return Listener(server, service, health)
