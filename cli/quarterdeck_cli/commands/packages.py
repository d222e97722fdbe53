"""`quarterdeck package`: build, look at, prove, publish and fetch packages, and build images for them."""

from __future__ import annotations

import re
import tempfile
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from quarterdeck import package_files
from quarterdeck.client import connect
from quarterdeck.errors import InvalidInput
from quarterdeck.manifest import Manifest, Proof
from quarterdeck.plan import VersionRef
from quarterdeck.storage import Storage, open_storage
from quarterdeck_cli import errors, images
from quarterdeck_cli.output import Format, Output, next_step, note, show, spinner, word

app = typer.Typer(help="Build, prove, publish and fetch model packages.")

Folder = Annotated[Path, typer.Argument(file_okay=False, help="Folder of the package.")]
_UPLOAD_SECONDS = 120.0
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Let the package run code when it is loaded.")]


class FormChoice(StrEnum):
    """How a model can be stored."""

    auto = "auto"
    compiled = "compiled"
    skops = "skops"
    joblib = "joblib"


class Builder(StrEnum):
    """Programs that build images."""

    docker = "docker"
    podman = "podman"
    buildah = "buildah"


@app.command()
def build(
    data: Annotated[Path, typer.Option("--data", help="Training rows with the target: .parquet or .csv.")],
    target: Annotated[str, typer.Option("--target", help="The target's column.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="Fitted model: a joblib or pickle file of your own, or a LightGBM text model.")
    ] = None,
    code: Annotated[
        Path | None, typer.Option("--code", help="In the place of --model: folder of your own Python files and artifacts.")
    ] = None,
    entry_point: Annotated[
        str, typer.Option("--entry-point", help="With --code: `module:function` that gives the model, e.g. pricing:load.")
    ] = "",
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="With --code: a class, once for each, in the scores' order; else numbers are a regression."),
    ] = None,
    name: Annotated[str, typer.Argument(help="Name of the model; that of its file where left out.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; NAME (code: NAME-package) where left out.")] = None,
    validation: Annotated[
        Path | None, typer.Option("--validation", help="Rows that the model has not seen: .parquet or .csv.")
    ] = None,
    form: Annotated[FormChoice, typer.Option("--form", help="How to store the model.")] = FormChoice.auto,
    trust: Annotated[
        str, typer.Option("--trust", help="`code` to store as joblib what skops does not know: loading runs code.")
    ] = "",
    accelerated: Annotated[
        bool, typer.Option("--accelerated", help="With --model: add a graph that a GPU can score by.")
    ] = False,
    description: Annotated[str, typer.Option("--description", help="One sentence for lists.")] = "",
    card: Annotated[Path | None, typer.Option("--card", help="Model card, Markdown.")] = None,
    run: Annotated[str, typer.Option("--run", help="Name of the training run.")] = "",
    recipe: Annotated[str, typer.Option("--recipe", help="What trained it: a program or a recipe, by name or digest.")] = "",
    commit: Annotated[str, typer.Option("--commit", help="Commit of the code that trained it.")] = "",
    parent: Annotated[str, typer.Option("--parent", help="Digest of the version that it was made from.")] = "",
    producer: Annotated[str, typer.Option("--producer", help="Who or what built it.")] = "",
    nullable: Annotated[
        list[str] | None, typer.Option("--nullable", help="Column that takes null although the data has none.")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Build a package from a model and data that lie in files.

    Example: quarterdeck package build late-flights --model m.joblib --data train.parquet --target late

    With --model, --data and --target alone, name and folder are those of the model's file. Custom Python code:
    quarterdeck package build pricing --code ./pricing --entry-point pricing:load --data rows.parquet --target price
    """
    # The data science stack takes seconds to load, and no other command needs it.
    from quarterdeck.build import from_files
    from quarterdeck.build_code import code_from_files

    if trust not in ("", "data", "code"):
        raise InvalidInput("--trust takes `data` or `code`.", kind="option", name="--trust")
    source = model or code
    if source is None or (model and code) or bool(code) != bool(entry_point):
        hint = "Give --model FILE, or --code FOLDER --entry-point MODULE:FUNCTION."
        raise InvalidInput("A package is built from a model or from code.", kind="option", name="--model", hint=hint)
    if not name:
        name = name_of(source)
        note(f"named {name} after {source.name}; give NAME for another one")
    # The code's own folder is most often called like the model.
    folder = out or Path(name if model else f"{name}-package")
    words: dict[str, Any] = {
        "name": name,
        "description": description,
        "run": run,
        "recipe": recipe or None,
        "commit": commit,
        "parent": parent or None,
        "producer": producer,
        "card": _read(card),
        "nullable": nullable or (),
    }
    with spinner(f"building {name}: describing, proving, choosing golden rows"):
        if model is not None:
            words |= {"form": str(form), "trust": trust or None, "accelerated": accelerated}
            built = from_files(model, data, target, validation_path=validation, **words)
        else:
            built = code_from_files(source, entry_point, data, target, class_texts=classes or (), **words)
        built.write(folder)
    show(facts(built.manifest, folder), output, [f"package/{name} built", *summary(built.manifest), f"folder      {folder}"])
    next_step(f"quarterdeck package push {folder}")


@app.command()
def inspect(folder: Folder, output: Output = Format.table) -> None:
    """Show what a package says about itself; its files are not read.

    Example: quarterdeck package inspect ./late-flights -o json
    """
    manifest = package_files.read(folder)
    features = [
        f"  {each.name}  {each.type}{'  null allowed' if each.nullable else ''}" for each in manifest.data_schema.features
    ]
    show(manifest.model_dump(mode="json", by_alias=True), output, [*summary(manifest), "features", *features])


@app.command()
def verify(folder: Folder, trust_code: TrustCode = False, output: Output = Format.table) -> None:
    """Prove a package as a node does: files, environment, trust, load, golden rows.

    Example: quarterdeck package verify ./late-flights
    """
    manifest = package_files.read(folder)
    # Held to the manifest that was just read, so that what is shown below is what was proven.
    with spinner("verifying"):
        package_files.prove(folder, digest=manifest.digest, allow_code=trust_code)
    show(
        facts(manifest, folder),
        output,
        [
            f"package/{manifest.model} verified",
            f"{len(manifest.files)} files, {len(manifest.golden)} golden rows, {manifest.digest}",
        ],
    )


@app.command("test")
def run_scenarios(folder: Folder, trust_code: TrustCode = False, output: Output = Format.table) -> None:
    """Prove a package and run its named scenarios.

    Example: quarterdeck package test ./late-flights
    """
    with spinner("testing"):
        found = package_files.test_package(folder, allow_code=trust_code)
    lines = [f"golden rows  {found.golden} passed"]
    lines += [f"{each.name}  {each.reason or 'passed'}  ({each.rows} rows)" for each in found.scenarios]
    show({**asdict(found), "passed": found.passed}, output, lines)
    # The report is whole on stdout either way; the status is what a pipeline goes by.
    if not found.passed:
        raise typer.Exit(errors.FAILED)


@app.command()
def push(
    folder: Folder,
    to: Annotated[
        str, typer.Option("--to", help="Store to publish to, and nothing more; the running system's where left out.")
    ] = "",
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Number that it must get; the next free one where left out.")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Publish a package and make it known to the running system.

    Example: quarterdeck package push ./late-flights
    """
    # A store that is named may belong to no running system, so nothing is registered there.
    if to:
        ref, said = _published(folder, open_storage(to), version)
        show(ref.model_dump(mode="json"), output, said)
        return
    with connect() as client:
        ref, said = _published(folder, open_storage(client.instance()["store"]), version)
        # Said again even where nothing was published: an earlier push may have been cut off between the two steps.
        found = client.register(ref, package_files.read(folder).run)
    show(found, output, said)
    next_step("quarterdeck apply -f deployment.yaml")


@app.command()
def publish(
    folder: Folder,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Number that it must get; the next free one where left out.")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Publish a package through the deployer's API, for those who cannot reach the store itself.

    Example: quarterdeck package publish ./late-flights
    """
    with connect(timeout=_UPLOAD_SECONDS) as client, spinner("publishing"):
        found = client.publish(folder, version)
    lines = [f"version/{found['model']}-{found['version']} published", f"{found['model']} v{found['version']}, {found['digest']}"]
    show(found, output, lines)


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[int, typer.Argument(min=1, help="Number of the version.")],
    folder: Annotated[Path | None, typer.Argument(help="Folder to write; MODEL-VERSION where left out.")] = None,
    source: Annotated[str, typer.Option("--from", help="Store to fetch from; the running system's where left out.")] = "",
    output: Output = Format.table,
) -> None:
    """Fetch one version and verify it.

    Example: quarterdeck package pull late-flights 2 ./late-flights-2
    """
    url = source or _store()
    # The number is part of the folder's name, so that two versions can lie side by side.
    target = folder or Path(f"{model}-{version}")
    with spinner(f"fetching {model} v{version}"):
        manifest = package_files.pull(open_storage(url), model, version, target)
    show(
        facts(manifest, target),
        output,
        [f"version/{model}-{version} fetched", f"{target}, {manifest.size} bytes, {manifest.digest}"],
    )


@app.command()
def image(
    folder: Folder,
    tag: Annotated[str, typer.Option("--tag", help="Name of the image; quarterdeck-node:MODEL-DIGEST where left out.")] = "",
    base: Annotated[str, typer.Option("--base", help="Image to start from, with the package's feature release of Python.")] = "",
    builder: Annotated[Builder | None, typer.Option("--builder", help="What builds; the first that works if left out.")] = None,
    context: Annotated[
        Path | None, typer.Option("--context", file_okay=False, help="Only write what it is built from into this new folder.")
    ] = None,
    checkout: Annotated[
        Path | None,
        typer.Option("--checkout", file_okay=False, help="Checkout of Quarterdeck; this program's own if left out."),
    ] = None,
    output: Output = Format.table,
) -> None:
    """Build a node's image with the interpreter and libraries that the package records; compiled packages need none.

    Example: quarterdeck package image ./risk-score --tag registry.example.org/risk-score-node:1
    """
    manifest = package_files.read(folder)
    made = images.recipe(manifest, tag, base)
    told = {"model": manifest.model, "digest": manifest.digest, "image": made.tag, "base": made.base}
    if context is not None:
        images.write_context(context, made, manifest.environment, checkout)
        show({**told, "context": str(context)}, output, [f"context/{context.name} written", f"{made.tag} from {made.base}"])
        next_step(f"cd {context} && docker build {' '.join(made.build_args())} .")
        return
    program = images.builder(builder or "")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "context"
        images.write_context(place, made, manifest.environment, checkout)
        images.build(program, place, made)
    show({**told, "builder": program}, output, [f"image/{made.tag} built", f"from {made.base} by {program}"])
    if manifest.environment.variables:
        note(f"set in spec.nodes.env: {', '.join(manifest.environment.variables)}")
    next_step(f"push it where the cluster finds it, then set spec.nodes.image: {made.tag}")


def _published(folder: Path, storage: Storage, version: int | None) -> tuple[VersionRef, list[str]]:
    """Publish, and what is to be said of it: a package that the store holds already is not published twice."""
    # Looked at before the push, for afterwards every number is taken.
    before = package_files.versions(storage, package_files.read(folder).model)
    with spinner("publishing"):
        ref = package_files.push(folder, storage, version)
    verb = f"already published as version {ref.version}" if ref.version in before else "published"
    return ref, [f"version/{ref.model}-{ref.version} {verb}", f"{ref}, {ref.digest}"]


def name_of(model: Path) -> str:
    """A legal name made of a file's: small letters and digits, everything else as single dashes."""
    words = re.findall("[a-z0-9]+", model.stem.lower())
    # 63 characters may end in the middle of the dashes.
    name = "-".join(words)[:63].rstrip("-")
    if not name:
        raise InvalidInput(
            f"{model.name} gives no name: it holds neither letters from a to z nor digits.",
            kind="argument",
            name="NAME",
            hint="Name the model: quarterdeck package build NAME --model … --data … --target …",
        )
    return name


def _store() -> str:
    with connect() as client:
        return str(client.instance()["store"])


def _read(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read: {error.strerror}.", kind="file", name=path.name, hint="Check the path."
        ) from error


def facts(manifest: Manifest, folder: Path) -> dict[str, object]:
    """What machines are told of a package that was made or fetched."""
    return {
        "model": manifest.model,
        "digest": manifest.digest,
        "form": manifest.form,
        "trust": manifest.trust,
        "bytes": manifest.size,
        "folder": str(folder),
        "metrics": manifest.metrics,
    }


def summary(manifest: Manifest) -> list[str]:
    """What people are told of it, a line for each member."""
    proof = manifest.proof
    edges = f" and {proof.edges} edge cases" if proof and proof.edges else ""
    proven = f"{proof.rows} rows{edges}, largest difference {proof.largest_difference:.2g}" if proof else None
    told = {
        "model": manifest.model,
        "digest": manifest.digest,
        "form": f"{manifest.form}, trust {manifest.trust}",
        **({"uncompiled": manifest.fallback} if manifest.fallback else {}),
        "task": f"{manifest.data_schema.task}, {len(manifest.data_schema.features)} features",
        "files": f"{len(manifest.files)}, {manifest.size} bytes",
        "proof": proven,
        **({"accelerated": _gpu(manifest.accelerated)} if manifest.accelerated else {}),
        "metrics": ", ".join(f"{name} {word(value)}" for name, value in manifest.metrics.items()),
    }
    return [f"{name:<10}  {word(value)}" for name, value in told.items()]


def _gpu(proof: Proof) -> str:
    return f"by a GPU too; {proof.rows} rows, largest difference {proof.largest_difference:.2g}"
