"""Every task from package to performance through the command line, held against LightGBM's own answers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from quarterdeck.client import Label
from quarterdeck.errors import InvalidInput
from quarterdeck.record_files import read_main
from quarterdeck.schema import Row, Task
from tests.local.shared import FEATURES, Shared, rows
from tests.local.system import cli
from tests.models import TARGETS, lightgbm_model, table
from tests.support import eventually

COUNT = 60
TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
YAML = """\
apiVersion: quarterdeck.dev/v1alpha1
kind: ModelDeployment
metadata: {{name: {name}}}
spec:
  model: {{name: {name}, version: 1}}
  access: public
"""


@dataclass(frozen=True)
class Done:
    """What the command line answered at each step."""

    task: Task
    pushed: dict[str, Any]
    applied: dict[str, Any]
    answered: dict[str, Any]
    fed: dict[str, Any]
    measured: dict[str, Any]


def run(shared: Shared, *arguments: str, stdin: str = "") -> Any:
    """One command with ``-o json``; its document."""
    done = cli(shared.system.folder, *arguments, "-o", "json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def truths(task: Task) -> list[Any]:
    """What really happened in the rows that are asked for."""
    found: list[Any] = table()[TARGETS[task]].iloc[200 : 200 + COUNT].tolist()
    return found


def asked() -> list[Row]:
    """Rows that no model was fitted to, with nulls in both columns that may have them."""
    found = rows(COUNT, start=200)
    assert {name for row in found for name in row if row[name] is None} == {"carrier", "wind"}
    return found


@pytest.fixture(scope="module", params=TASKS)
def done(request: pytest.FixtureRequest, shared: Shared) -> Done:
    """Push, apply, predict, feedback and performance of one task."""
    task: Task = request.param
    name, folder = f"tasks-{task}", shared.system.folder
    lightgbm_model(task).package(name).write(folder / name)
    pushed = run(shared, "package", "push", name)
    applied = run(shared, "apply", "-f", "-", stdin=YAML.format(name=name))
    answered = run(shared, "predict", name, stdin=json.dumps(asked()))
    eventually(lambda: shared.client.ledger(name)["records"] == COUNT, every=0.2)
    labels = [{"row_id": f"{answered['request_id']}-{place}", "value": value} for place, value in enumerate(truths(task))]
    fed = run(shared, "feedback", "send", name, "-f", "-", stdin="\n".join(map(json.dumps, labels)))
    return Done(task, pushed, applied, answered, fed, run(shared, "performance", name))


def own(task: Task) -> Any:
    """LightGBM's own answers to the same rows: probabilities (rows, classes), or numbers (rows,)."""
    model, frame = lightgbm_model(task).model, table()[FEATURES]
    frame = frame.assign(carrier=frame.carrier.astype("category")).iloc[200 : 200 + COUNT]
    return np.asarray(model.predict(frame) if task == "regression" else model.predict_proba(frame))


def test_answers_are_lightgbms_own(done: Done) -> None:
    """Every score and number to the last bit, categories, nulls and booleans included, and the label of the highest score."""
    found, expected = done.answered["predictions"], own(done.task)
    assert len(found) == COUNT
    if done.task == "regression":
        assert [one["prediction"] for one in found] == expected.tolist()
        return
    assert [list(one["scores"].values()) for one in found] == expected.tolist()
    classes = lightgbm_model(done.task).model.classes_.tolist()
    assert [one["prediction"] for one in found] == [classes[place] for place in expected.argmax(axis=1)]
    names = [name if isinstance(name, str) else json.dumps(name) for name in classes]
    assert all(list(one["scores"]) == names for one in found)


def test_each_step_says_what_it_did(done: Done) -> None:
    """Version 1 of the pushed digest answers; every label is taken and none replaced another."""
    assert (done.pushed["version"], done.applied["applied"], done.applied["changed"]) == (1, True, True)
    assert (done.answered["version"], done.answered["digest"]) == (1, done.pushed["digest"])
    assert done.answered["revision"] == done.applied["revision"]
    assert done.fed == {"accepted": COUNT, "replaced": 0}


def test_performance_is_what_the_same_numbers_give_by_hand(done: Done) -> None:
    """Averages over the labelled rows, computed here from LightGBM's own answers; there is no challenger."""
    measured, expected = done.measured["main"], own(done.task)
    assert (done.measured["rows"], done.measured["task"], done.measured["challenger"]) == (COUNT, done.task, None)
    truth = truths(done.task)
    if done.task == "regression":
        error = expected - np.array(truth)
        assert measured["mae"] == pytest.approx(np.abs(error).mean())
        assert measured["rmse"] == pytest.approx(math.sqrt((error**2).mean()))
        assert measured["accuracy"] is measured["brier"] is measured["log_loss"] is None
        return
    classes = lightgbm_model(done.task).model.classes_.tolist()
    places = np.array([classes.index(value) for value in truth])
    hot = np.eye(len(classes))[places]
    brier = ((expected - hot)[:, 1] ** 2).mean() if done.task == "binary" else ((expected - hot) ** 2).sum(axis=1).mean()
    assert measured["brier"] == pytest.approx(brier)
    assert measured["accuracy"] == pytest.approx((expected.argmax(axis=1) == places).mean())
    assert measured["log_loss"] == pytest.approx(-np.log(np.maximum(expected[np.arange(COUNT), places], 0.01)).mean())
    assert measured["mae"] is measured["rmse"] is None


def test_stored_features_are_what_was_sent(done: Done, shared: Shared) -> None:
    """Typed by the schema, nulls as nulls, in the order of the rows."""
    stored = {row["row_id"]: row["features"] for row in read_main(shared.storage, f"tasks-{done.task}").to_pylist()}
    request = done.answered["request_id"]
    assert [stored[f"{request}-{place}"] for place in range(COUNT)] == asked()


WRONG: dict[Task, list[Any]] = {
    "binary": ["true", 1, "late", 0.5],
    "multiclass": ["later", True, 1],
    "regression": ["12", True, "late"],
}


def test_a_label_that_cannot_be_true_is_refused(done: Done, shared: Shared) -> None:
    """By the schema of the task, naming the label's place; nothing of the call is stored then."""
    name, request = f"tasks-{done.task}", done.answered["request_id"]
    before = {one["row_id"]: one["label"] for one in shared.client.predictions(name, COUNT)}
    good: Label = {"row_id": f"{request}-0", "value": truths(done.task)[1]}
    for value in WRONG[done.task]:
        with pytest.raises(InvalidInput, match="Label 1") as refused:
            shared.client.send_feedback(name, [good, {"row_id": f"{request}-1", "value": value}])
        assert refused.value.code == "invalid-label"
    assert {one["row_id"]: one["label"] for one in shared.client.predictions(name, COUNT)} == before
