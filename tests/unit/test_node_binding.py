"""Binding: rows by name and schema, nothing coerced, refusals that name row and column and never a value."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput, Malformed, QuarterdeckError, TooLarge
from quarterdeck.schema import Feature, FeatureType, Schema
from quarterdeck_node.binding import Binder, check_depth, parse
from quarterdeck_node.limits import DEFAULT

TYPES: tuple[FeatureType, ...] = ("float", "int", "string", "boolean", "datetime")
SCHEMA = Schema(
    task="regression",
    features=[
        *(Feature(name=kind, type=kind) for kind in TYPES),
        Feature(name="maybe", type="float", nullable=True),
    ],
)
BINDER = Binder(SCHEMA)
GOOD: dict[str, Any] = {
    "float": 1.5,
    "int": 3,
    "string": "a:b",
    "boolean": True,
    "datetime": "2013-01-01T05:00:00+00:00",
    "maybe": None,
}
SECRET = "s3cr3t-value"


def changed(**values: Any) -> bytes:
    """A good record with some values replaced, as JSON."""
    return json.dumps({**GOOD, **values}).encode()


def with_text(column: str, text: str) -> bytes:
    """A good record whose one value is this piece of JSON text, whatever it is."""
    return json.dumps({**GOOD, column: "@"}).encode().replace(b'"@"', text.encode())


def test_one_object_is_one_row_in_schema_order() -> None:
    """Names may come in any order; rows come out in the schema's."""
    rows, text = BINDER.read(json.dumps(dict(reversed(GOOD.items()))).encode())
    assert (list(rows[0]), rows, json.loads(text)) == (list(GOOD), [GOOD], [GOOD])


def test_an_array_is_as_many_rows() -> None:
    """Order is kept."""
    body = json.dumps([GOOD, {**GOOD, "int": 4}]).encode()
    rows, text = BINDER.read(body)
    assert ([row["int"] for row in rows], text) == ([3, 4], body)


def test_rows_with_nan_are_text_with_null() -> None:
    """What is kept of them is JSON."""
    _, text = BINDER.read(with_text("maybe", "NaN"))
    assert json.loads(text) == [GOOD]


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("float", "7", 7.0),
        ("float", "-0.0", 0.0),
        ("float", "1e300", 1e300),
        ("int", "-9223372036854775808", -(2**63)),
        ("maybe", "null", None),
        ("maybe", "NaN", None),
        ("string", '"NaN"', "NaN"),
        ("string", '"\\u00e9 {[:,"', "é {[:,"),
        ("string", '""', ""),
        ("datetime", '"2013-01-01"', "2013-01-01"),
    ],
)
def test_legal_values(column: str, text: str, value: object) -> None:
    """Whole numbers are numbers, and NaN is null where null is legal."""
    [row], _ = BINDER.read(with_text(column, text))
    assert row[column] == value


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("float", '"1.5"'),
        ("float", "true"),
        ("float", "null"),
        ("float", "NaN"),
        ("float", "1e999"),
        ("float", "[1]"),
        ("float", "{}"),
        ("float", "1" * 400),
        ("int", "1.0"),
        ("int", "1.5"),
        ("int", "true"),
        ("int", "9223372036854775808"),
        ("int", "1" * 400),
        ("string", "1"),
        ("string", "null"),
        ("string", json.dumps("x" * 65_537)),
        ("boolean", "1"),
        ("boolean", '"true"'),
        ("datetime", '"yesterday"'),
        ("datetime", "0"),
        ("datetime", '"2013-13-01"'),
        ("maybe", '"NaN"'),
        ("maybe", "1e999"),
        ("maybe", "[]"),
    ],
)
def test_illegal_values_are_refused_by_column(column: str, text: str) -> None:
    """Whatever would have to be coerced is refused, and the column is named."""
    with pytest.raises(InvalidInput) as caught:
        BINDER.read(with_text(column, text))
    assert caught.value.extra["column"] == column


@pytest.mark.parametrize("text", ["Infinity", "-Infinity"])
def test_infinities_are_no_numbers(text: str) -> None:
    """As words they are not JSON or not finite: refused either way."""
    with pytest.raises((InvalidInput, Malformed)):
        BINDER.read(with_text("float", text))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", Malformed),
        (b" ", Malformed),
        (b"{", Malformed),
        (b"[", Malformed),
        (b"nul", Malformed),
        (b"\x80\x04\x95", Malformed),
        (b"\xef\xbb\xbf" + changed(), Malformed),
        (changed(string="\ud800"), Malformed),
        (b'{"string": "\xff"}', Malformed),
        (b"[" * 100_000, Malformed),
        (b'{"a":' * 100_000, Malformed),
        (b"[" * 30 + b"]" * 30, InvalidInput),
        (b"[" * 150 + b"]" * 150, Malformed),
        (with_text("float", "1" * 5_000), Malformed),
        (b"[]", InvalidInput),
        (b"null", InvalidInput),
        (b"3", InvalidInput),
        (b'"text"', InvalidInput),
        (b"[1, 2]", InvalidInput),
        (b"[[]]", InvalidInput),
        (b"{}", InvalidInput),
        (changed(extra=1), InvalidInput),
        (b'{"int": 1, ' + changed()[1:], InvalidInput),
        (b'{"maybe": NaN, "maybe": NaN}', Malformed),
        (b"[" + b"1," * 1_000_001 + b"1]", TooLarge),
    ],
)
def test_documents_that_are_no_rows(body: bytes, error: type[QuarterdeckError]) -> None:
    """Each has its 4xx, none gets further."""
    with pytest.raises(error):
        BINDER.read(body)


@pytest.mark.parametrize(("count", "accepted"), [(DEFAULT.rows - 1, True), (DEFAULT.rows, True), (DEFAULT.rows + 1, False)])
def test_row_limit(count: int, accepted: bool) -> None:
    """A thousand rows and not one more."""
    body = json.dumps([GOOD] * count).encode()
    if accepted:
        assert len(BINDER.read(body)[0]) == count
    else:
        with pytest.raises(TooLarge):
            BINDER.read(body)


@pytest.mark.parametrize(("depth", "accepted"), [(DEFAULT.depth - 1, True), (DEFAULT.depth, True), (DEFAULT.depth + 1, False)])
def test_depth_limit(depth: int, accepted: bool) -> None:
    """Depth is measured, not the number of brackets, and brackets in strings are text."""
    body = b'["' + b"[" * 100 + b'",' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"]"
    if accepted:
        check_depth(body)
    else:
        with pytest.raises(Malformed, match="deeper"):
            check_depth(body)


def test_refusals_list_ten_problems_and_no_value() -> None:
    """The first is in the sentence, up to ten are members; what was sent is nowhere."""
    with pytest.raises(InvalidInput) as caught:
        BINDER.read(json.dumps([{**GOOD, "float": SECRET, "int": SECRET}] * 20).encode())
    problem = caught.value.problem()
    assert problem["row"] == 0
    assert problem["column"] == "float"
    assert "40 problems" in problem["detail"]
    assert [(one["row"], one["column"]) for one in problem["problems"][:3]] == [(0, "float"), (0, "int"), (1, "float")]
    assert len(problem["problems"]) == 10
    assert SECRET not in json.dumps(problem)


def test_each_row_is_judged_by_itself() -> None:
    """A mirrored batch loses only its bad rows."""
    good, bad = BINDER.each([GOOD, {**GOOD, "int": "3"}])
    assert good == GOOD
    assert isinstance(bad, InvalidInput)


@pytest.mark.parametrize("body", [b'{"a": 1, "a": 2}', b'"\\ud800"', b"\xff", b"infinity", b"{]", b""])
def test_documents_of_dialects_are_parsed_as_strictly(body: bytes) -> None:
    """Duplicate names, lone surrogates, words that are no number and broken bytes."""
    with pytest.raises(Malformed):
        parse(body)


@pytest.mark.parametrize(
    "column",
    [
        np.array([1.0, np.inf]),
        np.array([-np.inf, np.nan], "float32"),
        np.array([1e4, np.inf], "float16"),
        # A NaN that numpy warns of as soon as it is made wider.
        np.array([0x3F800000, 0x7F800001], "<u4").view("<f4"),
    ],
    ids=["float64", "float32", "float16", "a NaN that signals"],
)
def test_columns_that_are_not_finite_are_refused_by_row_without_a_warning(column: Any) -> None:
    """Warnings are errors here, as everywhere in the tests."""
    binder = Binder(Schema(task="regression", features=[Feature(name="x", type="float")]))
    with pytest.raises(InvalidInput, match="column x: must be a") as refused:
        binder.columns({"x": column}, 2)
    assert refused.value.extra["row"] == int(np.flatnonzero(~np.isfinite(column))[0])


values: dict[FeatureType, st.SearchStrategy[Any]] = {
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "int": st.integers(-(2**63), 2**63 - 1),
    "string": st.text(st.characters(codec="utf-8"), max_size=30),
    "boolean": st.booleans(),
    "datetime": st.datetimes().map(lambda moment: moment.isoformat()),
}


columns: dict[str, st.SearchStrategy[Any]] = {kind: values[kind] for kind in TYPES}
documents = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(
    lambda value: json.dumps(value).encode()
)


@given(st.lists(st.fixed_dictionaries({**columns, "maybe": st.none() | values["float"]}), min_size=1, max_size=5))
def test_whatever_fits_the_schema_arrives_unchanged(rows: list[dict[str, Any]]) -> None:
    """Any rows of the schema's types survive the way through JSON exactly."""
    assert BINDER.read(json.dumps(rows, ensure_ascii=False).encode())[0] == rows


@given(st.binary(max_size=200) | documents)
def test_whatever_else_arrives_is_refused_by_name(body: bytes) -> None:
    """No bytes at all make anything but one of our refusals."""
    with pytest.raises((InvalidInput, Malformed, TooLarge)):
        BINDER.read(body)
