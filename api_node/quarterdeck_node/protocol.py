"""uvicorn's HTTP protocol with bounds, and with a short road for requests that are here whole.

Neither uvicorn nor its parser limits how many connect, how slowly they send, or read. Deadlines are not timers here: the server
looks at all connections once a second, so a good request pays nothing for them.

A request whose every byte has arrived in one piece, to a path where a door has answered before, needs no task, no scope and no
queue of events: it is answered while its bytes are being taken in, by the same edge and door, and its answer leaves in one write.
What is unusual in any way (another method or HTTP version, upgrades, `Expect`, a body in pieces, a caller that does not read, an
answer before it that is not done) takes uvicorn's own road.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import coroutine
from typing import Any, ClassVar, NamedTuple

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from quarterdeck.errors import Malformed, Overloaded, QuarterdeckError
from quarterdeck_node.doors.call import Call, Reply
from quarterdeck_node.doors.head import Head
from quarterdeck_node.edge import Edge, Known
from quarterdeck_node.identifiers import request_id
from quarterdeck_node.limits import DEFAULT

MAX_CONNECTIONS = 1_024
MAX_PIPELINED = 64
"""Requests of one connection that wait for the one before: the parser takes thousands out of a single read."""
MAX_LINGERING = 256
LINGER_SECONDS = 1.0
MAX_HEADS = 1_024
MAX_HEAD_KEPT = 2_048
_PASSING = (b"x-request-id", b"traceparent", b"tracestate", b"idempotency-key")
"""Headers that differ with every request: such a head is not worth keeping."""
_UNUSUAL = frozenset((b"expect", b"transfer-encoding", b"upgrade"))
_HEAD_END = b"\r\n\r\n"


class _Seen(NamedTuple):
    """What a head meant when the parser read it."""

    known: Known
    head: Head
    length: int


class LimitedProtocol(HttpToolsProtocol):
    """Knows since when it waits for a request's head or for its answers to be taken, and refuses what is too much.

    `waiting_since` is `time.monotonic()` at the head's first byte or the connection's start; 0.0 while nothing is awaited.
    `idle_since` is the end of the last answer while no request has begun; 0.0 otherwise.
    """

    max_connections = MAX_CONNECTIONS
    max_head_bytes = DEFAULT.head_bytes * 4
    edge: ClassVar[Edge | None] = None
    lingering: ClassVar[set[LimitedProtocol]] = set()
    seen: ClassVar[dict[bytes, _Seen]] = {}
    """Heads that were answered well, byte for byte: the same bytes mean the same again, so they are not parsed again."""
    waiting_since = idle_since = 0.0
    _unsent_since = 0.0
    _head_bytes = 0
    _chunk = 0
    _piece = b""
    _in_head = False
    _between = True
    _refused = False
    _unusual = False
    _at_once = 0
    _short: Known | None = None
    _body = b""

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
        if self._between and self._free():
            end = data.find(_HEAD_END) + 4
            seen = self.seen.get(data[:end])
            if seen is not None:
                known, head, length = seen
                if len(data) == end + length:
                    # A new connection awaits its first head, and this is it.
                    self.waiting_since = 0.0
                    self._answer(known, head, data[end:])
                    return
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._piece = data if self._between else b""
        self.idle_since, self._at_once = 0.0, 0
        self._chunk = size = len(data)
        # Parsed first: a head that is complete now does not count, however large its body is.
        super().data_received(data)
        self._piece = b""
        if self._short is not None:
            self._take_ordinary_road()
        if self._in_head:
            self._head_bytes += size
            if self._head_bytes > self.max_head_bytes:
                self.transport.abort()
        # Bytes of no request, as blank lines between two: without a deadline of their own they would hold it for ever.
        elif not (self.waiting_since or self.idle_since) and (self.cycle is None or self.cycle.response_complete):
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
        self._between = self._unusual = False
        # Whoever sends the next request has read the last answer: slow in all, but not stalled.
        if self._unsent_since and not self.transport.get_write_buffer_size():
            self._unsent_since = 0.0
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Part of the parser's protocol."""
        name = name.lower()
        if name in _UNUSUAL:
            self._unusual = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Part of the parser's protocol: here a request's road is chosen."""
        self.waiting_since, self._in_head = 0.0, False
        parser = self.parser
        known = self.edge.known.get(self.url) if self.edge is not None else None
        if (
            known is not None
            and not self._unusual
            # So many in one piece are a flood, and wait as all floods do.
            and self._at_once < MAX_PIPELINED
            and self._free()
            and not self.transport.is_closing()
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
        ):
            self._short, self._body = known, b""
            self._at_once += 1
        else:
            self._begin_ordinary()

    def on_body(self, body: bytes) -> None:
        """Part of the parser's protocol."""
        if self._short is None:
            super().on_body(body)
        elif self._body:
            self._take_ordinary_road()
            super().on_body(body)
        else:
            self._body = body

    def on_message_complete(self) -> None:
        """Part of the parser's protocol."""
        self._between = True
        known, self._short = self._short, None
        if known is None:
            super().on_message_complete()
            return
        head, body = Head(self.headers, len(self.url)), self._body
        if self._answer(known, head, body):
            self._remember(known, head, body)

    def on_response_complete(self) -> None:
        """Called by uvicorn after each answer of the ordinary road."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        # No timer: whoever looks at all connections once a second sees this one as well.
        else:
            self.idle_since = time.monotonic()

    def _free(self) -> bool:
        """Whether an answer may be written now: none before it is missing, and the caller reads."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _begin_ordinary(self) -> None:
        """uvicorn's own road, from the headers on."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        # uvicorn's scope holds this very list.
        self.headers += headers
        if self._unusual:
            self.expect_100_continue = any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
        super().on_headers_complete()

    def _take_ordinary_road(self) -> None:
        """The request is not whole after all."""
        self._short = None
        self._begin_ordinary()
        if self._body:
            super().on_body(self._body)

    def _answer(self, known: Known, head: Head, body: bytes) -> bool:
        """Answer a whole request; whether its head is one that is answered well, or let through to a model elsewhere."""
        edge = self.edge
        assert edge is not None
        call = Call(edge.node, known.scope, _nothing, head, body)
        work = edge.answer(call, known.door)
        try:
            pause = work.send(None)
        except StopIteration as done:
            reply: Reply = done.value
            self._write(edge, call, reply)
            return reply.status < 400
        self._go_on(edge, call, _rest(work, pause))
        return True

    def _write(self, edge: Edge, call: Call, reply: Reply) -> None:
        """Head and body in one piece."""
        transport, state, closes = self.transport, self.server_state, edge.closes(call)
        common = _common.of(state.default_headers)
        transport.write(b"".join((STATUS_LINE[reply.status], common, edge.lines(call, reply, closes), b"\r\n", reply.body)))
        state.total_requests += 1
        self.idle_since = time.monotonic()
        if closes:
            transport.close()

    def _go_on(self, edge: Edge, call: Call, rest: Awaitable[Reply | None]) -> None:
        """The answer takes its time: the rest runs in a task, and what comes on this connection meanwhile waits for it."""
        self.idle_since = 0.0
        scope = {**call.scope, "headers": self.headers}
        cycle = self.cycle = RequestResponseCycle(
            scope=scope,  # type: ignore[arg-type]
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        cycle.more_body = False

        async def application(scope: Any, receive: Any, send: Any) -> None:
            reply = await rest
            if reply is not None:
                await send({"type": "http.response.start", "status": reply.status, "headers": edge.headers(call, reply)})
                await send({"type": "http.response.body", "body": reply.body})

        self._start_asgi_task(cycle, application)

    def _remember(self, known: Known, head: Head, body: bytes) -> None:
        """Keep what this head means, if it is whole and alone in its piece, and may come again."""
        piece = self._piece
        end = len(piece) - len(body)
        if end > MAX_HEAD_KEPT or piece.find(_HEAD_END) != end - 4 or head.length != len(body) or piece[end:] != body:
            return
        if any(head.get(name) for name in _PASSING):
            return
        if len(self.seen) >= MAX_HEADS:
            self.seen.clear()
        self.seen[piece[:end]] = _Seen(known, head, len(body))

    def send_400_response(self, msg: str) -> None:
        """Called for bytes that are not HTTP: a problem like every other."""
        self.transport.write(_answer(400, Malformed("This is not an HTTP request.")))
        self.transport.close()

    def late(self, now: float, seconds: float) -> bool:
        """Whether the head has been awaited for more than `seconds` at `now`."""
        return 0.0 < self.waiting_since < now - seconds

    def idle(self, now: float, seconds: float) -> bool:
        """Whether no request has begun for more than `seconds` at `now` since the last answer."""
        return 0.0 < self.idle_since < now - seconds

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


def limited(max_connections: int, edge: Edge | None = None, head_bytes: int = DEFAULT.head_bytes) -> type[LimitedProtocol]:
    """The protocol of one server with its own bounds: uvicorn makes protocols by their class and hands them nothing of ours.

    Args:
        max_connections: that may be open.
        edge: answers requests on the short road; without one all take the ordinary one.
        head_bytes: of a request; four times as many end the connection.
    """
    # The edge refuses by name what is a little too large; only far beyond that nobody is worth an answer.
    own: dict[str, Any] = {"max_connections": max_connections, "max_head_bytes": head_bytes * 4, "edge": edge}
    own |= {"lingering": set(), "seen": {}}
    return type("LimitedProtocol", (LimitedProtocol,), own)


async def _nothing() -> Any:
    """What a call that has its body already would be told: nobody asks."""
    return {"type": "http.disconnect"}


@coroutine
def _rest(work: Coroutine[Any, Any, Reply | None], pause: Any) -> Generator[Any, Any, Reply | None]:
    """What is left of a coroutine that was driven by hand to its first pause."""
    while True:
        step: Callable[[Any], Any] = work.send
        try:
            given = yield pause
        except BaseException as error:
            step, given = work.throw, error
        try:
            pause = step(given)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


class _Common:
    """uvicorn's own headers as lines: the date, which it renews once a second by a new list."""

    headers: list[tuple[bytes, bytes]] | None = None
    lines = b""

    def of(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        if headers is not self.headers:
            self.headers, self.lines = headers, b"".join([b"%b: %b\r\n" % line for line in headers])
        return self.lines


_common = _Common()


def _answer(status: int, error: QuarterdeckError, more: bytes = b"") -> bytes:
    """A whole answer of a connection that no application will see."""
    identity = request_id()
    body = to_json({**error.problem(), "request_id": identity})
    head = (
        f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\nx-request-id: {identity}\r\n"
        "connection: close\r\n"
    )
    return STATUS_LINE[status] + head.encode() + more + b"\r\n" + body
