"""What passes between a program and a model process: whatever goes in comes out, and whatever a stranger sends is told."""

from __future__ import annotations

import contextlib
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck import worker_wire
from quarterdeck.column_rows import ColumnRows
from quarterdeck.errors import ModelFailed
from quarterdeck.model import class_answers
from quarterdeck.records import Answer
from quarterdeck.schema import Feature, Schema, Task
from quarterdeck.scored import Scored, places_of, scored_by

CLASSES = ["a", "b", "c"]
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def schema(task: Task = "multiclass") -> Schema:
    """One feature, and three classes where there are any."""
    return Schema(task=task, classes=CLASSES if task == "multiclass" else [], features=[Feature(name="x", type="float")])


@given(st.integers(1, 4), st.data())
def test_rows_arrive_as_they_were_sent(width: int, data: st.DataObject) -> None:
    """By column, in schema order, whatever the order in the rows; of several requests one after the other."""
    names = [f"f{place}" for place in range(width)]
    row = st.fixed_dictionaries(dict.fromkeys(reversed(names), SCALARS))
    parts = data.draw(st.lists(st.lists(row, min_size=1, max_size=4), min_size=1, max_size=4))
    message = worker_wire.Questions(names).rows(parts)
    assert worker_wire.size(message[:4]) == len(message) - 4
    count, columns = worker_wire.question(message[4:])
    rows = [one for part in parts for one in part]
    assert count == len(rows)
    assert [list(column) for column in columns] == [[row[name] for row in rows] for name in names]
    assert [list(map(type, column)) for column in columns] == [[type(row[name]) for row in rows] for name in names]


def test_rows_that_came_by_column_are_sent_by_column() -> None:
    """No row is made of them; numpy's numbers become plain ones."""
    rows = ColumnRows({"f0": np.array([1.5, 2.5]), "f1": ["a", None]}, 2)
    message = worker_wire.Questions(["f0", "f1"]).rows([rows])
    assert worker_wire.question(message[4:]) == (2, [[1.5, 2.5], ["a", None]])


@given(st.lists(st.lists(FINITE, min_size=3, max_size=3), min_size=1, max_size=20))
def test_scores_and_labels_arrive_as_they_were_answered(scores: list[list[float]]) -> None:
    """To the last bit, and as the plain road makes them."""
    array = np.array(scores)
    message = worker_wire.batch(Scored.checked(array, array.argmax(axis=1)))
    assert worker_wire.answers(message[4:], schema()) == class_answers(schema(), scores)


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_numbers_of_a_regression_arrive_as_they_were_answered(values: list[float]) -> None:
    """Without labels."""
    message = worker_wire.batch(Scored.checked(np.array(values).reshape(-1, 1)))
    assert worker_wire.answers(message[4:], schema("regression")) == [Answer(value, []) for value in values]


def _batch(rows: int, width: int, labels: list[int], scores: list[float]) -> bytes:
    return b"S" + struct.pack(f"<II{len(labels)}i{len(scores)}d", rows, width, *labels, *scores)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no prediction"),
        (b"S", "no prediction"),
        (b"R", "no prediction"),
        (_batch(1, 2, [0], [0.5, 0.5]), "no prediction"),
        (_batch(2, 3, [0], [0.5, 0.5, 0.0]), "no prediction"),
        (_batch(2**31, 3, [0], [0.5, 0.5, 0.0]), "no prediction"),
        (_batch(1, 3, [3], [0.5, 0.5, 0.0]), "not one of its classes"),
        (_batch(1, 3, [-1], [0.5, 0.5, 0.0]), "not one of its classes"),
        (_batch(1, 3, [0], [math.nan, 0.5, 0.0]), "not finite"),
        (_batch(1, 3, [0], [math.inf, 0.5, 0.0]), "not finite"),
    ],
)
def test_a_batch_that_is_none_is_refused(body: bytes, said: str) -> None:
    """The other side runs foreign code: nothing it says is believed unseen."""
    with pytest.raises(ModelFailed, match=said):
        worker_wire.answers(body, schema())


@given(st.binary(max_size=64))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    """Answers or a refusal by name, never anything else."""
    with contextlib.suppress(ModelFailed):
        worker_wire.answers(body, schema())


@pytest.mark.parametrize("head", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_a_length_that_nothing_of_ours_has_is_no_length(head: bytes) -> None:
    """Nothing, or gigabytes."""
    with pytest.raises(ValueError, match=r"\d"):
        worker_wire.size(head)


def test_a_model_that_answers_row_by_row_is_asked_all_the_same() -> None:
    """Labels keep their place among the classes, numbers of a regression stay numbers."""

    class Plain:
        def __init__(self, answers: list[Answer]) -> None:
            self._answers = answers

        def predict(self, rows: Any) -> list[Answer]:
            return self._answers

    rows = ColumnRows({"x": [1.0, 2.0]}, 2)
    answers = [Answer("b", [0.4, 0.3, 0.3]), Answer("a", [0.4, 0.3, 0.3])]
    found = scored_by(Plain(answers), schema(), rows)
    assert (found.labels.tolist(), found.answers(schema())) == ([1, 0], answers)
    numbers = [Answer(1.5, []), Answer(-2.0, [])]
    assert scored_by(Plain(numbers), schema("regression"), rows).answers(schema("regression")) == numbers


@pytest.mark.parametrize("labels", [["d"], [["a"]], [None]])
def test_a_label_that_is_no_class_has_no_place(labels: list[object]) -> None:
    """Unhashable ones included."""
    with pytest.raises(ModelFailed, match="not one of its classes"):
        places_of(labels, schema())
