"""One model, every dialect, one answer: the same rows give the same bits through each door."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quarterdeck.forms import load
from quarterdeck.schema import Row, Task
from tests.dialects import DIALECTS, Answered
from tests.models import model_package, table
from tests.nodes import LocalNode, deployment, local_node, written

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
BUILT = {task: model_package(task, "compiled", task) for task in TASKS}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A node with a model of each task, all public."""
    with local_node(tmp_path_factory.mktemp("node")) as node:
        node.serves(*(deployment(node.holds(built, 1), name=task) for task, built in BUILT.items()))
        yield node


def rows(task: Task, count: int, nulls: bool) -> list[Row]:
    """Rows that the model has not seen, with the nulls that its schema allows."""
    names = BUILT[task].manifest.data_schema.names
    frame = table(seed=1)[names]
    frame = frame if nulls else frame.dropna()
    found = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in found[:count]]


def ask(node: LocalNode, dialect: str, task: Task, given: list[Row]) -> Answered:
    """The answers of one door."""
    schema, spoken = BUILT[task].manifest.data_schema, DIALECTS[dialect]
    request = spoken.request(task, schema, given)
    answer = node.request("POST", request.path, content=request.body, headers=request.headers)
    assert answer.status_code == 200, answer.text
    return spoken.answered(schema, answer)


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("task", TASKS)
def test_every_door_gives_the_same_bits(node: LocalNode, task: Task, dialect: str, count: int) -> None:
    """Labels and FP64 scores are those of the model asked in this process; nulls too, where a dialect has them."""
    built = BUILT[task]
    given = rows(task, count, nulls=dialect != "oip-binary")
    model = load(built.manifest, written(built), allow_code=False)
    expected = [(answer.prediction, answer.scores) for answer in model.predict(given)]
    assert ask(node, dialect, task, given) == expected


@pytest.mark.parametrize("dialect", DIALECTS)
def test_requests_are_recorded_whatever_their_dialect(node: LocalNode, dialect: str) -> None:
    """As many rows as were asked, in the spool before the answer is here."""
    before = node.report().spool_rows
    ask(node, dialect, "binary", rows("binary", 3, nulls=False))
    assert node.report().spool_rows == before + 3
