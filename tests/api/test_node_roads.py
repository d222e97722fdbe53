"""The short road and the ordinary one: the same question has the same answer, the same record and the same count on both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from quarterdeck.records import MainRecord
from quarterdeck_node.edge import Edge
from quarterdeck_node.protocol import MAX_PIPELINED
from tests.nodes import key
from tests.served import ROW, Answered, Served, default_slots, served

KEYS = (key("good"), key("reader", scopes=("read",)), key("old", expires=1.0))
GOOD = json.dumps(ROW).encode()
PREDICT = "/deployments/open/predict"


class Question(NamedTuple):
    """A request in the parts in which it is sent."""

    path: str = PREDICT
    body: bytes = GOOD
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"
    version: str = "HTTP/1.1"
    media: str = "application/json"
    length: int | None = None

    def wire(self) -> bytes:
        """The bytes of it."""
        lines = [f"{self.method} {self.path} {self.version}", "host: node"]
        lines += [f"content-type: {self.media}"] if self.media else []
        length = len(self.body) if self.length is None else self.length
        named = {name.lower() for name, _ in self.headers}
        lines += [f"content-length: {length}"] if "transfer-encoding" not in named else []
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def rows(count: int, **changes: Any) -> bytes:
    """An array of records."""
    return json.dumps([{**ROW, "x": number / count, **changes} for number in range(count)]).encode()


def keyed(secret: str, header: str = "X-API-Key") -> Question:
    """A question to the deployment that needs a key."""
    return Question("/deployments/keyed/predict", headers=((header, secret),))


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CORPUS: dict[str, Question] = {
    "one record": Question(),
    "one record in an array": Question(body=b"[" + GOOD + b"]"),
    "white space around": Question(body=b" \n" + GOOD + b"\n"),
    "many records": Question(body=rows(300)),
    "null where it may be": Question(body=json.dumps({**ROW, "n": None}).encode()),
    "NaN where null may be": Question(body=b'{"x": 0.5, "n": NaN, "s": "a"}'),
    "NaN where it may not": Question(body=b'{"x": NaN, "n": 1, "s": "a"}'),
    "a text with a colon and a quote": Question(body=json.dumps({**ROW, "s": 'a:"b,{}'}).encode()),
    "a text beyond ASCII": Question(body=json.dumps({**ROW, "s": "é€😀"}, ensure_ascii=False).encode()),
    "a row that the model refuses": Question(body=json.dumps({**ROW, "s": "fail"}).encode()),
    "one of many that the model refuses": Question(body=json.dumps([ROW, {**ROW, "s": "fail"}, ROW]).encode()),
    "no JSON": Question(body=b"nothing"),
    "no body": Question(body=b""),
    "an empty array": Question(body=b"[]"),
    "a wrong type": Question(body=json.dumps({**ROW, "x": "0.25"}).encode()),
    "a missing column": Question(body=b'{"x": 0.25, "s": "abc"}'),
    "an unknown column": Question(body=json.dumps({**ROW, "more": 1}).encode()),
    "a name twice": Question(body=b'{"x": 0.25, "n": 3, "s": "abc", "s": "abc"}'),
    "too many rows": Question(body=rows(1_001)),
    "nested too deep": Question(body=b"[" * 40 + b"]" * 40),
    "a number of 21 digits": Question(body=b'{"x": 100000000000000000000, "n": 3, "s": "abc"}'),
    "a large number with an exponent": Question(body=b'{"x": 1e25, "n": 3, "s": "abc"}'),
    "another content type": Question(media="text/plain"),
    "no content type": Question(media=""),
    "a content type with parameters": Question(media="application/json; charset=utf-8"),
    "compressed": Question(headers=(("content-encoding", "gzip"),)),
    "too large as declared": Question(body=b"", length=9 * 2**20),
    "an id of the caller's own": Question(headers=(("x-request-id", "my-id"),)),
    "an id that cannot be kept": Question(headers=(("x-request-id", "x" * 129),)),
    "a trace": Question(headers=(("traceparent", TRACE),)),
    "a trace that is none": Question(headers=(("traceparent", TRACE.replace("4bf", "xyz")),)),
    "a trace of zeros": Question(headers=(("traceparent", f"00-{'0' * 32}-{'1' * 16}-01"),)),
    "a deadline": Question(headers=(("quarterdeck-timeout", "2.5"),)),
    "a deadline that is over": Question(headers=(("quarterdeck-timeout", "0.000000001"),)),
    "a deadline that is none": Question(headers=(("quarterdeck-timeout", "soon"),)),
    "a deadline of nothing": Question(headers=(("quarterdeck-timeout", "0"),)),
    "too many headers": Question(headers=tuple((f"x-{number}", "1") for number in range(70))),
    "too large headers": Question(headers=(("x-long", "x" * 17_000),)),
    "a key": keyed("good"),
    "a key as bearer": keyed("Bearer good", "Authorization"),
    "no key": Question("/deployments/keyed/predict"),
    "a wrong key": keyed("bad"),
    "a key without the scope": keyed("reader"),
    "a key that is over": keyed("old"),
    "a model that is waited for": Question("/deployments/slow/predict"),
    "many rows of a model that is waited for": Question("/deployments/slow/predict", rows(5)),
    "a row that such a model refuses": Question("/deployments/slow/predict", json.dumps({**ROW, "s": "fail"}).encode()),
    "an unknown deployment": Question("/deployments/nothing/predict"),
    "an unknown path": Question("/nothing"),
    "another method": Question(method="GET", body=b""),
    "a query": Question(PREDICT + "?a=b"),
    "an encoded path": Question("/deployments/op%65n/predict"),
    "HTTP/1.0": Question(version="HTTP/1.0"),
    "a connection that shall close": Question(headers=(("connection", "close"),)),
    "chunked": Question(headers=(("transfer-encoding", "chunked"),), body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)),
    "chunked in pieces": Question(
        headers=(("transfer-encoding", "chunked"),),
        body=b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (GOOD[:5], len(GOOD) - 5, GOOD[5:]),
    ),
    "expecting to be asked": Question(headers=(("expect", "100-continue"),)),
}


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A node that knows no short road."""
    with served(tmp_path_factory.mktemp("ordinary"), default_slots, KEYS) as node:
        node.protocol.edge = None
        yield node


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A node that has answered on each path before, so that it knows them all."""
    with served(tmp_path_factory.mktemp("short"), default_slots, KEYS) as node:
        for path in (PREDICT, "/deployments/slow/predict"):
            node.exchange(Question(path).wire())
        node.exchange(keyed("good").wire())
        edge: Edge = node.protocol.edge
        assert sorted(edge.known) == [b"/deployments/keyed/predict", PREDICT.encode(), b"/deployments/slow/predict"]
        yield node


def neutral(answer: Answered) -> tuple[int, dict[str, str], Any]:
    """An answer without what differs from request to request."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    identity = answer.headers["x-request-id"].encode()
    assert re.fullmatch(rb"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", identity)
    return answer.status, headers, answer.body.replace(identity, b"ID")


def counted(node: Served) -> dict[str, str]:
    """All counters, without those that measure time."""
    [answer] = node.exchange(b"GET /metrics HTTP/1.1\r\nhost: node\r\n\r\n")
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    kept = [line for line in lines if "seconds_" not in line or "_count" in line]
    return {name: value for name, _, value in (line.rpartition(" ") for line in kept) if "seconds{" not in name}


def changes(before: dict[str, str], after: dict[str, str]) -> dict[str, float]:
    """What was added to each counter."""
    return {name: float(after[name]) - float(before.get(name, 0)) for name in after if after[name] != before.get(name, "0.0")}


def records(node: Served, since: int) -> list[tuple[Any, ...]]:
    """The records that came, without ids and times."""
    return [
        (one.deployment, one.version, one.digest, one.revision, one.door, one.caller_id, one.key_id, one.rows, one.answers)
        for one in node.spool.records[since:]
        if isinstance(one, MainRecord)
    ]


@pytest.mark.parametrize("question", [pytest.param(question, id=what) for what, question in CORPUS.items()])
def test_both_roads_answer_record_and_count_the_same(ordinary: Served, short: Served, question: Question) -> None:
    """Asked twice: the second time the head has been seen before."""
    found = []
    for node in (ordinary, short):
        before, since = counted(node), len(node.spool.records)
        answers = [neutral(node.exchange(question.wire())[0]) for _ in range(2)]
        assert answers[0] == answers[1]
        found.append((answers, records(node, since), changes(before, counted(node))))
    assert found[0] == found[1]


def test_a_head_that_was_answered_well_is_kept(short: Served) -> None:
    """And one with an id of its own is not: it does not come again."""
    seen = short.protocol.seen
    short.exchange(Question(headers=(("x-once", "1"),)).wire())
    assert any(b"x-once" in head for head in seen)
    short.exchange(Question(headers=(("x-twice", "1"), ("x-request-id", "abc"))).wire())
    short.exchange(Question(headers=(("x-refused", "1"),), body=b"{}").wire())
    assert not any(b"x-twice" in head or b"x-refused" in head for head in seen)


def test_a_revoked_key_opens_nothing_although_its_head_is_known(tmp_path: Any) -> None:
    """What a head means is kept, whom it lets in is asked every time."""
    from quarterdeck_node.auth import Keyring

    with served(tmp_path, default_slots, KEYS) as node:
        statuses = [node.exchange(keyed("good").wire())[0].status for _ in range(3)]
        node.node.keyring = Keyring()
        statuses += [node.exchange(keyed("good").wire())[0].status for _ in range(2)]
        assert statuses == [200, 200, 200, 401, 401]


@pytest.mark.parametrize("cut", [1, 30, 90, len(Question().wire()) - 1])
def test_a_request_in_two_pieces_is_one_request(short: Served, cut: int) -> None:
    """Wherever it is cut."""
    wire = Question().wire()
    with short.connect() as connection, connection.makefile("rb") as stream:
        for _ in range(2):
            connection.sendall(wire[:cut])
            # Answered in between on another connection, so the first piece has been taken in alone.
            short.exchange(wire)
            connection.sendall(wire[cut:])
            assert neutral(short.read(stream)) == neutral(short.exchange(wire)[0])


def test_requests_in_a_row_are_answered_in_their_order(short: Served) -> None:
    """Short and ordinary roads, one that waits and one that is refused among them."""
    questions = [
        Question(body=json.dumps({**ROW, "x": 0.1}).encode()),
        Question("/deployments/slow/predict", json.dumps({**ROW, "x": 0.2}).encode()),
        Question(body=json.dumps({**ROW, "x": 0.3}).encode()),
        Question("/live", b"", method="GET"),
        Question(body=b"{}"),
        Question(body=json.dumps({**ROW, "x": 0.6}).encode()),
    ]
    wire = b"".join(question.wire() for question in questions)
    for _ in range(2):
        answers = short.exchange(wire, answers=len(questions))
        assert [answer.status for answer in answers] == [200, 200, 200, 200, 422, 200]
        shares = [json.loads(answers[at].body)["predictions"][0]["scores"]["50 % yes"] for at in (0, 1, 2, 5)]
        assert shares == [0.1, 0.2, 0.3, 0.6]


def test_as_many_in_one_piece_as_may_wait_are_answered(short: Served) -> None:
    """And an answer each."""
    answers = short.exchange(Question().wire() * MAX_PIPELINED, answers=MAX_PIPELINED)
    assert {answer.status for answer in answers} == {200}


def test_a_caller_that_leaves_before_its_answer_hurts_nobody(short: Served) -> None:
    """While its model is waited for."""
    wire = Question("/deployments/slow/predict").wire()
    for _ in range(20):
        with short.connect() as connection:
            connection.sendall(wire)
    assert short.exchange(wire)[0].status == 200


def test_a_node_that_leaves_says_so_on_both_roads(tmp_path: Any) -> None:
    """The answer is given, and the connection closed after it."""
    with served(tmp_path, default_slots, KEYS) as node:
        assert "connection" not in node.exchange(Question().wire())[0].headers
        node.node.draining = True
        for _ in range(2):
            with node.connect() as connection, connection.makefile("rb") as stream:
                connection.sendall(Question().wire())
                answer = node.read(stream)
                assert (answer.status, answer.headers["connection"]) == (200, "close")
                assert stream.read() == b""


def test_requests_beyond_the_bound_are_shed_on_both_roads(tmp_path: Any) -> None:
    """503 with Retry-After, before anything of the body is looked at."""
    with served(tmp_path, default_slots, KEYS, max_inflight=1) as node:
        assert [node.exchange(Question().wire())[0].status for _ in range(2)] == [200, 200]
        node.node.inflight = 1
        found = [node.exchange(Question(headers=headers).wire())[0] for headers in ((), (("expect", "100-continue"),))]
        assert [(answer.status, answer.headers["retry-after"]) for answer in found] == [(503, "1")] * 2


def test_a_busy_connection_outlives_the_time_that_a_head_may_take(tmp_path: Path) -> None:
    """Also one whose very first head is known from other connections already: it is not awaited any more."""
    wire = Question().wire()
    with served(tmp_path, default_slots, receive_seconds=1.0) as node:
        # The first makes the path known, the second its head.
        assert [node.exchange(wire)[0].status for _ in range(2)] == [200, 200]
        assert node.protocol.seen
        with node.connect() as busy, busy.makefile("rb") as answers, node.connect() as silent:
            for _ in range(2):
                busy.sendall(wire)
                assert Served.read(answers).status == 200
                # It is closed for its silence, so by then the other has been there for longer than that.
                assert silent.recv(1) == b""
