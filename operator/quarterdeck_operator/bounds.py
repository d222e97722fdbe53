"""uvicorn's server and HTTP protocol with bounds: whoever is slow, or many, must not keep nodes from their plans.

Neither uvicorn nor its parser limits how many connect, how large a head is, or how slowly a request comes. Everybody in the
cluster can reach the plan server, also without a token; so these bounds hold before anything is read.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

FILES = 8_192
SPARE_FILES = 256
"""Kept free for the API server's connections, /metrics and certificates."""
REQUEST_SECONDS = 10.0
"""From the connection, or the first byte, until the last byte of a request: nodes send some kilobytes at once."""
HANDSHAKE_SECONDS = 10.0
MAX_HEAD_BYTES = 65_536


def allow_files() -> int:
    """Raise this process's limit of open files to what every node's two connections need, as far as the system lets us.

    Gives back how many connections that is.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    # The usual 1,024 would be used up by 500 nodes, and the others could not even be told so.
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(most - SPARE_FILES, most // 2)


class BoundedProtocol(HttpToolsProtocol):
    """Ends connections that are too many, and those whose request does not come whole in time."""

    max_connections = FILES - SPARE_FILES
    request_seconds = REQUEST_SECONDS
    _late: asyncio.TimerHandle | None = None
    _in_head = False
    _chunk = _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Part of asyncio.Protocol: a connection that says nothing is waited for as well."""
        if len(self.connections) >= self.max_connections:
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol: bytes of no request, as blank lines between two, must also lead to a whole one."""
        self._await_request()
        self._chunk = len(data)
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._has_request()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Part of the parser's protocol."""
        # What this piece holds of the request before must not count as head.
        self._in_head, self._head_bytes = True, -self._chunk
        self._await_request()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Part of the parser's protocol."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Part of the parser's protocol."""
        self._has_request()
        super().on_message_complete()

    def _await_request(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.request_seconds, self.transport.abort)

    def _has_request(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def bounded(max_connections: int, request_seconds: float = REQUEST_SECONDS) -> type[BoundedProtocol]:
    """The protocol of one server with its own bounds: uvicorn makes protocols by their class and hands them nothing of ours."""
    own: dict[str, Any] = {"max_connections": max_connections, "request_seconds": request_seconds}
    return type("BoundedProtocol", (BoundedProtocol,), own)


class BoundedServer(uvicorn.Server):
    """A server whose TLS handshakes have a deadline too: before their end there is no protocol that could count them."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Part of uvicorn.Server: listen on the sockets."""
        await super().startup(sockets=[])
        loop, config = asyncio.get_running_loop(), self.config

        def protocol() -> asyncio.Protocol:
            made: Any = config.http_protocol_class
            return made(config=config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore[no-any-return]

        for listener in sockets or ():
            waits = HANDSHAKE_SECONDS if config.ssl else None
            made = await loop.create_server(
                protocol, sock=listener, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=waits
            )
            self.servers.append(made)
