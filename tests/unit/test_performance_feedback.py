"""Labels: found by row or by the caller's id, checked against the schema, corrected in place; all or none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from quarterdeck.errors import InvalidInput
from quarterdeck.records import Answer
from quarterdeck.schema import Feature, Schema
from quarterdeck.schema import Label as LabelValue
from quarterdeck_deployer.feedback import MOST_LABELS, FeedbackInput, FeedbackResult, take
from quarterdeck_deployer.models import Label
from tests.stored_records import Stored, ref

FEATURES = [Feature(name="dep_hour", type="float")]
BINARY = Schema(task="binary", classes=["no", "yes"], positive="yes", features=FEATURES)
ONES = Schema(task="binary", classes=[0, 1], positive=1, features=FEATURES)
NUMBER = Schema(task="regression", features=FEATURES)
YES = Answer("yes", [0.2, 0.8])
UNKNOWN = "0" * 32 + "-0"


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """An empty store."""
    made = Stored(tmp_path)
    yield made
    made.close()


def send(stored: Stored, *labels: dict[str, Any], schema: Schema = BINARY) -> FeedbackResult:
    """Send these labels in one call."""
    return take("late-flights", FeedbackInput.model_validate({"labels": labels}), schema, stored.index, stored.database.writing)


def kept(stored: Stored) -> dict[str, str]:
    """Stored values by row id."""
    with stored.database.sessions() as session:
        return {row.row_id: row.value for row in session.scalars(select(Label))}


def test_labels_are_found_by_row_id_and_by_the_callers_id(stored: Stored) -> None:
    """Both names lead to the same rows."""
    first = stored.main(ref(1), [YES, YES], caller="order-1")
    second = stored.main(ref(1), [YES])
    found = send(
        stored,
        {"caller_id": "order-1", "row": 1, "value": "no"},
        {"row_id": second[0], "value": "yes", "observed_at": "2026-11-21T06:00:00Z"},
    )
    assert found == FeedbackResult(accepted=2, replaced=0, waiting=0)
    assert kept(stored) == {first[1]: '"no"', second[0]: '"yes"'}


def test_a_correction_replaces_and_is_counted(stored: Stored) -> None:
    """The same value again is no correction."""
    (row,) = stored.main(ref(1), [YES])
    results = [send(stored, {"row_id": row, "value": value}).replaced for value in ("no", "no", "yes")]
    assert results == [0, 0, 1]
    assert kept(stored) == {row: '"yes"'}


def test_a_label_may_come_before_its_record(stored: Stored) -> None:
    """Records are shipped some seconds after the answer: the label waits for it."""
    assert send(stored, {"row_id": UNKNOWN, "value": "yes"}) == FeedbackResult(accepted=1, replaced=0, waiting=1)


@pytest.mark.parametrize(
    ("schema", "value", "text"),
    [(BINARY, "yes", '"yes"'), (ONES, 1, "1"), (ONES, 1.0, "1"), (NUMBER, 3, "3"), (NUMBER, -0.5, "-0.5")],
)
def test_values_are_stored_as_the_schema_writes_them(stored: Stored, schema: Schema, value: LabelValue, text: str) -> None:
    """Equal truths are equal texts, so that they can be compared with predictions."""
    send(stored, {"row_id": UNKNOWN, "value": value}, schema=schema)
    assert kept(stored) == {UNKNOWN: text}


@pytest.mark.parametrize(
    ("schema", "label", "code"),
    [
        (BINARY, {"row_id": UNKNOWN, "value": "maybe"}, "invalid-label"),
        (BINARY, {"row_id": UNKNOWN, "value": 1}, "invalid-label"),
        (ONES, {"row_id": UNKNOWN, "value": True}, "invalid-label"),
        (ONES, {"row_id": UNKNOWN, "value": "1"}, "invalid-label"),
        (NUMBER, {"row_id": UNKNOWN, "value": "3"}, "invalid-label"),
        (NUMBER, {"row_id": UNKNOWN, "value": True}, "invalid-label"),
        (NUMBER, {"row_id": UNKNOWN, "value": float("nan")}, "invalid-label"),
        (BINARY, {"row_id": "order-1", "value": "yes"}, "unknown-row"),
        (BINARY, {"caller_id": "order-1", "value": "yes"}, "unknown-row"),
        (BINARY, {"value": "yes"}, "invalid-input"),
        (BINARY, {"row_id": UNKNOWN, "caller_id": "order-1", "value": "yes"}, "invalid-input"),
    ],
)
def test_a_label_that_cannot_be_used_is_named_and_nothing_is_stored(
    stored: Stored, schema: Schema, label: dict[str, Any], code: str
) -> None:
    """The refusal says which one it is, never what it said."""
    good = {"row_id": "1" * 32 + "-0", "value": 0.0 if schema is not BINARY else "no"}
    with pytest.raises(InvalidInput) as refused:
        send(stored, good, label, schema=schema)
    assert (refused.value.code, refused.value.extra) == (code, {"label": 1})
    assert "maybe" not in str(refused.value)
    assert kept(stored) == {}


def test_an_id_that_a_caller_used_twice_is_refused(stored: Stored) -> None:
    """Nobody guesses which of the two was meant."""
    for _ in range(2):
        stored.main(ref(1), [YES], caller="order-1")
    with pytest.raises(InvalidInput) as refused:
        send(stored, {"caller_id": "order-1", "value": "yes"})
    assert refused.value.code == "ambiguous-row"


def test_two_labels_for_one_row_in_one_call_are_refused(stored: Stored) -> None:
    """Also when the two name the row in different ways."""
    (row,) = stored.main(ref(1), [YES], caller="order-1")
    with pytest.raises(InvalidInput) as refused:
        send(stored, {"caller_id": "order-1", "value": "yes"}, {"row_id": row, "value": "no"})
    assert (refused.value.code, refused.value.extra) == ("repeated-row", {"label": 1})


def test_one_call_takes_ten_thousand_labels_and_not_one_more() -> None:
    """The limit is part of the form of a call."""
    label = {"row_id": UNKNOWN, "value": "yes"}
    assert len(FeedbackInput.model_validate({"labels": [label] * MOST_LABELS}).labels) == 10_000
    with pytest.raises(ValidationError, match="at most 10000"):
        FeedbackInput.model_validate({"labels": [label] * (MOST_LABELS + 1)})


def test_times_of_receipt_never_fall(stored: Stored) -> None:
    """A clock that was ahead does not hide later labels from those who read what is new."""
    ahead = datetime(2036, 1, 1, tzinfo=UTC)
    with stored.database.writing.begin() as session:
        session.add(Label(deployment="late-flights", row_id="2" * 32 + "-0", value='"no"', received_at=ahead, source=""))
    send(stored, {"row_id": UNKNOWN, "value": "yes"})
    with stored.database.sessions() as session:
        assert set(session.scalars(select(Label.received_at))) == {ahead}
