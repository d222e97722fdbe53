"""README and guides do what they say: their blocks are run from top to bottom beside a system that runs already.

The words after a block's language say what is done with it; docs/rules.md tells.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.system import LocalSystem
from tests.support import ROOT, eventually, free_port

BLOCK = re.compile(r"^```(?P<language>\w+) (?P<what>file=\S+|run|wait)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if BLOCK.search(page.read_text())]
CONTINUED = re.compile(r" \\\n +")
PROGRAMS = Path(sys.executable).parent
PORTS = {"8400": "deployer", "8401": "main", "8402": "challenger"}
GRPC_PORT, NODE_PORT = "8403", "8411"


class Reader:
    """Somebody who types what a page says, in the folder of a running system."""

    def __init__(self, system: LocalSystem, grpc_port: int) -> None:
        self._system = system
        self._grpc_port, self._node_port = grpc_port, free_port()

    def run(self, command: str) -> str:
        """What a command says on both streams; it must end well."""
        environ = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "NO_COLOR": "1", "COLUMNS": "130"}
        done = subprocess.run(
            ["bash", "-c", self.here(command)],
            cwd=self._system.folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        return done.stdout.strip()

    def patiently(self, command: str) -> str:
        """The same, asked again until it ends well, for a minute at most."""
        return eventually(lambda: (self.run(command),))[0]

    def write(self, name: str, text: str) -> None:
        """A file of the reader's."""
        path = self._system.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.here(text))

    def here(self, text: str) -> str:
        """The text with the ports of this system."""
        for port, name in PORTS.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{self._system.note.ports[name]}")
        text = text.replace(f"127.0.0.1:{NODE_PORT}", f"127.0.0.1:{self._node_port}")
        return text.replace(f"127.0.0.1:{GRPC_PORT}", f"127.0.0.1:{self._grpc_port}")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """In an empty folder in which `quarterdeck up` runs, on free ports."""
    grpc_port = free_port()
    with LocalSystem(tmp_path, environ={"QUARTERDECK_GRPC_PORT": str(grpc_port)}) as system:
        yield Reader(system, grpc_port)


def steps(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what is to be printed."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, printed = CONTINUED.sub(" ", part).split("\n", 1)
        yield command, printed.strip()


def fits(said: str, printed: str) -> bool:
    """Whether `said` is what is printed; `…` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in printed.split("…"))
    return re.fullmatch(pattern, said, re.DOTALL) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.examples
def test_examples_run(page: Path, reader: Reader) -> None:
    """Every block that is marked does what stands under it."""
    for block in BLOCK.finditer(page.read_text()):
        kind, _, name = block["what"].partition("=")
        if kind == "file":
            reader.write(name, block["text"])
            continue
        for command, printed in steps(block["text"]):
            said = reader.run(command) if kind == "run" else reader.patiently(command)
            assert fits(said, reader.here(printed)), f"$ {command}\n{said}"


def test_first_model_is_short() -> None:
    """A reader's own model takes less than 20 lines of Python and one YAML."""
    blocks = list(BLOCK.finditer((ROOT / "README.md").read_text()))
    files = [block for block in blocks if block["what"].startswith("file=")]
    assert [block["language"] for block in files] == ["python", "yaml"]
    assert len(files[0]["text"].splitlines()) < 20
