"""`quarterdeck stage`: the steps on the way of a version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from quarterdeck.client import connect
from quarterdeck_cli.commands.shared import Reason, read_object
from quarterdeck_cli.output import Column, Format, ListFormat, ListOutput, Output, age, show, show_list

app = typer.Typer(help="Look at stages and their gates, and change them.")
StageName = Annotated[str, typer.Argument(help="Name of the stage.")]

COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("INFRASTRUCTURE", "infrastructure"),
    ("GATES", lambda row: ",".join(gate["gate"] for gate in row["gates"]) or None),
    ("APPROVAL", "approval"),
    ("DEPLOYMENTS", "deployments"),
    ("AGE", lambda row: age(row["created"])),
]


@app.command("list")
def list_(output: ListOutput = ListFormat.table) -> None:
    """List the stages in their order.

    Example: quarterdeck stage list
    """
    with connect() as client:
        show_list(client.stages(), COLUMNS, output, "No stages.")


@app.command("show")
def show_(name: StageName, output: Output = Format.table) -> None:
    """Show a stage with its gates and their parameters.

    Example: quarterdeck stage show prod
    """
    with connect() as client:
        found = client.stage(name)
    show(found, output, _lines(found))


@app.command()
def put(
    name: StageName,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="JSON or YAML file with the stage; `-` reads stdin.")] = None,
    infrastructure: Annotated[str, typer.Option("--infrastructure", help="Where its deployments run.")] = "",
    gates: Annotated[
        list[str] | None, typer.Option("--gate", help="A gate with its default parameters; may be given several times.")
    ] = None,
    approval: Annotated[
        bool | None, typer.Option("--approval/--no-approval", help="Whether a second person must approve.")
    ] = None,
    position: Annotated[int | None, typer.Option("--position", min=0, help="Its place in lists.")] = None,
    reason: Reason = "",
    output: Output = Format.table,
) -> None:
    """Create a stage or change it; what is not said stays as it is.

    Example: quarterdeck stage put prod --gate package --gate golden --gate schema --approval
    """
    given = read_object(file, "See `quarterdeck stage show NAME -o json`.") if file else {}
    said: dict[str, Any] = {
        "infrastructure": infrastructure or None,
        "gates": [{"gate": gate} for gate in gates] if gates else None,
        "approval": approval,
        "position": position,
    }
    given |= {member: value for member, value in said.items() if value is not None}
    with connect() as client:
        kept = {} if file else next((_kept(one) for one in client.stages() if one["name"] == name), {})
        found = client.put_stage(name, {**kept, **given, **({"why": reason} if reason else {})})
    show(found, output, [f"stage/{name} is set", *_lines(found)[1:]])


@app.command()
def delete(name: StageName, reason: Reason = "", output: Output = Format.table) -> None:
    """Take a stage away where nothing lives.

    Example: quarterdeck stage delete staging
    """
    with connect() as client:
        client.delete_stage(name, reason)
    show({"name": name, "deleted": True}, output, [f"stage/{name} deleted"])


def _kept(stage: dict[str, Any]) -> dict[str, Any]:
    return {member: stage[member] for member in ("position", "infrastructure", "gates", "approval")}


def _lines(stage: dict[str, Any]) -> list[str]:
    gates = [
        " ".join([gate["gate"], *(f"{name}={value}" for name, value in gate.items() if name != "gate")])
        for gate in stage["gates"]
    ]
    return [
        f"stage/{stage['name']} on infrastructure {stage['infrastructure']}, {stage['deployments']} deployments",
        *(f"gate       {gate}" for gate in gates),
        f"approval   {'by a second person' if stage['approval'] else 'not needed'}",
    ]
