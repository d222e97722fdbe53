"""The codec of frames as properties: order, numbering, types, and what a reader makes of files that were cut or mixed."""

from __future__ import annotations

import json
import math
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.plan import DeploymentPlan, VersionRef
from quarterdeck.records import (
    KIND_CHALLENGER,
    KIND_MAIN,
    MAGIC,
    Answer,
    ChallengerRecord,
    MainRecord,
    MirroredRow,
    Stamp,
    challenger_frame,
    decode,
    no_answer,
    row_id,
    whole_bytes,
)
from tests.agents import framed

HEAD = 20
MAIN = MainRecord(
    1_763_700_000_000_000, "r1", "late", "default", "dev", 3, "late", 1, "sha256:" + 64 * "a", "plain", 90,
    "mine", "k1", [{"wind": 1.5, "hour": 7, "carrier": None, "holiday": True}], [Answer("yes", [0.25, 0.75])],
)  # fmt: skip
MIRRORED = [
    MirroredRow("r1-0", "answered", "yes", [0.25, 0.75], ""),
    MirroredRow("r1-1", "failed", None, [], "model-failed"),
    MirroredRow("r1-2", "expired", None, [], "expired"),
    MirroredRow("r1-3", "dropped", None, [], "queue-full"),
]
STAMP = Stamp("late", "default", "dev", 3, "late", 2, "sha256:" + 64 * "b")
CHALLENGER = ChallengerRecord(1_763_700_000_000_000, "late", "default", "dev", 3, "late", 2, "sha256:" + 64 * "b", 80, MIRRORED)

sequences = st.integers(0, 2**64 - 1)
labels = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6)


@given(sequences, st.sampled_from([MAIN, CHALLENGER]))
def test_a_frame_is_its_head_and_json(sequence: int, record: MainRecord | ChallengerRecord) -> None:
    """Magic, kind, zero, length, checksum of all the rest, sequence number; then text that any tool can read."""
    frame = framed(sequence, record)
    magic, kind, zero, length, crc, number = struct.unpack_from("<2sBBIIQ", frame)
    assert (magic, zero, length, number) == (MAGIC, 0, len(frame) - HEAD, sequence)
    assert kind == (KIND_MAIN if isinstance(record, MainRecord) else KIND_CHALLENGER)
    assert crc == zlib.crc32(frame[HEAD:], zlib.crc32(struct.pack("<BBIQ", kind, 0, length, sequence)))
    assert isinstance(json.loads(frame[HEAD:]), list)


@given(st.lists(sequences, max_size=5))
def test_numbers_come_back_as_they_were_given(numbers: list[int]) -> None:
    """The codec neither counts nor sorts: gaps are for the reader to see."""
    data = b"".join(framed(number, MAIN) for number in numbers)
    assert [frame.sequence for frame in decode(data)] == numbers
    assert whole_bytes(data) == len(data)


@given(st.lists(labels, min_size=1, max_size=5))
def test_labels_keep_their_type(found: list[str | int | float | bool]) -> None:
    """True, 1 and 1.0 are three labels, and floats come back to the last bit."""
    record = MAIN._replace(rows=[{}] * len(found), answers=[Answer(label, []) for label in found])
    (frame,) = decode(framed(1, record))
    assert isinstance(frame.record, MainRecord)
    again = [answer.prediction for answer in frame.record.answers]
    assert (again, [type(label) for label in again]) == (found, [type(label) for label in found])
    assert [math.copysign(1, label) for label in again if isinstance(label, float)] == [
        math.copysign(1, label) for label in found if isinstance(label, float)
    ]


def test_every_result_of_a_mirrored_row_survives() -> None:
    """Answered, failed, expired and dropped, with codes and without answers."""
    (frame,) = decode(framed(1, CHALLENGER))
    assert frame.record == CHALLENGER
    assert all(isinstance(row, MirroredRow) for row in frame.record.rows)


@given(st.integers(1, 3), st.data())
def test_a_cut_file_is_as_long_as_its_whole_frames(count: int, data: st.DataObject) -> None:
    """What is trimmed after a crash is exactly the torn tail, and what is left reads the same."""
    whole = b"".join(framed(number, MAIN) for number in range(count))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    kept = whole_bytes(cut)
    assert kept <= len(cut)
    assert kept % (len(whole) // count) == 0
    assert list(decode(cut)) == list(decode(cut[:kept]))
    assert len(cut) - kept < len(whole) // count


@pytest.mark.parametrize("tail", [b"", b"Q", b"QF", b"\0" * 4096, b"QF\x03\0" + b"\0" * 16, MAGIC * 20])
def test_what_follows_the_last_frame_is_left_out(tail: bytes) -> None:
    """Zeros of a file that was grown ahead, a torn head, a kind that is not known: nothing of it is a record."""
    data = framed(1, MAIN)
    assert [frame.record for frame in decode(data + tail)] == [MAIN]
    assert whole_bytes(data + tail) == len(data)


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**32 - 1])
def test_a_wrong_length_is_not_followed(length: int) -> None:
    """A length that reaches over the file, or that the checksum contradicts, ends the reading and costs no memory."""
    frame = bytearray(framed(1, MAIN))
    struct.pack_into("<I", frame, 4, length)
    assert list(decode(bytes(frame))) == []
    assert whole_bytes(bytes(frame)) == 0


@pytest.mark.parametrize("sequence", [-1, 2**64])
def test_a_number_beyond_the_head_is_refused(sequence: int) -> None:
    """Never written as another number."""
    with pytest.raises(struct.error):
        framed(sequence, MAIN)


def test_one_result_stands_for_all_rows() -> None:
    """A batch that failed as a whole says so once."""
    whole = no_answer("failed", "challenger-timeout")
    requests = b'[["a","b"],[2,1]]'
    (frame,) = decode(challenger_frame(1, STAMP, 5, 80, requests, whole))
    assert frame.record.rows == [MirroredRow(name, "failed", None, [], "challenger-timeout") for name in ("a-0", "a-1", "b-0")]


@pytest.mark.parametrize("results", [b"[]", b'[["yes",[]]]', b'[["yes",[]],["yes",[]],["yes",[]]]'])
def test_results_for_another_number_of_rows_are_no_record(results: bytes) -> None:
    """Nobody could say which row each belongs to."""
    with pytest.raises(ValueError, match="zip"):
        list(decode(challenger_frame(1, STAMP, 5, 80, b'[["a"],[2]]', results)))


def test_whole_numbers_are_scores() -> None:
    """The text is the challenger's own; scores are read as floats all the same."""
    (frame,) = decode(challenger_frame(1, STAMP, 5, 80, b'[["a"],[1]]', b'[["yes",[1,0]]]'))
    assert repr(frame.record.rows[0]) == repr(MirroredRow("a-0", "answered", "yes", [1.0, 0.0], ""))


def test_a_stamp_is_that_of_its_plan_and_version() -> None:
    """All that records of the two have in common."""
    ref = VersionRef(model="late", version=2, digest="sha256:" + 64 * "b")
    plan = DeploymentPlan(name="flights", project="team", stage="prod", role="main", revision=7, active=ref, resident=[])
    assert Stamp.of(plan, ref) == Stamp("flights", "team", "prod", 7, "late", 2, ref.digest)


@given(st.text(min_size=1, max_size=8), st.integers(0, 10**6), st.integers(0, 10**6))
def test_row_ids_tell_rows_apart(request: str, one: int, other: int) -> None:
    """One request's rows have different ids, and an id leads back to request and row."""
    assert (row_id(request, one) == row_id(request, other)) is (one == other)
    assert row_id(request, one).rpartition("-")[::2] == (request, str(one))
