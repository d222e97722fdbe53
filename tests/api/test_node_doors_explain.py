"""What each feature contributed: in the plain form, and in the dialects that have one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from quarterdeck.schema import Task
from tests.models import model_package
from tests.nodes import LocalNode, deployment, encoding, local_node

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
BUILT = {task: model_package(task, "compiled", task) for task in TASKS}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A node with a compiled model of each task, and one that is not compiled."""
    with local_node(tmp_path_factory.mktemp("node")) as node:
        deployments = [deployment(node.holds(built, 1), name=task) for task, built in BUILT.items()]
        node.serves(*deployments, deployment(node.holds(encoding(1, "skops"), 1), name="opaque"))
        yield node


def rows(task: Task) -> list[dict[str, Any]]:
    """Rows of golden answers."""
    return [dict(golden.row) for golden in BUILT[task].manifest.golden[:5]]


@pytest.mark.parametrize("task", TASKS)
def test_contributions_and_base_are_the_raw_score(node: LocalNode, task: Task) -> None:
    """For each record, feature by feature; a classifier names the class that each raw score is of."""
    answer = node.request("POST", f"/deployments/{task}/explain", json=rows(task))
    body = answer.json()
    assert answer.status_code == 200, body
    assert (body["deployment"], body["version"], len(body["explanations"])) == (task, 1, 5)
    schema = BUILT[task].manifest.data_schema
    for record in body["explanations"]:
        assert len(record) == (3 if task == "multiclass" else 1)
        for one in record:
            assert set(one["contributions"]) == set(schema.names)
            assert one["base"] + sum(one["contributions"].values()) == pytest.approx(one["raw"], abs=1e-6)
            assert one.get("label") in ([None] if task == "regression" else schema.classes)


def test_an_explanation_is_no_prediction(node: LocalNode) -> None:
    """Nothing is recorded; one record is explained as itself."""
    before = node.report().spool_rows
    body = node.request("POST", "/deployments/binary/explain", json=rows("binary")[0]).json()
    assert len(body["explanations"]) == 1
    assert node.report().spool_rows == before


def test_dialects_explain_with_the_same_numbers(node: LocalNode) -> None:
    """KServe's `:explain` beside the predictions, Dataiku's largest first and as many as asked."""
    given = rows("binary")
    plain = node.request("POST", "/deployments/binary/explain", json=given).json()["explanations"]
    v1 = node.request("POST", "/v1/models/binary:explain", json={"instances": given}).json()
    assert v1["explanations"] == plain
    assert len(v1["predictions"]) == 5
    wanted = {"enabled": True, "method": "SHAPLEY", "nExplanations": 2, "nMonteCarloSteps": None}
    document = {"features": given[0], "explanations": wanted}
    result = node.request("POST", "/public/api/v1/binary/binary/predict", json=document).json()["result"]
    contributions = plain[0][0]["contributions"]
    largest = sorted(contributions, key=lambda name: -abs(contributions[name]))[:2]
    assert result["explanations"] == {name: contributions[name] for name in largest}


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/deployments/opaque/explain", {"number": 1.0}),
        ("/v1/models/opaque:explain", {"instances": [1.0]}),
        ("/public/api/v1/opaque/opaque/predict", {"features": {"number": 1.0}, "explanations": {"enabled": True}}),
    ],
)
def test_models_that_cannot_be_looked_into_say_why(node: LocalNode, path: str, document: dict[str, Any]) -> None:
    """501 with the reason."""
    answer = node.request("POST", path, json=document)
    assert (answer.status_code, answer.json()["code"]) == (501, "explain-unsupported")
    assert "skops" in answer.json()["detail"]


def test_bad_records_are_refused_before_anything_is_explained(node: LocalNode) -> None:
    """By row and column, as those of predictions are."""
    answer = node.request("POST", "/deployments/binary/explain", json=[{**rows("binary")[0], "hour": "x"}])
    assert (answer.status_code, answer.json()["column"]) == (422, "hour")
