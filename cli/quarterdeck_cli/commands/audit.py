"""`quarterdeck audit`: who did what and when, and whether that is still what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quarterdeck.audit_chain import Chain
from quarterdeck.client import connect
from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck_cli.output import Column, Format, Json, ListFormat, ListOutput, Output, age, note, show, show_list

app = typer.Typer(help="Read, verify and export the audit log.")

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
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many, newest first.")] = 50,
    object: Annotated[str, typer.Option("--object", help="Only of this one, e.g. deployment/late-flights.")] = "",
    who: Annotated[str, typer.Option("--who", help="Only what this caller did.")] = "",
    verb: Annotated[str, typer.Option("--verb", help="Only actions of this kind.")] = "",
    output: ListOutput = ListFormat.table,
) -> None:
    """List what was done, newest first.

    Example: quarterdeck audit list --object deployment/late-flights
    """
    with connect() as client:
        found = client.audit(limit, object=object, who=who, verb=verb)
    show_list(found, COLUMNS, output, "Nothing was done yet.")
    # A full page is the only sign that there may be more; an unasked-for limit must not pass for the whole log.
    if len(found) == limit:
        note(f"the newest {limit} are shown; see more with --limit")


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="An export, verified by itself; the running system's log where left out.")
    ] = None,
    head: Annotated[str, typer.Option("--head", help="NUMBER:SEAL noted earlier; without it a cut end is not seen.")] = "",
    output: Output = Format.table,
) -> None:
    """Hold every entry against its seal; the first that is not what was written is named, and the command fails.

    Example: quarterdeck audit verify --head 120:9f2b…
    """
    known = _noted(head)
    if file is not None:
        found = _verified(file, *known)
    else:
        with connect() as client:
            found = client.verify_audit(*known)
    if not found["whole"]:
        raise QuarterdeckError(
            found["reason"],
            code="audit-broken",
            kind="audit",
            name=str(found["sequence"]),
            hint=f"The {found['entries']} entries before it are as they were written; compare the others with an export.",
        )
    show(found, output, [f"{found['entries']} entries are as they were written", f"head {found['entries']}:{found['head']}"])


@app.command()
def export(file: Annotated[Path | None, typer.Argument(help="Where to; standard output where left out.")] = None) -> None:
    """Write the whole log, oldest first, one JSON object a line, each with its seal.

    Example: quarterdeck audit export audit.jsonl
    """
    with connect() as client:
        if file is None:
            for line in client.export_audit():
                print(line)
            return
        with file.open("w", encoding="utf-8") as target:
            written = sum(bool(target.write(line + "\n")) for line in client.export_audit())
    note(f"{written} entries written to {file}; verify them anywhere with `quarterdeck audit verify {file}`")


def _noted(head: str) -> tuple[int, str]:
    if not head:
        return 0, ""
    number, _, seal = head.partition(":")
    if not number.isdecimal() or not seal:
        raise InvalidInput("--head takes a number, a colon and a seal.", hint="Take both from `quarterdeck audit verify`.")
    return int(number), seal


def _verified(file: Path, sequence: int, sha256: str) -> Json:
    """What the server's answer would say, from the file alone."""
    chain, reason = Chain(), ""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            reason = chain.fault(_row(line))
            if not reason and chain.rows == sequence and chain.head != sha256:
                return _verdict(chain, sequence, "It is whole in itself, but not the entry that was noted.")
            if reason:
                break
    if not reason and sequence > chain.rows:
        reason = f"The file ends here, and entry {sequence} was noted."
    return _verdict(chain, chain.rows + 1 if reason else None, reason)


def _row(line: str) -> Json:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    # What is no entry breaks the chain where it stands.
    return row if isinstance(row, dict) else {}


def _verdict(chain: Chain, sequence: int | None, reason: str) -> Json:
    return {"whole": not reason, "entries": chain.rows, "sequence": sequence, "reason": reason, "head": chain.head}
