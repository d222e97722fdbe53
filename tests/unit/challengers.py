"""Challenger nodes of every temper: small real servers on a thread of their own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Literal

from quarterdeck.plan import DeploymentPlan, Mirror, VersionRef
from tests.support import free_port

Temper = Literal[
    "healthy", "hung", "slow", "bytes", "nan", "short", "huge", "other", "refuses-rows", "error-500", "label", "closes"
]
DIGEST, OTHER_DIGEST = "sha256:" + "c" * 64, "sha256:" + "d" * 64
TOKEN = "mirror-secret"


class Challenger:
    """A server on 127.0.0.1; use as a context. `rows` counts what it was sent, `temper` can be changed at any time."""

    def __init__(self, temper: Temper = "healthy", slow_seconds: float = 10.0) -> None:
        self.temper: Temper = temper
        self.slow_seconds = slow_seconds
        self.rows: list[dict[str, Any]] = []
        self.connections = 0
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Challenger:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connection, "127.0.0.1", self.port))
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                assert b"POST /mirror/flights HTTP/1.1" in head
                assert f"authorization: Bearer {TOKEN}".encode() in head
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                rows = json.loads(await reader.readexactly(length))["rows"]
                self.rows += rows
                writer.write(await self._answer(rows))
                await writer.drain()
                if self.temper == "closes":
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, rows: list[dict[str, Any]]) -> bytes:
        good = [["yes", [0.25, 0.75]] for _ in rows]
        answers: dict[str, Callable[[], Awaitable[bytes]]] = {
            "hung": lambda: _later(3600.0, b""),
            "slow": lambda: _later(self.slow_seconds, _http(_body(good))),
            "bytes": lambda: _later(0, b"\x00\xff\x17garbage\r\n\r\n" * 50),
            "nan": lambda: _later(0, _http(_body([["yes", [float("nan"), 0.5]] for _ in rows]))),
            "short": lambda: _later(0, _http(_body(good[1:]))),
            "huge": lambda: _later(0, _http(b'{"answers":["' + b"x" * (16 * 2**20) + b'"]}')),
            "other": lambda: _later(0, _http(_body(good, OTHER_DIGEST))),
            "refuses-rows": lambda: _later(0, _http(_body([*good[1:], {"error": "model-failed"}]))),
            "error-500": lambda: _later(0, _http(b"{}", 500)),
            "label": lambda: _later(0, _http(_body([[17, [0.5, 0.5]] for _ in rows]))),
        }
        return await answers.get(self.temper, lambda: _later(0, _http(_body(good))))()


def deployment(url: str, *, digest: str = DIGEST, **mirror: Any) -> DeploymentPlan:
    """A main deployment `flights` that mirrors to `url`."""
    challenger = VersionRef(model="late-flights", version=2, digest=digest)
    return DeploymentPlan(
        name="flights",
        role="main",
        revision=4,
        active=VersionRef(model="late-flights", version=1, digest="sha256:" + "a" * 64),
        resident=[],
        mirror=Mirror(url=url, version=challenger, token=TOKEN, **mirror),
    )


async def _later(seconds: float, answer: bytes) -> bytes:
    await asyncio.sleep(seconds)
    return answer


def _http(body: bytes, status: int = 200) -> bytes:
    return f"HTTP/1.1 {status} Whatever\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def _body(answers: list[Any], digest: str = DIGEST) -> bytes:
    return json.dumps({"model": "late-flights", "version": 2, "digest": digest, "revision": 4, "answers": answers}).encode()
