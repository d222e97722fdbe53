"""The files of examples/: what a person tries first."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.resources import ModelDeployment, read_file
from tests.support import ROOT

FILES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_is_read_and_says_what_it_shows(path: Path) -> None:
    """It begins with words for its reader, and its lines are no longer than a screen."""
    assert read_file(path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 130


def test_all_examples_can_be_applied_together() -> None:
    """`kubectl apply -f examples/`: no two files speak of the same deployment."""
    names = [one.metadata.name for path in FILES for one in read_file(path)]
    assert len(set(names)) == len(names)


def test_every_block_of_the_resource_is_shown_somewhere() -> None:
    """Whoever looks for how to write a block finds it."""
    shown: set[str] = set()
    for one in (one for path in FILES for one in read_file(path)):
        shown |= one.spec.model_fields_set
    # What stops a deployment, what it is called in a list, and what makes nodes try again need no example.
    missing = set(ModelDeployment.model_fields["spec"].annotation.model_fields) - shown  # type: ignore[union-attr]
    assert missing == {"running", "records", "attempt"}
