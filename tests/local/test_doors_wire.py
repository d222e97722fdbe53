"""The doors as bytes on a socket: methods, connections that live on, bodies in chunks, and callers of another age."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.local.shared import Shared

NAME = "wire"
PREDICT = f"/deployments/{NAME}/predict"
BODY = b'{"number": 1.0}'
JSON = "content-type: application/json"


@pytest.fixture(scope="module")
def node(shared: Shared) -> Shared:
    """One public deployment whose every answer is 1."""
    shared.deploy(NAME, shared.version(1))
    return shared


@contextmanager
def connection(node: Shared) -> Iterator[socket.socket]:
    """A connection to the main node."""
    place = urlsplit(node.system.main_url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as open_socket:
        yield open_socket


def head(method: str, path: str, *headers: str, version: str = "1.1") -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: node", *headers, "", ""]).encode()


def post(body: bytes = BODY, *headers: str, version: str = "1.1") -> bytes:
    """A whole request with its length declared."""
    return head("POST", PREDICT, JSON, f"content-length: {len(body)}", *headers, version=version) + body


class Answers:
    """Reads one response after the other from a connection."""

    def __init__(self, taken: socket.socket) -> None:
        # One buffered reader for all: what one response leaves in the buffer is the next one's beginning.
        self._reader = taken.makefile("rb")

    def makefile(self, *_: Any) -> Any:
        """What HTTPResponse wants of a socket."""
        return _Shared(self._reader)

    def next(self, method: str = "POST") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next response."""
        response = HTTPResponse(self, method=method)  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, body

    def line(self) -> bytes:
        """The next line, as it is."""
        return self._reader.readline()

    def ended(self) -> bool:
        """Whether the other side has closed without a further byte."""
        return self._reader.read(1) == b""


class _Shared:
    """A reader that survives being closed, as HTTPResponse closes its own after each response."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def close(self) -> None:
        """Nothing: others go on reading."""

    def flush(self) -> None:
        """Nothing is written here."""


def prediction(body: bytes) -> Any:
    """The one prediction of a plain answer."""
    (only,) = json.loads(body)["predictions"]
    return only["prediction"]


def exchange(node: Shared, request: bytes, method: str = "POST") -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    with connection(node) as open_socket:
        open_socket.sendall(request)
        return Answers(open_socket).next(method)


@pytest.mark.parametrize("path", [PREDICT, f"/v2/models/{NAME}/infer", f"/v2/models/{NAME}/versions/1/infer", f"/mirror/{NAME}"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"])
def test_doors_for_rows_take_nothing_but_posts(node: Shared, method: str, path: str) -> None:
    """405 with the method that works, and no word of what a script of another origin might be allowed."""
    answer = node.http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert "access-control-allow-origin" not in answer.headers
    if method != "HEAD":
        assert (answer.json()["code"], answer.json()["hint"]) == ("method-not-allowed", "Use POST.")


@pytest.mark.parametrize(
    "path",
    ["/live", "/ready", "/v2", "/v2/health/live", "/deployments", f"/deployments/{NAME}", "/openapi.json", "/docs", "/metrics"],
)
def test_pages_answer_head_as_get_without_the_body(node: Shared, path: str) -> None:
    """Monitors ask with HEAD: same status and type, no body; and POST is refused."""
    shown, asked = node.http.get(path), node.http.head(path)
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-type"] == shown.headers["content-type"]
    assert node.http.post(path).status_code == 405


def test_a_connection_serves_many_requests(node: Shared) -> None:
    """Good ones and refused ones in turn: the connection outlives both, and each answer has an id of its own."""
    with connection(node) as open_socket:
        answers, ids = Answers(open_socket), set()
        for body, status in [(BODY, 200), (b"{}", 422), (b"nothing", 400), (BODY, 200)] * 3:
            open_socket.sendall(post(body))
            found, headers, _ = answers.next()
            ids.add(headers["x-request-id"])
            assert found == status
        assert len(ids) == 12


def test_pipelined_requests_are_answered_in_order(node: Shared) -> None:
    """Ten requests in one write: ten answers, each to its own request."""
    with connection(node) as open_socket:
        open_socket.sendall(b"".join(post(json.dumps([{"number": 1.0}] * count).encode()) for count in range(1, 11)))
        answers = Answers(open_socket)
        assert [len(json.loads(answers.next()[2])["predictions"]) for _ in range(10)] == list(range(1, 11))


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_bodies_may_come_in_chunks(node: Shared, size: int) -> None:
    """Without a length, in chunks of any size; what follows on the connection is the next request."""
    body = json.dumps([{"number": float(number)} for number in range(20)]).encode()
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    with connection(node) as open_socket:
        open_socket.sendall(head("POST", PREDICT, JSON, "transfer-encoding: chunked") + chunked + post())
        answers = Answers(open_socket)
        assert len(json.loads(answers.next()[2])["predictions"]) == 20
        assert prediction(answers.next()[2]) == 1.0


def test_a_body_may_come_byte_by_byte(node: Shared) -> None:
    """However the network cuts it, the request is one."""
    with connection(node) as open_socket:
        open_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post():
            open_socket.sendall(bytes([byte]))
        assert prediction(Answers(open_socket).next()[2]) == 1.0


def test_who_expects_to_be_told_to_go_on_is_told(node: Shared) -> None:
    """`Expect: 100-continue`: the interim answer comes before a byte of the body was sent, then the answer."""
    with connection(node) as open_socket:
        open_socket.sendall(head("POST", PREDICT, JSON, f"content-length: {len(BODY)}", "expect: 100-continue"))
        answers = Answers(open_socket)
        assert answers.line() == b"HTTP/1.1 100 Continue\r\n"
        while answers.line() != b"\r\n":
            pass
        open_socket.sendall(BODY)
        status, _, body = answers.next()
        assert (status, prediction(body)) == (200, 1.0)


@pytest.mark.parametrize("headers", [("content-length: 9000000",), ("content-length: 15", "content-type: text/xml")])
def test_who_will_be_refused_is_not_told_to_go_on(node: Shared, headers: tuple[str, ...]) -> None:
    """Too large or of another type by its head alone: the refusal comes at once, and the connection ends."""
    with connection(node) as open_socket:
        given = headers if len(headers) > 1 else (*headers, JSON)
        open_socket.sendall(head("POST", PREDICT, *given, "expect: 100-continue"))
        answers = Answers(open_socket)
        status, told, _ = answers.next()
        assert (status, told["connection"]) == (413 if len(headers) == 1 else 415, "close")
        assert answers.ended()


def test_a_caller_of_http_1_0_is_answered_and_let_go(node: Shared) -> None:
    """The whole answer with its length, then the end of the connection."""
    with connection(node) as open_socket:
        open_socket.sendall(post(version="1.0"))
        answers = Answers(open_socket)
        status, headers, body = answers.next()
        assert (status, prediction(body), int(headers["content-length"])) == (200, 1.0, len(body))
        assert "transfer-encoding" not in headers
        assert answers.ended()


def test_who_says_close_is_let_go(node: Shared) -> None:
    """`Connection: close` is kept to after the answer."""
    with connection(node) as open_socket:
        open_socket.sendall(post(BODY, "connection: close"))
        answers = Answers(open_socket)
        assert answers.next()[0] == 200
        assert answers.ended()


def test_an_unread_body_ends_the_connection(node: Shared) -> None:
    """A refusal before the body was read must not take the body for the next request."""
    smuggled = head("GET", "/metrics")
    with connection(node) as open_socket:
        request = head("POST", "/deployments/nothing/predict", JSON, f"content-length: {len(smuggled)}") + smuggled
        open_socket.sendall(request)
        answers = Answers(open_socket)
        status, headers, _ = answers.next()
        assert (status, headers["connection"]) == (404, "close")
        assert answers.ended()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"hello\r\n\r\n",
        b"GET /live HTTP/9.9\r\nHost: node\r\n\r\n",
        head("POST", PREDICT, JSON, "content-length: -1"),
        head("POST", PREDICT, JSON, "content-length: 1", "content-length: 2") + b"{}",
        head("POST", PREDICT, JSON, "content-length: 2", "transfer-encoding: chunked") + b"0\r\n\r\n",
        head("POST", PREDICT, JSON, "transfer-encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
        head("GET", "/live", "na me: x"),
        head("GET", "/live", "name\0: x"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    ],
    ids=lambda request: repr(request[:24]),
)
def test_what_is_no_http_never_reaches_a_door(node: Shared, request_bytes: bytes) -> None:
    """A 4xx or nothing, the connection's end, and a node that serves on."""
    with connection(node) as open_socket:
        open_socket.sendall(request_bytes)
        first = open_socket.recv(4_096)
        assert first == b"" or first.startswith(b"HTTP/1.1 4"), first
    assert prediction(exchange(node, post())[2]) == 1.0


def test_a_caller_that_leaves_in_the_middle_harms_nobody(node: Shared) -> None:
    """Twenty callers hang up half way through their body; whoever comes next is answered."""
    for _ in range(20):
        with connection(node) as open_socket:
            open_socket.sendall(post()[:-4])
    assert prediction(exchange(node, post())[2]) == 1.0


def test_paths_are_taken_as_they_are_routed(node: Shared) -> None:
    """Dots and double slashes lead nowhere else; an escaped letter is that letter; a query changes nothing."""
    for path, status in {
        f"/deployments/../deployments/{NAME}/predict": 404,
        f"//deployments/{NAME}/predict": 404,
        f"/deployments/{NAME}/%70redict": 200,
        f"/deployments/{NAME}/predict?version=2": 200,
        f"/deployments/%2e%2e/deployments/{NAME}/predict": 404,
        f"http://elsewhere.example{PREDICT}": 200,
    }.items():
        request = head("POST", path, JSON, f"content-length: {len(BODY)}") + BODY
        assert exchange(node, request)[0] == status, path
