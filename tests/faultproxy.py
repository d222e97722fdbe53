"""A proxy on the loopback that makes a network sick: between a client and an HTTP server, one fault at a time.

It speaks just enough HTTP to know where a response's body begins, so that a cut after byte n means byte n of the body.
Each connection carries one exchange (both sides are told to close), and everything runs in one thread with its own loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CHUNK = 1 << 14


@dataclass(frozen=True)
class Toxics:
    """What is wrong with the network; all of it only for requests whose first line contains `match`.

    Args:
        match: part of the request line, e.g. ``/blobs/``; everything where empty.
        times: only for the first so many such requests since `FaultProxy.forget`; 0: for all of them.
        down: connections are reset as soon as they are made.
        hang: the request is read and never answered.
        swallow: the request is passed on and done by the server, and its answer is lost.
        status: answered instead of the server, as S3 answers errors.
        delay: seconds before the request is passed on.
        bandwidth: bytes per second of response bodies; 0: no limit.
        cut_after: the connection is closed after this many bytes of the body.
        reset: the cut is a reset (RST) and not an orderly close.
        flip: the byte at this offset of the body arrives inverted.
    """

    match: str = ""
    times: int = 0
    down: bool = False
    hang: bool = False
    swallow: bool = False
    status: int = 0
    delay: float = 0.0
    bandwidth: int = 0
    cut_after: int | None = None
    reset: bool = False
    flip: int | None = None


HEALTHY = Toxics()
_CODES = {403: "AccessDenied", 404: "NoSuchKey", 409: "ConditionalRequestConflict", 500: "InternalError", 503: "SlowDown"}


@dataclass
class FaultProxy:
    """A running proxy. Set `toxics` at any time; it counts for requests that begin afterwards.

    `exchanges` holds (request line, bytes of the response's body that were passed on) of every request so far.
    """

    upstream: str
    toxics: Toxics = HEALTHY
    url: str = ""
    exchanges: list[list[str | int]] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def body_bytes(self, match: str = "") -> int:
        """Bytes of response bodies that were passed on for requests whose first line contains `match`."""
        return sum(int(count) for line, count in list(self.exchanges) if match in str(line))

    def forget(self) -> None:
        """Heal the network and start counting anew."""
        self.toxics = HEALTHY
        self.exchanges.clear()

    async def _serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._exchange(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        toxics = self._toxics_for(line)
        entry: list[str | int] = [line, 0]
        self.exchanges.append(entry)
        if toxics.down:
            writer.transport.abort()
            return
        if toxics.hang:
            await asyncio.Event().wait()
        if toxics.status:
            await _answer(writer, toxics.status)
            return
        await asyncio.sleep(toxics.delay)
        await self._pass_on(head, (reader, writer), toxics, entry)

    def _toxics_for(self, line: str) -> Toxics:
        toxics = self.toxics
        before = sum(1 for seen, _ in self.exchanges if toxics.match in str(seen))
        return toxics if toxics.match in line and (not toxics.times or before < toxics.times) else HEALTHY

    async def _pass_on(
        self,
        head: bytes,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        toxics: Toxics,
        entry: list[str | int],
    ) -> None:
        parts = urlsplit(self.upstream)
        answers, requests = await asyncio.open_connection(parts.hostname, parts.port)
        uploading = asyncio.create_task(_pump(client[0], requests))
        try:
            requests.write(_closing(head))
            while True:
                answer = await answers.readuntil(b"\r\n\r\n")
                if toxics.swallow and not answer.startswith(b"HTTP/1.1 100"):
                    client[1].transport.abort()
                    return
                client[1].write(answer)
                if not answer.startswith(b"HTTP/1.1 100"):
                    break
            await _relay(answers, client[1], toxics, entry)
        finally:
            uploading.cancel()
            requests.close()


async def _answer(writer: asyncio.StreamWriter, status: int) -> None:
    code = _CODES.get(status, "ServiceUnavailable")
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>the proxy says so</Message></Error>".encode()
    head = f"HTTP/1.1 {status} No\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()


def _closing(head: bytes) -> bytes:
    """The request's head, asking the server to close afterwards; signatures of S3 do not cover this header."""
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([lines[0], b"Connection: close", *lines[1:]])


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toxics: Toxics, entry: list[str | int]) -> None:
    sent = 0
    size = CHUNK if not toxics.bandwidth else max(1, min(CHUNK, toxics.bandwidth // 50))
    while chunk := await reader.read(size):
        data = bytearray(chunk)
        if toxics.flip is not None and sent <= toxics.flip < sent + len(data):
            data[toxics.flip - sent] ^= 0xFF
        if toxics.cut_after is not None:
            data = data[: max(0, toxics.cut_after - sent)]
        writer.write(bytes(data))
        await writer.drain()
        sent += len(data)
        entry[1] = sent
        if toxics.cut_after is not None and sent >= toxics.cut_after:
            if toxics.reset:
                writer.transport.abort()
            return
        if toxics.bandwidth:
            await asyncio.sleep(len(data) / toxics.bandwidth)


@contextmanager
def proxied(upstream: str) -> Iterator[FaultProxy]:
    """A healthy proxy before `upstream` (``http://host:port``), ended with the block."""
    proxy = FaultProxy(upstream)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(proxy._serve(ready, stop))

    thread = threading.Thread(target=run, name="faultproxy")
    thread.start()
    try:
        assert ready.wait(60)
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
