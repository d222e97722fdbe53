"""Connections: how many, how silent, how slow to read, and what is no HTTP; each bound beside a caller who notices nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import uvloop

from quarterdeck_node.agent_client import MemoryAgent
from quarterdeck_node.drain import DrainingServer
from quarterdeck_node.node import Node
from quarterdeck_node.protocol import MAX_LINGERING, MAX_PIPELINED, limited
from quarterdeck_node.settings import Settings
from tests.support import eventually

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LARGE = 8 * 2**20
CONNECTIONS = 4


class Door:
    """A server with a plain application behind the real protocol and the real drain."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self, buffer: int = 0) -> socket.socket:
        """A connection; `buffer` bytes are what its side takes before it reads."""
        made = socket.socket()
        if buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.settimeout(60)
        made.connect(("127.0.0.1", self.port))
        return made

    def ask(self, path: str = "/") -> httpx.Response:
        """One request on a connection of its own."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=60, trust_env=False)


async def application(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """Answers at once: a word, or as much as no socket takes in one piece."""
    body = b"x" * LARGE if scope["path"] == "/large" else b"here"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served(folder: Path, **settings: Any) -> Iterator[Door]:
    """A server in a thread of its own, drained at the end."""
    listener = socket.create_server(("127.0.0.1", 0))
    servers: list[DrainingServer] = []

    async def run() -> None:
        told = Settings(folder=folder, drain_seconds=0, **settings)
        protocol = limited(told.max_connections)
        config = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            # Longer than any test: whatever is closed here was not closed for having been idle.
            timeout_keep_alive=600,
            timeout_graceful_shutdown=1,
        )
        servers.append(DrainingServer(config, Node(told, MemoryAgent())))
        await servers[0].serve(sockets=[listener])

    def main() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=main)
    door = Door(listener.getsockname()[1])
    thread.start()
    try:
        eventually(lambda: servers[0].started)
        yield door
    finally:
        servers[0].should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One server for everything that does not fill it up."""
    with served(tmp_path_factory.mktemp("door"), receive_seconds=1.0, send_seconds=2.0) as door:
        yield door


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A server that takes four connections."""
    with served(tmp_path_factory.mktemp("small"), max_connections=CONNECTIONS) as door:
        yield door


def closed(connection: socket.socket) -> bool:
    """Whether the other side has ended it, whatever it said before."""
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        pass
    return True


def test_one_connection_too_many_is_told_so_and_closed(small: Door) -> None:
    """503 as a problem with Retry-After, before anything is read; those inside are answered, and room that is left is taken."""
    with ExitStack() as held:
        inside = [held.enter_context(small.connect()) for _ in range(CONNECTIONS)]
        for connection in inside:
            connection.sendall(GET)
            assert b"200 OK" in connection.recv(1000)
        refused = small.ask()
        problem = refused.json()
        assert (refused.status_code, problem["code"], problem["status"]) == (503, "too-many-connections", 503)
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["x-request-id"] == problem["request_id"]
        inside[0].sendall(GET)
        assert b"200 OK" in inside[0].recv(1000)
        inside.pop().close()
        assert eventually(lambda: small.ask().status_code == 200)


def test_a_refused_caller_may_send_its_request_first(small: Door) -> None:
    """Its bytes are thrown away, so that it reads the refusal and not a reset."""
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(small.connect())
        for body in (b"", b"x" * 10, b"x" * 100_000):
            with small.connect() as late:
                late.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
                said = b""
                while part := late.recv(65_536):
                    said += part
                assert said.startswith(b"HTTP/1.1 503 ")
                assert json.loads(said.partition(b"\r\n\r\n")[2])["hint"]
    assert eventually(lambda: small.ask().status_code == 200)


def test_a_flood_of_connections_is_survived(small: Door) -> None:
    """More than are even told: afterwards everything is as before."""
    with ExitStack() as held:
        for _ in range(MAX_LINGERING + 50):
            held.enter_context(small.connect())
    assert eventually(lambda: small.ask().status_code == 200)


@pytest.mark.parametrize(
    ("request_first", "then"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (b"", b"GET / HT"),
        (GET, b"\r\n"),
        (GET, b"GET / HT"),
        (GET[:-2] + b"content-length: 100000000\r\n\r\n", b"x"),
    ],
    ids=[
        "silence",
        "a blank line",
        "half a head",
        "a blank line after a request",
        "half a second head",
        "a body after its answer",
    ],
)
def test_a_connection_that_brings_no_request_is_closed(door: Door, request_first: bytes, then: bytes) -> None:
    """Whatever it sends to look busy: bytes of no request do not buy time."""
    with door.connect() as slow:
        if request_first:
            slow.sendall(request_first)
            assert b"200 OK" in slow.recv(1000)
        slow.sendall(then)
        assert closed(slow)
    assert door.ask().status_code == 200


def test_a_kept_connection_may_be_silent(door: Door) -> None:
    """Between two requests a client may think for longer than a head may take."""
    with door.connect() as kept, door.connect() as slow:
        kept.sendall(GET)
        assert b"200 OK" in kept.recv(1000)
        # Silent from its start, so it is closed: by then the other has been silent for as long.
        assert closed(slow)
        kept.sendall(GET)
        assert b"200 OK" in kept.recv(1000)


def test_a_caller_that_does_not_read_is_cut_off(door: Door) -> None:
    """Its answer would be held in memory for as long as it likes."""
    with door.connect(buffer=4096) as deaf:
        deaf.sendall(GET.replace(b" / ", b" /large "))
        eventually(lambda: door.ask().status_code == 200)
        eventually(lambda: gone(deaf))
        received = 0
        try:
            while part := deaf.recv(65_536):
                received += len(part)
        except ConnectionError:
            pass
        assert received < LARGE


def gone(connection: socket.socket) -> bool:
    """Whether sending finds nobody there; nothing is read."""
    try:
        connection.sendall(b"\r\n")
    except OSError:
        return True
    return False


def test_a_caller_that_reads_gets_all_of_it(door: Door) -> None:
    """A large answer is no offence."""
    assert len(door.ask("/large").content) == LARGE


def test_requests_in_a_row_are_answered_in_order(door: Door) -> None:
    """As many as may wait, all sent before the first answer is read."""
    with door.connect() as eager:
        eager.sendall(GET * MAX_PIPELINED)
        said = b""
        while said.count(b"here") < MAX_PIPELINED:
            part = eager.recv(65_536)
            assert part
            said += part


def test_thousands_of_requests_in_a_row_end_the_connection(door: Door) -> None:
    """Each would cost memory before the first is answered."""
    with door.connect() as flood:
        flood.sendall(GET * 3_000)
        assert closed(flood)
    assert door.ask().status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"\0" * 100,
    ],
    ids=["words", "TLS", "a header without a colon", "no path", "zeros"],
)
def test_what_is_no_http_is_a_problem_too(door: Door, sent: bytes) -> None:
    """400 in the form of every other error, and the connection is closed."""
    with door.connect() as mad:
        mad.sendall(sent)
        said = b""
        while part := mad.recv(65_536):
            said += part
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["code"] == "malformed"


def test_a_head_after_a_large_body_is_no_large_head(door: Door) -> None:
    """Both may come in one piece: only bytes of the head itself count against it."""
    large = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n" + b"x" * 500_000
    with door.connect() as client:
        client.sendall(large + GET[:-2])
        eventually(lambda: b"here" in client.recv(65_536))
        client.sendall(b"\r\n")
        assert b"200 OK" in client.recv(1000)
