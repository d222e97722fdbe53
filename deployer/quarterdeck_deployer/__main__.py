"""`python -m quarterdeck_deployer`: read the settings, refuse clearly what cannot work, then serve."""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from quarterdeck import lifeline
from quarterdeck.errors import Conflict, QuarterdeckError
from quarterdeck.storage import open_storage
from quarterdeck_deployer.app import create_app
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.settings import Settings, Tokens

CANNOT_START = 2
"""Exit status where something outside must be put right first."""


class Server(uvicorn.Server):
    """Lets long polls go before it waits for open requests, and ends with status 0 when it is asked to end."""

    def __init__(self, config: uvicorn.Config, deployer: Deployer) -> None:
        super().__init__(config)
        self._deployer = deployer

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what waits, then end as usual."""
        # uvicorn waits for open requests, and long polls are open for up to a minute.
        self._deployer.close_waits()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on SIGTERM and SIGINT. Unlike uvicorn's own, it does not die of the signal again once everything is put away."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def main() -> int:
    """Run until SIGTERM, SIGINT or the end of the lifeline. Returns the exit status."""
    # Database and write-ahead log hold digests of secrets; nobody else on the machine needs to read them.
    os.umask(0o077)
    try:
        settings = Settings.from_environment()
        # From the first moment: a parent that dies during our start must not leave us behind.
        lifeline.watch(settings.lifeline_fd)
        listener = _listen(settings)
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        deployer = _deployer(settings)
    except QuarterdeckError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return CANNOT_START
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger(__name__).info("listening on %s", settings.url)
    config = uvicorn.Config(
        create_app(deployer),
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )
    # What is here now stays for good: the collector need not walk through all of it again during somebody's request.
    gc.freeze()
    Server(config, deployer).run(sockets=[listener])
    return 0


def _deployer(settings: Settings) -> Deployer:
    tokens = Tokens.read(settings)
    storage = open_storage(settings.store_url, settings.s3_files)
    # Better not to start than to accept actions that no node could carry out.
    storage.check()
    return Deployer(settings, tokens, storage)


def _listen(settings: Settings) -> socket.socket:
    """The listening socket, taken before anything is touched: a second program on this port changes nothing."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    # A restart right after a crash must not wait for the old connections' time to run out.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        # Binding alone does not refuse a second program that does the same; listening does.
        listener.listen(128)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        why = "is in use by another program" if taken else f"cannot be listened on: {error.strerror}"
        raise Conflict(
            f"Port {settings.port} of {settings.host} {why}.",
            code="port-in-use" if taken else "port-unusable",
            kind="port",
            name=str(settings.port),
            hint="Stop that program, or choose another port with --port or QUARTERDECK_PORT.",
        ) from None
    return listener


if __name__ == "__main__":
    sys.exit(main())
