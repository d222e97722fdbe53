"""`quarterdeck actions` and `quarterdeck audit`, against a running deployer and against files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck_cli.errors import FAILED, MISSING, USAGE
from tests.unit.cli_shell import Desk, desk, ok, run


@pytest.fixture(scope="module", name="at")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One system for all tests here, with a deployment and its history."""
    with desk(tmp_path_factory.mktemp("desk")) as made:
        made.deployed("late", 1, 2)
        ok("stop", "late", "--reason", "a pause")
        yield made


@pytest.fixture
def file(at: Desk, tmp_path: Path) -> Path:
    """An export of the log."""
    path = tmp_path / "audit.jsonl"
    assert run("audit", "export", str(path)).code == 0
    return path


def test_actions_are_listed_and_shown(at: Desk) -> None:
    """Newest first; one by its id, with who, why and how it ended."""
    newest = ok("actions", "list", "late")[0]
    assert (newest["verb"], newest["why"]) == ("stop", "a pause")
    said = run("actions", "show", newest["id"])
    assert said.out.splitlines()[0] == f"action/{newest['id']} {newest['state']}"
    assert "a pause" in said.out
    assert run("actions", "list", "-o", "name").out.splitlines()[0] == newest["id"]
    assert ok("actions", "list", "--state", "failed") == []


def test_an_action_that_is_not_there(at: Desk) -> None:
    """As with everything else that is missing."""
    assert run("actions", "show", "late-999").code == MISSING


def test_a_whole_log_is_said_to_be_whole(at: Desk, file: Path) -> None:
    """By the system and by its export alike, with the head to note."""
    online, offline = run("audit", "verify"), run("audit", "verify", str(file))
    assert (online.code, online.out) == (0, offline.out)
    assert "entries are as they were written" in online.out
    head = online.out.split("head ")[1].strip()
    assert run("audit", "verify", "--head", head).code == run("audit", "verify", str(file), "--head", head).code == 0
    assert run("audit", "export").out == file.read_text()


@pytest.mark.parametrize("number", [1, 2])
def test_a_changed_line_is_named(file: Path, number: int) -> None:
    """The command fails, so that a script notices."""
    lines = file.read_text().splitlines()
    lines[number - 1] = lines[number - 1].replace('"who":"admin"', '"who":"nobody"')
    file.write_text("\n".join(lines))
    said = run("audit", "verify", str(file))
    assert (said.code, f"Entry {number} is not what was written." in said.err) == (FAILED, True)


@pytest.mark.parametrize("line", ["", "no json", "[]", "{}", '{"sequence": 1, "at": 5}'])
def test_what_is_no_entry_breaks_the_chain(at: Desk, tmp_path: Path, line: str) -> None:
    """Whatever somebody hands over as an export."""
    path = tmp_path / "other.jsonl"
    path.write_text(line + "\n")
    assert run("audit", "verify", str(path)).code == FAILED


def test_a_cut_end_is_missed_by_whoever_noted_the_head(file: Path) -> None:
    """Without it the rest is whole in itself."""
    lines = file.read_text().splitlines()
    head = f"{len(lines)}:{json.loads(lines[-1])['sha256']}"
    file.write_text("\n".join(lines[:-1]) + "\n")
    assert run("audit", "verify", str(file)).code == 0
    said = run("audit", "verify", str(file), "--head", head)
    assert (said.code, "The file ends here" in said.err) == (FAILED, True)
    other = run("audit", "verify", str(file), "--head", "1:" + 64 * "0")
    assert (other.code, "not the entry that was noted" in other.err) == (FAILED, True)


@pytest.mark.parametrize("head", ["x", "5", ":ab", "five:ab"])
def test_a_head_that_is_none_is_wrong_usage(at: Desk, head: str) -> None:
    """With where to take one from."""
    assert run("audit", "verify", "--head", head).code == USAGE


def test_the_log_is_filtered(at: Desk) -> None:
    """By object, author and kind."""
    assert {one["verb"] for one in ok("audit", "list", "--object", "deployment/late")} >= {"create", "stop"}
    assert {one["verb"] for one in ok("audit", "list", "--verb", "stop")} == {"stop"}
    assert ok("audit", "list", "--who", "nobody") == []
