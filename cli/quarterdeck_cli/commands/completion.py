"""`quarterdeck completion`: the script that makes a shell complete commands, options and live names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from quarterdeck.client import Client, connect
from quarterdeck.errors import QuarterdeckError

app = typer.Typer()
PATIENCE_SECONDS = 0.5
"""How long a prompt waits for names at most."""


class Shell(StrEnum):
    """Shells that can be served."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


@app.command()
def completion(context: typer.Context, shell: Annotated[Shell, typer.Argument(help="For which shell.")]) -> None:
    """Print the completion script of a shell.

    Example: quarterdeck completion bash > ~/.local/share/bash-completion/completions/quarterdeck
    """
    # The framework's own road to its script; shells take the same one when they ask for completions later.
    os.environ["_QUARTERDECK_COMPLETE"] = f"source_{shell}"
    command: Any = context.find_root().command
    command(args=[], prog_name="quarterdeck")


def deployment_names(incomplete: str) -> list[str]:
    """Names of live deployments that start so."""
    return _live(lambda client: client.deployments(), incomplete)


def model_names(incomplete: str) -> list[str]:
    """Names of registered models that start so."""
    return _live(lambda client: client.models(), incomplete)


def _live(ask: Callable[[Client], Sequence[dict[str, Any]]], incomplete: str) -> list[str]:
    try:
        with connect(timeout=PATIENCE_SECONDS) as client:
            return [each["name"] for each in ask(client) if each["name"].startswith(incomplete)]
    except QuarterdeckError:
        # Without a system there is nothing to propose, and a shell's prompt is no place for errors.
        return []
