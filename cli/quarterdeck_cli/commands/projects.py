"""`quarterdeck project`: what deployments, keys and people are grouped by."""

from __future__ import annotations

from typing import Annotated

import typer

from quarterdeck.client import connect
from quarterdeck_cli.commands.shared import Reason
from quarterdeck_cli.output import Column, Format, ListFormat, ListOutput, Output, age, show, show_list

app = typer.Typer(help="Create, list and delete projects.")
ProjectName = Annotated[str, typer.Argument(help="Name of the project.")]

COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("DESCRIPTION", "description"),
    ("PEOPLE", "people"),
    ("AGE", lambda row: age(row["created"])),
]


@app.command("list")
def list_(output: ListOutput = ListFormat.table) -> None:
    """List the projects.

    Example: quarterdeck project list
    """
    with connect() as client:
        show_list(client.projects(), COLUMNS, output, "No projects.")


@app.command()
def create(
    name: ProjectName,
    description: Annotated[str, typer.Option("--description", help="What it is about.")] = "",
    reason: Reason = "",
    output: Output = Format.table,
) -> None:
    """Create a project with nobody in it.

    Example: quarterdeck project create delays --description "Flight delays"
    """
    with connect() as client:
        show(client.create_project(name, description, reason), output, [f"project/{name} created"])


@app.command()
def delete(name: ProjectName, output: Output = Format.table) -> None:
    """Delete a project; refused while a deployment, a key or a person is in it.

    Example: quarterdeck project delete delays
    """
    with connect() as client:
        client.delete_project(name)
    show({"name": name, "deleted": True}, output, [f"project/{name} deleted"])
