"""One HTTP/1.1 connection to a challenger node that carries one POST at a time.

Written on the bare loop: mirroring shares the loop with main's answers, and a general client costs several times as much of
it. The other side may be hung, dead or mad: every wait has a deadline and every answer a size beyond which it is cut off.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import cache
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

from quarterdeck.errors import NotReady


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes


class Link(asyncio.Protocol):
    """A connection; made by `Link.to`, closed by `close` or by whatever goes wrong."""

    def __init__(self, host: str) -> None:
        self.opened = asyncio.get_running_loop().time()
        self.used = False
        self._host = host
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Reply] | None = None
        self._body = bytearray()
        self._limit = 0
        self._keep = True

    @classmethod
    async def to(cls, url: str, timeout: float) -> Link:
        """Connect to the host of `url`.

        Raises:
            NotReady: ``challenger-unreachable`` or ``challenger-timeout``.
        """
        parts = urlsplit(url)
        # Reading the system's certificates takes tens of milliseconds, which main's answers on this loop must not feel.
        secure = await asyncio.to_thread(_trusted) if parts.scheme == "https" else None
        port = parts.port or (443 if secure else 80)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, link = await loop.create_connection(lambda: cls(parts.netloc), parts.hostname or "", port, ssl=secure)
        except TimeoutError:
            raise _failure("challenger-timeout", "The challenger node did not take the connection in time.") from None
        except OSError:
            raise _failure("challenger-unreachable", "The challenger node cannot be connected to.") from None
        return link

    @property
    def usable(self) -> bool:
        """Whether it can carry another POST."""
        return self._transport is not None and not self._transport.is_closing() and self._waiter is None

    async def post(self, path: str, token: str, body: bytes, limit: int, timeout: float) -> Reply:
        """Send and wait for the whole answer. After an error the connection is closed.

        Args:
            path: absolute path on the host.
            token: bearer token.
            body: JSON.
            limit: bytes of the answer's body beyond which it is refused.
            timeout: seconds for everything.

        Raises:
            NotReady: ``challenger-timeout``, ``challenger-disconnected``, ``challenger-protocol`` or ``challenger-too-large``.
        """
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\nauthorization: Bearer {token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        if not self.usable or self._transport is None:
            raise _failure("challenger-disconnected", "The challenger node closed the connection.")
        # Head and body leave in one write below: two would be two packets, and wake the other side twice.
        self._waiter = asyncio.get_running_loop().create_future()
        self._limit, self._keep = limit, False
        self._transport.write(head.encode("latin-1") + body)
        try:
            async with asyncio.timeout(timeout):
                return await self._waiter
        except TimeoutError:
            raise _failure("challenger-timeout", "The challenger node did not answer in time.") from None
        finally:
            self._waiter, self.used = None, True
            if not self._keep:
                self.close()

    def close(self) -> None:
        """Drop the connection at once; what was written and not sent is thrown away."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol: anything that is not the one answer asked for ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("challenger-protocol", "The challenger node does not speak HTTP.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._fail("challenger-disconnected", "The challenger node closed the connection.")

    def on_message_begin(self) -> None:
        """Part of the parser's protocol: a second answer to one question, whose rest would be taken for the next one's."""
        if self._waiter is None or self._waiter.done():
            self._keep = False
            self.close()

    def on_body(self, data: bytes) -> None:
        """Part of the parser's protocol."""
        if len(self._body) + len(data) > self._limit:
            self._fail("challenger-too-large", "The challenger node's answer is larger than predictions can be.")
        else:
            self._body += data

    def on_message_complete(self) -> None:
        """Part of the parser's protocol."""
        body, self._body = bytes(self._body), bytearray()
        status = self._parser.get_status_code()
        # An answer that nobody asked for: whatever comes next on this connection could be taken for the wrong batch.
        if self._waiter is None:
            self.close()
        elif not self._waiter.done():
            self._keep = self._parser.should_keep_alive()
            self._waiter.set_result(Reply(status, body))

    def _fail(self, code: str, detail: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(_failure(code, detail))
        self.close()


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _failure(code: str, detail: str) -> NotReady:
    return NotReady(detail, code=code, kind="challenger", hint="See the challenger node's log and its /ready page.")
