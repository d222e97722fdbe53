"""`quarterdeck audit`: who did what and when."""

from __future__ import annotations

from typing import Annotated

import typer

from quarterdeck.client import connect
from quarterdeck_cli.output import Column, ListFormat, ListOutput, age, note, show_list

app = typer.Typer(help="Read the audit log.")

COLUMNS: list[Column] = [
    ("NUMBER", "sequence"),
    ("VERB", "verb"),
    ("OBJECT", "object"),
    ("WHO", "who"),
    ("REASON", "reason"),
    ("AGE", lambda row: age(row["at"])),
]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many, newest first.")] = 50,
    output: ListOutput = ListFormat.table,
) -> None:
    """List what was done, newest first.

    Example: quarterdeck audit list --limit 20
    """
    with connect() as client:
        found = client.audit(limit)
    show_list(found, COLUMNS, output, "Nothing was done yet.")
    # A full page is the only sign that there may be more; an unasked-for limit must not pass for the whole log.
    if len(found) == limit:
        note(f"the newest {limit} are shown; see more with --limit")
