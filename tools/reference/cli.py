"""docs/reference/cli.md: what every command says with `--help`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

from typer.main import get_command

from quarterdeck_cli.main import app, main

TERMINAL = {"COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1"}

INTRO = """\
# Command line

Each part below is what `quarterdeck COMMAND --help` prints.
"""


def page() -> str:
    """The page."""
    names: list[list[str]] = [[], *commands()]
    parts = [f"\n## {' '.join(['quarterdeck', *name])}\n\n```text\n{_help(name)}\n```\n" for name in names]
    return INTRO + "".join(parts)


def commands() -> list[list[str]]:
    """Every command as its words, groups before what is in them, in the order of the help."""
    return list(_below(get_command(app), []))


def _below(command: Any, road: list[str]) -> Iterator[list[str]]:
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield [*road, name]
            yield from _below(below, [*road, name])


def _help(command: list[str]) -> str:
    said = io.StringIO()
    before = {name: os.environ.get(name) for name in TERMINAL}
    os.environ.update(TERMINAL)
    try:
        with redirect_stdout(said):
            main([*command, "--help"])
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())
