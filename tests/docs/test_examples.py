"""README and guides do what they say: their blocks are run from top to bottom beside a system that runs already.

The words after a block's language say what is done with it; docs/rules.md tells.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ROOT, eventually

BLOCK = re.compile(r"^```(?P<language>\w+) (?P<what>file=\S+|run|wait)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if BLOCK.search(page.read_text())]
PROGRAMS = Path(sys.executable).parent
PORTS = {"8400": "deployer", "8401": "main", "8402": "challenger"}


class System(NamedTuple):
    """A running system and the folder that a reader would be in."""

    folder: Path
    ports: dict[str, int]

    def run(self, command: str) -> str:
        """What a command says on both streams; it must end well."""
        environ = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "NO_COLOR": "1", "COLUMNS": "130"}
        done = subprocess.run(
            ["bash", "-c", self.here(command)],
            cwd=self.folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        return done.stdout.strip()

    def here(self, text: str) -> str:
        """The text with the ports of this system."""
        for port, name in PORTS.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{self.ports[name]}")
        return text


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """`quarterdeck up` in an empty folder, on free ports."""
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAMS / "quarterdeck", "up", "--port", "0", "--ship-seconds", "0.5"], cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        note = tmp_path / ".quarterdeck" / "supervisor.json"

        def up() -> bool:
            assert process.poll() is None, (tmp_path / "up.log").read_text()
            return note.is_file() and bool(json.loads(note.read_bytes())["ready"])

        eventually(up, 60)
        yield System(tmp_path, json.loads(note.read_bytes())["ports"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def steps(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what is to be printed."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed.strip()


def fits(said: str, printed: str) -> bool:
    """Whether `said` is what is printed; `…` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in printed.split("…"))
    return re.fullmatch(pattern, said, re.DOTALL) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.timeout(300)
def test_examples_run(page: Path, system: System) -> None:
    """Every block that is marked does what stands under it."""
    for block in BLOCK.finditer(page.read_text()):
        kind, _, name = block["what"].partition("=")
        if kind == "file":
            (system.folder / name).write_text(system.here(block["text"]))
            continue
        for command, printed in steps(block["text"]):
            said = eventually(lambda: (system.run(command),), 60)[0] if kind == "wait" else system.run(command)  # noqa: B023
            assert fits(said, system.here(printed)), f"$ {command}\n{said}"


def test_first_model_is_short() -> None:
    """A reader's own model takes less than 20 lines of Python and one YAML."""
    blocks = list(BLOCK.finditer((ROOT / "README.md").read_text()))
    files = [block for block in blocks if block["what"].startswith("file=")]
    assert [block["language"] for block in files] == ["python", "yaml"]
    assert len(files[0]["text"].splitlines()) < 20
