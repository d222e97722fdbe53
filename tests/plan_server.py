"""A plan server in the test's process: hands out one plan, keeps the reports, and can be gone."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from quarterdeck.plan import TELL, NodeReport, Plan

TOKEN = "n" * 40


class PlanServer(ThreadingHTTPServer):
    """Answers `GET /plans/{node}` and `POST /nodes/{node}/report`; whatever else, or without the token, is 401.

    Attributes:
        refusal: code of the problem that everything is answered with; empty: none.
        refused: how often it was.
        asks: whether reports are answered with the wish to be told what the node was told.
    """

    daemon_threads = True

    def __init__(self, certificate: Path | None = None, key: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            # Shaken hands with in the request's own thread: a stranger must not hold up the next caller.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.plan: Plan | None = None
        self.reports: list[NodeReport] = []
        self.paths: set[str] = set()
        self.changed = threading.Condition()
        self.refusal, self.refused = "", 0
        self.asks = False

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://127.0.0.1:{self.server_address[1]}"

    def publish(self, plan: Plan) -> None:
        """Answer with this plan from now on, whatever its number is."""
        with self.changed:
            self.plan = plan
            self.changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """Silence: callers who leave or do not trust this server are part of the test."""

    def newest(self) -> NodeReport:
        """The last report; IndexError where there is none."""
        return self.reports[-1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PlanServer

    def do_GET(self) -> None:
        """Wait for another plan than the one that is known, half a second at most."""
        self.server.paths.add(urlsplit(self.path).path)
        after = int(parse_qs(urlsplit(self.path).query)["after"][0])
        with self.server.changed:
            self.server.changed.wait_for(lambda: self._differs(after), timeout=0.5)
            body = self.server.plan.model_dump_json().encode() if self.server.plan and self._differs(after) else b""
        self._answer(200 if body else 204, body)

    def do_POST(self) -> None:
        """Keep a report."""
        self.server.paths.add(self.path)
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.reports.append(NodeReport.model_validate_json(body))
        self._answer(204, b"")

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""

    def _differs(self, after: int) -> bool:
        return self.server.plan is not None and self.server.plan.sequence != after

    def _answer(self, status: int, body: bytes) -> None:
        if self.headers["authorization"] != f"Bearer {TOKEN}":
            status, body = 401, b""
        if self.server.refusal:
            self.server.refused += 1
            status, body = 401, json.dumps({"code": self.server.refusal}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if self.server.asks and self.command == "POST":
            self.send_header(TELL, "plan")
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def plan_server(certificate: Path | None = None, key: Path | None = None) -> Iterator[PlanServer]:
    """A running plan server; with TLS where there is a certificate."""
    server = PlanServer(certificate, key)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
