"""Custom Python models that die, hang, leak or answer nonsense: each is a named error, and the deployment beside it serves on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.build import BuiltPackage
from quarterdeck.forms.python_code import ENTRY_FILE
from quarterdeck_node.runtimes.process import ModelProcess
from tests.code_models import DIES, EXITS, HANGS, LEAKS, NOT_FINITE, NOTHING, RAISES, TEXT, TOO_MANY, UNRULY, code_package, unruly
from tests.nodes import LocalNode, deployment, local_node
from tests.support import eventually

# Enough for numpy and an interpreter.
MEMORY = 3 * 2**30
PATIENT = {"quarterdeck-timeout": "60"}
CALM = """
class Model:
    def predict(self, rows):
        return [1.0 for row in rows]

def load(folder):
    return Model()
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A node with an unruly model, and one beside it that is not."""
    with local_node(tmp_path_factory.mktemp("node"), model_seconds=2.0, load_seconds=5.0, model_bytes=MEMORY) as node:
        beside = node.holds(code_package(CALM), 1)
        node.serves(deployment(node.holds(unruly(), 1), name="unruly"), deployment(beside, name="calm"))
        yield node


def pid(node: LocalNode, name: str = "unruly") -> int:
    """Process id of a deployment's model."""
    runtime = node.node.predictor.slots[name].versions[1].runtime
    assert isinstance(runtime, ModelProcess)
    return runtime.pid or 0


def calm(node: LocalNode) -> bool:
    """Whether the deployment beside answers, from the very process it always had."""
    return bool(node.predict({"number": 5.0}, "calm").json()["predictions"] == [{"prediction": 1.0}])


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (DIES, "model-died", "ended with status 1"),
        (HANGS, "model-timeout", "took longer than 2 s"),
        (LEAKS, "model-out-of-memory", "needed more than 3072 MiB"),
        (RAISES, "model-failed", "raised ValueError"),
        (EXITS, "model-failed", "raised SystemExit"),
        (TOO_MANY, "model-failed", "answered 2 rows for 1"),
        (NOT_FINITE, "model-failed", "not finite"),
        (TEXT, "model-failed", "not numbers"),
        (NOTHING, "model-failed", "raised TypeError"),
    ],
)
def test_what_a_model_does_wrong_is_named_and_costs_its_own_request(node: LocalNode, number: float, code: str, said: str) -> None:
    """500 with a stable code; the model answers the next request, and the one beside it answered all the while."""
    before = pid(node, "calm")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(node.predict, {"number": number}, "unruly")
        assert calm(node)
        failed = answer.result()
    assert (failed.status_code, failed.json()["code"]) == (500, code)
    assert said in failed.json()["detail"]
    assert node.predict({"number": 4.0}, "unruly").json()["predictions"] == [{"prediction": 8.0}]
    assert calm(node)
    assert pid(node, "calm") == before


def test_the_guilty_row_is_named_and_the_others_of_its_request_are_not_answered(node: LocalNode) -> None:
    """A request is answered whole or not at all; the row counts from 0."""
    rows = [{"number": float(number)} for number in range(40)]
    rows[23]["number"] = RAISES
    failed = node.predict(rows, "unruly")
    assert (failed.status_code, failed.json()["code"], failed.json()["row"]) == (500, "model-failed", 23)
    assert failed.json()["detail"].startswith("Row 23: ")


@pytest.mark.parametrize(("number", "code"), [(DIES, "model-died"), (RAISES, "model-failed"), (NOT_FINITE, "model-failed")])
def test_only_the_guilty_request_of_a_batch_fails(node: LocalNode, number: float, code: str) -> None:
    """A crowd of twenty with one that makes the model die or raise: nineteen answers."""
    numbers = [float(place) for place in range(20)]
    numbers[7] = number
    with ThreadPoolExecutor(len(numbers)) as pool:
        answers = list(pool.map(lambda one: node.predict({"number": one}, "unruly", **PATIENT), numbers))
    assert [answer.status_code for answer in answers] == [500 if one == number else 200 for one in numbers]
    assert answers[7].json()["code"] == code
    assert answers[8].json()["predictions"] == [{"prediction": 16.0}]


def test_a_model_process_holds_no_socket_but_its_own(node: LocalNode) -> None:
    """No listener and no caller's connection is inherited: a hung worker cannot keep a port or a caller."""
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid(node)}/fd").iterdir()]
    assert len([link for link in links if link.startswith("socket:")]) == 1


def broken(built: BuiltPackage, text: str) -> BuiltPackage:
    """The package with other code in it, as if it had worked where it was built."""
    files = {**built.files, "code/model.py": text.encode(), ENTRY_FILE: json.dumps({"entry_point": "model:load"}).encode()}
    entries = [
        entry.model_copy(update={"size": len(files[entry.path]), "sha256": hashlib.sha256(files[entry.path]).hexdigest()})
        for entry in built.manifest.files
    ]
    return BuiltPackage(built.manifest.model_copy(update={"files": entries}), files)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("import os\n\ndef load(folder):\n    os._exit(1)\n", "load-failed", "ended with status 1"),
        ("def load(folder):\n    while True: pass\n", "load-failed", "took longer than 5 s"),
        ("import numpy\n\nheld = [numpy.empty(2**26) for _ in range(99)]\n", "load-failed", "needed more than 3072 MiB"),
        ("def load(folder):\n    raise KeyError('secret')\n", "load-failed", "raised KeyError"),
        (UNRULY.replace("2 * number", "3 * number"), "golden-mismatch", "another number than expected"),
    ],
)
def test_a_version_that_cannot_be_loaded_is_reported_and_changes_nothing(
    node: LocalNode, text: str, code: str, said: str
) -> None:
    """The version report names why; what serves goes on serving."""
    wanted = node.holds(broken(unruly(), text), 2)
    held = node.node.predictor.slots["unruly"].versions[1].ref
    beside = node.node.predictor.slots["calm"].versions[1].ref
    node.apply(deployment(held, wanted, name="unruly"), deployment(beside, name="calm"))

    def report() -> Any:
        [found] = [each for each in node.report().deployments if each.name == "unruly"]
        return next((each for each in found.versions if each.version == 2 and each.state == "failed"), None)

    failed = eventually(report, 60)
    assert (failed.code, said in failed.reason) == (code, True)
    assert "secret" not in failed.reason
    assert node.predict({"number": 4.0}, "unruly").status_code == 200
    assert calm(node)
