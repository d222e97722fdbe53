"""The challenger's door: every row of a batch has its entry, whatever became of the others."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeck.errors import ModelFailed
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.predictor import Resident
from tests.nodes import JSON, LocalNode, binary, deployment, encoding, key, local_node

REVISION = 9
RAISES = -3.0
MIRROR_KEY = {"authorization": "Bearer mirror", **JSON}


class Picky:
    """A runtime whose model fails every batch with a certain number in it, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def predict(self, rows: Sequence[Row], deadline: float = math.inf) -> list[Answer]:
        """The number 1 for every row."""
        self.asked += 1
        if any(row["number"] == RAISES for row in rows):
            raise ModelFailed("The model raised ValueError.")
        return [Answer(1.0, [])] * len(rows)

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A challenger's node with a regression and a classifier."""
    with local_node(tmp_path_factory.mktemp("node"), role="challenger") as node:
        held = {"numbers": node.holds(encoding(1), 1), "late": node.holds(binary(), 3)}
        plans = [deployment(ref, name=name, role="challenger", revision=REVISION) for name, ref in held.items()]
        node.serves(*plans, keys=(key("mirror", "*", ("mirror",)),))
        yield node


@pytest.fixture
def picky(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> Picky:
    """The regression's model fails some rows in this test."""
    resident, runtime = live(node), Picky()
    monkeypatch.setattr(resident, "runtime", runtime)
    monkeypatch.setattr(resident, "scoring", None)
    return runtime


def live(node: LocalNode) -> Resident:
    """The regression's version."""
    found = node.node.predictor.slots["numbers"].live
    assert found is not None
    return found.resident


def mirror(node: LocalNode, name: str, body: bytes) -> httpx.Response:
    """Send a batch as main does."""
    return node.request("POST", f"/mirror/{name}", content=body, headers=MIRROR_KEY)


def answers(node: LocalNode, name: str, rows: list[Any]) -> list[Any]:
    """The entries of a batch."""
    answer = mirror(node, name, json.dumps({"rows": rows}, separators=(",", ":")).encode())
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["answers"]
    return found


def counted(node: LocalNode) -> tuple[int, int]:
    """Rows of the regression answered and failed so far."""
    found = node.node.predictor.counts.get(("numbers", encoding(1).manifest.digest))
    return (found.answered, found.failed) if found else (0, 0)


def test_a_batch_is_answered_with_what_answered_it(node: LocalNode) -> None:
    """Version and digest, so that main can tell another version's word from this one's; nothing is recorded here."""
    answer = mirror(node, "numbers", b'{"rows":[{"number":1.0},{"number":2}]}')
    assert answer.json() == {
        "deployment": "numbers",
        "model": "versions",
        "version": 1,
        "digest": encoding(1).manifest.digest,
        "revision": REVISION,
        "answers": [[1.0, []], [1.0, []]],
    }
    assert node.report().spool_rows == 0


def test_a_classifier_gives_label_and_scores(node: LocalNode) -> None:
    """In schema order, to the last bit."""
    golden = binary().manifest.golden
    found = answers(node, "late", [one.row for one in golden])
    assert found == [[one.expected.prediction, one.expected.scores] for one in golden]


@pytest.mark.parametrize(
    "body",
    [
        b'{"rows":[{"number":1.0},{"number":"1"},{"number":2.0}]}',
        b' {"rows" : [{"number":1.0}, {"number":"1"}, {"number":2.0}]} ',
        b'{"more":[],"rows":[{"number":1.0},{"numbers":1},{"number":2.0}]}',
        b'{"rows":[{"number":1.0},17,{"number":2.0}],"more":[]}',
    ],
    ids=["as-main-sends-it", "white-space", "member-before", "member-after"],
)
def test_a_row_that_does_not_fit_has_an_error_where_its_answer_would_be(node: LocalNode, body: bytes) -> None:
    """However the document is written."""
    assert mirror(node, "numbers", body).json()["answers"] == [[1.0, []], {"error": "invalid-input"}, [1.0, []]]


@pytest.mark.parametrize(("rows", "expected"), [([], []), ([17], [{"error": "invalid-input"}])], ids=["none", "none-good"])
def test_a_batch_without_a_good_row_is_answered(node: LocalNode, rows: list[Any], expected: list[Any]) -> None:
    """The model is not asked."""
    assert answers(node, "numbers", rows) == expected


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", 422),
        (b'{"rows":{}}', 422),
        (b'[{"number":1.0}]', 422),
        (b'{"rows":[{"number":1.0}', 400),
        (b'{"rows":[' + b",".join([b"17"] * 1_001) + b"]}", 413),
    ],
    ids=["no-rows", "no-list", "bare-list", "torn", "too-many"],
)
def test_what_is_no_batch_is_refused(node: LocalNode, body: bytes, status: int) -> None:
    """As at any other door."""
    assert mirror(node, "numbers", body).status_code == status


@pytest.mark.parametrize("bad", [{0}, {3, 6}, {8}, set(range(9))], ids=str)
def test_a_row_that_the_model_fails_fails_alone(node: LocalNode, picky: Picky, bad: set[int]) -> None:
    """Its neighbours, who came from other requests, have their answers; each row is counted once."""
    answered, failed = counted(node)
    rows: list[Any] = [{"number": RAISES if place in bad else 1.0} for place in range(9)]
    expected: list[Any] = [{"error": "model-failed"} if place in bad else [1.0, []] for place in range(9)]
    assert answers(node, "numbers", [*rows, {"number": None}]) == [*expected, {"error": "invalid-input"}]
    assert answers(node, "numbers", rows) == expected
    assert counted(node) == (answered + 2 * (9 - len(bad)), failed + 2 * len(bad))
    assert live(node).users == 0


def test_a_model_that_fails_everything_is_not_asked_for_each_row(node: LocalNode, picky: Picky) -> None:
    """Finding out who is to blame ends when so many are: a batch must not take a thousand times as long as it would."""
    assert answers(node, "numbers", [{"number": RAISES}] * 1_000) == [{"error": "model-failed"}] * 1_000
    assert picky.asked < 60


def test_a_main_node_takes_no_mirrored_rows(tmp_path: Path) -> None:
    """Nor does the key help."""
    with local_node(tmp_path) as main:
        main.serves(deployment(main.holds(encoding(1), 1)), keys=(key("mirror", "*", ("mirror",)),))
        assert mirror(main, "numbers", b'{"rows":[{"number":1.0}]}').status_code == 404
