"""The stored plan: whole or not there, this node's only, and nobody else's to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.plan import Plan
from quarterdeck_node.plan_client import PlanFile
from quarterdeck_node.settings import Settings

PLAN = Plan(node="main", sequence=3, store="memory://")


def test_a_stored_plan_comes_back(tmp_path: Path) -> None:
    """As it was written, the newest one, readable by its owner only."""
    file = PlanFile(tmp_path)
    file.write(PLAN.model_copy(update={"sequence": 2}))
    file.write(PLAN)
    assert file.read("main") == PLAN
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"plan": 2}', PLAN.model_dump_json().encode()[:-1], b"\xff"])
def test_a_broken_plan_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    """The node then waits for its plan server."""
    (tmp_path / "plan.json").write_bytes(content)
    assert PlanFile(tmp_path).read("main") is None


def test_another_nodes_plan_is_not_taken(tmp_path: Path) -> None:
    """A folder that was copied must not make two nodes of one name."""
    PlanFile(tmp_path).write(PLAN)
    assert PlanFile(tmp_path).read("challenger") is None
    assert PlanFile(tmp_path / "empty").read("main") is None


def test_settings_are_read_from_their_variables_only() -> None:
    """Empty is not set, others are not ours, and paths are paths."""
    found = Settings.from_environment({"QUARTERDECK_NODE": "blue", "QUARTERDECK_PORT": "", "QUARTERDECK_OTHER": "x", "PORT": "1"})
    assert (found.node, found.port, found.base_url) == ("blue", 8401, "http://127.0.0.1:8401")
    assert Settings.from_environment({"QUARTERDECK_URL": "https://node.example/"}).base_url == "https://node.example"
