"""What commands that take a file make of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.errors import InvalidInput
from quarterdeck_cli.commands.shared import read_object


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"tolerance": 1e-9, "rows": [{"hour": 1e5}]}', {"tolerance": 1e-9, "rows": [{"hour": 100_000.0}]}),
        ("rows:\n- hour: 1.5\n", {"rows": [{"hour": 1.5}]}),
    ],
)
def test_json_is_read_as_json_and_the_rest_as_yaml(
    text: str, found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file, whatever it is called, and from stdin: YAML would take some of JSON's numbers for words."""
    (tmp_path / "given").write_text(text)
    assert read_object(tmp_path / "given", "") == found
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert read_object(Path("-"), "") == found


@pytest.mark.parametrize("text", ["[1, 2]", "{: {", "", "\x00"])
def test_what_is_no_object_is_refused(text: str, tmp_path: Path) -> None:
    """With the file's name, and the way to what was meant."""
    (tmp_path / "given.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"given\.json") as caught:
        read_object(tmp_path / "given.json", "Write an object.")
    assert caught.value.hint in ("Check the file.", "Write an object.")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_object(tmp_path / "missing", "")
