"""`quarterdeck scenario`: the saved test queries of a deployment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from quarterdeck.client import connect
from quarterdeck.errors import ModelFailed
from quarterdeck_cli.commands.shared import Deployment, Reason, read_object
from quarterdeck_cli.output import ABSENT, Column, Format, ListFormat, ListOutput, Output, age, show, show_list, spinner, word

app = typer.Typer(help="Save test queries of a deployment, and ask versions all of them side by side.")
Query = Annotated[str, typer.Argument(help="Name of the test query.")]

COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("ROWS", lambda row: len(row["rows"])),
    ("EXPECTED", lambda row: len(row["expect"]) or None),
    ("SEEDED", "seeded"),
    ("DESCRIPTION", "description"),
    ("AGE", lambda row: age(row["changed"])),
]


@app.command("list")
def list_(name: Deployment, output: ListOutput = ListFormat.table) -> None:
    """List the test queries of a deployment.

    Example: quarterdeck scenario list late-flights
    """
    with connect() as client:
        show_list(client.test_queries(name), COLUMNS, output, f"deployment/{name} has no test queries.")


@app.command("show")
def show_(name: Deployment, query: Query, output: Output = Format.json) -> None:
    """Show a test query with its rows.

    Example: quarterdeck scenario show late-flights golden-1
    """
    with connect() as client:
        found = client.test_query(name, query)
    expected = found["expect"] or [None] * len(found["rows"])
    show(found, output, [f"{json.dumps(row)}  {json.dumps(answer)}" for row, answer in zip(found["rows"], expected, strict=True)])


@app.command()
def put(
    name: Deployment,
    query: Query,
    file: Annotated[Path, typer.Option("-f", "--file", help="JSON or YAML file with rows and maybe expect; `-` reads stdin.")],
    reason: Reason = "",
    output: Output = Format.table,
) -> None:
    """Save a test query, in place of what was there under its name.

    Example: quarterdeck scenario put late-flights december -f december.json
    """
    body = {**read_object(file, 'Write {"rows": [{…}], "expect": [{"prediction": …}]}.'), **({"why": reason} if reason else {})}
    with connect() as client:
        found = client.put_test_query(name, query, body)
    show(found, output, [f"test-query/{query} of deployment/{name} saved", f"{len(found['rows'])} rows"])


@app.command()
def delete(name: Deployment, query: Query, reason: Reason = "", output: Output = Format.table) -> None:
    """Forget a test query.

    Example: quarterdeck scenario delete late-flights golden-1
    """
    with connect() as client:
        client.delete_test_query(name, query, reason)
    told = {"deployment": name, "name": query, "deleted": True}
    show(told, output, [f"test-query/{query} of deployment/{name} deleted"])


@app.command()
def run(
    name: Deployment,
    versions: Annotated[
        list[int] | None, typer.Option("--version", min=1, help="A version of main's model; may be given several times.")
    ] = None,
    queries: Annotated[list[str] | None, typer.Option("--query", help="Only this one; may be given several times.")] = None,
    trust_code: Annotated[bool, typer.Option("--trust-code", help="Let their packages run code when they are loaded.")] = False,
    output: Output = Format.table,
) -> None:
    """Ask versions all test queries side by side; main's where none is named.

    Ends with 1 where a version failed one: it gave no answer, or not the expected one.

    Example: quarterdeck scenario run late-flights --version 1 --version 2
    """
    with connect() as client, spinner(f"asking the test queries of deployment/{name}"):
        found = client.run_test_queries(name, versions or [], queries or [], trust="code" if trust_code else "data")
    show(found, output, _lines(found))
    failed = [f"v{version}" for version, count in zip(found["versions"], found["failed"], strict=True) if count]
    if failed:
        raise ModelFailed(
            f"{', '.join(failed)} of {found['model']} failed test queries of deployment/{name}.",
            code="scenarios-failed",
            kind="deployment",
            name=name,
            hint="The lines above say which, and how.",
        )


def _lines(found: dict[str, Any]) -> list[str]:
    """One line a row: each version's answer, then what is not as it should be."""
    lines = ["  ".join([f"{'QUERY':<24}", *(f"{f'v{version}':<16}" for version in found["versions"])]).rstrip()]
    for query in found["queries"]:
        for row in query["rows"]:
            place = f"{query['query']}[{row['row']}]"
            cells = [ABSENT if one["prediction"] is None else word(one["prediction"]) for one in row["answers"]]
            lines.append("  ".join([f"{place:<24}", *(f"{cell:<16}" for cell in cells)]).rstrip())
            lines += [f"  v{one['version']}: {one['problem']}" for one in row["answers"] if one["problem"]]
            lines += [f"  v{one['version']} differs: {one['differs']}" for one in row["answers"][1:] if one["differs"]]
    total = len(found["queries"])
    passed = zip(found["versions"], found["failed"], strict=True)
    return [*lines, ", ".join(f"v{version} passed {total - failed} of {total}" for version, failed in passed)]
