"""Figures in a package: metrics against scikit-learn and the definitions, baselines against numpy, choice of golden rows."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from quarterdeck.baseline import baseline, categories, numbers
from quarterdeck.errors import InvalidInput, ModelFailed
from quarterdeck.evaluate import compare, measure
from quarterdeck.golden import UNSEEN, golden_rows, spread
from quarterdeck.model import class_answers, regression_answers
from quarterdeck.records import Answer
from quarterdeck.schema import Feature, Label, Row, Schema

NUMBER = Feature(name="number", type="float")
BINARY = Schema(task="binary", classes=["no", "yes"], positive="yes", features=[NUMBER])
MULTI = Schema(task="multiclass", classes=["red", "green", "blue"], features=[NUMBER])
REGRESSION = Schema(task="regression", features=[NUMBER])

finite = st.floats(-1e6, 1e6)
columns = st.lists(st.none() | finite | st.sampled_from([0.0, 1.0, math.inf, -math.inf]), max_size=300)


def scored(schema: Schema, count: int, seed: int) -> tuple[list[Label], list[Answer]]:
    """Random labels, and answers whose scores sum to one."""
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.ones(len(schema.classes)), count)
    labels = [schema.classes[place] for place in random.integers(0, len(schema.classes), count)]
    return labels, class_answers(schema, scores.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_multiclass_metrics_are_scikit_learns(seed: int) -> None:
    """Accuracy and log loss as the library has them; the Brier score is the mean sum of squares over the classes."""
    labels, answers = scored(MULTI, 200, seed)
    scores = np.array([answer.scores for answer in answers])
    found = measure(MULTI, labels, answers)
    truth = np.array([[label == name for name in MULTI.classes] for label in labels])
    assert found == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(labels, [answer.prediction for answer in answers]),
            # The library wants classes and columns in alphabetical order.
            "log_loss": metrics.log_loss(labels, scores[:, [2, 1, 0]], labels=["blue", "green", "red"]),
            "brier": float(((scores - truth) ** 2).sum(axis=1).mean()),
        },
        rel=1e-11,
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("positive", ["no", "yes"])
def test_binary_metrics_are_scikit_learns(positive: str, seed: int) -> None:
    """Whichever class is the positive one: two scores that sum to one have one Brier score, and one area."""
    schema = BINARY.model_copy(update={"positive": positive})
    labels, answers = scored(schema, 150, seed)
    score = [answer.scores[schema.classes.index(positive)] for answer in answers]
    truth = [label == positive for label in labels]
    found = measure(schema, labels, answers)
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(truth, score), rel=1e-11)
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(truth, score), rel=1e-11)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, score), rel=1e-11)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=50))
def test_regression_metrics_are_their_definitions(pairs: list[tuple[float, float]]) -> None:
    """Mean absolute error, root of the mean square; r2 from two rows on, and never a number that is none."""
    truth, guess = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = measure(REGRESSION, list(truth), regression_answers(guess))
    errors = [abs(one - other) for one, other in pairs]
    assert found["mae"] == pytest.approx(math.fsum(errors) / len(errors), rel=1e-9, abs=1e-9)
    assert found["rmse"] == pytest.approx(math.sqrt(math.fsum(error**2 for error in errors) / len(errors)), rel=1e-9, abs=1e-9)
    assert ("r2" in found) is (len(pairs) > 1)
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize(
    ("schema", "labels", "answers", "absent"),
    [
        (BINARY, ["yes", "yes"], [Answer("yes", [0.2, 0.8]), Answer("no", [0.6, 0.4])], "auc"),
        (MULTI, ["red"], [Answer("red", [0.5, 0.3, 0.2])], "auc"),
        (REGRESSION, [1.0], [Answer(2.0, [])], "r2"),
    ],
)
def test_what_cannot_be_measured_is_left_out(schema: Schema, labels: list[Label], answers: list[Answer], absent: str) -> None:
    """One class has no curve, one row no variance: no metric is better than a wrong one."""
    assert absent not in measure(schema, labels, answers)


def test_scores_that_do_not_sum_to_one_have_a_log_loss() -> None:
    """One-against-rest models answer independent scores; the logarithmic loss takes their shares."""
    answers = [Answer("red", [0.9, 0.6, 0.3]), Answer("blue", [0.1, 0.1, 0.6])]
    found = measure(MULTI, ["red", "blue"], answers)
    assert found["log_loss"] == pytest.approx(-(math.log(0.9 / 1.8) + math.log(0.6 / 0.8)) / 2)


@pytest.mark.parametrize(("schema", "label"), [(BINARY, "maybe"), (MULTI, "Red"), (BINARY, True), (MULTI, 0), (REGRESSION, "12")])
def test_labels_that_the_model_cannot_know_are_refused(schema: Schema, label: Label) -> None:
    """Text for a regression, or a class that training had not: refused with the next step, for no metric could count it."""
    answer = (
        Answer(1.0, []) if schema.task == "regression" else Answer(schema.classes[0], [1.0] + [0.0] * (len(schema.classes) - 1))
    )
    with pytest.raises(InvalidInput) as caught:
        measure(schema, [label], [answer])
    assert caught.value.hint


@pytest.mark.parametrize(
    ("one", "other", "labels", "largest"),
    [
        ([Answer("a", [0.5, 0.5])], [Answer("a", [0.5, 0.5])], 0, 0.0),
        ([Answer("a", [0.6, 0.4])], [Answer("b", [0.4, 0.6])], 1, 0.2),
        ([Answer("a", [0.6, 0.4]), Answer("b", [0.1, 0.9])], [Answer("a", [0.6, 0.4]), Answer("a", [0.1, 0.9])], 1, 0.0),
        ([Answer(0.0, [])], [Answer(0.25, [])], 0, 0.25),
        ([Answer(1000.0, [])], [Answer(1001.0, [])], 0, 0.001),
        ([Answer(-1000.0, [])], [Answer(-999.0, [])], 0, 0.001),
        ([], [], 0, 0.0),
    ],
)
def test_the_proof_counts_labels_and_the_largest_difference(
    one: list[Answer], other: list[Answer], labels: int, largest: float
) -> None:
    """Scores by their distance; numbers relative to the original above one, absolute below."""
    proof = compare(one, other, 1e-9)
    assert (proof.rows, proof.labels_different, proof.tolerance) == (len(one), labels, 1e-9)
    assert proof.largest_difference == pytest.approx(largest)


@given(columns)
def test_every_number_is_counted_once_in_its_bin(values: list[float | None]) -> None:
    """Counts equal numpy's on the same edges, a value on an edge falls to its right; what is not finite is missing."""
    found = numbers(values)
    kept = [value for value in values if value is not None and math.isfinite(value)]
    edges = found["edges"]
    assert sum(found["counts"]) + found["missing"] == len(values)
    assert edges == sorted(set(edges))
    assert set(edges) <= set(kept)
    assert len(edges) <= 49
    bounds = [-math.inf, *edges, math.inf]
    counted = [sum(low <= value < high for value in kept) for low, high in pairwise(bounds)]
    assert found["counts"] == counted


@given(st.lists(finite, min_size=1, max_size=200))
def test_moments_are_those_of_the_data(values: list[float]) -> None:
    """Smallest, largest, sum and sum of squares, to twelve digits."""
    found = numbers(values)
    scale = math.fsum(map(abs, values)) + 1e-300
    assert (found["min"], found["max"]) == (pytest.approx(min(values), rel=1e-11), pytest.approx(max(values), rel=1e-11))
    assert abs(found["sum"] - math.fsum(values)) <= 1e-11 * scale
    assert found["sum_of_squares"] == pytest.approx(math.fsum(value**2 for value in values), rel=1e-11)


def test_distinct_values_fill_fifty_bins_equally() -> None:
    """A thousand different numbers make fifty bins of twenty, give or take the one on the edge."""
    found = numbers([float(value) for value in range(1000)])
    assert len(found["counts"]) == 50
    assert set(found["counts"]) <= {19, 20, 21}


@pytest.mark.parametrize("values", [[1e200, -1e200], [1.7e308, 1.7e308]])
def test_squares_beyond_all_floats_are_left_out_quietly(values: list[float]) -> None:
    """Nothing that is no JSON number gets into the file, and the builder sees no warning of numpy's."""
    found = numbers(values)
    assert "sum_of_squares" not in found
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("values", [[], [None], [math.nan, None, math.inf]])
def test_columns_without_a_number_have_one_empty_bin(values: list[Any]) -> None:
    """There is nothing to count, and all of it is missing."""
    assert numbers(values) == {"kind": "numbers", "edges": [], "counts": [0], "missing": len(values)}


@given(st.lists(st.none() | st.sampled_from(["a", "b", "c", "d"]) | st.booleans(), max_size=60))
def test_categories_are_counted_by_their_text(values: list[str | bool | None]) -> None:
    """Known ones by name, the others as unseen, nulls as missing: together they are all rows."""
    found = categories(values, ["a", "b", "True"])
    present = Counter(str(value) for value in values if value is not None)
    assert found["counts"] == {name: count for name, count in present.items() if name in ("a", "b", "True")}
    assert found["unseen"] == sum(count for name, count in present.items() if name in ("c", "d", "False"))
    assert sum(found["counts"].values()) + found["other"] + found["unseen"] + found["missing"] == len(values)


def test_the_hundred_most_frequent_values_are_named() -> None:
    """Ties go by name, so equal data gives equal bytes; what is left is one number."""
    values = [f"v{place:03d}" for place in range(150)]
    found = categories([*reversed(values), "v149", "v148"], None)
    assert list(found["counts"].items())[:3] == [("v148", 2), ("v149", 2), ("v000", 1)]
    assert (len(found["counts"]), found["other"], found["unseen"]) == (100, 50, 0)


def test_baselines_of_many_values_and_categories_are_quick_and_exact() -> None:
    """Ten thousand rows against five thousand known categories: every row is found, without a look at each category."""
    known = [f"c{place}" for place in range(5000)]
    found = categories(known * 2 + ["other"], known)
    assert (sum(found["counts"].values()), found["other"], found["unseen"]) == (200, 9800, 1)


def test_a_baseline_of_a_classifier_holds_scores_and_decisions() -> None:
    """One distribution per class by its name, and how often each was the answer."""
    answers = class_answers(MULTI, [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    found = json.loads(baseline(MULTI, [{"number": 1.0}, {"number": None}], answers, "validation"))
    assert (found["source"], found["rows"]) == ("validation", 2)
    assert found["features"]["number"]["missing"] == 1
    assert list(found["scores"]) == ["blue", "green", "red"]
    assert found["scores"]["blue"]["max"] == 0.8
    assert found["decisions"]["counts"] == {"blue": 1, "red": 1}


class Sum:
    """A model that answers the sum of its two numbers, and fails on text that it has not seen."""

    def predict(self, rows: Any) -> list[Answer]:
        """One number per row."""
        if any(row["name"] == UNSEEN for row in rows):
            raise ModelFailed("The model raised ValueError.")
        return regression_answers(float(row["number"] or 0) + float(row["hour"] or 0) for row in rows)


WIDE = Schema(
    task="regression",
    features=[
        Feature(name="number", type="float", nullable=True, minimum=-1.5, maximum=9.5),
        Feature(name="hour", type="int", minimum=0.0, maximum=23.0),
        Feature(name="name", type="string", categories=["x"]),
    ],
)


@given(st.lists(st.tuples(finite | st.sampled_from([math.inf]), st.integers(0, 23)), min_size=1, max_size=40))
@settings(max_examples=50)
def test_golden_rows_are_finite_different_and_answered(values: list[tuple[float, int]]) -> None:
    """Ordinary rows and the edges, none twice, each with the served form's answer; rows without a JSON form never get in."""
    rows: list[Row] = [{"number": number, "hour": hour, "name": "x"} for number, hour in values]
    if not any(math.isfinite(number) for number, _ in values):
        with pytest.raises(InvalidInput, match="free of infinite"):
            golden_rows(WIDE, rows, Sum())
        return
    found = golden_rows(WIDE, rows, Sum())
    texts = [golden.model_dump_json() for golden in found]
    assert len(set(texts)) == len(texts)
    assert all(golden.expected.prediction == Sum().predict([golden.row])[0].prediction for golden in found)
    assert any(golden.row["number"] is None for golden in found)
    assert {type(golden.row["hour"]) for golden in found} == {int}
    assert not any(golden.row["name"] == UNSEEN for golden in found)


@given(st.integers(0, 500), st.integers(2, 40))
def test_places_are_spread_from_the_first_to_the_last(count: int, wanted: int) -> None:
    """Rising, different, never more than wanted, and with gaps that differ by one at most."""
    places = spread(count, wanted)
    assert len(places) == min(count, wanted)
    assert places[:1] == [0][:count]
    assert places[-1:] == [count - 1][: min(count, 1)]
    gaps = {after - before for before, after in pairwise(places)}
    assert not gaps or (min(gaps) > 0 and max(gaps) - min(gaps) <= 1)
