"""Every bound of a request, as a setting: what is below it and at it passes, what is one more is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.api.test_node_roads import GOOD, Question
from tests.served import ROW, Served, default_slots, served
from tests.support import eventually


class Bound(NamedTuple):
    """A setting, a value of it, and a request that uses exactly `n` of it; `code` says that it was too much."""

    setting: str
    value: int
    ask: Callable[[int], Question]
    code: str
    status: int


def _records(count: int) -> bytes:
    return json.dumps([ROW] * count).encode()


def _padded(size: int) -> bytes:
    return GOOD + b" " * (size - len(GOOD))


def _chunked(body: bytes) -> Question:
    framed = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (10, body[:10], len(body) - 10, body[10:])
    return Question(body=framed, headers=(("transfer-encoding", "chunked"),))


def _head(size: int) -> Question:
    """A request whose target and headers have so many bytes."""
    plain = Question(headers=(("x-long", ""),))
    lines = plain.wire().split(b"\r\n\r\n")[0].split(b"\r\n")
    given = len(plain.path) + sum(len(line) - 2 for line in lines[1:])
    return Question(headers=(("x-long", "x" * (size - given)),))


BOUNDS = (
    Bound("max_head_bytes", 700, _head, "headers-too-large", 413),
    Bound(
        "max_head_fields",
        9,
        lambda n: Question(headers=tuple((f"x-{one}", "1") for one in range(n - 3))),
        "headers-too-large",
        413,
    ),
    Bound("max_body_bytes", 200, lambda n: Question(body=_padded(n)), "too-large", 413),
    Bound("max_body_bytes", 200, lambda n: _chunked(_padded(n)), "too-large", 413),
    Bound("max_rows", 5, lambda n: Question(body=_records(n)), "too-many-rows", 413),
    Bound("max_depth", 7, lambda n: Question(body=b"[" * n + b"]" * n), "too-deep", 400),
    Bound("max_values", 12, lambda n: Question(body=json.dumps(list(range(n))).encode()), "too-many-values", 413),
    Bound("max_string", 50, lambda n: Question(body=json.dumps({**ROW, "s": "x" * n}).encode()), "invalid-input", 422),
    Bound("max_digits", 6, lambda n: Question(body=json.dumps({**ROW, "x": 10 ** (n - 1)}).encode()), "number-too-long", 422),
    Bound("max_digits", 6, lambda n: Question(body=json.dumps({**ROW, "x": -(10 ** (n - 1))}).encode()), "number-too-long", 422),
)


def code(node: Served, question: Question) -> tuple[int, str]:
    """Status, and the code of a refusal."""
    answer = node.exchange(question.wire())[0]
    return answer.status, json.loads(answer.body).get("code", "")


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.setting)
def test_one_more_than_the_limit_is_refused(tmp_path: Path, bound: Bound) -> None:
    """On the ordinary road and on the short one."""
    settings: dict[str, Any] = {bound.setting: bound.value}
    with served(tmp_path, default_slots, **settings) as node:
        for _ in range(2):
            below, at, above = (code(node, bound.ask(n)) for n in (bound.value - 1, bound.value, bound.value + 1))
            assert bound.code not in (below[1], at[1])
            assert below == at
            assert above == (bound.status, bound.code)
            # From now on the path is known, and so is the short road to it.
            assert code(node, Question()) == (200, "")


@pytest.mark.parametrize("under_way", [1, 2, 3])
def test_requests_under_way_are_bounded(tmp_path: Path, under_way: int) -> None:
    """This one and those that are there already."""
    with served(tmp_path, default_slots, max_inflight=2) as node:
        node.node.inflight = under_way - 1
        for question in (Question(), Question()):
            assert code(node, question) == ((200, "") if under_way <= 2 else (503, "overloaded"))


@pytest.mark.parametrize("bytes_there", [99, 100, 101])
def test_bodies_on_their_way_are_bounded_together(tmp_path: Path, bytes_there: int) -> None:
    """Those of all callers."""
    question = _chunked(GOOD)
    with served(tmp_path, default_slots, max_bodies_bytes=100 + len(GOOD)) as node:
        node.node.receiving = bytes_there
        with node.connect() as connection, connection.makefile("rb") as stream:
            wire = question.wire()
            # Not its end yet, so that it is a body on its way.
            connection.sendall(wire[:-5])
            if bytes_there <= 100:
                eventually(lambda: node.node.receiving == bytes_there + len(GOOD))
                connection.sendall(wire[-5:])
            answer = node.read(stream)
        assert answer.status == (200 if bytes_there <= 100 else 503)
        assert eventually(lambda: node.node.receiving == bytes_there)


@pytest.mark.parametrize("open_already", [1, 2, 3])
def test_connections_are_bounded(tmp_path: Path, open_already: int) -> None:
    """One too many is told so."""
    with served(tmp_path, default_slots, max_connections=3) as node, ExitStack() as held:
        for _ in range(open_already):
            other = held.enter_context(node.connect())
            other.sendall(Question().wire())
            assert b"200 OK" in other.recv(65_536)
        assert code(node, Question()) == ((200, "") if open_already < 3 else (503, "too-many-connections"))


@pytest.mark.parametrize(
    ("setting", "sent", "expected"),
    [
        ("receive_seconds", b"", b""),
        ("receive_seconds", Question().wire()[:40], b""),
        ("body_seconds", Question().wire()[:-3], b"body-too-slow"),
        ("keep_alive_seconds", Question().wire(), b"predictions"),
    ],
    ids=["no request", "half a head", "half a body", "no second request"],
)
def test_what_does_not_come_in_time_is_given_up(tmp_path: Path, setting: str, sent: bytes, expected: bytes) -> None:
    """The connection is closed; a body that was waited for is told why."""
    settings: dict[str, Any] = {setting: 0.2}
    with served(tmp_path, default_slots, **settings) as node, node.connect() as slow:
        slow.sendall(sent)
        said: Any = b""
        while part := slow.recv(65_536):
            said += part
        assert expected in said
        assert bool(said) == bool(expected)
