"""`quarterdeck package import-mlflow` and `export-mlflow`: MLflow's model folders in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quarterdeck.errors import InvalidInput
from quarterdeck_cli.commands import packages
from quarterdeck_cli.output import Format, Output, next_step, note, show, spinner

app = typer.Typer()


@app.command("import-mlflow")
def import_(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", file_okay=False, help="What MLflow's save_model wrote.")],
    name: Annotated[str, typer.Argument(help="Name of the model; that of the folder where left out.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; NAME-package where left out.")] = None,
    trust: Annotated[str, typer.Option("--trust", help="`code` to read pickles and Python code: both run when read.")] = "data",
    data: Annotated[
        Path | None, typer.Option("--data", help="Rows with the target, .parquet or .csv, in place of the saved input example.")
    ] = None,
    target: Annotated[str, typer.Option("--target", help="With --data: the target's column; metrics come from it.")] = "",
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="A class, once for each, in the scores' order, if the model knows none."),
    ] = None,
    description: Annotated[str, typer.Option("--description", help="One sentence for lists.")] = "",
    output: Output = Format.table,
) -> None:
    """Make a package of a model that MLflow saved: sklearn and lightgbm, else python_function.

    Example: quarterdeck package import-mlflow mlruns/0/models/m-1/artifacts late-flights --trust code
    """
    # The data science stack takes seconds to load, and no other command needs it.
    from quarterdeck.mlflow_models.importing import Wanted, import_mlflow

    if trust not in ("data", "code"):
        raise InvalidInput("--trust takes `data` or `code`.", kind="option", name="--trust")
    if not name:
        name = packages.name_of(source)
        note(f"named {name} after {source.name}; give NAME for another one")
    wanted = Wanted.model_validate(
        {
            "name": name,
            "trust": trust,
            "data": str(data.resolve()) if data else "",
            "target": target,
            "classes": classes or [],
            "description": description,
        }
    )
    folder = out or Path(f"{name}-package")
    with spinner(f"importing {name}: reading, proving, choosing golden rows"):
        built = import_mlflow(source, wanted)
        built.write(folder)
    lines = [f"package/{name} imported", *packages.summary(built.manifest), f"folder      {folder}"]
    show(packages.facts(built.manifest, folder), output, lines)
    next_step(f"quarterdeck package push {folder}")


@app.command("export-mlflow")
def export(
    folder: packages.Folder,
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    output: Output = Format.table,
) -> None:
    """Write a package as a model folder that `mlflow.pyfunc.load_model` loads.

    Example: quarterdeck package export-mlflow ./late-flights ./late-flights-mlflow
    """
    from quarterdeck.mlflow_models.exporting import export_mlflow

    with spinner("exporting"):
        export_mlflow(folder, out)
    show({"package": str(folder), "folder": str(out)}, output, [f"package/{folder.name} exported", f"folder      {out}"])
    next_step(f"mlflow models predict -m {out} -i {out}/input_example.json")
