"""What holds at every door alike: limits, rows that the model refuses, and what is recorded of whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from quarterdeck.records import MainRecord
from quarterdeck.schema import Row
from tests.api.test_node_roads import Question
from tests.dialects import ARROW, DIALECTS, Request
from tests.nodes import key
from tests.served import ROW, SCHEMA, Answered, Served, default_slots, served

LABELS = {
    **dict.fromkeys(("oip", "oip-nested", "oip-binary"), "oip"),
    **dict.fromkeys(("v1", "v1-lists", "tf-columns"), "v1"),
    **dict.fromkeys(("arrow", "arrow-dictionary"), "arrow"),
    **{name: name for name in ("plain", "mlflow", "dataiku", "csv")},
}
OF_DIALECTS = [name for name, label in LABELS.items() if label in ("oip", "v1", "mlflow", "dataiku")]
IN_JSON = [name for name in DIALECTS if name not in ("csv", "arrow", "arrow-dictionary")]


def asked(dialect: str, rows: Sequence[Row], name: str = "open") -> Request:
    """A request of one dialect."""
    return DIALECTS[dialect].request(name, SCHEMA, rows)


def ask(node: Served, request: Request, *headers: tuple[str, str]) -> Answered:
    """Its answer."""
    more = [(name, value) for name, value in request.headers.items() if name != "content-type"]
    return node.exchange(Question(request.path, request.body, (*more, *headers), media=request.media).wire())[0]


def code(answer: Answered) -> str:
    """The code of a refusal; empty of a good answer, whatever its form."""
    return "" if answer.status == 200 else str(json.loads(answer.body)["code"])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A node whose limits are below all defaults."""
    folder = tmp_path_factory.mktemp("node")
    with served(
        folder, default_slots, (key("good"),), max_rows=5, max_string=50, max_digits=6, max_values=100, max_body_bytes=4_000
    ) as node:
        yield node


class Bound(NamedTuple):
    """A setting, its value, rows that use exactly `n` of it, what refuses more, and the doors that have it."""

    setting: str
    value: int
    rows: Callable[[int], list[Row]]
    status: int
    code: str
    dialects: Sequence[str]


BOUNDS = (
    Bound("max_rows", 5, lambda n: [ROW] * n, 413, "too-many-rows", list(DIALECTS)),
    Bound("max_string", 50, lambda n: [{**ROW, "s": "é" * n}], 422, "invalid-input", list(DIALECTS)),
    # Bytes of a typed column are no digits.
    Bound("max_digits", 6, lambda n: [{**ROW, "n": 10**n - 1}], 422, "number-too-long", [*IN_JSON[:3], *IN_JSON[4:], "csv"]),
    Bound("max_digits", 6, lambda n: [{**ROW, "x": 1 - 10**n}], 422, "number-too-long", [*IN_JSON[:3], *IN_JSON[4:]]),
)
CASES = [(bound, dialect) for bound in BOUNDS for dialect in bound.dialects]


@pytest.mark.parametrize(("bound", "dialect"), CASES, ids=[f"{bound.setting}-{dialect}" for bound, dialect in CASES])
def test_one_more_than_the_nodes_limit_is_refused_at_every_door(node: Served, bound: Bound, dialect: str) -> None:
    """The setting counts, not its default: one less and as much pass, one more is refused by its code."""
    for n in (bound.value - 1, bound.value):
        assert code(ask(node, asked(dialect, bound.rows(n)))) == ""
    refused = ask(node, asked(dialect, bound.rows(bound.value + 1)))
    status = 400 if bound.status == 422 and dialect in OF_DIALECTS else bound.status
    assert (refused.status, code(refused)) == (status, bound.code)


class Raw(NamedTuple):
    """A setting, its value, a body that uses exactly `n` of it, and what refuses more, whatever the body would mean."""

    setting: str
    value: int
    body: Callable[[bytes, int], bytes]
    status: int
    code: str


RAWS = (
    Raw("max_depth", 32, lambda good, n: b"[" * n + b"]" * n, 400, "too-deep"),
    Raw("max_depth", 32, lambda good, n: good[:-1] + b',"m":' + b"[" * (n - 1) + b"]" * (n - 1) + b"}", 400, "too-deep"),
    Raw("max_values", 100, lambda good, n: json.dumps([1] * n).encode(), 413, "too-many-values"),
    Raw("max_body_bytes", 4_000, lambda good, n: good + b" " * (n - len(good)), 413, "too-large"),
)


@pytest.mark.parametrize("dialect", ["plain", "oip", "v1", "mlflow", "dataiku", "explain"])
@pytest.mark.parametrize("bound", RAWS, ids=lambda bound: bound.setting)
def test_one_more_than_a_documents_limit_is_refused_at_every_door(node: Served, bound: Raw, dialect: str) -> None:
    """Depth, values and size of a document are bounded before anybody asks what it means."""
    request = asked("plain" if dialect == "explain" else dialect, [ROW])
    if dialect == "explain":
        request = request._replace(path="/deployments/open/explain")
    # One object is what every door's documents begin as.
    good = request.body if request.body.startswith(b"{") else json.dumps(ROW).encode()
    below, at, above = (
        ask(node, request._replace(body=bound.body(good, n))) for n in (bound.value - 1, bound.value, bound.value + 1)
    )
    assert bound.code not in (code(below), code(at))
    assert (above.status, code(above)) == (bound.status, bound.code)


@pytest.mark.parametrize(("rows", "expected"), [(3, ""), (4, ""), (5, "too-many-values")])
def test_cells_of_csv_are_values(tmp_path: Path, rows: int, expected: str) -> None:
    """Three columns make twelve of four lines."""
    with served(tmp_path, default_slots, max_values=12) as node:
        assert code(ask(node, asked("csv", [ROW] * rows))) == expected


@pytest.mark.parametrize("tail", [b"\n" * 3_000, b"\n" * 3_000 + b"1,2,c"], ids=["behind the last line", "between lines"])
def test_lines_of_csv_that_say_nothing_are_not_kept(node: Served, tail: bytes) -> None:
    """A body of line ends is a body of lines: those behind the last mean nothing, those before it are no records."""
    request = asked("csv", [ROW])
    answer = ask(node, request._replace(body=request.body + tail))
    assert answer.status == (200 if tail.endswith(b"\n") else 422)


@pytest.mark.parametrize("name", ["open", "slow"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_row_that_the_model_refuses_is_the_callers_matter(node: Served, dialect: str, name: str) -> None:
    """Row and feature are named in the dialect's own form, the value is not; nothing is recorded, and no 5xx."""
    node.spool.records.clear()
    answer = ask(node, asked(dialect, [ROW, {**ROW, "s": "unseen"}, ROW], name))
    said = json.loads(answer.body)
    assert answer.status == (400 if dialect in OF_DIALECTS else 422)
    assert said["status"] == answer.status
    assert (said["code"], said["name"], said["column"]) == ("value-refused", "s", "s")
    assert "unseen" not in answer.body.decode()
    assert node.spool.records == []
    assert {count.failed for (deployment, _), count in node.node.predictor.counts.items() if deployment == "slow"} <= {0}
    if name == "open":
        assert said["row"] == 1
        assert said["detail"].startswith("Row 1: Feature s")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_model_that_fails_is_an_error_of_the_server(node: Served, dialect: str) -> None:
    """Unlike one that refuses; nothing is recorded either."""
    node.spool.records.clear()
    answer = ask(node, asked(dialect, [{**ROW, "s": "fail"}]))
    assert (answer.status, code(answer)) == (500, "model-failed")
    assert node.spool.records == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_records_name_the_door_and_hold_the_rows(node: Served, dialect: str) -> None:
    """By the metrics' name of the protocol, with the caller's own id, and the same values whatever carried them."""
    node.spool.records.clear()
    rows = [ROW, {**ROW, "x": 0.75, "s": '\u00e9 ",:'}]
    assert ask(node, asked(dialect, rows), ("x-request-id", "mine")).status == 200
    [record] = node.spool.records
    assert isinstance(record, MainRecord)
    assert (record.door, record.caller_id, record.rows) == (LABELS[dialect], "mine", rows)
    assert [answer.prediction for answer in record.answers] == ["no", "50 % yes"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_media_type_may_be_written_otherwise(node: Served, dialect: str) -> None:
    """In capitals, with a charset, with spaces; another charset is another type only where the dialect says so."""
    request = asked(dialect, [ROW])
    for media in (request.media.upper(), f"{request.media}; charset=utf-8", f" {request.media} ;charset=UTF-8"):
        assert ask(node, request._replace(media=media)).status == 200, media


@pytest.mark.parametrize("dialect", DIALECTS)
def test_another_media_type_is_refused_by_every_door(node: Served, dialect: str) -> None:
    """And so is one that is compressed; in the dialect's own form."""
    request = asked(dialect, [ROW])
    assert ask(node, request._replace(media="application/xml")).status == 415
    refused = ask(node, request, ("content-encoding", "gzip"))
    assert (refused.status, code(refused)) == (415, "encoding-unsupported")


@pytest.mark.parametrize("method", ["HEAD", "GET", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])
def test_doors_for_rows_take_posts_only(node: Served, method: str) -> None:
    """What is allowed is named, and nothing is counted as a prediction."""
    # A path of V1 with a verb is, for reading, the path of a deployment whose name ends with it: there is none.
    dialects = [dialect for dialect in DIALECTS if method not in ("HEAD", "GET") or LABELS[dialect] != "v1"]
    for dialect in dialects:
        request = asked(dialect, [ROW])
        wire = Question(request.path, b"", method=method, media="").wire()
        with node.connect() as connection:
            connection.sendall(wire.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            with connection.makefile("rb") as stream:
                said = stream.read()
        assert said.startswith(b"HTTP/1.1 405 "), (dialect, said)
        assert b"\r\nallow: POST" in said


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_path_means_what_it_means_decoded(node: Served, dialect: str) -> None:
    """An encoded name is the name; what is no deployment's is none, however it is written and however long it is."""
    request = asked(dialect, [ROW])
    assert ask(node, request._replace(path=request.path.replace("open", "%6fpen"))).status == 200
    for name in ("op%2fen", "open%00", "..%2fopen", "%ff", "OPEN", "x" * 4_000, "open%20", "%25", "op%zz"):
        answer = ask(node, request._replace(path=request.path.replace("open", name)))
        assert answer.status == 404, (name, answer.body)


ONES, PARENT = "1" * 32, "1" * 16
TRACES = {
    "empty": "",
    "short": "00",
    "zeros": f"00-{'0' * 32}-{PARENT}-01",
    "version ff": f"ff-{ONES}-{PARENT}-01",
    "capitals": f"00-{'A' * 32}-{PARENT}-01",
    "longer": f"00-{ONES}-{PARENT}-01-x",
    "no hexadecimals": f"00-{'é' * 32}-{PARENT}-01",
    "long": "x" * 5_000,
}


@pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)
def test_a_trace_that_is_none_is_not_sent_back(node: Served, trace: str) -> None:
    """And harms nobody, at any door."""
    for dialect in DIALECTS:
        answer = ask(node, asked(dialect, [ROW]), ("traceparent", trace))
        assert (answer.status, "traceparent" in answer.headers) == (200, False)


@pytest.mark.parametrize(
    "accept", ["*/*", "", "text/html", "application/json;q=0.1", ARROW, "text/csv, */*", ",;,q=", "x" * 3_000], ids=range(8)
)
def test_what_a_caller_accepts_changes_no_dialect(node: Served, accept: str) -> None:
    """Tables alone have forms to choose from: whatever is asked for, the answer is one of them."""
    tables = {"text/csv", "application/json", ARROW}
    for dialect in DIALECTS:
        expected = tables if LABELS[dialect] in ("csv", "arrow") else {"application/json"}
        expected = {"application/octet-stream"} if dialect == "oip-binary" else expected
        answer = ask(node, asked(dialect, [ROW]), ("accept", accept))
        media = answer.headers["content-type"].partition(";")[0]
        assert answer.status == 200
        assert media in expected
