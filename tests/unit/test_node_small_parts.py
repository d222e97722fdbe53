"""Request ids, log lines, the headers that are read once, and what the serve process imports."""

from __future__ import annotations

import gc
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from quarterdeck.errors import InvalidInput
from quarterdeck_node.doors.head import Head
from quarterdeck_node.identifiers import request_id
from quarterdeck_node.logs import JsonLines
from tests.api.test_node_roads import Question
from tests.served import default_slots, served

HEAVY = ("pandas", "sklearn", "scipy", "pyarrow", "boto3", "skops", "joblib", "lightgbm", "onnxruntime", "grpc")


def test_ids_differ_and_sort_by_time() -> None:
    """Version 7, the right variant, none twice; those of later milliseconds are greater."""
    ids = [request_id() for _ in range(5_000)]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 32 and one[12] == "7" and one[16] in "89ab" and int(one, 16) for one in ids)
    moments = [one[:12] for one in ids]
    assert moments == sorted(moments)


def test_a_log_line_is_json_with_what_it_is_found_by() -> None:
    """Extras are members, and an exception's traceback is one of them."""
    try:
        raise ValueError("inside")
    except ValueError:
        record = logging.getLogger("node").makeRecord("node", 40, "f", 1, "request %s", ("x\n",), sys.exc_info())
    record.request_id, record.strange = "abc", {1, 2}
    text = JsonLines().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert {name: line[name] for name in ("level", "logger", "message", "request_id")} == {
        "level": "error",
        "logger": "node",
        "message": "request x\n",
        "request_id": "abc",
    }
    assert "ValueError: inside" in line["exception"]
    assert line["ts"].endswith("Z")


@pytest.mark.parametrize(
    ("sent", "valid"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", True),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", False),
        ("", False),
    ],
)
def test_traces_are_taken_where_they_are_valid(sent: str, valid: bool) -> None:
    """By the rules of W3C's trace context."""
    head = Head([(b"traceparent", sent.encode())])
    assert head.trace == (sent.encode() if valid else b"")
    assert head.trace_id == (sent[3:35] if valid else "")


@pytest.mark.parametrize(("sent", "seconds"), [("2", 2.0), ("0.25", 0.25), ("3600", 3600.0), ("", 0.0)])
def test_deadlines_are_seconds(sent: str, seconds: float) -> None:
    """Decimal, up to an hour."""
    assert Head([(b"quarterdeck-timeout", sent.encode())]).timeout == seconds


@pytest.mark.parametrize("sent", ["0", "-1", "3600.1", "1e3", "inf", "nan", "soon", "1 s", "²"])
def test_other_deadlines_are_refused(sent: str) -> None:
    """By the name of the header."""
    with pytest.raises(InvalidInput) as caught:
        _ = Head([(b"quarterdeck-timeout", sent.encode("latin-1"))]).timeout
    assert caught.value.name == "quarterdeck-timeout"


def test_the_first_of_two_headers_counts() -> None:
    """As it does for whoever stands before a node."""
    assert Head([(b"x-api-key", b"one"), (b"x-api-key", b"two")]).secret == "one"


def test_the_serve_process_imports_nothing_heavy() -> None:
    """What trains models or reads stores has no place in what answers."""
    program = f"import sys, quarterdeck_node.serve; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_answering_leaves_nothing_for_the_collector(tmp_path: Path) -> None:
    """No request makes garbage in cycles: pauses would grow with the load."""
    with served(tmp_path, default_slots) as node, node.connect() as connection, connection.makefile("rb") as stream:

        def ask(count: int) -> None:
            for _ in range(count):
                connection.sendall(Question().wire())
                node.read(stream)

        ask(50)
        gc.collect()
        gc.disable()
        try:
            ask(200)
            assert gc.collect() < 100
        finally:
            gc.enable()
