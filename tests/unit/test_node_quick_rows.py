"""The quick reader of many rows takes nothing that the binder would refuse, and reads what it takes as the binder does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.column_rows import ColumnRows
from quarterdeck.errors import QuarterdeckError
from quarterdeck.schema import Feature, Schema
from quarterdeck_node.binding import Binder
from quarterdeck_node.limits import Limits
from quarterdeck_node.quick_rows import LEAST_ROWS, QuickRow, QuickRows

LIMITS = Limits(rows=LEAST_ROWS + 2, string=8, digits=12)
SCHEMA = Schema(
    task="regression",
    features=[
        Feature(name="a float", type="float"),
        Feature(name="maybe é", type="float", nullable=True),
        Feature(name="int", type="int"),
        Feature(name="text", type="string"),
        Feature(name="none", type="string", nullable=True),
        Feature(name="bool", type="boolean"),
    ],
)
QUICK = QuickRows(SCHEMA, LIMITS)
QUICK_ROW = QuickRow(SCHEMA, LIMITS)
BINDER = Binder(SCHEMA, LIMITS)
GOOD = {"a float": "1.5", "maybe é": "null", "int": "3", "text": '"ab"', "none": "null", "bool": "true"}

floats = st.floats(-1e11, 1e11).map(json.dumps) | st.decimals(-1000, 1000, places=20).map(str)
good: dict[str, st.SearchStrategy[str]] = {
    "a float": floats | st.integers(-(10**11), 10**11).map(str),
    "maybe é": floats | st.just("null"),
    "int": st.integers(-(10**11), 10**11).map(str),
    "text": st.text(max_size=8).map(json.dumps),
    "none": st.text(max_size=8).map(json.dumps) | st.just("null"),
    "bool": st.sampled_from(["true", "false"]),
}
strange = st.sampled_from(
    [
        "1.0", "1e2", "-0", "-0.0", "1e400", "-1e400", "1e25", "1E+2", "0.1e-400", "NaN", "Infinity", "null", "true", '"1"', "[]",
        "{}", '""', '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"a\\"b"', '"123456789"', '"éééééééé"', "01", "+1", "1.", ".5",
        "1" * 12, "1" * 13, "9223372036854775807", "9223372036854775808", "1" * 400, "-" + "1" * 13, "2.2250738585072011e-308",
        "0.30000000000000004", "123456789012345678e-5", '"\\/"', "'a'", " 1 ", '"a', "tru", "1,2", '1,"int":1', '1,"more":2',
    ]
)  # fmt: skip
names = st.sampled_from(list(GOOD))


def body(rows: list[dict[str, str]]) -> bytes:
    """Rows of JSON texts as a document."""
    written = (
        "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{text}" for name, text in row.items()) + "}" for row in rows
    )
    return f"[{','.join(written)}]".encode("utf-8", "surrogatepass")


def by_binder(document: bytes) -> Any:
    """What the binder makes of it without the quick readers."""
    binder = Binder(SCHEMA, LIMITS)
    binder._quick_row.read = lambda body: None  # type: ignore[method-assign]
    binder._quick = QuickRows(Schema(task="regression", features=SCHEMA.features[:1]), LIMITS)
    try:
        return list(binder.read(document)[0])
    except QuarterdeckError as refused:
        return refused.code, refused.detail


@given(st.lists(st.fixed_dictionaries(good), min_size=1, max_size=3), st.lists(st.tuples(names, strange), max_size=2), st.data())
def test_what_is_taken_would_have_been_taken(rows: list[dict[str, str]], odd: list[tuple[str, str]], data: st.DataObject) -> None:
    """Row by row the same values of the same types."""
    document = [dict(row) for row in [*rows, *[GOOD] * (LEAST_ROWS - 1)]]
    for name, written in odd:
        document[data.draw(st.integers(0, len(document) - 1))][name] = written
    text = body(document)
    expected = by_binder(text)
    found = QUICK.read(text, text.count(b":"))
    # A colon in a text could be that of a name.
    assert found is not None or odd or text.count(b":") != len(document) * len(GOOD)
    if found is not None:
        assert repr(list(found)) == repr(expected)
    # And through the binder nothing is different, whichever of the two has read it.
    try:
        read: Any = list(BINDER.read(text)[0])
    except QuarterdeckError as refused:
        read = refused.code, refused.detail
    assert repr(read) == repr(expected)


@given(st.fixed_dictionaries(good), st.lists(st.tuples(names, strange), max_size=2), st.permutations(list(GOOD)))
def test_one_row_that_is_taken_would_have_been_taken(row: dict[str, str], odd: list[tuple[str, str]], order: list[str]) -> None:
    """The same values of the same types, in the schema's order whatever the document's."""
    text = body([{name: {**row, **dict(odd)}[name] for name in order}])[1:-1]
    expected = by_binder(text)
    plain = text.count(b":") == len(GOOD)
    found = QUICK_ROW.read(text) if plain else None
    assert found is not None or odd or not plain
    if found is not None:
        assert repr([found]) == repr(expected)
    try:
        read: Any = BINDER.read(text)[0]
    except QuarterdeckError as refused:
        read = refused.code, refused.detail
    assert repr(read) == repr(expected)


@pytest.mark.parametrize(
    ("written", "taken"),
    [('"2026-11-21"', True), ('"2026-11-21 10:00"', True), ("null", True), ('"soon"', False), ('"20261"', False), ("5", False)],
)
def test_a_moment_in_time_is_one(written: str, taken: bool) -> None:
    """Or the binder says what it is instead."""
    features = [Feature(name="when", type="datetime", nullable=True), Feature(name="x", type="float")]
    found = QuickRow(Schema(task="regression", features=features), LIMITS).read(f'{{"when":{written},"x":1}}'.encode())
    assert (found is not None) == taken


def test_a_row_that_nests_without_end_is_the_binders() -> None:
    """Below a name that nobody knows, where the decoder does not look."""
    schema = Schema(task="regression", features=[Feature(name="x", type="float")])
    depth = 100_000
    assert QuickRow(schema, LIMITS).read(b'{"y":' + b"[" * depth + b"]" * depth + b"}") is None


@pytest.mark.parametrize("count", [LEAST_ROWS, LEAST_ROWS + 2])
def test_many_good_rows_are_read_quickly(count: int) -> None:
    """Names and texts with colons would be counted as names: without them."""
    plain = {"x": 1.5, "n": 3, "s": "abc"}
    schema = Schema(
        task="regression",
        features=[Feature(name="x", type="float"), Feature(name="n", type="int"), Feature(name="s", type="string")],
    )
    rows, text = Binder(schema, LIMITS).read(json.dumps([plain] * count).encode())
    assert isinstance(rows, ColumnRows)
    assert list(rows) == [plain] * count == json.loads(text)
    assert [str(rows.columns[name].dtype) for name in ("x", "n")] == ["float64", "int64"]  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [1, LEAST_ROWS - 1, LEAST_ROWS + 3])
def test_few_rows_and_too_many_are_the_binders(count: int) -> None:
    """Few are answered one by one, too many refused."""
    text = body([GOOD] * count)
    assert QUICK.read(text, count * len(GOOD)) is None
