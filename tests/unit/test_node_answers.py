"""Answers as text: templates write what a JSON library would, for every schema, label and number."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import ModelFailed
from quarterdeck.records import Answer
from quarterdeck.schema import Feature, Schema
from quarterdeck_node.answers import Answers, Writer, plain_answer

X = [Feature(name="x", type="float")]
REGRESSION = Schema(task="regression", features=X)
labels = st.text(max_size=5) | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
numbers = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def scored(draw: st.DrawFn) -> tuple[Schema, list[list[float]]]:
    """A classifier's schema and the scores of some rows."""
    # Names of members must differ as well: 1 and "1" would be one.
    classes = draw(st.lists(labels, min_size=2, max_size=4, unique_by=(lambda one: one, lambda one: str(one).lower())))
    task: Any = "binary" if len(classes) == 2 else "multiclass"
    schema = Schema(task=task, classes=classes, positive=classes[1] if task == "binary" else None, features=X)
    rows = draw(st.lists(st.lists(numbers, min_size=len(classes), max_size=len(classes)), min_size=1, max_size=4))
    return schema, rows


def check(schema: Schema, answers: Answers, expected: list[Answer]) -> None:
    """Three ways to say the same."""
    assert answers.all() == expected
    assert json.loads(b"[%b]" % answers.plain()) == [plain_answer(schema.classes, answer) for answer in expected]
    assert json.loads(answers.kept()) == [list(answer) for answer in expected]


@given(scored())
def test_scores_are_written_exactly(given: tuple[Schema, list[list[float]]]) -> None:
    """One row and many; the label is the first class of the highest score."""
    schema, rows = given
    writer = Writer(schema)
    expected = [Answer(schema.classes[scores.index(max(scores))], scores) for scores in rows]
    check(schema, writer.many(np.array(rows)), expected)
    check(schema, writer.one(tuple(rows[0])), expected[:1])
    check(schema, Answers.listed(writer, expected), expected)


@given(st.lists(numbers, min_size=1, max_size=4))
def test_numbers_are_written_exactly(values: list[float]) -> None:
    """Regressions have no scores."""
    writer = Writer(REGRESSION)
    expected = [Answer(value, []) for value in values]
    check(REGRESSION, writer.many(np.array(values).reshape(-1, 1)), expected)
    check(REGRESSION, writer.one((values[0],)), expected[:1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_no_answer(bad: float) -> None:
    """Wherever it stands."""
    schema = Schema(task="binary", classes=["no", "yes"], positive="yes", features=X)
    for scores in ((bad, 0.5), (0.5, bad)):
        with pytest.raises(ModelFailed):
            Writer(schema).one(scores)
        with pytest.raises(ModelFailed):
            Writer(schema).many(np.array([(0.5, 0.5), scores]))


@pytest.mark.parametrize("scores", [(0.1,), (0.1, 0.2, 0.7)])
def test_too_few_or_too_many_scores_are_no_answer(scores: tuple[float, ...]) -> None:
    """Each would belong to another class."""
    schema = Schema(task="binary", classes=["no", "yes"], positive="yes", features=X)
    with pytest.raises(ModelFailed):
        Writer(schema).one(scores)
    with pytest.raises(ModelFailed):
        Writer(schema).many(np.array([scores]))
