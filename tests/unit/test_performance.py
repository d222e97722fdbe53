"""Averages of both models on the same rows, against scikit-learn's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from quarterdeck.records import Answer
from quarterdeck.schema import Feature, Schema
from quarterdeck.schema import Label as LabelValue
from quarterdeck_deployer.performance import Performance, RoleScores, measure
from tests.stored_records import Stored, ref

FEATURES = [Feature(name="dep_hour", type="float")]
BINARY = Schema(task="binary", classes=["no", "yes"], positive="yes", features=FEATURES)
MULTI = Schema(task="multiclass", classes=[3, 1, 2], features=FEATURES)
NUMBER = Schema(task="regression", features=FEATURES)


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """An empty store."""
    made = Stored(tmp_path)
    yield made
    made.close()


def performance(stored: Stored, schema: Schema) -> Performance:
    """What is measured when every version has this schema."""
    with stored.index.current("late-flights") as connection:
        return measure(connection, "late-flights", lambda model, version, digest: schema)


def guesses(schema: Schema, count: int, seed: int) -> list[Answer]:
    """Random answers with scores that sum to one; some scores are 0."""
    chance = random.Random(seed)
    answers: list[Answer] = []
    for _ in range(count):
        raw = [chance.choice([0.0, chance.random(), chance.random()]) + 1e-12 for _ in schema.classes]
        scores = [value / sum(raw) for value in raw]
        answers.append(Answer(schema.classes[scores.index(max(scores))], scores))
    return answers


def truths(schema: Schema, count: int, seed: int = 5) -> list[LabelValue]:
    """Random labels."""
    return random.Random(seed).choices(schema.classes, k=count)


def expected_binary(answers: list[Answer], truth: list[LabelValue]) -> tuple[float, float, float]:
    """(Brier, accuracy, log-loss) by scikit-learn."""
    positive = np.array([scores[1] for _, scores in answers])
    true_score = np.array([scores[BINARY.classes.index(label)] for (_, scores), label in zip(answers, truth, strict=True)])
    return (
        metrics.brier_score_loss(truth, positive, pos_label="yes"),
        metrics.accuracy_score(truth, [label for label, _ in answers]),
        metrics.log_loss([1] * len(truth), np.maximum(true_score, 0.01), labels=[0, 1]),
    )


def test_binary_scores_equal_those_of_scikit_learn(stored: Stored) -> None:
    """Brier of the positive class, accuracy, and log-loss with the true class's score kept from 0."""
    mine, theirs, truth = guesses(BINARY, 300, 1), guesses(BINARY, 300, 2), truths(BINARY, 300)
    ids = stored.main(ref(1), mine)
    stored.challenger(ref(2), ids, theirs)
    stored.label(ids, truth)
    newest = performance(stored, BINARY).newest
    assert newest is not None
    assert newest.challenger is not None
    for role, answers in ((newest.main, mine), (newest.challenger, theirs)):
        assert (role.brier, role.accuracy, role.log_loss) == pytest.approx(expected_binary(answers, truth), abs=1e-12)
        assert (role.mae, role.rmse, role.rows) == (None, None, 300)


def test_multiclass_brier_is_the_sum_over_the_classes(stored: Stored) -> None:
    """Classes may be numbers, in an order of their own."""
    answers, truth = guesses(MULTI, 200, 3), truths(MULTI, 200)
    ids = stored.main(ref(1), answers)
    stored.label(ids, truth)
    newest = performance(stored, MULTI).newest
    assert newest is not None
    # scikit-learn wants the columns in sorted order of the labels
    columns = np.array([scores for _, scores in answers])[:, np.argsort(MULTI.classes)]
    assert newest.main.brier == pytest.approx(metrics.brier_score_loss(truth, columns, labels=[1, 2, 3], scale_by_half=False))
    assert newest.main.accuracy == pytest.approx(metrics.accuracy_score(truth, [label for label, _ in answers]))


def test_regression_errors_equal_those_of_scikit_learn(stored: Stored) -> None:
    """Mean absolute and root mean squared error; whole numbers among the labels are numbers too."""
    chance = random.Random(4)
    predicted = [chance.gauss(10, 5) for _ in range(100)]
    truth: list[LabelValue] = [round(chance.gauss(10, 5)) if row % 2 else chance.gauss(10, 5) for row in range(100)]
    ids = stored.main(ref(1), [Answer(value, []) for value in predicted])
    stored.label(ids, truth)
    newest = performance(stored, NUMBER).newest
    assert newest is not None
    assert newest.main.mae == pytest.approx(metrics.mean_absolute_error(truth, predicted))
    assert newest.main.rmse == pytest.approx(metrics.root_mean_squared_error(truth, predicted))
    assert (newest.main.brier, newest.main.accuracy, newest.main.log_loss) == (None, None, None)


def test_both_roles_are_measured_on_the_rows_that_both_answered(stored: Stored) -> None:
    """Rows that the challenger failed, or whose truth has not come, count for neither."""
    mine, theirs, truth = guesses(BINARY, 30, 1), guesses(BINARY, 30, 2), truths(BINARY, 20)
    ids = stored.main(ref(1), mine)
    stored.challenger(ref(2), ids[:10], theirs[:10])
    stored.challenger(ref(2), ids[10:], [], result="failed")
    stored.label(ids[:20], truth)
    found = performance(stored, BINARY)
    assert found.newest is not None
    assert (found.newest.main.rows, found.others) == (10, [])
    assert found.newest.main.brier == pytest.approx(expected_binary(mine[:10], truth[:10])[0])


def test_a_swap_does_not_mix_pairs(stored: Stored) -> None:
    """Rows from before stay with the pair that answered them, and the newest pair comes first."""
    answers, truth = guesses(BINARY, 10, 1), truths(BINARY, 10)
    for minute, (main, challenger) in enumerate([(1, 2), (2, 1)]):
        ids = stored.main(ref(main), answers, minute=minute)
        stored.challenger(ref(challenger), ids, answers, minute=minute)
        stored.label(ids, truth)
    found = performance(stored, BINARY)
    assert found.newest is not None
    assert [versions(found.newest.main, found.newest.challenger)] == [(2, 1)]
    assert [(versions(pair.main, pair.challenger), pair.rows) for pair in found.others] == [((1, 2), 10)]


def versions(main: RoleScores, challenger: RoleScores | None) -> tuple[int, int | None]:
    """(main's version, the challenger's)."""
    return main.version, challenger.version if challenger else None


def test_rows_whose_challenger_lags_do_not_hide_the_pair(stored: Stored) -> None:
    """Main's newest rows have no challenger's answer yet: the pair stays the one that is shown."""
    answers, truth = guesses(BINARY, 10, 1), truths(BINARY, 10)
    ids = stored.main(ref(1), answers)
    stored.challenger(ref(2), ids, answers)
    late = stored.main(ref(1), answers, minute=1)
    stored.label([*ids, *late], [*truth, *truth])
    found = performance(stored, BINARY)
    assert found.newest is not None
    assert versions(found.newest.main, found.newest.challenger) == (1, 2)
    assert [versions(pair.main, pair.challenger) for pair in found.others] == [(1, None)]


def no_schema(model: str, version: int, digest: str) -> Schema | None:
    """A registry that knows no version."""
    return None


def no_labels(model: str, version: int, digest: str) -> Schema | None:
    """A registry that knows them all."""
    return BINARY


@pytest.mark.parametrize("schema_of", [no_schema, no_labels])
def test_nothing_measurable_is_nothing_measured(stored: Stored, schema_of: Callable[[str, int, str], Schema | None]) -> None:
    """Without labels, or without a schema to read them by, there is no pair and no number."""
    stored.main(ref(1), guesses(BINARY, 3, 1))
    with stored.index.current("late-flights") as connection:
        assert measure(connection, "late-flights", schema_of) == Performance(None, [])


def test_a_label_outside_the_classes_leaves_its_row_out(stored: Stored) -> None:
    """A class that another version of the model knew cannot be judged for this one."""
    ids = stored.main(ref(1), guesses(BINARY, 3, 1))
    stored.label(ids, ["no", "maybe", "yes"])
    newest = performance(stored, BINARY).newest
    assert newest is not None
    assert newest.rows == 2
