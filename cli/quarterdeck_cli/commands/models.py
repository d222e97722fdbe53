"""`quarterdeck model`: the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from quarterdeck.client import Json, connect
from quarterdeck.errors import InvalidInput
from quarterdeck_cli.commands import comparing
from quarterdeck_cli.commands.shared import ModelName, Reason
from quarterdeck_cli.output import (
    ABSENT,
    Column,
    Format,
    ListFormat,
    ListOutput,
    Output,
    age,
    emit,
    next_step,
    note,
    short,
    show,
    show_list,
    table,
    word,
)
from quarterdeck_cli.output import stdout as console

app = typer.Typer(help="Look at models, their versions and runs; choose the active one, compare, deprecate and delete.")
Number = Annotated[int, typer.Argument(min=1, help="Number of the version.")]
MaybeNumber = Annotated[int | None, typer.Argument(min=1, help="Number of the version; the model itself where left out.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="Only what has this label: `key=value` or `key`.")]

COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("ACTIVE", lambda row: f"v{row['active_version']}" if row["active_version"] else None),
    ("NEWEST", lambda row: f"v{row['newest']}" if row["newest"] else None),
    ("VERSIONS", "versions"),
    ("AGE", lambda row: age(row["created"])),
]
LABELS: list[Column] = [("LABELS", lambda row: _labels(row["labels"]))]
VERSION_COLUMNS: list[Column] = [
    ("VERSION", lambda row: f"v{row['version']}"),
    ("ACTIVE", "active"),
    ("DEPRECATED", lambda row: age(row["deprecated"]) if row["deprecated"] else "no"),
    ("DIGEST", lambda row: short(row["digest"])),
    ("FORM", "form"),
    ("TASK", "task"),
    ("RUN", "run"),
    ("AGE", lambda row: age(row["created"])),
]
WIDE: list[Column] = [("WHOLE-DIGEST", "digest"), ("TRUST", "trust"), *LABELS]
RUN_COLUMNS: list[Column] = [
    ("RUN", "name"),
    ("VERSIONS", "versions"),
    ("METRICS", lambda row: _figures(row["metrics"])),
    ("PARAMETERS", lambda row: _figures(row["parameters"])),
    ("AGE", lambda row: age(row["created"])),
]


@app.command("list")
def list_(label: Labels = None, output: ListOutput = ListFormat.table) -> None:
    """List the models.

    Example: quarterdeck model list --label team=ops
    """
    with connect() as client:
        empty = "No models yet; publish one with `quarterdeck package push FOLDER`."
        show_list(client.models(label or ()), COLUMNS, output, empty, LABELS)


@app.command("show")
def show_(name: ModelName, label: Labels = None, output: ListOutput = ListFormat.table) -> None:
    """Show the versions of a model.

    Example: quarterdeck model show late-flights
    """
    with connect() as client:
        found = client.model(name)
        items = client.versions(name, label) if label else found["items"]
    # The document is more than its list of versions, so machines get it whole.
    if output in (ListFormat.json, ListFormat.yaml):
        emit({**found, "items": items}, output)
    else:
        show_list(items, VERSION_COLUMNS, output, f"{name} has no such versions." if label else f"{name} has no versions.", WIDE)


@app.command()
def version(name: ModelName, number: Number, output: Output = Format.table) -> None:
    """Show one version: where it comes from, what people say of it, what it is needed for.

    Example: quarterdeck model version late-flights 2
    """
    with connect() as client:
        found, uses = client.version(name, number), client.uses(name, number)
    lines = [f"version/{name}-{number}  {found['digest']}"]
    state = "deleted" if found["deleted"] else "active" if found["active"] else "not active"
    deprecated = f"since {found['deprecated'][:10]}{_because(found['deprecated_why'])}" if found["deprecated"] else "no"
    facts = {
        "state": state,
        "deprecated": deprecated,
        "run": found["run"],
        "form": f"{found['form']}, {found['size_bytes']} bytes",
        "metrics": _figures(found["metrics"]),
        "labels": _labels(found["labels"]),
        "notes": found["notes"],
    }
    lines += [f"{label:<12}{word(value)}" for label, value in facts.items()]
    lines += ["needed for", *(f"  {use['words']}" for use in uses)] if uses else ["needed for  nothing"]
    show({**found, "uses": uses}, output, lines)


@app.command()
def activate(name: ModelName, version: Number, reason: Reason = "", output: Output = Format.table) -> None:
    """Make a version the one that is used unless another one is named.

    Example: quarterdeck model activate late-flights 2 --reason "best Brier score"
    """
    with connect() as client:
        found = client.activate(name, version, reason)
    show(found, output, [f"model/{name} activated", f"active version v{version}; no deployment was changed"])
    if found["note"]:
        note(f"warning: {found['note']}")
    if found["before"]:
        next_step(f"quarterdeck model activate {name} {found['before']}   (the one before)")


@app.command()
def runs(
    name: ModelName,
    run: Annotated[str, typer.Argument(help="Name of one run, to see its candidates side by side.")] = "",
    output: ListOutput = ListFormat.table,
) -> None:
    """List the training runs of a model, or what one run has produced.

    Example: quarterdeck model runs late-flights "2026-11-21 lightgbm"
    """
    with connect() as client:
        if not run:
            show_list(client.runs(name), RUN_COLUMNS, output, f"{name} has no runs.")
            return
        found = client.run(name, run)
    if output in (ListFormat.json, ListFormat.yaml):
        emit(found, output)
        return
    # What all candidates have alike tells none of them from another.
    values = [one["hyperparameters"] for one in found["candidates"]]
    apart = sorted({key for one in values for key in one if any(other.get(key) != one[key] for other in values)})
    columns: list[Column] = [("VERSION", lambda row: f"v{row['version']}"), ("ACTIVE", "active")]
    columns += [
        (metric, f"metrics.{metric}") for metric in sorted({key for one in found["candidates"] for key in one["metrics"]})
    ]
    columns += [(key, _parameter(key)) for key in apart]
    show_list(found["candidates"], columns, output, f"Run {run} has no versions any more.")


@app.command()
def lineage(name: ModelName, number: Number, output: Output = Format.table) -> None:
    """Show where a version comes from and what was made from it.

    Example: quarterdeck model lineage late-flights 2
    """
    with connect() as client:
        found = client.lineage(name, number)
    training = found["training"]
    facts = {
        "run": found["run"],
        "data": f"{training['rows']:,} rows, {training['digest']}{_of(training['source'])}" if training else None,
        "recipe": found["recipe"],
        "commit": found["commit"],
        "producer": found["producer"],
        "environment": f"python {found['environment']['python']}, {_figures(found['environment']['libraries'])}",
        "card": f"{len(found['card'])} characters" if found["card"] else None,
    }
    lines = [f"version/{name}-{number}  {found['digest']}", *(f"{label:<13}{word(value)}" for label, value in facts.items())]
    lines += [f"parent       {_relative(one)}" for one in found["parents"]]
    lines += [f"parent       {found['unknown_parent']}, not registered here"] if found["unknown_parent"] else []
    lines += [f"child        {_relative(one)}" for one in found["children"]]
    show(found, output, lines)


@app.command()
def compare(
    name: ModelName,
    a: Annotated[int, typer.Argument(min=1, help="Number of a version.")],
    b: Annotated[int, typer.Argument(min=1, help="Number of the other one.")],
    output: Output = Format.table,
) -> None:
    """Show what differs between two versions: data, schema, hyperparameters, metrics, environment, files, golden rows.

    Example: quarterdeck model compare late-flights 1 2
    """
    with connect() as client:
        found = client.compare(name, a, b)
    if output is not Format.table:
        emit(found, output)
        return
    for title, rows in comparing.sections(found):
        print(title)
        if rows:
            console().print(table(rows, [("  MEMBER", "name"), (f"v{a}", "a"), (f"v{b}", "b"), ("CHANGE", "change")]))
    print(comparing.same(found))


@app.command("note")
def note_(
    name: ModelName,
    number: MaybeNumber = None,
    text: Annotated[str | None, typer.Option("--text", help="The whole text, Markdown; empty takes it away.")] = None,
    file: Annotated[Path | None, typer.Option("--file", exists=True, dir_okay=False, help="File with the text.")] = None,
    output: Output = Format.table,
) -> None:
    """Write the notes of a version, or of the model itself.

    Example: quarterdeck model note late-flights 2 --text "trained without the strike weeks"
    """
    if (text is None) == (file is None):
        raise InvalidInput("Notes come from --text or from --file.", kind="option", name="--text", hint="Give one of them.")
    with connect() as client:
        found = client.mark(name, number, notes=file.read_text(encoding="utf-8") if file else text)
    show(found, output, [f"{_place(name, number)} noted"])


@app.command()
def label(
    name: ModelName,
    words: Annotated[
        list[str], typer.Argument(metavar="[VERSION] KEY=VALUE...", help="`key=value` to set, `key-` to take away.")
    ],
    output: Output = Format.table,
) -> None:
    """Label a version, or the model itself.

    Example: quarterdeck model label late-flights 2 team=ops reviewed=yes old-
    """
    number = int(words.pop(0)) if words[0].isdecimal() else None
    wrong = [one for one in words if "=" not in one and not one.endswith("-")]
    if wrong or not words:
        hint = "Write `key=value` to set one, `key-` to take it away."
        raise InvalidInput("A label is a key with a value.", kind="argument", name=" ".join(wrong), hint=hint)
    given: dict[str, str | None] = {}
    for one in words:
        key, equals, value = one.partition("=")
        given[key if equals else one.removesuffix("-")] = value if equals else None
    with connect() as client:
        found = client.mark(name, number, labels=given)
    show(found, output, [f"{_place(name, number)} labelled", _labels(found["labels"])])


@app.command()
def deprecate(name: ModelName, number: Number, reason: Reason = "", output: Output = Format.table) -> None:
    """Deprecate a version: it serves on, and whoever deploys it again is warned.

    Example: quarterdeck model deprecate late-flights 1 --reason "trained on the wrong month"
    """
    with connect() as client:
        found = client.mark(name, number, deprecated=True, why=reason)
    show(found, output, [f"version/{name}-{number} deprecated"])
    next_step(f"quarterdeck model undeprecate {name} {number}   (to take it back)")


@app.command()
def undeprecate(name: ModelName, number: Number, reason: Reason = "", output: Output = Format.table) -> None:
    """Take a deprecation back.

    Example: quarterdeck model undeprecate late-flights 1
    """
    with connect() as client:
        found = client.mark(name, number, deprecated=False, why=reason)
    show(found, output, [f"version/{name}-{number} no longer deprecated"])


@app.command()
def delete(
    name: ModelName,
    number: Number,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
    output: Output = Format.table,
) -> None:
    """Delete the files of a version that nothing serves, pins or needs for a rollback. Its manifest stays, its number too.

    Example: quarterdeck model delete late-flights 1 --reason "never used"
    """
    if not yes:
        typer.confirm(f"Delete {name} v{number}? Its files do not come back", abort=True, err=True)
    with connect() as client:
        found = client.delete_version(name, number, reason)
    effect = f"{len(found['removed'])} files removed, {found['freed_bytes']} bytes"
    show(found, output, [f"version/{name}-{number} deleted", effect])


def _labels(labels: Json) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items()) or ABSENT


def _figures(figures: Json) -> str:
    return ", ".join(f"{key} {word(value)}" for key, value in figures.items()) or ABSENT


def _parameter(key: str) -> Any:
    # Not by a dotted path: the names of nested parameters may hold dots.
    return lambda row: row["hyperparameters"].get(key)


def _relative(one: Json) -> str:
    deleted = ", deleted" if one["deleted"] else ""
    return f"{one['model']} v{one['version']}  {short(one['digest'])}  {_steps(one['steps'])}{deleted}"


def _steps(count: int) -> str:
    return "1 step away" if count == 1 else f"{count} steps away"


def _of(source: str) -> str:
    return f", {source}" if source else ""


def _because(why: str) -> str:
    return f": {why}" if why else ""


def _place(name: str, number: int | None) -> str:
    return f"version/{name}-{number}" if number else f"model/{name}"
