"""`quarterdeck keys`: API keys of callers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from quarterdeck.client import connect
from quarterdeck.errors import InvalidInput
from quarterdeck_cli.commands.shared import Reason
from quarterdeck_cli.output import Column, Format, Json, ListFormat, ListOutput, Output, age, emit, note, show, show_list

app = typer.Typer(help="Create, list, rotate and revoke API keys.")

COLUMNS: list[Column] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("PROJECT", "project"),
    ("SCOPES", "scopes"),
    ("EXPIRES", lambda row: (row["expires"] or "never")[:10]),
    ("STATE", lambda row: state(row)),
    ("LAST USED", lambda row: age(row["last_used"])),
    ("AGE", lambda row: age(row["created"])),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    project: Annotated[str, typer.Option("--project", help="The project it opens; * opens all.")] = "*",
    scopes: Annotated[list[str] | None, typer.Option("--scope", help="What it allows, e.g. predict; all where left out.")] = None,
    days: Annotated[float | None, typer.Option("--days", help="Days until it expires; never where left out.")] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Requests per second at each node; no limit where left out.")
    ] = None,
    burst: Annotated[int | None, typer.Option("--burst", help="Requests that may come at once before the rate counts.")] = None,
    output: Output = Format.table,
) -> None:
    """Create a key. Its secret is printed this once, alone on stdout.

    Example: quarterdeck keys create billing --days 90 > billing.key
    """
    given = {"name": name, "project": project, "scopes": scopes or None, "days": days, "rate": rate, "burst": burst}
    # Left out rather than null: what nobody asked for is the API's to decide.
    with connect() as client:
        found = client.create_key({field: value for field, value in given.items() if value is not None})
    _show_secret(found, output)


@app.command()
def rotate(
    key: Annotated[str, typer.Argument(help="Id of the key.")],
    overlap: Annotated[
        str, typer.Option("--overlap", help="For so long the old key opens what it did: 30m, 24h, 7d; 0: not at all.")
    ] = "24h",
    reason: Reason = "",
    output: Output = Format.table,
) -> None:
    """Create a key in place of another one. Its secret is printed this once, alone on stdout.

    Example: quarterdeck keys rotate 7g4qk2zd --overlap 24h > billing.key
    """
    with connect() as client:
        _show_secret(client.rotate_key(key, _hours(overlap), reason), output)


def _show_secret(found: Json, output: Format) -> None:
    # The secret stands alone on stdout, so that `> file` keeps just it.
    if output is Format.table:
        note(f"key/{found['id']} created; keep the secret now, it is not shown again")
        print(found["secret"])
    else:
        emit(found, output)


def _hours(text: str) -> float:
    units = {"m": 1 / 60, "h": 1.0, "d": 24.0}
    number, unit = (text[:-1], text[-1:]) if text[-1:] in units else (text, "h")
    try:
        return float(number) * units[unit]
    except ValueError:
        raise InvalidInput(
            "The overlap is a number with m, h or d behind it.", kind="option", name="--overlap", hint="Write e.g. 24h."
        ) from None


def state(key: Json) -> str:
    """Whether a key opens anything: `valid`, `expired` or `revoked`."""
    if key["revoked"]:
        return "revoked"
    # Nodes compare with their own clocks; near the moment itself the two may differ for some seconds.
    return "expired" if key["expires"] and datetime.fromisoformat(key["expires"]) <= datetime.now(UTC) else "valid"


@app.command("list")
def list_(output: ListOutput = ListFormat.table) -> None:
    """List the keys, without their secrets.

    Example: quarterdeck keys list
    """
    with connect() as client:
        show_list(client.keys(), COLUMNS, output, "No keys yet; make one with `quarterdeck keys create NAME`.")


@app.command()
def revoke(key: Annotated[str, typer.Argument(help="Id of the key.")], output: Output = Format.table) -> None:
    """Make a key worthless.

    Example: quarterdeck keys revoke 7G4QK2ZD
    """
    with connect() as client:
        client.revoke_key(key)
    show({"id": key, "revoked": True}, output, [f"key/{key} revoked", "nodes refuse it within 10 s"])
