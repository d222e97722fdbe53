"""The serve process: one event loop, one listener, one node."""

from __future__ import annotations

import asyncio
import logging
import socket

import uvicorn
import uvloop

from quarterdeck import lifeline
from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck_node.app import create_app
from quarterdeck_node.drain import DrainingServer
from quarterdeck_node.node import Node
from quarterdeck_node.protocol import limited
from quarterdeck_node.settings import Settings
from quarterdeck_node.starting import allow_files, prepare, refuse

KEEP_ALIVE_SECONDS = 75
FINISH_SECONDS = 30
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
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # One line per request at most would be written by httpx for each poll: its own level keeps it to what goes wrong.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvloop.run(serve(settings, listener))


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
    config = uvicorn.Config(
        create_app(node),
        loop="uvloop",
        http=limited(settings.max_connections),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        # Nobody stands before a node whose word about callers would count.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=FINISH_SECONDS,
    )
    await node.start()
    try:
        await DrainingServer(config, node).serve(sockets=[listener])
    finally:
        # The last requests are answered by now; a model that hangs must not keep the tail of the spool from its agent.
        async with asyncio.timeout(FINISH_SECONDS):
            await node.stop()
