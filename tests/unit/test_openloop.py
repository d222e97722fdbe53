"""The load generator itself, against a server that does exactly what it is told: counts are exact, and no wait is hidden."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.openloop import Load
from tests.support import ROOT

BODY = b'{"row": 1}'
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Server:
    """Answers each request as `answer` says, by its number from 1; None closes the connection instead."""

    def __init__(self, answer: Callable[[int], tuple[int, float] | None]) -> None:
        self.requests = self.open = self.most = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.meetings: list[asyncio.Task[None] | None] = []
        self._answer = answer

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until somebody closes it."""
        self.writers.append(writer)
        self.meetings.append(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                assert await reader.readexactly(len(BODY)) == BODY
                self.requests += 1
                self.open += 1
                self.most = max(self.most, self.open)
                told = self._answer(self.requests)
                if told is None:
                    self.open -= 1
                    break
                status, seconds = told
                await asyncio.sleep(seconds)
                self.open -= 1
                # In two pieces: an answer is not always one read.
                writer.write(b"HTTP/1.1 %d X\r\nContent-Le" % status)
                await writer.drain()
                writer.write(b"ngth: 4\r\n\r\nokay")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[int]:
    """The server on a free port of 127.0.0.1."""
    listener = await asyncio.start_server(server.meet, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for writer in server.writers:
            writer.close()
        await asyncio.gather(*(meeting for meeting in server.meetings if meeting is not None))


def load(server: Server, rate: float, seconds: float, connections: int) -> Load:
    """One run; the figures."""

    async def run() -> Load:
        made = Load(REQUEST, rate, seconds)
        async with serving(server) as port:
            await made.run("127.0.0.1", port, connections)
            lost = made.lost
        # The server has closed what it had open since; that is no loss of the run.
        made.lost = lost
        return made

    return asyncio.run(run())


@pytest.mark.parametrize(("rate", "seconds"), [(50.0, 0.4), (200.0, 0.3), (400.0, 0.25)])
def test_open_loop_sends_what_the_clock_says(rate: float, seconds: float) -> None:
    """Never more than rate times seconds, each request once, and every one of them answered."""
    server = Server(lambda _: (200, 0.0))
    found = load(server, rate, seconds, 8)
    assert found.sent == len(found.latencies) == server.requests
    assert 0 < found.sent <= rate * seconds + 1
    assert (found.not200, found.lost) == (0, 0)


def test_open_loop_counts_latency_from_the_planned_moment() -> None:
    """One connection, 50 ms per answer, a request due every 20 ms: each waits for all before it, and says so."""
    found = load(Server(lambda _: (200, 0.05)), 50.0, 1.0, 1)
    # The n-th answer (from 0) cannot come before (n + 1) * 50 ms, and its request was due at n * 20 ms.
    assert len(found.latencies) >= 5
    for number, latency in enumerate(found.latencies):
        assert latency >= (50_000 * (number + 1) - 20_000 * number) * 0.98


def test_one_slow_answer_is_felt_by_those_that_were_due_meanwhile() -> None:
    """A stall of 200 ms is not one bad figure but one for every request that should have left during it."""
    found = load(Server(lambda number: (200, 0.2 if number == 2 else 0.0)), 100.0, 0.4, 1)
    assert sum(latency >= 50_000 for latency in found.latencies) >= 5


@pytest.mark.parametrize("connections", [1, 3, 8])
def test_closed_loop_has_one_request_per_connection(connections: int) -> None:
    """Never more under way than there are connections, and with instant answers none ever rests."""
    server = Server(lambda _: (200, 0.02))
    found = load(server, 0.0, 0.5, connections)
    assert server.most == connections
    assert len(found.latencies) == found.sent == server.requests >= connections
    assert not found.due


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_answers_that_are_not_200_are_counted(status: int) -> None:
    """Every third one; they have a latency like any other."""
    server = Server(lambda number: (status if number % 3 == 0 else 200, 0.0))
    found = load(server, 200.0, 0.2, 4)
    assert found.not200 == server.requests // 3
    assert len(found.good) == found.sent - found.not200
    assert found.in_time <= len(found.good)
    assert len(found.latencies) == found.sent


def test_the_program_prints_what_it_measured(tmp_path: Path) -> None:
    """As a command: one JSON document whose figures agree with the server's."""
    server = Server(lambda _: (200, 0.0))
    (tmp_path / "row.json").write_bytes(BODY)

    async def run() -> bytes:
        async with serving(server) as port:
            url = f"http://127.0.0.1:{port}/deployments/d/predict"
            words = [
                "--url",
                url,
                "--body",
                str(tmp_path / "row.json"),
                "--rate",
                "100",
                "--seconds",
                "0.3",
                "--connections",
                "2",
            ]
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(ROOT / "bench" / "openloop.py"), *words, stdout=asyncio.subprocess.PIPE
            )
            said, _ = await process.communicate()
            assert process.returncode == 0
            return said

    figures = json.loads(asyncio.run(run()))
    assert set(figures) == {"sent", "answered", "not200", "lost", "seconds", "in_time", "latencies", "good_latencies"}
    assert figures["good_latencies"] == figures["latencies"]
    assert figures["in_time"] <= figures["answered"]
    assert figures["sent"] == figures["answered"] == len(figures["latencies"]) == server.requests
    assert figures["seconds"] >= 0.3


@pytest.mark.parametrize("url", ["http://example.org:80/", "http://127.0.0.1/", "http://10.0.0.1:8401/x"])
def test_only_this_machine_is_a_target(url: str, tmp_path: Path) -> None:
    """It is a load generator: pointed elsewhere it refuses to start."""
    (tmp_path / "row.json").write_bytes(BODY)

    async def run() -> tuple[int | None, bytes]:
        words = ["--url", url, "--body", str(tmp_path / "row.json")]
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "bench" / "openloop.py"), *words, stderr=asyncio.subprocess.PIPE
        )
        _, complained = await process.communicate()
        return process.returncode, complained

    status, complained = asyncio.run(run())
    assert status == 2
    assert b"only http://127.0.0.1:PORT" in complained
