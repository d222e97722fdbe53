"""One end of the socket pair between serve and a model process: a question out, its answer in, nothing in between."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from quarterdeck import worker_wire


class Gone(Exception):
    """The other end is closed."""


class Garbage(Exception):
    """The other end sent what is no answer, or one that nobody asked for."""


class Link(asyncio.Protocol):
    """Asks one question at a time. Made by `over`."""

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.WriteTransport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0

    @classmethod
    async def over(cls, end: socket.socket) -> Link:
        """Take over one end of a connected pair."""
        _, link = await asyncio.get_running_loop().create_unix_connection(cls, sock=end)
        return link

    async def ask(self, question: bytes, seconds: float) -> bytes:
        """Send a message and wait for the one that answers it, without its length.

        Raises:
            Gone: the other end is closed.
            Garbage: what came is no answer.
            TimeoutError: no answer came in so many seconds.
        """
        if not self.open or self._transport is None:
            raise Gone
        # Said without being asked: whose answer would the next bytes be?
        if self._have:
            raise Garbage
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        watch = loop.call_later(seconds, self._late)
        self._transport.write(question)
        try:
            return await self._answer
        finally:
            watch.cancel()
            self._answer = None

    def close(self) -> None:
        """Close this end; a question that waits is answered by `Gone`."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.WriteTransport, transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        """Collect an answer until it is whole; see `asyncio.Protocol`."""
        self._parts.append(data)
        self._have += len(data)
        if self._answer is None or self._answer.done():
            # Nobody reads it; and no more than this of it is kept.
            self.close()
            return
        if not self._need and self._have >= worker_wire.HEAD.size:
            self._parts = [b"".join(self._parts)]
            try:
                self._need = worker_wire.HEAD.size + worker_wire.size(self._parts[0][: worker_wire.HEAD.size])
            except ValueError:
                self._answer.set_exception(Garbage())
                return
        if self._need and self._have >= self._need:
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits; see `asyncio.BaseProtocol`."""
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Gone())

    def _late(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(TimeoutError())

    def _finish(self) -> None:
        assert self._answer is not None
        whole, need = b"".join(self._parts), self._need
        self._parts, self._have, self._need = [], 0, 0
        if len(whole) > need:
            self._answer.set_exception(Garbage())
        else:
            self._answer.set_result(whole[worker_wire.HEAD.size :])
