"""Serves plans to nodes and keeps their newest reports: the deployer's part, small enough to see through."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from quarterdeck.plan import DeploymentPlan, Key, MirrorReport, NodeReport, Plan


class PlanServer:
    """Answers `GET /plans/{node}` as a long poll and takes `POST /nodes/{node}/report`, on a free port."""

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self.reports: dict[str, NodeReport] = {}
        self.changed = threading.Condition()
        self._server = _QuietServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def publish(self, node: str, store: str, deployment: DeploymentPlan, keys: list[Key]) -> None:
        """Give a node a new plan and wake its long poll."""
        with self.changed:
            sequence = self.plans[node].sequence + 1 if node in self.plans else 1
            self.plans[node] = Plan(node=node, sequence=sequence, store=store, deployments=[deployment], keyring=keys)
            self.changed.notify_all()

    def wait(self, node: str, seconds: float = 60) -> None:
        """Until the node has taken over its newest plan and answers with what it says.

        Raises:
            TimeoutError: not within `seconds`.
        """
        wanted = self.plans[node]

        def there() -> bool:
            report = self.reports.get(node)
            return report is not None and report.sequence >= wanted.sequence and report.ready

        with self.changed:
            if not self.changed.wait_for(there, timeout=seconds):
                raise TimeoutError(f"node {node} is not ready after {seconds:.0f} s: {self.reports.get(node)}")

    def ledger(self, node: str) -> MirrorReport:
        """The mirror's counts in the node's newest report."""
        with self.changed:
            return self.reports[node].deployments[0].mirror


class _QuietServer(ThreadingHTTPServer):
    """Nodes are stopped and killed here on purpose; their torn connections are no news."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


def _handler(outer: PlanServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            node, _, query = self.path.removeprefix("/plans/").partition("?")
            after = int(query.partition("after=")[2].partition("&")[0] or -1)
            with outer.changed:
                outer.changed.wait_for(lambda: node in outer.plans and outer.plans[node].sequence > after, timeout=10)
                plan = outer.plans.get(node)
            newer = plan is not None and plan.sequence > after
            self._answer(200 if newer else 204, plan.model_dump_json().encode() if plan and newer else b"")

        def do_POST(self) -> None:
            report = NodeReport.model_validate_json(self.rfile.read(int(self.headers["Content-Length"])))
            with outer.changed:
                outer.reports[report.node] = report
                outer.changed.notify_all()
            self._answer(204, b"")

        def _answer(self, status: int, body: bytes) -> None:
            # A node that is stopped or killed meanwhile is what some programs here are about.
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler
