"""Predictions and what is known about them: predict, predictions list, feedback send, performance."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from quarterdeck.client import Label, connect
from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck.schema import Row
from quarterdeck_cli.commands.shared import Deployment
from quarterdeck_cli.output import (
    ABSENT,
    Column,
    Format,
    ListFormat,
    ListOutput,
    Output,
    age,
    note,
    show,
    show_list,
    spinner,
    word,
)

app = typer.Typer()
predictions = typer.Typer(help="Look at recorded predictions.")
feedback = typer.Typer(help="Send the truth about predicted rows.")

KEY_VARIABLE = "QUARTERDECK_KEY"
_BATCH = 1000
COLUMNS: list[Column] = [
    ("ROW", "row_id"),
    ("MAIN", "main.prediction"),
    ("CHALLENGER", "challenger.prediction"),
    ("LABEL", "label"),
    ("VERSION", lambda row: f"v{row['main']['version']}"),
    ("AGE", lambda row: age(row["at"])),
]


@app.command()
def predict(
    name: Deployment,
    file: Annotated[
        Path | None, typer.Argument(help="JSON file with one record or a list of them; stdin where left out.")
    ] = None,
    row: Annotated[str, typer.Option("--row", help="One record as JSON.")] = "",
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help=f"File with an API key; else the variable {KEY_VARIABLE}.")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Ask a deployment for predictions.

    Example: quarterdeck predict late-flights --row '{"month": 1, "carrier": "UA"}'
    """
    rows = _rows(row, file)
    # Never a flag: command lines are for every user of the machine to read, and shells keep them.
    key = _text(key_file).strip() if key_file else os.environ.get(KEY_VARIABLE, "")
    with connect() as client:
        found = client.predict(name, rows, key=key)
    shown = [f"{word(each['prediction'])}{_scores(each)}" for each in found["predictions"]]
    show(dict(found), output, shown)
    # On stderr: who answered is no part of the answer, and a pipe gets the predictions alone.
    note(f"{found['model']} v{found['version']}, revision {found['revision']}, request {found['request_id']}")


@predictions.command("list")
def list_(
    name: Deployment,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many, newest first.")] = 20,
    output: ListOutput = ListFormat.table,
) -> None:
    """List the newest recorded predictions with both answers and the label.

    Example: quarterdeck predictions list late-flights --limit 5
    """
    with connect() as client:
        found = client.predictions(name, limit)
    show_list(
        found, COLUMNS, output, f"No recorded predictions of deployment/{name} yet; records reach the store after some seconds."
    )
    if len(found) == limit:
        note(f"the newest {limit} are shown; see more with --limit")


@feedback.command("send")
def send(
    name: Deployment,
    file: Annotated[
        Path,
        typer.Option(
            "-f", "--file", help="JSON list, or JSON lines, of {row_id, value} or {caller_id, row, value}; `-` reads stdin."
        ),
    ],
    output: Output = Format.table,
) -> None:
    """Tell the truth about predicted rows.

    Example: quarterdeck feedback send late-flights -f labels.jsonl
    """
    labels = cast(list[Label], _objects(_text(file), str(file)))
    sums = {"accepted": 0, "replaced": 0}
    with connect() as client, spinner(f"sending {len(labels)} labels"):
        # In parts: one request stays small, and a bad label costs only its own part.
        for start in range(0, len(labels), _BATCH):
            try:
                answer = client.send_feedback(name, labels[start : start + _BATCH])
            except QuarterdeckError:
                # Those parts are kept, and sending them once more changes nothing.
                if start:
                    note(f"the first {start} labels were accepted; the file may be sent again as it is")
                raise
            sums = {field: count + int(answer[field]) for field, count in sums.items()}
    show(
        sums,
        output,
        [f"deployment/{name} labelled", f"{sums['accepted']} accepted, {sums['replaced']} of them replaced an earlier label"],
    )


@app.command()
def performance(name: Deployment, output: Output = Format.table) -> None:
    """Compare main and challenger on the same labelled rows.

    Example: quarterdeck performance late-flights
    """
    with connect() as client:
        found = client.performance(name)
    lines = [f"deployment/{name}: {found['rows']} labelled rows"]
    for role in ("main", "challenger"):
        scores = found.get(role)
        # Which scores there are depends on the task, so they name themselves.
        facts = (
            "  ".join(f"{field} {word(value)}" for field, value in scores.items() if isinstance(value, float))
            if scores
            else ABSENT
        )
        lines.append(f"{role:<10}  {'v' + str(scores['version']) if scores else '':<4}  {facts}".rstrip())
    show(found, output, lines)


def _rows(row: str, file: Path | None) -> list[Row]:
    if row and file:
        raise InvalidInput("Both a file and --row were given.", hint="Give one of them.")
    return _objects(row, "--row") if row else _objects(_text(file or Path("-")), str(file or "stdin"))


def _text(file: Path) -> str:
    """A file's text, or stdin's for `-`."""
    if str(file) == "-":
        # Silence would look as if the command hung.
        if sys.stdin.isatty():
            note("reading JSON from the terminal; Ctrl-D ends it")
        return sys.stdin.read()
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidInput(f"{file} cannot be read: {reason}.", kind="file", name=file.name, hint="Check the path.") from None


def _objects(text: str, source: str) -> list[Any]:
    """JSON objects: one, a list of them, or one a line."""
    try:
        # Both forms are common in files; a text that is neither is told by its last failure.
        try:
            found = json.loads(text)
        except json.JSONDecodeError:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"{source} is not JSON: {error.msg}, line {error.lineno}, column {error.colno}.",
            code="malformed",
            kind="file",
            name=source,
            hint="Give one object, a list of objects, or one object a line.",
        ) from None
    found = found if isinstance(found, list) else [found]
    if not found or not all(isinstance(each, dict) for each in found):
        raise InvalidInput(
            f"{source} holds no JSON objects.",
            kind="file",
            name=source,
            hint="Give one object, a list of objects, or one object a line.",
        )
    return found


def _scores(answer: dict[str, Any]) -> str:
    scores = answer.get("scores") or {}
    return "  " + " ".join(f"{label}={score:.4g}" for label, score in scores.items()) if scores else ""
