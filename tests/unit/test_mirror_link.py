"""The connection to a challenger node: one question, one answer, and nothing that nobody asked for."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from quarterdeck.errors import NotReady
from quarterdeck_node.mirror_link import Link

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


async def told(*said: bytes) -> tuple[list[bytes], bool]:
    """What a connection gives for one question after the other, where the other side says this to each; whether it is usable."""
    left, gone = list(said), asyncio.Event()

    async def challenger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while left and await reader.readuntil(b"\r\n\r\n"):
                writer.write(left.pop(0))
                await writer.drain()
            await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(challenger, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        link = await Link.to(f"http://{host}:{port}", 10.0)
        try:
            return [(await link.post("/", "token", b"", 1_000, 10.0)).body for _ in said], link.usable
        finally:
            link.close()
            await gone.wait()


def test_a_connection_carries_one_question_after_the_other() -> None:
    """Each with its own answer."""
    assert asyncio.run(told(HEAD + b"{}", HEAD + b"[]")) == ([b"{}", b"[]"], True)


@pytest.mark.parametrize("more", [HEAD + b"xx", HEAD, HEAD[:20], b"H"], ids=["whole", "head", "part", "byte"])
def test_an_answer_that_nobody_asked_for_ends_the_connection(more: bytes) -> None:
    """The answer before it counts; what came behind is never taken for the answer to the next question."""
    assert asyncio.run(told(HEAD + b"{}" + more)) == ([b"{}"], False)
    with pytest.raises(NotReady):
        asyncio.run(told(HEAD + b"{}" + more, HEAD[len(more) :] + b"no"))
