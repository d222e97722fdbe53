"""The agent process: the packages and the records of one node, in its folder."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
from functools import partial
from pathlib import Path
from typing import NoReturn

import uvicorn

from quarterdeck import lifeline
from quarterdeck.errors import QuarterdeckError
from quarterdeck.storage import open_storage
from quarterdeck_node.agent.app import create_app
from quarterdeck_node.agent.packages import Packages
from quarterdeck_node.agent.settings import AgentSettings
from quarterdeck_node.agent.shipping import Shipper
from quarterdeck_node.starting import prepare, refuse

SOCKET = "agent.sock"
log = logging.getLogger("quarterdeck_node.agent")


def main() -> NoReturn:
    """Run until SIGTERM or SIGINT, then ship the last records. Exit status 0; 2 where it cannot start.

    Serve must have ended before, or what it still writes is shipped by the next agent.
    """
    try:
        settings = AgentSettings.from_environment()
        prepare(settings.folder)
    except QuarterdeckError as error:
        refuse(error)
    lifeline.watch(settings.lifeline_fd)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    opened = partial(open_storage, files=settings.s3_files)
    # Paths of unix sockets are short; relative to the folder any folder will do.
    os.chdir(settings.folder)
    settings = settings.model_copy(update={"folder": Path(".")})
    # Shipping makes ten objects a record and lets go of all of them with their file: looking for cycles among them in between
    # would take a third of its time.
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)
    shipper = Shipper(settings.folder, settings.ship_poll, opened)
    shipper.start()
    _serve(Packages(settings, opened), shipper)
    if not shipper.finish(settings.ship_grace):
        log.warning("records are left in the spool; the next agent ships them")
    # Threads that still fetch have nothing to save: what has arrived is continued by the next agent.
    logging.shutdown()
    os._exit(0)


def _serve(packages: Packages, shipper: Shipper) -> None:
    config = uvicorn.Config(
        create_app(packages, shipper),
        loop="asyncio",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        lifespan="off",
        ws="none",
    )
    server = uvicorn.Server(config)

    def end(*_: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal that ended it once more when it is done; by then the tail has not been shipped yet.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with _listener() as listener:
        server.run(sockets=[listener])


def _listener() -> socket.socket:
    """The socket, readable by this user only from its first moment."""
    listener = socket.socket(socket.AF_UNIX)
    if os.path.exists(SOCKET):
        os.unlink(SOCKET)
    mask = os.umask(0o177)
    try:
        listener.bind(SOCKET)
    finally:
        os.umask(mask)
    return listener
