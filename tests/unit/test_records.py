"""Frames: what was put in comes out, whatever is cut off or flipped on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.records import (
    Answer,
    ChallengerRecord,
    Frame,
    MainRecord,
    MirroredRow,
    Record,
    Stamp,
    decode,
    main_frame,
    requests_text,
    row_id,
    whole_bytes,
)
from quarterdeck.schema import Row
from tests.agents import framed as frame_of

finite = st.floats(allow_nan=False, allow_infinity=False)
# Names and ids may be anything, half a surrogate pair too: they must cost nobody a record. Rows and answers are texts in UTF-8.
name = st.text(st.characters(), max_size=12)
text = st.text(max_size=12)
scalar = st.none() | st.booleans() | st.integers() | finite | text
label = st.booleans() | st.integers() | finite | text
number = st.integers(min_value=0, max_value=2**53)
answer = st.builds(Answer, label, st.lists(finite, max_size=3))
rows = st.lists(st.dictionaries(text, scalar, max_size=4), max_size=3)
mains = st.builds(
    MainRecord, number, name, name, name, name, number, name, number, name, name, number, name, name, rows,
    st.lists(answer, max_size=3),
)  # fmt: skip
outcomes: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("answered"), label, st.lists(finite, max_size=3), st.just("")),
    st.tuples(st.sampled_from(["failed", "expired", "dropped"]), st.none(), st.just([]), name),
)


@st.composite
def mirrored(draw: st.DrawFn) -> list[MirroredRow]:
    """What became of whole requests of one to three rows each."""
    requests = draw(st.lists(text, max_size=3, unique=True))
    counts = [draw(st.integers(1, 3)) for _ in requests]
    ids = [row_id(request, row) for request, count in zip(requests, counts, strict=True) for row in range(count)]
    return [MirroredRow(one, *draw(outcomes)) for one in ids]


challengers = st.builds(ChallengerRecord, number, name, name, name, number, name, number, name, number, mirrored())
records = st.lists(st.one_of(mains, challengers), min_size=1, max_size=4)
STAMP = Stamp("late", "default", "dev", 3, "late", 1, "sha256:" + 64 * "a")


def framed(found: list[Record]) -> list[bytes]:
    """Each record's frame, numbered from 1."""
    return [frame_of(number, record) for number, record in enumerate(found, 1)]


def rows_in(text: bytes) -> list[Row]:
    """The rows of a record whose rows are this text."""
    [frame] = decode(main_frame(1, STAMP, 1, "r", "plain", 1, text, b"[]"))
    assert isinstance(frame.record, MainRecord)
    return frame.record.rows


@given(records)
def test_records_come_out_as_they_went_in(found: list[Record]) -> None:
    """Of both kinds, in any order, with the types of their values."""
    data = b"".join(framed(found))
    decoded = list(decode(data))
    assert decoded == [Frame(number, record) for number, record in enumerate(found, 1)]
    assert repr([frame.record for frame in decoded]) == repr(found)
    assert whole_bytes(data) == len(data)


@settings(max_examples=30)
@given(records)
def test_every_cut_leaves_exactly_the_whole_frames(found: list[Record]) -> None:
    """Wherever the file ends, all frames before that are read and nothing else."""
    frames = framed(found)
    data = b"".join(frames)
    ends = [sum(map(len, frames[:count])) for count in range(len(frames) + 1)]
    for cut in range(len(data) + 1):
        whole = max(index for index, end in enumerate(ends) if end <= cut)
        assert whole_bytes(data[:cut]) == ends[whole]
        assert [frame.sequence for frame in decode(data[:cut])] == list(range(1, whole + 1))


@settings(max_examples=30)
@given(records, st.data())
def test_a_flipped_byte_never_gives_a_wrong_record(found: list[Record], data: st.DataObject) -> None:
    """Reading stops before the damaged frame; the ones before it are untouched."""
    raw = b"".join(framed(found))
    place = data.draw(st.integers(0, len(raw) - 1))
    flipped = raw[:place] + bytes([raw[place] ^ data.draw(st.integers(1, 255))]) + raw[place + 1 :]
    decoded = list(decode(flipped))
    assert decoded == [Frame(number, record) for number, record in enumerate(found, 1)][: len(decoded)]
    assert len(decoded) < len(found)


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(raw: bytes) -> None:
    """Whatever lies in the folder, reading it raises nothing."""
    assert whole_bytes(raw) <= len(raw)
    assert len(list(decode(raw))) <= len(raw)


@pytest.mark.parametrize(
    ("sent", "rows"),
    [
        (b'[{"a":1.5,"b":null}]', [{"a": 1.5, "b": None}]),
        (b' [\n\t{ "a" : 1.50e0,\r\n "b":null } ] ', [{"a": 1.5, "b": None}]),
        (b'[{"a":"\\u00e9\\ud83d\\ude00"}]', [{"a": "é😀"}]),
        ('[{"é":"😀"}]'.encode(), [{"é": "😀"}]),
        (b'[{"a":NaN},{"a":2}]', [{"a": None}, {"a": 2}]),
        (b'{"columns":{"a":[1,2],"b":["x",null]}}', [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        (b' {"columns" : {"a":[]}}', []),
    ],
    ids=["compact", "white-space", "escapes", "utf-8", "nan", "columns", "no-rows"],
)
def test_rows_are_read_from_whatever_text_a_caller_sent(sent: bytes, rows: list[Row]) -> None:
    """A door's own bytes, as it has validated them, or columns of a door that reads these."""
    assert rows_in(sent) == rows


def test_a_text_is_put_down_as_it_came() -> None:
    """It is not encoded again: its bytes are in the frame."""
    sent = b'[ {"a" : 1.50} ]'
    assert sent in main_frame(1, STAMP, 1, "r", "plain", 1, sent, b"[]")


def test_columns_of_different_lengths_are_no_rows() -> None:
    """No row is made up, none is left out."""
    with pytest.raises(ValueError, match="shorter"):
        rows_in(b'{"columns":{"a":[1,2],"b":[1]}}')


def test_requests_keep_their_order_and_size() -> None:
    """By column: all ids, then all counts."""
    assert json.loads(requests_text(["b", "a"], [2, 1])) == [["b", "a"], [2, 1]]


def test_a_row_is_named_by_its_request_and_place() -> None:
    """Readers and feedback rely on the form."""
    assert row_id("ab", 3) == "ab-3"
