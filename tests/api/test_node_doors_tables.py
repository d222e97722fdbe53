"""CSV and Arrow on the plain door: what is read, what is refused and where, and in which form the answer comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from quarterdeck.errors import InvalidInput, Malformed, TooLarge
from quarterdeck.schema import Feature, Row, Schema
from quarterdeck_node.binding import Binder
from quarterdeck_node.doors import arrow, csv
from quarterdeck_node.limits import DEFAULT
from tests.dialects import ARROW, arrow_stream, arrow_table, csv_text
from tests.nodes import LocalNode, binary, deployment, local_node

SCHEMA = binary().manifest.data_schema
BINDER = Binder(SCHEMA)
SECRET = "s3cr3t-of-a-caller"
GOOD = cast("dict[str, Any]", dict(binary().manifest.golden[0].row))
TEXTS = some.text(some.characters(codec="utf-8"), max_size=20)
ROWS = some.lists(
    some.fixed_dictionaries(
        {
            "distance": some.floats(allow_nan=False, allow_infinity=False),
            "hour": some.integers(-(2**63), 2**63 - 1),
            "holiday": some.booleans(),
            "carrier": some.none() | TEXTS,
            "wind": some.none() | some.floats(allow_nan=False, allow_infinity=False),
        }
    ),
    min_size=1,
    max_size=20,
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A node with a classifier."""
    with local_node(tmp_path_factory.mktemp("node")) as node:
        node.serves(deployment(node.holds(binary(), 3), name="late", revision=7))
        yield node


def post(node: LocalNode, body: bytes, media: str, **headers: str) -> httpx.Response:
    """One table."""
    return node.request("POST", "/deployments/late/predict", content=body, headers={"content-type": media, **headers})


@given(ROWS)
@settings(max_examples=100, deadline=None)
def test_arrow_carries_every_value_as_it_is(rows: list[Row]) -> None:
    """Nulls, empty and foreign texts, the largest numbers: what comes out is what went in."""
    table = arrow_table(SCHEMA, rows)
    assert list(arrow.read(arrow_stream(table), BINDER, DEFAULT)) == rows
    by_dictionary = table.set_column(3, "carrier", table.column(3).dictionary_encode())
    assert list(arrow.read(arrow_stream(by_dictionary), BINDER, DEFAULT)) == rows


@given(ROWS)
@settings(max_examples=100, deadline=None)
def test_csv_carries_every_value_but_empty_texts(rows: list[Row]) -> None:
    """Those are null where null is legal; quotes, commas and line ends within a text are its own."""
    expected = [{**row, "carrier": row["carrier"] or None} for row in rows]
    assert list(csv.read(csv_text(SCHEMA, rows), BINDER, DEFAULT)) == expected


def _table(**changes: Any) -> pa.Table:
    table = arrow_table(SCHEMA, [GOOD, GOOD])
    for name, column in changes.items():
        at = table.column_names.index(name) if name in table.column_names else table.num_columns
        table = table.set_column(at, name, column) if at < table.num_columns else table.append_column(name, column)
    return table


@pytest.mark.parametrize(
    "changes",
    [
        {"distance": pa.array([0.5, 1.5], pa.float32())},
        {"distance": pa.array([0.5, 1.5], pa.float16())},
        {"hour": pa.array([3, 4], pa.int8())},
        {"hour": pa.array([3, 4], pa.uint64())},
        {"carrier": pa.array(["AA", None], pa.large_string())},
        {"carrier": pa.nulls(2)},
        {"wind": pa.nulls(2)},
        {"carrier": pa.array(["ÄÖ", "日本"])},
        {"carrier": pa.array(["AA", None], pa.dictionary(pa.uint8(), pa.large_string()))},
    ],
)
def test_arrow_types_widen_exactly(changes: dict[str, Any]) -> None:
    """Every type that holds nothing its feature cannot."""
    table = _table(**changes)
    assert list(arrow.read(arrow_stream(table), BINDER, DEFAULT)) == table.to_pylist()


def test_arrow_takes_several_batches() -> None:
    """With nulls in some of them, and none at all in others."""
    rows = [{**GOOD, "wind": None if number > 5 else 1.5, "carrier": f"C{number}"} for number in range(9)]
    batches = arrow_table(SCHEMA, rows).to_batches(max_chunksize=2)
    table = pa.Table.from_batches([*batches, batches[0].slice(0, 0)])
    assert list(arrow.read(arrow_stream(table), BINDER, DEFAULT)) == rows


def _names(number: int) -> pa.Table:
    return pa.table({f"x{at}": [1.0] for at in range(number)})


BIG = pa.array([2**63, 1], pa.uint64())
ARROW_BAD: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, ""),
    "a word": (b"hello", 400, ""),
    "JSON": (b'{"a": 1}', 400, ""),
    "half a stream": (arrow_stream(_table())[:-200], 400, ""),
    "compressed": (arrow_stream(_table(), compression="zstd"), 400, ""),
    "a file": (pa.BufferOutputStream().getvalue().to_pybytes() + b"ARROW1\0\0", 400, ""),
    "no rows": (arrow_stream(_table().slice(0, 0)), 422, ""),
    "an unknown column": (arrow_stream(_table(wnd=pa.array([1.0, 2.0]))), 422, "wnd"),
    "a column missing": (arrow_stream(_table().drop_columns(["wind"])), 422, "wind"),
    "whole numbers for a float": (arrow_stream(_table(distance=pa.array([1, 2]))), 422, "distance"),
    "floats for whole numbers": (arrow_stream(_table(hour=pa.array([1.0, 2.0]))), 422, "hour"),
    "numbers for texts": (arrow_stream(_table(carrier=pa.array([1, 2]))), 422, "carrier"),
    "a timestamp": (arrow_stream(_table(wind=pa.array([1, 2], pa.timestamp("s")))), 422, "wind"),
    "lists": (arrow_stream(_table(wind=pa.array([[1.0], [2.0]]))), 422, "wind"),
    "null where none may be": (arrow_stream(_table(distance=pa.array([1.0, None]))), 422, "distance"),
    "NaN where no null may be": (arrow_stream(_table(distance=pa.array([float("nan"), 1.0]))), 422, "distance"),
    "an infinity": (arrow_stream(_table(wind=pa.array([1.0, float("inf")]))), 422, "wind"),
    "64 bits without a sign": (arrow_stream(_table(hour=BIG)), 422, "hour"),
    "5,000 columns": (arrow_stream(_names(5_000)), 400, ""),
    "1,001 rows": (arrow_stream(arrow_table(SCHEMA, [GOOD] * 1_001)), 413, ""),
    "a thousand million nulls": (arrow_stream(pa.table({name: pa.nulls(10**9) for name in SCHEMA.names})), 413, ""),
    "a long text meant by every row": (
        arrow_stream(arrow_table(SCHEMA, [{**GOOD, "carrier": "x" * 60_000}] * 1_000).set_column(
            3, "carrier", pa.array(["x" * 60_000] * 1_000).dictionary_encode())), 413, ""),
}  # fmt: skip


@pytest.mark.parametrize(("body", "status", "column"), ARROW_BAD.values(), ids=ARROW_BAD)
def test_arrow_refuses_as_problems(node: LocalNode, body: bytes, status: int, column: str) -> None:
    """By column where one is to blame."""
    answer = post(node, body, ARROW)
    problem = answer.json()
    assert (answer.status_code, problem.get("column", "")) == (status, column), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"]


def test_arrow_of_damaged_bytes_is_refused_or_read(node: LocalNode) -> None:
    """Whatever bit is wrong, wherever a stream ends: an error of ours or rows, never a crash."""
    source = random.Random(7)
    table = _table(carrier=pa.array(["AA", None]).dictionary_encode(), wind=pa.array([None, 1.5]))
    whole = arrow_stream(table)
    for _ in range(3_000):
        body = bytearray(whole[: source.choice([len(whole), source.randrange(len(whole))])])
        for _ in range(source.choice([0, 1, 2, 4]) if body else 0):
            body[source.randrange(len(body))] = source.choice([0, 1, 127, 128, 255, source.randrange(256)])
        with suppress(InvalidInput, Malformed, TooLarge):
            assert len(arrow.read(bytes(body), BINDER, DEFAULT)) <= DEFAULT.rows


def _line(**changes: str) -> bytes:
    cells = {"distance": "1.5", "hour": "3", "holiday": "true", "carrier": "AA", "wind": "2.5", **changes}
    return (",".join(cells) + "\n" + ",".join(cells.values()) + "\n").encode()


CSV_BAD: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, ""),
    "latin-1": (_line().replace(b"AA", b"\xe9"), 400, ""),
    "an open quote": (_line(carrier='"AA'), 400, ""),
    "a header alone": (b"distance,hour,holiday,carrier,wind\n", 422, ""),
    "a short line": (_line() + b"1,2\n", 422, ""),
    "a blank line between": (_line().replace(b"\n", b"\n\n", 1), 422, ""),
    "a name twice": (_line().replace(b"wind", b"hour"), 422, ""),
    "an index": (b"," + _line().replace(b"\n1.5", b"\n0,1.5"), 422, ""),
    "a column missing": (b"distance,hour\n1.5,3\n", 422, "holiday"),
    "text for a number": (_line(distance=SECRET), 422, "distance"),
    "underscores": (_line(distance="1_000"), 422, "distance"),
    "an infinity": (_line(distance="inf"), 422, "distance"),
    "a number beyond": (_line(distance="1e999"), 422, "distance"),
    "blanks": (_line(distance=" 1.5"), 422, "distance"),
    "foreign digits": (_line(hour="٣"), 422, "hour"),
    "a float for a whole number": (_line(hour="3.0"), 422, "hour"),
    "65 bits": (_line(hour=str(2**64)), 422, "hour"),
    "yes": (_line(holiday="yes"), 422, "holiday"),
    "1 for true": (_line(holiday="1"), 422, "holiday"),
    "null where none may be": (_line(distance=""), 422, "distance"),
    "NaN where no null may be": (_line(distance="NaN"), 422, "distance"),
    "1,001 rows": (csv_text(SCHEMA, [GOOD] * 1_001), 413, ""),
    "a text of 140,000 characters": (_line(carrier="x" * 140_000), 422, "carrier"),
    "a million empty cells": (b"," * 1_000_001, 413, ""),
}


@pytest.mark.parametrize(("body", "status", "column"), CSV_BAD.values(), ids=CSV_BAD)
def test_csv_refuses_as_problems(node: LocalNode, body: bytes, status: int, column: str) -> None:
    """By row and column, without the value."""
    answer = post(node, body, "text/csv")
    problem = answer.json()
    assert (answer.status_code, problem.get("column", "")) == (status, column), problem
    assert SECRET not in answer.text


@pytest.mark.parametrize("media", ["text/csv", "application/csv", "text/csv; charset=utf-8"])
def test_csv_is_answered_as_csv(node: LocalNode, media: str) -> None:
    """A line per record, the label first; a mark before the first byte does not matter."""
    answer = post(node, b"\xef\xbb\xbf" + csv_text(SCHEMA, [GOOD, GOOD]), media)
    first, *lines = answer.text.splitlines()
    expected = binary().manifest.golden[0].expected
    assert answer.headers["content-type"].startswith(media.partition(";")[0])
    assert first == "prediction,score_false,score_true"
    assert lines == [f"{str(expected.prediction).lower()},{expected.scores[0]!r},{expected.scores[1]!r}"] * 2
    assert (answer.headers["quarterdeck-version"], answer.headers["quarterdeck-revision"]) == ("3", "7")


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("application/json", "application/json"),
        ("*/*", ARROW),
        (ARROW, ARROW),
        ("text/csv;q=0.9", "text/csv"),
        ("text/html", ARROW),
    ],
)
def test_the_caller_says_in_which_form_it_is_answered(node: LocalNode, accept: str, media: str) -> None:
    """The request's own, unless only others are accepted."""
    answer = post(node, arrow_stream(_table()), ARROW, accept=accept)
    assert answer.headers["content-type"].partition(";")[0] == media


MOMENTS = Schema(task="regression", features=[Feature(name="at", type="datetime", nullable=True)])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Zurich"])
def test_timestamps_of_arrow_are_datetimes(unit: str, zone: str | None) -> None:
    """The same moment as the ISO 8601 text of it; a zone makes it UTC, null stays null."""
    moments = [0, -1, 951_782_399]
    values = [moment * 1_000 ** ("s", "ms", "us", "ns").index(unit) for moment in moments]
    column = pa.array([*values, None], pa.int64()).cast(pa.timestamp(unit, tz=zone))
    rows = list(arrow.read(arrow_stream(pa.table({"at": column})), Binder(MOMENTS), DEFAULT))
    found = [datetime.fromisoformat(str(row["at"])) for row in rows[:3]]
    assert [one.tzinfo is not None for one in found] == [zone is not None] * 3
    assert [one.replace(tzinfo=UTC).timestamp() for one in found] == moments
    assert rows[3] == {"at": None}


@pytest.mark.parametrize(
    ("column", "code"),
    [
        (pa.array([2**62], pa.int64()).cast(pa.timestamp("s")), "invalid-input"),
        (pa.array([-(2**63)], pa.int64()).cast(pa.timestamp("us", tz="UTC")), "invalid-input"),
        (pa.array([1], pa.int32()).cast(pa.date32()), "datatype-mismatch"),
        (pa.array(["2020-01-01"], pa.string_view()), "datatype-mismatch"),
        (pa.array([0], pa.int64()).cast(pa.timestamp("s")).dictionary_encode(), "datatype-mismatch"),
    ],
    ids=["a year of twelve digits", "no time", "dates", "string views", "a dictionary of timestamps"],
)
def test_other_moments_of_arrow_are_refused_by_column(column: pa.Array, code: str) -> None:
    """By row too, where only a value is wrong."""
    with pytest.raises(InvalidInput, match="olumn at") as refused:
        arrow.read(arrow_stream(pa.table({"at": column})), Binder(MOMENTS), DEFAULT)
    assert (refused.value.code, refused.value.extra["column"]) == (code, "at")
