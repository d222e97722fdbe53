"""Frames: what was put in comes out, whatever is cut off or flipped on the way."""

from __future__ import annotations

import math

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
    decode,
    encode,
    row_id,
    whole_bytes,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
# Lone surrogates too: they must cost nobody a record.
text = st.text(st.characters(), max_size=12)
scalar = st.none() | st.booleans() | st.integers() | finite | text
label = st.booleans() | st.integers() | finite | text
number = st.integers(min_value=0, max_value=2**53)
answer = st.builds(Answer, label, st.lists(finite, max_size=3))
mirrored = st.builds(
    MirroredRow, text, st.sampled_from(["answered", "failed", "expired"]), st.none() | label, st.lists(finite, max_size=3), text
)
rows = st.lists(st.dictionaries(text, scalar, max_size=4), max_size=3)
mains = st.builds(
    MainRecord,
    number,
    text,
    text,
    text,
    text,
    number,
    text,
    number,
    text,
    text,
    number,
    rows,
    st.lists(answer, max_size=3),
    text,
    text,
)
challengers = st.builds(
    ChallengerRecord, number, text, text, text, number, text, number, text, number, st.lists(mirrored, max_size=3)
)
records = st.lists(st.one_of(mains, challengers), min_size=1, max_size=4)


def framed(found: list[Record]) -> list[bytes]:
    """Each record's frame, numbered from 1."""
    return [encode(number, record) for number, record in enumerate(found, 1)]


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


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    """JSON has no words for them, and no door lets them through."""
    record = MainRecord(1, "r", "d", "p", "s", 1, "m", 1, "x", "plain", 1, [{"a": value}], [Answer(1.0, [])])
    with pytest.raises(ValueError, match="JSON"):
        encode(1, record)


def test_a_row_is_named_by_its_request_and_place() -> None:
    """Readers and feedback rely on the form."""
    assert row_id("ab", 3) == "ab-3"
