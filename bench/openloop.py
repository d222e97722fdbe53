"""An open-loop HTTP client: requests leave by the clock, whatever the answers do, and latency counts from the planned moment.

    python bench/openloop.py --url http://127.0.0.1:8401/deployments/d/predict --body row.json --rate 500 --seconds 8

`--rate 0` is closed loop (as fast as the connections allow): the capacity. Prints one JSON document: sent, answered,
not200, lost, seconds, in_time (answers 200 that came while requests were still sent), and in microseconds the latencies of all
answers and of those with 200. Loopback only; bounded by --seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.planned = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.load.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.load.lost += 1

    def send(self, planned: float) -> None:
        """Write the request; `planned` is the moment (seconds, monotonic) that its latency counts from."""
        assert self.transport is not None
        self.planned = planned
        self.load.sent += 1
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self.buffer[:head].lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self.buffer) < head + 4 + length:
            return
        self.load.done(self, self.buffer[9:12] == b"200")
        self.buffer = b""
        self.load.free(self)


class Load:
    """The clock, the free connections, and the figures."""

    def __init__(self, request: bytes, rate: float, seconds: float) -> None:
        self.request, self.rate, self.seconds = request, rate, seconds
        self.idle: deque[Connection] = deque()
        self.due: deque[float] = deque()
        self.latencies: list[int] = []
        self.good: list[int] = []
        self.sent = self.not200 = self.lost = self.in_time = 0
        self.stop = self.over = False

    def free(self, connection: Connection) -> None:
        """A connection can take the next request: one that is overdue first, none in open loop where nothing is due."""
        if self.stop:
            return
        if self.rate == 0:
            connection.send(time.perf_counter())
        elif self.due:
            connection.send(self.due.popleft())
        else:
            self.idle.append(connection)

    def done(self, connection: Connection, good: bool) -> None:
        """Count one answer."""
        latency = round((time.perf_counter() - connection.planned) * 1e6)
        self.latencies.append(latency)
        if good:
            self.good.append(latency)
            self.in_time += not self.over
        else:
            self.not200 += 1

    def _plan(self, start: float, planned: int, until: int) -> int:
        """Send, or queue, requests number `planned` to `until`; gives the next number."""
        for number in range(planned, until):
            self.due.append(start + number / self.rate)
            if self.idle:
                self.idle.popleft().send(self.due.popleft())
        return max(planned, until)

    async def run(self, host: str, port: int, connections: int) -> float:
        """Send for `seconds`, then wait up to 15 s for what is out; gives the seconds that were sent in."""
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: Connection(self), host, port)
        start = time.perf_counter()
        planned, total = 0, int(self.rate * self.seconds)
        while (now := time.perf_counter() - start) < self.seconds:
            planned = self._plan(start, planned, min(total, int(now * self.rate) + 1))
            await asyncio.sleep(0.0005 if self.rate else 0.05)
        # What fell due while this loop itself was held up counts as well, from the moment it was planned for.
        self._plan(start, planned, total)
        self.stop = not self.rate
        elapsed = time.perf_counter() - start
        self.over = True
        deadline = time.perf_counter() + 15
        while (len(self.latencies) < self.sent or self.due) and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        return elapsed


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="a further header; may be repeated")
    options = parser.parse_args()
    url, body = urlsplit(options.url), options.body.read_bytes()
    if url.hostname != "127.0.0.1" or not url.port:
        parser.error("only http://127.0.0.1:PORT/… is a target")
    headers = [f"Host: {url.netloc}", "Content-Type: application/json", f"Content-Length: {len(body)}", *options.header]
    head = "\r\n".join([f"POST {url.path} HTTP/1.1", *headers, "", ""])
    load = Load(head.encode() + body, options.rate, options.seconds)
    elapsed = asyncio.run(load.run(url.hostname, url.port, options.connections))
    figures = {"sent": load.sent, "answered": len(load.latencies), "not200": load.not200, "lost": load.lost, "seconds": elapsed}
    print(json.dumps({**figures, "in_time": load.in_time, "latencies": load.latencies, "good_latencies": load.good}))


if __name__ == "__main__":
    main()
