"""The three ports of a local system, checked before anything is started."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import NamedTuple

from quarterdeck_cli import processes
from quarterdeck_cli.errors import NotStarted

HOST = "127.0.0.1"
EVERY_HOST = ("0.0.0.0", "::")
# The last one from which three in a row still exist.
HIGHEST = 65533


class Ports(NamedTuple):
    """Where the deployer and the two nodes listen."""

    deployer: int
    main: int
    challenger: int


def choose(port: int) -> Ports:
    """The three ports from `port` on, or three free ones where it is 0.

    Raises:
        NotStarted: ``port-in-use`` naming the port and, where it can be seen, who holds it; ``port-refused``.
    """
    if not 0 <= port <= HIGHEST:
        raise NotStarted(
            f"{port} is not a port that three in a row can start from.",
            code="port-refused",
            hint=f"Give --port a number from 1024 to {HIGHEST}, or 0 for free ones.",
        )
    wanted = [port + offset if port else 0 for offset in range(3)]
    # All three are held until the last is won, so that free ones differ from each other.
    with ExitStack() as held:
        taken = [held.enter_context(_bound(number)) for number in wanted]
        return Ports(*(each.getsockname()[1] for each in taken))


def require_free(host: str, port: int) -> None:
    """Refuse a port that somebody listens on already, or that this machine does not give.

    Raises:
        NotStarted: as `choose`.
    """
    _bound(port, host).close()


def _bound(port: int, host: str = HOST) -> socket.socket:
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    # As the servers do: a port in TIME_WAIT is free, one that somebody listens on is not.
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        # Two sockets may share a port until one of them listens.
        taken.listen()
    except OSError as error:
        taken.close()
        raise _refusal(port, error) from error
    return taken


def _refusal(port: int, error: OSError) -> NotStarted:
    if error.errno != errno.EADDRINUSE:
        return NotStarted(
            f"Port {port} cannot be used: {error.strerror}.",
            code="port-refused",
            kind="port",
            name=str(port),
            hint="Choose one from 1024 on with --port.",
        )
    # The holder may belong to another user; then its port is all that can be named.
    pid = processes.listener(port)
    holder = f" by pid {pid} ({processes.command(pid)})" if pid else ""
    return NotStarted(
        f"Port {port} is in use{holder}.",
        code="port-in-use",
        kind="port",
        name=str(port),
        hint="Choose another with --port, or --port 0 for free ones. Nothing was started.",
    )
