"""`quarterdeck actions`: what became of what was asked for."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from quarterdeck.client import connect
from quarterdeck_cli.commands.completion import deployment_names
from quarterdeck_cli.output import Column, Format, ListFormat, ListOutput, Output, age, note, show, show_list

app = typer.Typer(help="See what became of actions on deployments.")

COLUMNS: list[Column] = [
    ("ACTION", "id"),
    ("VERB", "verb"),
    ("STATE", "state"),
    ("WHO", "who"),
    ("AGE", lambda row: age(row["created"])),
]
WIDE: list[Column] = [("WHY", "why"), ("REASON", "reason")]


@app.command("list")
def list_(
    deployment: Annotated[str, typer.Argument(help="Only of this deployment.", autocompletion=deployment_names)] = "",
    state: Annotated[
        Literal["accepted", "applied", "failed", "overtaken"] | None, typer.Option("--state", help="Only in this state.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many, newest first.")] = 50,
    output: ListOutput = ListFormat.table,
) -> None:
    """List actions, newest first.

    Example: quarterdeck actions list late-flights --state failed
    """
    with connect() as client:
        found = client.actions(deployment, state or "", limit)
    show_list(found, COLUMNS, output, "There was no such action.", WIDE)
    # A full list is the only sign that there may be more.
    if len(found) == limit:
        note(f"the newest {limit} are shown; see more with --limit")


@app.command("show")
def show_(action: Annotated[str, typer.Argument(help="Id of the action.")], output: Output = Format.table) -> None:
    """Show one action: who wanted what, and how it ended.

    Example: quarterdeck actions show late-flights-4
    """
    with connect() as client:
        found = client.action(action)
    lines = [f"action/{found['id']} {found['state']}", f"{found['verb']} by {found['who']}, {age(found['created'])} ago"]
    show(found, output, [*lines, *filter(None, [found["why"], found["reason"]])])
