"""What the operator says of itself: /healthz, which fails when a loop or a reconcile is stuck, and /metrics.

Served from a thread of its own, for a loop that is stuck could not say so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Health:
    """When each loop has turned last, and since when each reconcile has been running. Safe to use from any thread.

    Args:
        stuck_seconds: without a turn for so long a loop is stuck.
        clock: monotonic seconds.
    """

    def __init__(self, stuck_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stuck, self._clock = stuck_seconds, clock
        self._since: dict[str, float] = {}

    def beat(self, what: str) -> None:
        """A loop has turned, or a reconcile begins."""
        self._since[what] = self._clock()

    def rest(self, what: str) -> None:
        """A reconcile has ended."""
        self._since.pop(what, None)

    def stuck(self) -> list[str]:
        """What has not moved for too long, by name."""
        now = self._clock()
        return sorted(what for what, since in list(self._since.items()) if now - since > self._stuck)


class Metrics:
    """Counters of the operator, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "quarterdeck_operator_reconciles", "Looks at a deployment, by how they ended.", ["outcome"], registry=self.registry
        )
        self.seconds = Histogram(
            "quarterdeck_operator_reconcile_seconds", "Duration of one look.", buckets=BUCKETS, registry=self.registry
        )
        self.queue = Gauge("quarterdeck_operator_queue", "Deployments that are due or waiting.", registry=self.registry)
        self.failing = Gauge("quarterdeck_operator_failing", "Deployments whose last look has failed.", registry=self.registry)
        self.leading = Gauge("quarterdeck_operator_leading", "Whether this operator holds the Lease.", registry=self.registry)


class HealthServer:
    """Serves /healthz and /metrics in a thread, from `start` to `stop`."""

    def __init__(self, host: str, port: int, health: Health, metrics: Metrics) -> None:
        self._server = ThreadingHTTPServer((host, port), _handler(health, metrics))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nothing more; returns when the thread has ended."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(health: Health, metrics: Metrics) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # A client that connects and says nothing is let go.
        timeout = 10

        def do_GET(self) -> None:
            """Answer one request."""
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
            elif self.path == "/healthz":
                stuck = health.stuck()
                text = f"stuck: {', '.join(stuck)}\n" if stuck else "ok\n"
                self._answer(503 if stuck else 200, "text/plain", text.encode())
            else:
                self._answer(404, "text/plain", b"there are /healthz and /metrics\n")

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds and are no news."""

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
