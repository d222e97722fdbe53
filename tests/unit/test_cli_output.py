"""Tables, documents, ages and the status tree."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from rich.console import Console

from quarterdeck_cli import output, tree
from quarterdeck_cli.output import Column, ListFormat

ROWS: list[dict[str, Any]] = [{"name": "late", "deep": {"word": "yes"}, "score": 0.123456789, "none": None}, {"name": "soon"}]
COLUMNS: list[Column] = [("NAME", "name"), ("WORD", "deep.word"), ("SCORE", "score"), ("NOTHING", "none")]


def placed(version: int, state: str = "ready", code: str = "", reason: str = "") -> dict[str, Any]:
    """A version on one node."""
    node = {"node": "main", "state": state, "code": code, "reason": reason}
    return {"ref": {"model": "late", "version": version, "digest": "sha256:" + 64 * "a"}, "nodes": [node], "answered": 5}


def deployment(**observed: Any) -> dict[str, Any]:
    """What the API says of a deployment that is well, but for `observed`."""
    well = {
        "deployed": {"state": "yes"},
        "running": {"state": "yes", "age_seconds": 1.0},
        "main": placed(1),
        "target": None,
        "challenger": None,
        "previous": None,
        "failure": None,
        "hold": None,
        "applied": True,
        "waiting_for": "",
    }
    return {"name": "late", "wish": {"number": 3}, "observed": {**well, **observed}}


def drawn(*deployments: dict[str, Any]) -> str:
    """The tree as it goes into a pipe."""
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(tree.system({"name": "local", "console_url": "http://127.0.0.1:8400/"}, deployments))
    return captured.get()


def test_a_table_has_the_name_first_and_no_empty_cell(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a row; what is absent says so."""
    output.show_list(ROWS, COLUMNS, ListFormat.table, "empty")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["NAME", "WORD", "SCORE", "NOTHING"],
        ["late", "yes", "0.123457", "<none>"],
        ["soon", "<none>", "<none>", "<none>"],
    ]


def test_documents_are_complete(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON and YAML hold what the API said, names only the names."""
    for form, parse in ((ListFormat.json, json.loads), (ListFormat.yaml, yaml.safe_load)):
        output.show_list(ROWS, COLUMNS, form, "empty")
        assert parse(capsys.readouterr().out) == ROWS
    output.show_list(ROWS, COLUMNS, ListFormat.name, "empty")
    assert capsys.readouterr().out == "late\nsoon\n"


def test_an_empty_list_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    """What to do about it stands on stderr; a program gets an empty list."""
    output.show_list([], COLUMNS, ListFormat.table, "nothing yet")
    assert capsys.readouterr().out == ""
    output.show_list([], COLUMNS, ListFormat.json, "nothing yet")
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (200_000, "2d"), (None, "<unknown>")]
)
def test_a_span_is_told_in_its_largest_unit(seconds: float | None, said: str) -> None:
    """Short enough for a column."""
    assert output.span(seconds) == said


def test_an_age_is_counted_from_utc() -> None:
    """With and without a zone in the time."""
    then = datetime.now(UTC) - timedelta(hours=3, seconds=1)
    assert output.age(then.isoformat()) == output.age(then.replace(tzinfo=None).isoformat()) == "3h"


def test_the_tree_tells_states_in_words() -> None:
    """Deployment, revision, role, node."""
    lines = [line.strip("│├└─ ") for line in drawn(deployment(challenger=placed(2))).splitlines()]
    assert lines[1].startswith("late  deployed ● yes  running ● yes")
    assert lines[2:] == [
        "revision 3",
        "main  late v1  aaaaaaaaaaaa  answered 5",
        "node main  ● ready",
        "challenger  late v2  aaaaaaaaaaaa  answered 5",
        "node main  ● ready",
    ]


def test_the_tree_tells_why_on_the_leaf_that_fails() -> None:
    """The node, the code and the reason."""
    said = drawn(
        deployment(applied=False, target=placed(2, "failed", "digest-mismatch", "model.txt is another file"), waiting_for="v2")
    )
    assert "not applied yet: v2" in said
    assert "✕ failed  digest-mismatch: model.txt is another file" in said


def test_the_tree_says_unknown_where_nothing_is_known() -> None:
    """A silent node is never shown as well."""
    silent = deployment(running={"state": "unknown", "age_seconds": None}, deployed={"state": "unknown"})
    said = drawn(silent)
    assert "deployed ? unknown  running ? unknown  seen <unknown> ago" in said
    assert "●" not in said.splitlines()[1]


def test_an_empty_system_names_the_first_step() -> None:
    """Instead of an empty page."""
    assert "quarterdeck apply" in drawn()
