"""The serve process: one event loop, one listener, one node."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import Any

import uvicorn
import uvloop

from quarterdeck import lifeline
from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck_node import logs
from quarterdeck_node.app import create_app
from quarterdeck_node.drain import DrainingServer
from quarterdeck_node.node import Node
from quarterdeck_node.protocol import limited
from quarterdeck_node.settings import Settings
from quarterdeck_node.starting import allow_files, prepare, refuse

FINISH_SECONDS = 30
"""How long requests that are under way may take to end once the door is closed."""
STOP_SECONDS = 8
"""How long what is left may take then. With ten seconds of drain and the agent's own end it fits into a pod's minute."""
_BACKLOG = 2_048


def main() -> None:
    """Serve until SIGTERM. Exit status 0 after a complete drain, 2 where it cannot start."""
    try:
        settings = Settings.from_environment()
        listener = listen(settings)
        # After the port: a second serve of the same folder must fail without having touched anything.
        prepare(settings.folder)
    except QuarterdeckError as error:
        refuse(error)
    allow_files(settings.max_connections)
    # Before anything is served: a supervisor that died meanwhile must not leave us behind.
    lifeline.watch(settings.lifeline_fd)
    logs.configure(settings.log_level)
    try:
        uvloop.run(serve(settings, listener))
    except InvalidInput as error:
        refuse(error)


def listen(settings: Settings) -> socket.socket:
    """The listening socket, bound before anything else is started.

    Raises:
        InvalidInput: the port is taken, or the address is not this machine's.
    """
    try:
        return socket.create_server((settings.host, settings.port), backlog=_BACKLOG)
    except OSError as error:
        raise InvalidInput(
            f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}.",
            code="port-unusable",
            kind="port",
            name=str(settings.port),
            hint="Choose another QUARTERDECK_PORT.",
        ) from None


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Run one node to its end."""
    node = Node(settings)
    app = create_app(node)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=limited(settings.max_connections, app.state.edge, settings.max_head_bytes),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        # Nobody stands before a node whose word about callers would count.
        proxy_headers=False,
        timeout_graceful_shutdown=FINISH_SECONDS,
    )
    # Before the node: a port that is taken must not have started anything. Until a plan is there nobody is answered.
    grpc = await _listen_grpc(node) if settings.grpc_port else None
    await node.start()
    try:
        await DrainingServer(config, node, grpc.stop if grpc is not None else None).serve(sockets=[listener])
    finally:
        # uvicorn has given back the signals by now, and one more would end what is being finished.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        # The last requests are answered by now; a model that hangs must not keep the tail of the spool from its agent.
        async with asyncio.timeout(STOP_SECONDS):
            await node.stop()


async def _listen_grpc(node: Node) -> Any:
    # gRPC's library takes memory and time to start with that nobody who does not use it should pay.
    from quarterdeck_node.grpc_door.server import listen as listen_grpc

    return await listen_grpc(node, node.settings.host, node.settings.grpc_port)
