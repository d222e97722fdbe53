"""Custom Python models that die, hang, leak or answer nonsense: each is a named error, and the deployment beside it serves on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from quarterdeck_node.runtimes.process import ModelProcess
from tests.code_models import (
    DIES,
    DRIPS,
    EXITS,
    FORKS,
    HANGS,
    LEAKS,
    NOT_FINITE,
    NOTHING,
    RAISES,
    TEXT,
    TOO_MANY,
    UNRULY,
    code_package,
    unruly,
    with_code,
)
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
    # Nobody asks but the tests: probes come once in ten minutes.
    settings = {"model_seconds": 4.0, "model_bytes": MEMORY, "probe_seconds": 600.0}
    with local_node(tmp_path_factory.mktemp("node"), **settings) as node:
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
        (HANGS, "model-timeout", "took longer than 4 s"),
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


def test_a_model_that_leaks_with_every_request_is_replaced_when_it_has_used_up_its_memory(node: LocalNode) -> None:
    """Really used memory, 128 MiB more each time: one request pays by name, and the next one is answered by a small process."""
    used = [resident(pid(node))]
    while (answer := node.predict({"number": DRIPS}, "unruly")).status_code == 200:
        used.append(resident(pid(node)))
        assert used[-1] - used[-2] > 2**26
        assert used[-1] < MEMORY
    assert answer.json()["code"] == "model-out-of-memory"
    assert len(used) > 4
    assert node.predict({"number": 4.0}, "unruly").status_code == 200
    assert resident(pid(node)) < used[2]
    assert calm(node)


def test_a_model_that_cannot_be_started_again_is_tried_again_with_the_next_request(tmp_path: Path) -> None:
    """While it cannot, everybody is told so; as soon as it can, the next request is answered, and nobody had to say anything."""
    broken = tmp_path / "broken"
    text = UNRULY.replace("def load(folder):", f"def load(folder):\n    if os.path.exists({str(broken)!r}): raise OSError")
    with local_node(tmp_path / "node", model_bytes=MEMORY) as node:
        node.serves(deployment(node.holds(with_code(unruly(), text), 1), name="unruly"))
        broken.touch()
        with ThreadPoolExecutor(8) as pool:
            numbers = [DIES, *range(7)]
            answers = list(pool.map(lambda number: node.predict({"number": float(number)}, "unruly", **PATIENT), numbers))
        assert answers[0].json()["code"] == "model-died"
        assert {answer.json().get("code", "answered") for answer in answers} <= {"model-died", "answered"}
        refused = node.predict({"number": 4.0}, "unruly", **PATIENT)
        assert (refused.status_code, refused.json()["code"]) == (500, "model-died")
        assert "OSError" in refused.json()["detail"]
        broken.unlink()
        assert node.predict({"number": 4.0}, "unruly", **PATIENT).json()["predictions"] == [{"prediction": 8.0}]


def test_a_large_request_is_taken_by_a_model_process(node: LocalNode) -> None:
    """A thousand rows in one question, each with its own answer."""
    rows = [{"number": 1e300 + number} for number in range(1_000)]
    assert node.predict(rows, "unruly", **PATIENT).json()["predictions"] == [{"prediction": 2e300}] * 1_000


def test_what_a_model_started_ends_with_it(node: LocalNode) -> None:
    """A process that it left behind does not outlive it, even where it dies by itself."""
    before = pid(node)
    assert node.predict({"number": FORKS}, "unruly").status_code == 200
    [child] = children(before)
    assert node.predict({"number": DIES}, "unruly").status_code == 500
    eventually(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])
    assert pid(node) != before


def test_idle_models_use_no_processor(node: LocalNode) -> None:
    """Nobody wakes them but the node's own probe: no timer of theirs, and none of the questions that others are asked."""
    # Once, so that whatever is set up at the first question is there.
    assert node.predict({"number": 4.0}, "unruly").status_code == 200
    idle = pid(node)
    # It waits for the next question: until then its last turn may not be counted yet.
    eventually(lambda: Path(f"/proc/{idle}/stat").read_text().split()[2] == "S")
    before = turns(idle)
    for _ in range(200):
        assert calm(node)
    # A probe every ten seconds is a turn or two of its own; a timer, or a share in those questions, would be hundreds.
    assert turns(idle) - before < 20


def resident(process: int) -> int:
    """Bytes of a process in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def children(process: int) -> list[int]:
    """Ids of the processes that a process has started and that are there."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(number) for found in lists for number in found.read_text().split()]


def turns(process: int) -> int:
    """How many times any thread of a process was given the processor since it waits by itself."""
    lines = [line for status in Path(f"/proc/{process}/task").glob("*/status") for line in status.read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def test_a_model_process_holds_no_socket_but_its_own(node: LocalNode) -> None:
    """No listener and no caller's connection is inherited: a hung worker cannot keep a port or a caller."""
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid(node)}/fd").iterdir()]
    assert len([link for link in links if link.startswith("socket:")]) == 1


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("import os\n\ndef load(folder):\n    os._exit(1)\n", "load-failed", "ended with status 1"),
        ("import numpy\n\nheld = [numpy.empty(2**26) for _ in range(99)]\n", "load-failed", "needed more than 3072 MiB"),
        ("def load(folder):\n    raise KeyError('secret')\n", "load-failed", "raised KeyError"),
        (UNRULY.replace("2 * number", "3 * number"), "golden-mismatch", "another number than expected"),
    ],
)
def test_a_version_that_cannot_be_loaded_is_reported_and_changes_nothing(
    node: LocalNode, text: str, code: str, said: str
) -> None:
    """The version report names why; what serves goes on serving."""
    wanted = node.holds(with_code(unruly(), text), 2)
    held = node.node.predictor.slots["unruly"].versions[1].ref
    beside = node.node.predictor.slots["calm"].versions[1].ref
    node.apply(deployment(held, wanted, name="unruly"), deployment(beside, name="calm"))

    failed = eventually(lambda: refused(node, 2))
    assert (failed.code, said in failed.reason) == (code, True)
    assert "secret" not in failed.reason
    assert node.predict({"number": 4.0}, "unruly").status_code == 200
    assert calm(node)


def test_a_version_that_never_loads_is_ended(tmp_path: Path) -> None:
    """After the time that loading may take, and reported like any other that cannot be loaded."""
    with local_node(tmp_path / "node", load_seconds=2.0) as node:
        wanted = node.holds(with_code(unruly(), "def load(folder):\n    while True: pass\n"), 1)
        node.apply(deployment(wanted, name="unruly"))
        failed = eventually(lambda: refused(node, 1))
        assert (failed.code, "took longer than 2 s" in failed.reason) == ("load-failed", True)


def refused(node: LocalNode, version: int) -> Any:
    """What is reported of a version of `unruly` once it has failed; None before."""
    [found] = [each for each in node.report().deployments if each.name == "unruly"]
    return next((each for each in found.versions if each.version == version and each.state == "failed"), None)
