"""Models in processes of their own: what a crash, a hang and a crowd cost, and whom."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from quarterdeck.build import BuiltPackage, package
from quarterdeck.errors import ModelFailed
from quarterdeck.model_environ import model_environ
from quarterdeck_node.runtimes import Budget
from quarterdeck_node.runtimes.inprocess import InProcess
from quarterdeck_node.runtimes.process import ModelProcess
from tests.nodes import LocalNode, deployment, encoding, local_node, touchy, written
from tests.prometheus import complaints
from tests.support import eventually
from tests.touchy import CLAIMS, HANGS


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A node with a touchy model, and one beside it that is not."""
    with (
        pytest.MonkeyPatch.context() as environment,
        local_node(tmp_path_factory.mktemp("node"), model_seconds=3.0) as node,
    ):
        environment.setenv("AWS_SECRET_ACCESS_KEY", secrets.token_hex())
        environment.setenv("QUARTERDECK_NODE_TOKEN_FILE", secrets.token_hex())
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


def test_a_model_process_does_not_see_what_is_not_its_own(node: LocalNode) -> None:
    """Code of a package finds neither the store's keys nor our settings in its environment."""
    names = {entry.partition(b"=")[0] for entry in Path(f"/proc/{pid(node)}/environ").read_bytes().split(b"\0")}
    assert b"PATH" in names
    assert not [name for name in names if name.startswith((b"AWS_", b"QUARTERDECK_"))]


def test_a_model_process_computes_with_one_thread_unless_the_node_says_otherwise(node: LocalNode) -> None:
    """Threads that wait for each other over a few rows would take the core from serve; what is set for the node stays."""
    variables = dict(entry.partition("=")[::2] for entry in Path(f"/proc/{pid(node)}/environ").read_text().split("\0"))
    assert variables["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("OMP_NUM_THREADS", raising=False)
        environment.setenv("OPENBLAS_NUM_THREADS", "7")
        told = [model_environ((), threads) for threads in (1, 3, 0)]
    assert [one.get("OMP_NUM_THREADS") for one in told] == ["1", "3", None]
    assert [one["OPENBLAS_NUM_THREADS"] for one in told] == ["7"] * 3


def test_a_model_that_writes_to_our_pipe_costs_its_own_rows(node: LocalNode) -> None:
    """It claims an answer of four gigabytes: none of it is collected, the process is replaced, the next request is answered."""
    before = pid(node)
    garbled = node.predict({"number": CLAIMS}, "touchy")
    assert (garbled.status_code, garbled.json()["code"]) == (500, "model-died")
    assert node.predict({"number": 1.0}, "touchy").json()["predictions"] == [{"prediction": 1.0}]
    assert pid(node) != before


def test_a_closed_runtime_answers_nobody_and_leaves_nobody_waiting(node: LocalNode) -> None:
    """What waits when a version is unloaded fails, and so does what comes after; neither hangs."""

    async def story() -> list[str]:
        runtime = ModelProcess(written(touchy()), touchy().manifest, allow_code=True, budget=Budget())
        # Never started: what matters here is who waits, not for what.
        waiting = [asyncio.create_task(runtime.predict([{"number": HANGS}])) for _ in range(300)]
        await asyncio.sleep(0)
        await runtime.close()
        ended = await asyncio.gather(*waiting, runtime.predict([{"number": 1.0}]), return_exceptions=True)
        assert runtime.pid is None
        return [one.detail for one in ended if isinstance(one, ModelFailed)]

    assert node.call(story) == ["The version was unloaded."] * 301


def test_a_process_that_is_killed_while_idle_costs_nothing(node: LocalNode) -> None:
    """The next request is answered by a new one."""
    before = pid(node)
    os.kill(before, 9)
    eventually(lambda: node.predict({"number": 1.0}, "touchy").status_code == 200)
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
    assert {(answer.json()["code"], answer.headers["retry-after"]) for answer in shed} == {("queue-full", "1")}


def test_a_model_that_raises_costs_its_own_request(node: LocalNode) -> None:
    """500 with a stable code and without a trace; rows are counted as failed, and the same process answers on."""
    before, errors = pid(node), node.report().deployments[0].errors[touchy().manifest.digest]
    failed = node.predict({"number": -3.0}, "touchy")
    assert (failed.status_code, failed.json()["code"]) == (500, "model-failed")
    assert "told to" not in failed.text
    assert node.predict({"number": 1.0}, "touchy").json()["predictions"] == [{"prediction": 1.0}]
    assert pid(node) == before
    assert node.report().deployments[0].errors[touchy().manifest.digest] == errors + 1


def test_queues_of_model_processes_are_shown(tmp_path: Path) -> None:
    """Batches by their rows, who waits, and who was shed and why; models in this process have no queue."""
    with local_node(tmp_path, queue_rows=4, probe_seconds=3600) as node:
        found, one = node.holds(touchy(), 1), node.holds(encoding(1), 1)
        node.serves(deployment(found, name="touchy"), deployment(found, name="again"), deployment(one))
        # Golden rows travel as batches too: none of them may come between two looks.
        eventually(lambda: all(told.probe_age_seconds is not None for told in node.report().deployments))
        before = queue(node, "batch_rows_count")
        node.predict([{"number": 1.0}] * 3, "touchy")
        assert queue(node, "batch_rows_count") == before + 1
        late = node.predict({"number": 1.0}, "touchy", **{"quarterdeck-timeout": "0.000001"})
        assert late.json()["code"] == "deadline-exceeded"
        text = node.get("/metrics").text
    assert complaints(text) == ""
    assert 'quarterdeck_model_batch_rows_bucket{accelerator="none",le="4.0",model="touchy",version="1"}' in text
    assert 'quarterdeck_queue_rows{accelerator="none",model="touchy",version="1"} 0.0' in text
    assert 'quarterdeck_queue_shed_total{accelerator="none",model="touchy",reason="queue-full",version="1"} 0.0' in text
    assert 'model="numbers",version="1"} 0' not in text


def queue(node: LocalNode, name: str) -> float:
    """One figure of the touchy model's queue."""
    lines = node.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("quarterdeck_model_" + name))


@pytest.mark.parametrize(("seconds", "kind"), [(60.0, InProcess), (0.0, ModelProcess)])
def test_a_slow_compiled_model_leaves_the_event_loop(tmp_path: Path, seconds: float, kind: type[object]) -> None:
    """By what its golden rows take: then it is proven and answers in a process of its own, with the same answers."""
    with local_node(tmp_path, loop_seconds=seconds) as node:
        node.serves(deployment(node.holds(encoding(3), 1)))
        assert isinstance(node.node.predictor.slots["numbers"].versions[1].runtime, kind)
        assert node.predict([{"number": 1.0}, {"number": 2.0}]).json()["predictions"] == [{"prediction": 3.0}] * 2


def refusing() -> BuiltPackage:
    """A compiled model that knows two cities and overflows at the largest numbers."""
    X = pd.DataFrame({"km": np.linspace(1.0, 40.0, 40), "city": ["Bern", "Riga"] * 20})
    y = pd.Series(X.km * 50.0 + (X.city == "Riga"), name="minutes")
    columns = make_column_transformer((OneHotEncoder(handle_unknown="error"), ["city"]), remainder="passthrough")
    return package(make_pipeline(columns, LinearRegression()).fit(X, y), X, y, name="numbers", form="compiled")


@pytest.mark.parametrize("seconds", [60.0, 0.0], ids=["in the loop", "in a process"])
def test_what_a_compiled_model_refuses_is_the_callers_matter(tmp_path: Path, seconds: float) -> None:
    """422 wherever the model runs, with row and feature and without the value; no failure, no record."""
    good = {"km": 2.0, "city": "Bern"}
    with local_node(tmp_path, loop_seconds=seconds) as node:
        node.serves(deployment(node.holds(refusing(), 1)))
        for bad, column in (({**good, "city": "Oslo"}, "city"), ({**good, "km": 1.7e308}, "")):
            for rows, row in (([bad], 0), ([good, good, bad], 2)):
                refused = node.predict(rows)
                said = refused.json()
                assert (refused.status_code, said["code"], said["row"], said["column"]) == (422, "value-refused", row, column)
                assert "Oslo" not in refused.text
        assert node.report().spool_rows == 0
        assert node.predict(good).status_code == 200
