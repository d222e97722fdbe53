"""Deployments: apply, get, delete, run, stop, rollback."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from quarterdeck.client import Client, Done, connect
from quarterdeck.errors import InvalidInput
from quarterdeck.resources import ModelDeployment, read, read_file
from quarterdeck_cli import errors
from quarterdeck_cli.commands.completion import deployment_names
from quarterdeck_cli.commands.shared import Deployment, Reason, Timeout, change, ref
from quarterdeck_cli.output import Column, Format, ListFormat, ListOutput, Output, age, emit, note, short, show, show_list

app = typer.Typer()

COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("STAGE", "wish.stage"),
    ("MAIN", lambda row: ref(row["wish"]["main"])),
    ("CHALLENGER", lambda row: ref(row["wish"]["challenger"])),
    ("REVISION", "wish.number"),
    ("DEPLOYED", "observed.deployed.state"),
    ("RUNNING", "observed.running.state"),
    ("AGE", lambda row: age(row["wish"]["created"])),
]
WIDE: list[Column] = [
    ("PROJECT", "wish.project"),
    ("SERVICE", lambda row: row["wish"]["service"] or row["name"]),
    ("ACCESS", "wish.access"),
    ("DIGEST", lambda row: short(row["wish"]["main"]["digest"])),
    ("WHO", "wish.who"),
]


@app.command()
def apply(
    file: Annotated[Path, typer.Option("-f", "--file", help="YAML file with ModelDeployments; `-` reads stdin.")],
    reason: Reason = "",
    timeout: Timeout = 60.0,
    output: Output = Format.table,
) -> None:
    """Make deployments what a file says; what is so already stays untouched.

    Example: quarterdeck apply -f deployment.yaml
    """
    resources = read(sys.stdin.read(), "stdin") if str(file) == "-" else read_file(file)
    # All documents have been read before the first one changes anything.
    for each in resources:
        change(each.metadata.name, "applied", output, timeout, partial(_apply, each, reason))
        idle = each.spec.for_clusters()
        if idle:
            note(f"without effect here, for they need a cluster: {', '.join(idle)}")


@app.command()
def get(
    name: Annotated[
        str, typer.Argument(help="Name of one deployment; all where left out.", autocompletion=deployment_names)
    ] = "",
    stage: Annotated[str, typer.Option("--stage", help="Only those of this stage.")] = "",
    service: Annotated[str, typer.Option("--service", help="Only those of this service.")] = "",
    output: ListOutput = ListFormat.table,
) -> None:
    """List deployments, or show one; `-o yaml` prints what `apply` takes.

    Example: quarterdeck get late-flights -o yaml
    """
    with connect() as client:
        found = [client.deployment(name)] if name else client.deployments(stage=stage, service=service)
    if output is ListFormat.yaml:
        print("---\n".join(resource(each).to_yaml() for each in found), end="")
    elif output is ListFormat.json and name:
        emit(found[0], output)
    else:
        show_list(found, COLUMNS, output, "No deployments yet; make one with `quarterdeck apply -f FILE`.", WIDE)


@app.command()
def export(
    name: Annotated[
        str, typer.Argument(help="Name of one deployment; all where left out.", autocompletion=deployment_names)
    ] = "",
    stage: Annotated[str, typer.Option("--stage", help="Only those of this stage.")] = "",
) -> None:
    """Print the YAML of what runs, as `quarterdeck apply` and `kubectl apply` take it.

    Example: quarterdeck export late-flights > late-flights.yaml
    """
    with connect() as client:
        print(client.export(name, stage), end="")


@app.command()
def delete(
    name: Deployment,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: Output = Format.table,
) -> None:
    """Delete a deployment. Its versions and records stay.

    Example: quarterdeck delete late-flights --yes
    """
    if not yes:
        confirm(f"Delete deployment/{name}?")
    with connect() as client:
        done = client.delete(name, reason)
    show(dict(done), output, [f"deployment/{name} deleted", "its versions and records stay"])


@app.command()
def run(name: Deployment, reason: Reason = "", timeout: Timeout = 60.0, output: Output = Format.table) -> None:
    """Let a deployment answer requests.

    Example: quarterdeck run late-flights
    """
    change(name, "running", output, timeout, lambda client, wait: client.start(name, reason, wait))


@app.command()
def stop(name: Deployment, reason: Reason = "", timeout: Timeout = 60.0, output: Output = Format.table) -> None:
    """Let a deployment answer nothing; everything else of it stays.

    Example: quarterdeck stop late-flights --reason "wrong data upstream"
    """
    change(name, "stopped", output, timeout, lambda client, wait: client.stop(name, reason, wait))


@app.command()
def rollback(
    name: Deployment,
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="Revision to restore; the last one with another main where left out.")
    ] = None,
    reason: Reason = "",
    timeout: Timeout = 60.0,
    output: Output = Format.table,
) -> None:
    """Restore main and challenger of an earlier revision.

    Example: quarterdeck rollback late-flights --reason "too many false alarms"
    """
    change(name, "rolled back", output, timeout, lambda client, wait: client.rollback(name, to, None, reason, wait))


def _apply(wanted: ModelDeployment, reason: str, client: Client, wait: float | None) -> Done:
    return client.apply(wanted, reason, wait)


def resource(found: dict[str, Any]) -> ModelDeployment:
    """The YAML document that makes a deployment what it is."""
    wish = found["wish"]
    kept = ("project", "stage", "service", "description", "access", "records", "running", "rollback", "progress_seconds")
    spec = {field: wish[field] for field in kept}
    main, challenger = wish["main"], wish["challenger"]
    spec["model"] = {"name": main["model"], "version": main["version"], **_how(main)}
    # The document names what was resolved, so that it means the same elsewhere.
    if challenger:
        spec["challenger"] = {"model": challenger["model"], "version": challenger["version"], **_how(challenger)}
    return ModelDeployment.model_validate({"metadata": {"name": found["name"]}, "spec": spec})


def _how(ref: dict[str, Any]) -> dict[str, Any]:
    """How a version is run; both are wishes of their own beside which one it is."""
    return {"trust": ref["trust"], "accelerator": ref["accelerator"]}


def confirm(question: str) -> None:
    """Ask on a terminal.

    Raises:
        InvalidInput: nobody is there to ask.
        Exit: the answer is no.
    """
    if not sys.stdin.isatty():
        raise InvalidInput("This needs a yes, and there is no terminal to ask on.", code="confirmation-needed", hint="Add --yes.")
    # Asked by hand: the framework's own question leaves a blank on stdout, in front of the data.
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        note("nothing was changed")
        raise typer.Exit(errors.FAILED)
