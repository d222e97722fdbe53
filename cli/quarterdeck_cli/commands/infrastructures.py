"""`quarterdeck infrastructure`: where deployments run."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from quarterdeck.client import connect
from quarterdeck.errors import InvalidInput
from quarterdeck_cli.output import Column, Format, ListFormat, ListOutput, Output, age, emit, show, show_list

app = typer.Typer(help="Create, list and delete the places where deployments run.")


class Kinds(StrEnum):
    """What runs the models there."""

    static = "static"
    kubernetes = "kubernetes"


COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("KIND", "kind"),
    ("STAGES", "stages"),
    ("STORE", "store"),
    ("AGE", lambda row: age(row["created"])),
]


@app.command("list")
def list_(output: ListOutput = ListFormat.table) -> None:
    """List the infrastructures and the stages that are on them.

    Example: quarterdeck infrastructure list
    """
    with connect() as client:
        show_list(client.infrastructures(), COLUMNS, output, "There is none.")


@app.command("show")
def show_(name: Annotated[str, typer.Argument(help="Name of the infrastructure.")], output: Output = Format.table) -> None:
    """Show one infrastructure with its settings.

    Example: quarterdeck infrastructure show edge
    """
    with connect() as client:
        found = client.infrastructure(name)
    if output is not Format.table:
        emit(found, output)
        return
    print(f"infrastructure/{name}  {found['kind']}  stages: {', '.join(found['stages']) or 'none'}")
    for setting, value in {"store": found["store"], **found["settings"]}.items():
        print(f"  {setting}: {value}")


@app.command()
def strangers(
    name: Annotated[str, typer.Argument(help="Name of the infrastructure.")], output: ListOutput = ListFormat.table
) -> None:
    """List what others made in a cluster and what could not be adopted, with the reason.

    Example: quarterdeck infrastructure strangers cluster
    """
    with connect() as client:
        show_list(
            client.strangers(name), [("NAME", "name"), ("REASON", "reason")], output, "Everything there is a deployment here."
        )


@app.command()
def put(
    name: Annotated[str, typer.Argument(help="Name of the infrastructure.")],
    kind: Annotated[Kinds, typer.Option("--kind", help="static: nodes that join; kubernetes: a cluster's operator.")],
    store: Annotated[str, typer.Option("--store", help="Store of its own: s3:// URL or whole path; else the instance's.")] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of its kind; may be given several times.")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Create an infrastructure, or make it equal to this.

    Example: quarterdeck infrastructure put edge --kind static --store s3://models-edge --set s3Folder=/etc/quarterdeck/s3-edge
    """
    body = {"kind": kind.value, "store": store, "settings": dict(_pair(one) for one in settings or [])}
    with connect() as client:
        found = client.put_infrastructure(name, body)
    show(found, output, [f"infrastructure/{name} is {found['kind']}", f"its store is {found['store']}"])


@app.command()
def delete(name: Annotated[str, typer.Argument(help="Name of the infrastructure.")], output: Output = Format.table) -> None:
    """Take an infrastructure away that no stage is on and no node has joined.

    Example: quarterdeck infrastructure delete edge
    """
    with connect() as client:
        client.delete_infrastructure(name)
    show({"name": name, "deleted": True}, output, [f"infrastructure/{name} deleted", "what lies in its store stays there"])


def _pair(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    try:
        # Few settings have parts; those are written as JSON, and all others as they are.
        if name and equals:
            return name, json.loads(value) if value.startswith("{") else value
    except ValueError:
        pass
    raise InvalidInput(
        "A setting is given as NAME=VALUE, with JSON for one that has parts.",
        kind="argument",
        name="--set",
        hint="--set namespace=models",
    )
