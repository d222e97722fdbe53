"""`quarterdeck promote` and `quarterdeck promotion`: versions on their way from stage to stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from quarterdeck.client import Client, connect
from quarterdeck.errors import Conflict, PackageRefused, QuarterdeckError
from quarterdeck_cli.commands.shared import Deployment, Reason, ref
from quarterdeck_cli.errors import StillRunning
from quarterdeck_cli.output import Column, Format, ListFormat, ListOutput, Output, age, next_step, note, show, show_list, spinner

app = typer.Typer()
promotion = typer.Typer(help="Look at promotions, and approve or reject those of others.")
Number = Annotated[int, typer.Argument(min=1, help="Number of the promotion.")]
_LISTED = 10

COLUMNS: list[Column] = [
    ("NUMBER", "id"),
    ("STATE", "state"),
    ("VERSION", lambda row: ref(row["main"])),
    ("FROM", lambda row: f"{row['source']} ({row['source_stage']})"),
    ("TO", lambda row: f"{row['target']} ({row['target_stage']})"),
    ("WHO", "who"),
    ("AGE", lambda row: age(row["created"])),
]
WIDE: list[Column] = [("WHY", "why"), ("REASON", "reason"), ("DECIDED-BY", "decided_by")]


@app.command()
def promote(
    name: Deployment,
    to: Annotated[str, typer.Option("--to", help="The stage to come to.")],
    version: Annotated[int | None, typer.Option("--version", min=1, help="Of main's model; main itself where left out.")] = None,
    target: Annotated[str, typer.Option("--name", help="The deployment there; found by its service where left out.")] = "",
    trust_code: Annotated[bool, typer.Option("--trust-code", help="Let its package run code when it is loaded.")] = False,
    why: Annotated[str, typer.Option("--why", "--reason", help="Why; kept with the history.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended, or waits for a person.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0, max=600, help="Seconds to wait at most.")] = 300.0,
    output: Output = Format.table,
) -> None:
    """Bring a deployment's version to another stage, through that stage's gates.

    Example: quarterdeck promote late-flights --to staging --wait --why "better on November"
    """
    with connect() as client, spinner(f"asking the gates of {to}"):
        trust = "code" if trust_code else ""
        found = client.promote(name, to, version, target, why, timeout if wait else None, trust=trust)
    show(found, output, _lines(found))
    _end(found, wait=wait)


@promotion.command("list")
def list_(
    deployment: Annotated[str, typer.Option("--deployment", help="Only from or to this deployment.")] = "",
    service: Annotated[str, typer.Option("--service", help="Only of this service.")] = "",
    stage: Annotated[str, typer.Option("--stage", help="Only to this stage.")] = "",
    state: Annotated[str, typer.Option("--state", help="Only in this state.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 50,
    output: ListOutput = ListFormat.table,
) -> None:
    """List who moved what where, when and why.

    Example: quarterdeck promotion list --stage prod
    """
    with connect() as client:
        found = client.promotions(limit, deployment=deployment, service=service, stage=stage, state=state)
    show_list(found, COLUMNS, output, "No promotions; begin one with `quarterdeck promote NAME --to STAGE`.", WIDE)


@promotion.command("show")
def show_(
    number: Number,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended, or waits for a person.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0, max=600, help="Seconds to wait at most.")] = 300.0,
    output: Output = Format.table,
) -> None:
    """Show a promotion with what its gates have found.

    Example: quarterdeck promotion show 17
    """
    with connect() as client, spinner(f"waiting for promotion {number}"):
        found = client.promotion(number, timeout if wait else None)
    show(found, output, _lines(found))
    if wait:
        _end(found, wait=True)


@promotion.command()
def approve(number: Number, reason: Reason = "", output: Output = Format.table) -> None:
    """Say yes to a promotion that somebody else has begun.

    Example: quarterdeck promotion approve 17 --reason "looked at the changed rows"
    """
    _end(_decided(lambda client: client.approve(number, reason), output), wait=True)


@promotion.command()
def reject(number: Number, reason: Reason = "", output: Output = Format.table) -> None:
    """Say no to a promotion that somebody else has begun.

    Example: quarterdeck promotion reject 17 --reason "not before Christmas"
    """
    _decided(lambda client: client.reject(number, reason), output)


def _decided(decide: Callable[[Client], dict[str, Any]], output: Format) -> dict[str, Any]:
    """The promotion after a person's word, which is shown."""
    with connect() as client:
        found = decide(client)
    show(found, output, _lines(found))
    return found


def _lines(found: dict[str, Any]) -> list[str]:
    """The promotion in words, gate by gate, and the rows of what was refused."""
    way = f"{ref(found['main'])} from {found['source']} ({found['source_stage']}) to {found['target']} ({found['target_stage']})"
    lines = [f"promotion/{found['id']} {found['state']}", way]
    for gate in found["gates"]:
        lines.append(f"{'passed' if gate['passed'] else 'refused'}  {gate['gate']:<9}  {gate['detail']}")
        if not gate["passed"]:
            lines += ["  " + "  ".join(f"{name}: {value}" for name, value in row.items()) for row in gate["listed"][:_LISTED]]
            if len(gate["listed"]) > _LISTED:
                lines.append(f"  … {len(gate['listed'])} are listed in `quarterdeck promotion show {found['id']} -o json`")
            lines.append(f"  look: {gate['look']['command']}")
    if found["revision"]:
        lines.append(f"deployment/{found['target']} promoted, revision {found['revision']}")
    return lines


def _end(found: dict[str, Any], *, wait: bool) -> None:
    """The end as scripts see it: done and waiting for a person are no failures.

    Raises:
        PackageRefused: a gate or a person has refused.
        Conflict: somebody else was first.
        QuarterdeckError: it cannot be carried out.
        StillRunning: the gates are still being asked.
    """
    about: dict[str, Any] = {"kind": "promotion", "name": str(found["id"]), "code": found["code"]}
    look = f"Look: `quarterdeck promotion show {found['id']}`."
    if found["state"] == "refused":
        raise PackageRefused(found["reason"], hint=look, **about)
    if found["state"] == "overtaken":
        raise Conflict(found["reason"], hint="Look at what changed, then promote again.", **about)
    if found["state"] == "failed":
        raise QuarterdeckError(found["reason"], hint=look, **about)
    if found["state"] == "waiting for approval":
        note(found["reason"])
        next_step(f"quarterdeck promotion approve {found['id']}")
    elif found["state"] == "done":
        next_step(f"quarterdeck status {found['target']}")
    elif wait:
        raise StillRunning(f"Promotion {found['id']} has not ended yet. {found['reason']}".strip(), hint=look, kind="promotion")
    else:
        next_step(f"quarterdeck promotion show {found['id']} --wait")
