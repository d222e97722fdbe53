"""What main believes of a challenger's answer, and that what it keeps of it can be read again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.plan import VersionRef
from quarterdeck.records import ChallengerRecord, MirroredRow, Stamp, challenger_frame, decode, requests_text
from quarterdeck.schema import Feature, Label, Schema
from quarterdeck_node.mirror_answers import ANSWER_BYTES, PIECE_ROWS, Judge, Judged

VERSION = VersionRef(model="late", version=2, digest="sha256:" + 64 * "c")
STAMP = Stamp("late", "default", "dev", 3, "late", 2, VERSION.digest)
FEATURES = [Feature(name="hour", type="int")]
TEXT = Schema(task="binary", classes=["no", "yes"], positive="yes", features=FEATURES)
WHOLE = Schema(task="multiclass", classes=[0, 1, 2], features=FEATURES)
BOOLEAN = Schema(task="binary", classes=[False, True], positive=True, features=FEATURES)
NUMBER = Schema(task="regression", features=FEATURES)


def body(answers: bytes, digest: str = VERSION.digest) -> bytes:
    """An answer with these entries, as text."""
    return b'{"model":"late","version":2,"digest":"%b","revision":4,"answers":%b}' % (digest.encode(), answers)


def judged(schema: Schema | None, answers: bytes, rows: int, digest: str = VERSION.digest) -> Judged:
    """What becomes of an answer to so many rows."""
    return asyncio.run(Judge(schema).judge(body(answers, digest), VERSION, rows))


def kept(results: bytes, rows: int) -> list[MirroredRow]:
    """The rows of a record with these results."""
    [frame] = decode(challenger_frame(1, STAMP, 1, 1, requests_text(["r"], [rows]), results))
    assert isinstance(frame.record, ChallengerRecord)
    return frame.record.rows


@pytest.mark.parametrize(
    ("schema", "entry", "good"),
    [
        (TEXT, b'["yes",[0.25,0.75]]', True),
        (TEXT, b' [ "yes" , [ 0.25 , 1 ] ] ', True),
        (TEXT, b'["another",[]]', True),
        (TEXT, b'[1,[0.25,0.75]]', False),
        (TEXT, b'["yes",[0.25,true]]', False),
        (TEXT, b'["yes",[0.25,"0.75"]]', False),
        (TEXT, b'["yes",[0.25,null]]', False),
        (TEXT, b'["yes",[1e999]]', False),
        (TEXT, b'["yes"]', False),
        (TEXT, b'["yes",[],1]', False),
        (TEXT, b'{"prediction":"yes"}', False),
        (TEXT, b'null', False),
        (WHOLE, b'[2,[0.1,0.2,0.7]]', True),
        (WHOLE, b'[true,[]]', False),
        (WHOLE, b'[2.0,[]]', False),
        (WHOLE, b'[' + b"9" * 5_000 + b',[]]', False),
        (BOOLEAN, b'[true,[0.5,0.5]]', True),
        (BOOLEAN, b'[1,[0.5,0.5]]', False),
        (NUMBER, b'[17.5,[]]', True),
        (NUMBER, b'[17,[]]', True),
        (NUMBER, b'[-0.0,[]]', True),
        (NUMBER, b'[17.5,[0.5]]', False),
        (NUMBER, b'[true,[]]', False),
        (NUMBER, b'["17",[]]', False),
        (None, b'["yes",[0.5]]', True),
        (None, b'[17,[]]', True),
        (None, b'[false,[]]', True),
        (None, b'[null,[]]', False),
    ],
)  # fmt: skip
def test_an_entry_is_an_answer_or_that_rows_failure(schema: Schema | None, entry: bytes, good: bool) -> None:
    """By the exact type of the schema's labels, with finite scores; its neighbour is answered all the same."""
    fine = b'["yes",[]]' if schema in (TEXT, None) else b"[0,[]]" if schema is not BOOLEAN else b"[false,[]]"
    found = judged(schema, b"[" + fine + b"," + entry + b"]", 2)
    assert (found.error, found.answered, found.failed) == ("", 1 + good, 1 - good)
    rows = kept(found.results, 2)
    assert [row.result for row in rows] == ["answered", "answered" if good else "failed"]
    assert rows[1].error_code == ("" if good else "challenger-garbage")


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        (b'[["yes",[]]]', "challenger-garbage"),
        (b'[["yes",[]],["yes",[]],["yes",[]]]', "challenger-garbage"),
        (b"[17,18]", "challenger-garbage"),
        (b'{"0":["yes",[]]}', "challenger-garbage"),
        (b'[["yes",[]],["\xff",[]]', "challenger-garbage"),
        (b'[["yes",[NaN]],["yes",[]]]', "challenger-garbage"),
        (b"[" * 100_000, "challenger-garbage"),
    ],
    ids=["too-few", "too-many", "no-answers", "no-list", "torn", "nan", "deep"],
)
def test_an_answer_that_is_none_is_refused_as_a_whole(answers: bytes, error: str) -> None:
    """Nobody could say which row each entry belongs to, or whether it is one."""
    assert judged(TEXT, answers, 2)[:1] == (error,)


def test_another_versions_word_is_not_taken() -> None:
    """Its node may have been swapped meanwhile."""
    assert judged(TEXT, b'[["yes",[]]]', 1, "sha256:" + 64 * "d").error == "challenger-other-version"


@pytest.mark.parametrize(
    ("code", "said"),
    [("model-failed", "model-failed"), ("No Code", "challenger-garbage"), ("x" * 65, "challenger-garbage")],
)
def test_a_refused_row_keeps_its_code(code: str, said: str) -> None:
    """If it is one: what a challenger says must not grow in our records."""
    entries: list[Any] = [["yes", [0.5]]] * PIECE_ROWS + [{"error": code}]
    found = judged(TEXT, json.dumps(entries).encode(), len(entries))
    assert (found.answered, found.failed, found.code) == (PIECE_ROWS, 1, said)
    assert kept(found.results, len(entries))[-1] == MirroredRow(f"r-{PIECE_ROWS}", "failed", None, [], said)


@given(st.binary(max_size=60), st.integers(0, 3))
def test_no_bytes_are_too_bad_to_be_judged(answers: bytes, rows: int) -> None:
    """Whatever a challenger sends is an answer or garbage, and an answer can be read again."""
    found = judged(None, answers, rows)
    assert found.error in ("", "challenger-garbage")
    if not found.error:
        assert len(kept(found.results, rows)) == rows


labels = st.text(max_size=6) | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scores = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3)


@given(st.lists(st.tuples(labels, scores), min_size=1, max_size=5))
def test_what_was_answered_is_what_is_kept(answers: list[tuple[Label, list[float]]]) -> None:
    """Labels with their types, scores to the last bit."""
    found = judged(None, json.dumps(answers).encode(), len(answers))
    assert (found.error, found.answered) == ("", len(answers))
    assert repr([(row.prediction, row.scores) for row in kept(found.results, len(answers))]) == repr(answers)


@pytest.mark.parametrize(("schema", "rows", "most"), [(NUMBER, 0, 20_000), (TEXT, 1_000, 400_000), (None, 1, ANSWER_BYTES)])
def test_an_honest_answer_has_a_largest_size(schema: Schema | None, rows: int, most: int) -> None:
    """Worked out from rows and classes where these are known."""
    assert 0 < Judge(schema).largest_body(rows) <= most
