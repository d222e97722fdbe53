"""The command in this process, speaking to a real deployer whose nodes are twins: as quick as a call, as true as a shell."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from quarterdeck.client import HOME, STATE, TOKEN
from quarterdeck_cli.main import main
from tests.deployer_world import ADMIN, World, world


class Said(NamedTuple):
    """How a command ended, and what it wrote where."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """A table's lines, cut at three blanks as columns are."""
        return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in self.out.splitlines()]


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        """True."""
        return True


def run(*arguments: str, stdin: io.StringIO | None = None) -> Said:
    """Run one command to its end. Without `stdin` it reads an empty one that is no terminal."""
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = stdin or io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main(arguments)
    finally:
        sys.stdin = before
    return Said(code, out.getvalue(), err.getvalue())


def ok(*arguments: str) -> Any:
    """Run with ``-o json`` and insist on success; the document."""
    said = run(*arguments, "-o", "json")
    assert said.code == 0, said.err
    return json.loads(said.out)


@contextmanager
def variables(**given: str) -> Iterator[None]:
    """Environment variables for a while."""
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass
class Desk:
    """A folder in which a system runs, as `quarterdeck up` would leave it."""

    world: World
    folder: Path
    digests: dict[int, str] = field(default_factory=dict)

    def file(self, name: str, text: str) -> str:
        """Write a file; its name."""
        (self.folder / name).write_text(text)
        return name

    def wish(self, name: str, main: int = 1, challenger: int | None = None, **spec: Any) -> str:
        """The file of a deployment of `flights`."""
        whole = {"model": {"name": "flights", "version": main}, **spec}
        if challenger:
            whole["challenger"] = {"version": challenger}
        document = {
            "apiVersion": "quarterdeck.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name},
            "spec": whole,
        }
        return self.file(f"{name}.yaml", json.dumps(document))

    def deployed(self, name: str, main: int = 1, challenger: int | None = None) -> str:
        """Apply a deployment and wait until the nodes do what it says; its name."""
        said = run("apply", "-f", self.wish(name, main, challenger))
        assert said.code == 0, said.err
        return name


@contextmanager
def desk(folder: Path) -> Iterator[Desk]:
    """A deployer with three versions of `flights` and two living nodes; commands run in its folder."""
    with world(folder / "data") as made, chdir(folder):
        home = folder / HOME
        home.mkdir()
        (home / STATE).write_text(json.dumps({"urls": {"console": str(made.http.base_url)}}))
        (home / TOKEN).write_text(ADMIN)
        stop = threading.Event()
        nodes = [threading.Thread(target=node.run, args=(stop,)) for node in (made.main, made.challenger)]
        for node in nodes:
            node.start()
        try:
            yield Desk(made, folder, {version: made.register(version) for version in (1, 2, 3)})
        finally:
            stop.set()
            for node in nodes:
                node.join(60)
