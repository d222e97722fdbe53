"""uvicorn's HTTP protocol with bounds: neither it nor its parser limits how many connect, how slowly they send, or read.

Deadlines are not timers here: the server looks at all connections once a second, so a good request pays nothing for them.
"""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from quarterdeck.errors import Malformed, Overloaded, QuarterdeckError
from quarterdeck_node.identifiers import request_id

MAX_HEAD_BYTES = 65_536
MAX_CONNECTIONS = 1_024
MAX_PIPELINED = 64
"""Requests of one connection that wait for the one before: the parser takes thousands out of a single read."""
MAX_LINGERING = 256
LINGER_SECONDS = 1.0


class LimitedProtocol(HttpToolsProtocol):
    """Knows since when it waits for a request's head or for its answers to be taken, and refuses what is too much.

    `waiting_since` is `time.monotonic()` at the head's first byte or the connection's start; 0.0 while nothing is awaited.
    """

    max_connections = MAX_CONNECTIONS
    lingering: ClassVar[set[LimitedProtocol]] = set()
    waiting_since = 0.0
    _unsent_since = 0.0
    _head_bytes = 0
    _chunk = 0
    _in_head = False
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Part of asyncio.Protocol: a connection that says nothing is waited for as well."""
        if len(self.connections) >= self.max_connections:
            self._refuse(transport)
            return
        self.waiting_since = time.monotonic()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol: only bytes that did not complete the head count against it."""
        if self._refused:
            return
        self._chunk = len(data)
        # Parsed first: a head that is complete now does not count, however large its body is.
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()
        # Bytes of no request, as blank lines between two, have ended the keep-alive timer: without a deadline of their own they
        # would hold the connection for ever.
        elif not self.waiting_since and (self.cycle is None or self.cycle.response_complete):
            self.waiting_since = time.monotonic()
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self.lingering.discard(self)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Part of the parser's protocol."""
        # What this piece holds of the request before must not count as head.
        self.waiting_since, self._in_head, self._head_bytes = time.monotonic(), True, -self._chunk
        # Whoever sends the next request has read the last answer: slow in all, but not stalled.
        if self._unsent_since and not self.transport.get_write_buffer_size():
            self._unsent_since = 0.0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Part of the parser's protocol."""
        self.waiting_since, self._in_head = 0.0, False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Called for bytes that are not HTTP: a problem like every other."""
        self.transport.write(_answer(400, Malformed("This is not an HTTP request.")))
        self.transport.close()

    def late(self, now: float, seconds: float) -> bool:
        """Whether the head has been awaited for more than `seconds` at `now`."""
        return 0.0 < self.waiting_since < now - seconds

    def stalled(self, now: float, seconds: float) -> bool:
        """Whether answers have waited for more than `seconds` at `now` for the other side to take them; asked once a second."""
        if not self.transport.get_write_buffer_size():
            self._unsent_since = 0.0
            return False
        self._unsent_since = self._unsent_since or now
        return now - self._unsent_since > seconds

    def _refuse(self, transport: asyncio.Transport) -> None:
        """Answer before anything is read, and close."""
        self._refused, self.transport = True, transport
        # Beyond these many it is a flood: descriptors matter more than words.
        if len(self.lingering) >= MAX_LINGERING:
            transport.abort()
            return
        busy = Overloaded("Too many connections are open.", code="too-many-connections", hint="Try again in a second.")
        transport.write(_answer(503, busy, b"retry-after: 1\r\n"))
        transport.write_eof()
        # Closed at once, the kernel would answer the request that is on its way with a reset, and the caller never see ours.
        self.lingering.add(self)
        self.loop.call_later(LINGER_SECONDS, transport.abort)


def limited(max_connections: int) -> type[LimitedProtocol]:
    """The protocol of one server with its own cap: uvicorn makes protocols by their class and hands them nothing of ours."""
    return type("LimitedProtocol", (LimitedProtocol,), {"max_connections": max_connections, "lingering": set()})


def _answer(status: int, error: QuarterdeckError, more: bytes = b"") -> bytes:
    """A whole answer of a connection that no application will see."""
    identity = request_id()
    body = to_json({**error.problem(), "request_id": identity})
    head = (
        f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\nx-request-id: {identity}\r\n"
        "connection: close\r\n"
    )
    return STATUS_LINE[status] + head.encode() + more + b"\r\n" + body
