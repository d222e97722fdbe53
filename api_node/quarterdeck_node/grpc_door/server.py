"""The gRPC listener: the protocol's service, health and reflection beside the HTTP doors, in the same event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from quarterdeck.errors import InvalidInput
from quarterdeck_node.grpc_door.service import SERVICE, Service
from quarterdeck_node.node import Node

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_WATCH_SECONDS = 0.5


class _Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """gRPC's own health service: of the node, and of each deployment under its name."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the method's name in the protocol
        """Whether the node, or the named deployment, answers now."""
        found = self._status(request.service)
        if found == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no deployment of this name on this node.")
        return health_pb2.HealthCheckResponse(status=found)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the method's name in the protocol
        """The same, told at once and at every change."""
        told = None
        # Looked at, not notified: a watcher that hangs must not hold up the one who changes anything.
        while not context.cancelled():
            found = self._status(request.service)
            if found != told:
                told = found
                await context.write(health_pb2.HealthCheckResponse(status=found))
            await asyncio.sleep(_WATCH_SECONDS)

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


async def listen(node: Node, host: str, port: int) -> grpc.aio.Server:
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
        maximum_concurrent_rpcs=limits.inflight,
    )
    server.add_generic_rpc_handlers((Service(node).handler(),))
    health_pb2_grpc.add_HealthServicer_to_server(_Health(node), server)
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
    return server
