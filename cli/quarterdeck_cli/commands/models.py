"""`quarterdeck model`: the registry."""

from __future__ import annotations

from typing import Annotated

import typer

from quarterdeck.client import connect
from quarterdeck_cli.commands.shared import ModelName
from quarterdeck_cli.output import Column, Format, ListFormat, ListOutput, Output, age, emit, short, show, show_list

app = typer.Typer(help="Look at models and their versions, and choose the active one.")

COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("ACTIVE", lambda row: f"v{row['active_version']}" if row["active_version"] else None),
    ("NEWEST", lambda row: f"v{row['newest']}" if row["newest"] else None),
    ("VERSIONS", "versions"),
    ("AGE", lambda row: age(row["created"])),
]
VERSION_COLUMNS: list[Column] = [
    ("VERSION", lambda row: f"v{row['version']}"),
    ("ACTIVE", "active"),
    ("DIGEST", lambda row: short(row["digest"])),
    ("FORM", "form"),
    ("TASK", "task"),
    ("RUN", "run"),
    ("AGE", lambda row: age(row["created"])),
]
WIDE: list[Column] = [("WHOLE-DIGEST", "digest"), ("TRUST", "trust")]


@app.command("list")
def list_(output: ListOutput = ListFormat.table) -> None:
    """List the models.

    Example: quarterdeck model list -o json
    """
    with connect() as client:
        show_list(client.models(), COLUMNS, output, "No models yet; publish one with `quarterdeck package push FOLDER`.")


@app.command("show")
def show_(name: ModelName, output: ListOutput = ListFormat.table) -> None:
    """Show the versions of a model.

    Example: quarterdeck model show late-flights
    """
    with connect() as client:
        found = client.model(name)
    # The document is more than its list of versions, so machines get it whole.
    if output in (ListFormat.json, ListFormat.yaml):
        emit(found, output)
    else:
        show_list(found["items"], VERSION_COLUMNS, output, f"{name} has no versions.", WIDE)


@app.command()
def activate(
    name: ModelName, version: Annotated[int, typer.Argument(min=1, help="Number of the version.")], output: Output = Format.table
) -> None:
    """Make a version the one that is used unless another one is named.

    Example: quarterdeck model activate late-flights 2
    """
    with connect() as client:
        found = client.activate(name, version)
    show(found, output, [f"model/{name} activated", f"active version v{version}; no deployment was changed"])
