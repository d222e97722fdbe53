"""A proxy in front of a real API server that does harm on purpose: it ends TLS on both sides, numbers the writes, and at the
chosen one kills somebody before or after it, or answers by itself.

Reads and watches pass as they are. Who is harmed is told apart by the client: only requests of the operator count, by User-Agent.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.apiserver import ApiServer

Moment = Literal["before", "after"]
_HOP = {"authorization", "connection", "transfer-encoding", "content-length", "keep-alive", "host"}


@dataclass
class Plan:
    """What happens to the writes that follow.

    Attributes:
        number: the write that is struck, from 1; 0: none.
        moment: whether the API server gets it.
        answer: HTTP status that is answered instead of it; 0: the connection ends.
        strike: called once, at that moment.
        writes: method and path of each write that came.
    """

    number: int = 0
    moment: Moment = "before"
    answer: int = 0
    strike: Callable[[], None] = lambda: None
    writes: list[tuple[str, str]] = field(default_factory=list)


class ApiFault:
    """The proxy; `kubeconfig` leads to it.

    Attributes:
        plan: replaced as a whole, between two acts.
    """

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.plan = Plan()
        self._lock = threading.Lock()
        self._target = urlsplit(server.url)
        self._client = ssl.create_default_context(cafile=str(server.folder / "ca.crt"))
        self._client.load_cert_chain(server.folder / "admin.crt", server.folder / "admin.key")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.folder / "server.crt", server.folder / "server.key")
        # The handshake belongs to the thread of the connection: one that hangs must hold up nobody else.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.kubeconfig = folder / "fault.conf"
        self.kubeconfig.write_text(json.dumps(_kubeconfig(server.folder / "ca.crt", self._server.server_address[1])))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let nobody through any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def struck(self, method: str, path: str) -> Plan | None:
        """Count a write; gives back the plan if this is the one."""
        with self._lock:
            plan = self.plan
            plan.writes.append((method, path))
            return plan if len(plan.writes) == plan.number else None

    def connect(self) -> http.client.HTTPSConnection:
        """A connection to the API server."""
        assert self._target.hostname is not None
        return http.client.HTTPSConnection(self._target.hostname, self._target.port, context=self._client, timeout=600)


def _handler(fault: ApiFault) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            ours = "quarterdeck-operator" in self.headers.get("User-Agent", "")
            # The Lease is renewed by the clock and tokens are asked about by nodes: neither is a step of a reconcile.
            counts = self.command != "GET" and ours and not any(word in path for word in ("/leases", "/tokenreviews", "/secrets"))
            plan = fault.struck(self.command, path) if counts else None
            if plan is not None and plan.moment == "before":
                self._end(plan)
                return
            self._forward(body, plan)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

        def _forward(self, body: bytes, plan: Plan | None) -> None:
            upstream = fault.connect()
            try:
                headers = {key: value for key, value in self.headers.items() if key.lower() not in _HOP}
                upstream.request(self.command, self.path, body or None, headers)
                answer = upstream.getresponse()
                if plan is not None:
                    answer.read()
                    self._end(plan)
                    return
                self.send_response(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in _HOP:
                        self.send_header(key, value)
                self.send_header("Connection", "close")
                self.end_headers()
                # Watches never end: line by line, as they come.
                while piece := answer.read1(65_536):
                    self.wfile.write(piece)
                    self.wfile.flush()
            # The other side has ended, which is what servers and clients do here.
            except (OSError, ValueError, http.client.HTTPException):
                pass
            finally:
                self.close_connection = True
                upstream.close()

        def _end(self, plan: Plan) -> None:
            plan.strike()
            self.close_connection = True
            if plan.answer:
                said = json.dumps({"kind": "Status", "code": plan.answer, "message": "struck on purpose"}).encode()
                with suppress(OSError):
                    self.send_response(plan.answer)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(said)))
                    self.end_headers()
                    self.wfile.write(said)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: what came is in the plan."""

    return Handler


def _kubeconfig(authority: Path, port: int) -> dict[str, Any]:
    data = base64.b64encode(authority.read_bytes()).decode()
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": data}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fault", "cluster": cluster}],
        "users": [{"name": "nobody", "user": {"token": "proxied"}}],
        "contexts": [{"name": "fault", "context": {"cluster": "fault", "user": "nobody"}}],
        "current-context": "fault",
    }
