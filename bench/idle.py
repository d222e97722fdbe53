"""Ten thousand connections that were used once and are kept open: what they cost a good caller."""

from __future__ import annotations

import re
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from bench import cells, work, wrk
from bench.cells import Rules
from bench.forms import ROTATION
from bench.node import OURS
from bench.rows import Row

IDLE = 10_000
CONNECTIONS = 16
_REQUEST = b"GET /live HTTP/1.1\r\nHost: bench\r\n\r\n"


def measure(repetition: int, rules: Rules) -> Row:
    """The p99 of 16 good connections, before the idle ones came and beside them.

    Raises:
        OSError: the machine does not allow so many connections.
    """
    server = replace(OURS["quarterdeck"], settings={"max_connections": IDLE + 1_000})
    with server.started("single", rules.cores) as running:
        target = server.targets["single"]
        post = wrk.Post(running.url + target.path, work.body_file(target.form, "single"), ROTATION, target.media, running.key)
        wrk.run(post, CONNECTIONS, 2, rules.cores.load)
        alone = cells.loaded(running, post, CONNECTIONS, rules)
        memory = cells.of_memory(running)
        with _connections(running.url, IDLE) as idle:
            beside = cells.loaded(running, post, CONNECTIONS, rules)
            figures = {
                **beside,
                "p99_ms_alone": alone["p99_ms"],
                "rps_alone": alone["rps"],
                "p99_ratio": beside["p99_ms"] / alone["p99_ms"],
                "open": float(sum(map(_is_open, idle))),
                "rss_mb_alone": memory["rss_mb"],
                **cells.of_memory(running),
            }
            figures["disturbed"] = max(alone["disturbed"], beside["disturbed"])
            figures["errors"] += alone["errors"]
    return Row(server.name, "idle", CONNECTIONS, repetition, figures)


@contextmanager
def _connections(url: str, count: int) -> Iterator[list[socket.socket]]:
    """So many connections, each answered once."""
    _allow_files(count + 1_000)
    address = (str(urlsplit(url).hostname), int(urlsplit(url).port or 0))
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(count)]
        for connection in made:
            connection.sendall(_REQUEST)
        for connection in made:
            if not _answer(connection).startswith(b"HTTP/1.1 200"):
                raise OSError("an idle connection was refused")
        yield made


def _answer(connection: socket.socket) -> bytes:
    """One whole answer, which may come in several pieces."""
    found = b""
    while part := connection.recv(4_096):
        found += part
        head, blank, body = found.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if blank and length and len(body) >= int(length[1]):
            break
    return found


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        # Nothing was asked for, so whatever can be read is the end.
        connection.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
