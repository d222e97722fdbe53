"""Models in processes of their own: what a crash, a hang and a crowd cost, and whom."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from quarterdeck_node.runtimes.process import ModelProcess
from tests.nodes import LocalNode, deployment, encoding, local_node, touchy
from tests.support import eventually


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A node with a touchy model, and one beside it that is not."""
    with local_node(tmp_path_factory.mktemp("node"), model_seconds=5.0) as node:
        found, one = node.holds(touchy(), 1), node.holds(encoding(1), 1)
        node.serves(deployment(found, name="touchy"), deployment(one))
        yield node


def pid(node: LocalNode) -> int:
    """Process id of the touchy model's process."""
    runtime = node.node.predictor.slots["touchy"].versions[1].runtime
    assert isinstance(runtime, ModelProcess)
    assert runtime.pid is not None
    return runtime.pid


def test_a_model_that_dies_costs_its_own_rows(node: LocalNode) -> None:
    """Named as model-died; the deployment beside it never notices, and the next request is answered by a new process."""
    before = pid(node)
    died = node.predict({"number": -1.0}, "touchy")
    assert (died.status_code, died.json()["code"]) == (500, "model-died")
    assert node.predict({"number": 1.0}).status_code == 200
    assert node.predict({"number": 1.0}, "touchy").status_code == 200
    assert pid(node) != before


def test_a_process_that_is_killed_while_idle_costs_nothing(node: LocalNode) -> None:
    """The next request is answered by a new one."""
    before = pid(node)
    os.kill(before, 9)
    eventually(lambda: node.predict({"number": 1.0}, "touchy").status_code == 200, 60)
    assert pid(node) != before


def test_a_hanging_model_is_ended_at_its_deadline(node: LocalNode) -> None:
    """Named as model-timeout; the next request is answered."""
    hung = node.predict({"number": -2.0}, "touchy")
    assert (hung.status_code, hung.json()["code"]) == (500, "model-timeout")
    assert node.predict({"number": 1.0}, "touchy").status_code == 200


def test_requests_that_wait_travel_together_and_one_that_raises_travels_alone(node: LocalNode) -> None:
    """While a slow batch runs the others collect; a row that makes the model raise costs only its own request."""
    rows = [-4.0, 1.0, -3.0, 2.0, 3.0]
    with ThreadPoolExecutor(len(rows)) as pool:
        answers = list(pool.map(lambda value: node.predict({"number": value}, "touchy").status_code, rows))
    assert answers == [200, 200, 500, 200, 200]


def test_more_than_can_wait_is_shed_before_any_work(node: LocalNode) -> None:
    """503 with Retry-After and a code of its own; what was accepted is answered."""
    rows = [{"number": -4.0}] * 1000
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: node.predict(rows, "touchy"), range(12)))
    statuses = Counter(answer.status_code for answer in answers)
    shed = [answer for answer in answers if answer.status_code == 503]
    assert set(statuses) == {200, 503}
    assert {(answer.json()["code"], answer.headers["retry-after"]) for answer in shed} == {("overloaded", "1")}


def test_a_model_that_raises_costs_its_own_request(node: LocalNode) -> None:
    """500 with a stable code and without a trace; rows are counted as failed, and the same process answers on."""
    before, errors = pid(node), node.report().deployments[0].errors[touchy().manifest.digest]
    failed = node.predict({"number": -3.0}, "touchy")
    assert (failed.status_code, failed.json()["code"]) == (500, "model-failed")
    assert "told to" not in failed.text
    assert node.predict({"number": 1.0}, "touchy").json()["predictions"] == [{"prediction": 1.0}]
    assert pid(node) == before
    assert node.report().deployments[0].errors[touchy().manifest.digest] == errors + 1
