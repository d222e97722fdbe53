"""Ground truth for predicted rows: checked against the deployment's schema, and stored so that a correction replaces."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from quarterdeck.errors import InvalidInput
from quarterdeck.schema import Frozen, Schema
from quarterdeck.schema import Label as LabelValue
from quarterdeck_deployer.database import upsert
from quarterdeck_deployer.labels import label_text
from quarterdeck_deployer.models import Label
from quarterdeck_deployer.predictions import PredictionIndex

MOST_LABELS = 10_000
_ROW_ID = re.compile(r"[0-9a-f]{32}-[0-9]{1,9}")
_CHUNK = 1_000


class LabelInput(Frozen):
    """The truth of one row: named by its row id, or by the id that the caller sent and the row's place in that request."""

    row_id: str | None = Field(None, description="Row id: the answer's request id, a dash, and the row's index.")
    caller_id: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(None, description="The id that was sent.")
    row: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="With caller_id: the row's index in that request.")
    value: StrictBool | StrictInt | StrictFloat | StrictStr = Field(description="A class label, or a number for a regression.")
    observed_at: AwareDatetime | None = Field(None, description="When the truth became known; with a time zone.")


class FeedbackInput(Frozen):
    """Up to 10,000 labels; all are taken or none."""

    labels: Annotated[list[LabelInput], Field(max_length=MOST_LABELS)]
    source: Annotated[str, Field(max_length=200)] = Field("", description="Where the labels come from, in words.")


class FeedbackResult(Frozen):
    """What became of the labels of one call."""

    accepted: int = Field(description="Labels that are stored now.")
    replaced: int = Field(description="Those among them that changed an earlier label.")
    waiting: int = Field(description="Those whose record has not arrived in the store; they count once it does.")


class _Checked(NamedTuple):
    row_id: str
    value: str
    observed_at: datetime | None


def take(
    deployment: str, given: FeedbackInput, schema: Schema, index: PredictionIndex, writing: sessionmaker[Session]
) -> FeedbackResult:
    """Check and store labels in one transaction.

    Args:
        deployment: whose rows they belong to.
        given: the labels as they came.
        schema: the deployment's; says which values can be true.
        index: finds rows by the caller's ids.
        writing: sessions that hold the write lock from their beginning.

    Raises:
        InvalidInput: naming the first label that cannot be used; nothing is stored then.
        StorageError: the store cannot be read.
    """
    # Everything is checked before anything is written: one bad label refuses all.
    row_ids = resolve(given.labels, lambda asked: index.rows_of_callers(deployment, asked))
    read = _reader(schema)
    checked = [
        _Checked(row_id, read(number, label.value), label.observed_at)
        for number, (row_id, label) in enumerate(zip(row_ids, given.labels, strict=True))
    ]
    # Asked before the write lock is taken, for it reads the store.
    arrived = index.known_rows(deployment, row_ids)
    replaced = _store(deployment, checked, given.source, writing)
    return FeedbackResult(accepted=len(checked), replaced=replaced, waiting=len(checked) - len(arrived))


def resolve(labels: Sequence[LabelInput], find: Callable[[list[tuple[str, int]]], dict[tuple[str, int], list[str]]]) -> list[str]:
    """The row id of each label, in order.

    Args:
        labels: as they came.
        find: row ids by (caller's id, row index), asked once for all.

    Raises:
        InvalidInput: ``unknown-row``, ``ambiguous-row`` or ``repeated-row``, naming the label by its place.
    """
    # One question for all of them, not one each.
    asked = [(label.caller_id, label.row) for label in labels if label.row_id is None and label.caller_id is not None]
    found = find(asked) if asked else {}
    row_ids: list[str] = []
    places: dict[str, int] = {}
    for number, label in enumerate(labels):
        row_id = _row_id(number, label, found)
        if row_id in places:
            raise _refused(number, f"is for the same row as label {places[row_id]}", "repeated-row", "Send one label a row.")
        places[row_id] = number
        row_ids.append(row_id)
    return row_ids


def _row_id(number: int, label: LabelInput, found: dict[tuple[str, int], list[str]]) -> str:
    if (label.row_id is None) == (label.caller_id is None):
        raise _refused(number, "must have either row_id or caller_id", "invalid-input", "Send exactly one of the two.")
    if label.row_id is not None:
        # Only the form is checked: the record may arrive after its label.
        if not _ROW_ID.fullmatch(label.row_id):
            hint = "A row id is the answer's request_id, a dash, and the row's index from 0."
            raise _refused(number, "has a row_id that is none", "unknown-row", hint)
        return label.row_id
    rows = found.get((label.caller_id or "", label.row), [])
    if not rows:
        hint = "Records reach the store some seconds after the answer: send it again then, or use row_id."
        raise _refused(number, "names a row that no stored record has", "unknown-row", hint)
    if len(rows) > 1:
        raise _refused(number, f"fits {len(rows)} records, for its caller_id was used again", "ambiguous-row", "Use row_id.")
    return rows[0]


def _reader(schema: Schema) -> Callable[[int, LabelValue], str]:
    """Turns the value of a label into the JSON text under which equal truths are equal."""
    # True equals 1 in Python, in JSON it does not: the type belongs to the key.
    texts = {(isinstance(label, bool), label): label_text(label) for label in schema.classes}

    def number_of(place: int, value: LabelValue) -> str:
        # bool is a kind of int in Python, and no measurement.
        if isinstance(value, bool | str) or not math.isfinite(value):
            raise _refused(place, "is not a finite number", "invalid-label", f"{schema.target} is a number.")
        return label_text(value)

    def class_of(place: int, value: LabelValue) -> str:
        text = texts.get((isinstance(value, bool), value))
        if text is None:
            known = ", ".join(texts.values())
            raise _refused(place, "is none of the classes", "invalid-label", f"{schema.target} is one of: {known}.")
        return text

    return number_of if schema.task == "regression" else class_of


def _store(deployment: str, labels: list[_Checked], source: str, writing: sessionmaker[Session]) -> int:
    """Write all labels in one transaction; how many changed an earlier one."""
    replaced = 0
    with writing.begin() as session:
        statement = upsert(session, Label, ("deployment", "row_id"), ("value", "observed_at", "received_at", "source"))
        # Readers take what came since the newest label they know: times of receipt must never fall, whatever the clock does.
        newest = session.scalar(select(func.max(Label.received_at)).where(Label.deployment == deployment))
        received = max(datetime.now(UTC), newest) if newest else datetime.now(UTC)
        for chunk in _chunks(labels):
            ids = [label.row_id for label in chunk]
            query = select(Label.row_id, Label.value).where(Label.deployment == deployment, Label.row_id.in_(ids))
            before = {row.row_id: row.value for row in session.execute(query)}
            # The same label sent again after a lost answer is no correction.
            replaced += sum(before.get(label.row_id, label.value) != label.value for label in chunk)
            session.execute(statement, [
                {**label._asdict(), "deployment": deployment, "received_at": received, "source": source} for label in chunk
            ])  # fmt: skip
    return replaced


def _chunks(labels: Sequence[_Checked]) -> Iterator[Sequence[_Checked]]:
    yield from (labels[start : start + _CHUNK] for start in range(0, len(labels), _CHUNK))


def _refused(number: int, what: str, code: str, hint: str) -> InvalidInput:
    return InvalidInput(f"Label {number} {what}.", code=code, kind="label", name=str(number), hint=hint, extra={"label": number})
