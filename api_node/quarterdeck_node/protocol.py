"""uvicorn's HTTP protocol with an end to waiting: neither it nor its parser limits how slow or how long a head may be."""

from __future__ import annotations

import asyncio
import time

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536


class LimitedProtocol(HttpToolsProtocol):
    """Knows since when it waits for a request's head, and closes connections whose head grows without end.

    `waiting_since` is `time.monotonic()` at the head's first byte or the connection's start; 0.0 while nothing is awaited.
    """

    waiting_since = 0.0
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Part of asyncio.Protocol: a connection that says nothing is waited for as well."""
        self.waiting_since = time.monotonic()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol: only bytes that did not complete the head count against it."""
        # Parsed first: a head that is complete now does not count, however large its body is.
        super().data_received(data)
        if self.waiting_since:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """Part of the parser's protocol."""
        self.waiting_since, self._head_bytes = time.monotonic(), 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Part of the parser's protocol."""
        self.waiting_since = 0.0
        super().on_headers_complete()

    def late(self, now: float, seconds: float) -> bool:
        """Whether the head has been awaited for more than `seconds` at `now`."""
        return 0.0 < self.waiting_since < now - seconds
