"""Load that runs in a pod of the cluster: asks a Service and remembers what became of every request.

    python load_in_pod.py URL KEPT FRESH RATE SECONDS

KEPT connections are kept open, FRESH workers open one for each request; each of them asks RATE times a second at most, until
SIGTERM comes or SECONDS are over. Nothing is ever repeated. A line of JSON each second tells all so far.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from urllib.parse import urlsplit

_TIMEOUT = 20.0
_TOLD = 50


class Tally:
    """What has become of all requests; times are Unix seconds."""

    def __init__(self) -> None:
        self.sent = 0
        self.answered = 0
        self.lost: list[str] = []
        self.lost_count = 0
        self.latencies: list[float] = []
        # version/revision/value → count, first and last time at which a request was sent that it answered
        self.answers: dict[str, list[float]] = {}
        self.digests: dict[str, list[str]] = {}

    def line(self, end: bool) -> str:
        """Everything so far, as one line."""
        ordered = sorted(self.latencies) or [0.0]
        share = {name: ordered[int((len(ordered) - 1) * part)] for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
        told = {"sent": self.sent, "answered": self.answered, "lost": self.lost_count, "why": self.lost, "latency": share}
        return json.dumps({**told, "answers": self.answers, "digests": self.digests, "end": end})

    def lose(self, why: str) -> None:
        """A request was refused, or nobody answered it."""
        self.lost_count += 1
        if len(self.lost) < _TOLD:
            self.lost.append(f"{time.time():.3f} {why}")

    def take(self, sent: float, status: int, body: bytes) -> None:
        """A request was answered."""
        if status != 200:
            self.lose(f"{status} {body[:200]!r}")
            return
        answer = json.loads(body)
        values = sorted({each["prediction"] for each in answer["predictions"]})
        name = f"{answer['version']}/{answer['revision']}/{','.join(map(str, values))}"
        digests = self.digests.setdefault(str(answer["version"]), [])
        if answer["digest"] not in digests:
            digests.append(answer["digest"])
        count, first, last = self.answers.get(name, (0, sent, sent))
        self.answers[name] = [count + 1, min(first, sent), max(last, sent)]
        self.answered += 1
        self.latencies.append(time.time() - sent)


class Connection:
    """One HTTP/1.1 connection; opened when it is needed, closed when the server says so."""

    def __init__(self, url: str, keep: bool) -> None:
        place = urlsplit(url)
        self._place = place.hostname or "", place.port or 80
        self._keep = keep
        self._body = json.dumps([{"number": float(row)} for row in range(3)]).encode()
        head = f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(self._body)}\r\n" + ("" if keep else "Connection: close\r\n")
        self._request = head.encode() + b"\r\n" + self._body
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._opened = 0.0
        self._asked = 0

    @property
    def story(self) -> str:
        """What this connection has been through, for the report of a loss."""
        kind = "kept" if self._keep else "fresh"
        return f"on the request number {self._asked} of a {kind} connection opened {time.time() - self._opened:.3f} s ago"

    async def ask(self) -> tuple[int, bytes]:
        """Send one request and read its answer: status and body.

        Raises:
            OSError, EOFError: refused, or not answered.
        """
        if self._streams is None:
            self._opened, self._asked = time.time(), 0
            self._streams = await asyncio.open_connection(*self._place)
        reader, writer = self._streams
        self._asked += 1
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
        body = await reader.readexactly(int(fields["content-length"]))
        if not self._keep or fields.get("connection") == "close":
            self.close()
        return int(head[0].split()[1]), body

    def close(self) -> None:
        """Whatever comes next needs a new one."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def reachable(url: str) -> None:
    """Wait until a first connection is taken: the rules of a new Service reach a machine some moments after its endpoints.

    Raises:
        TimeoutError: nobody took one.
    """
    place = urlsplit(url)
    async with asyncio.timeout(_TIMEOUT):
        while True:
            try:
                _, writer = await asyncio.open_connection(place.hostname, place.port or 80)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


async def worker(url: str, keep: bool, rate: float, tally: Tally, over: asyncio.Event) -> None:
    """Ask at a steady rate; what is late is not made up for."""
    connection = Connection(url, keep)
    due = time.monotonic()
    while not over.is_set():
        due = max(due + 1 / rate, time.monotonic())
        sent = time.time()
        tally.sent += 1
        try:
            async with asyncio.timeout(_TIMEOUT):
                status, body = await connection.ask()
        except (OSError, EOFError, TimeoutError) as error:
            tally.lose(f"{type(error).__name__} {error} {connection.story}")
            connection.close()
        else:
            tally.take(sent, status, body)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    connection.close()


async def main() -> None:
    """Ask until it is over, and tell how it went."""
    url, kept, fresh, rate, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])
    tally, over = Tally(), asyncio.Event()
    await reachable(url)
    workers = [asyncio.create_task(worker(url, number < kept, rate, tally, over)) for number in range(kept + fresh)]
    end = time.monotonic() + seconds
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    while time.monotonic() < end and not over.is_set():
        await asyncio.sleep(1)
        print(tally.line(False), flush=True)
    over.set()
    await asyncio.gather(*workers)
    print(tally.line(True), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
