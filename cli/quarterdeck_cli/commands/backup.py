"""`quarterdeck backup` and `quarterdeck restore`: the SQLite database of a local system, or of a deployer by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quarterdeck.client import HOME
from quarterdeck_cli import saving
from quarterdeck_cli.output import Format, Output, note, show

app = typer.Typer()
_DATABASE = "deployer.db"
Folder = Annotated[
    Path, typer.Option("--dir", file_okay=False, help="Folder of the system; everything lies in its .quarterdeck/.")
]
Data = Annotated[
    Path | None, typer.Option("--data", file_okay=False, help="Data folder of a deployer that runs by itself, in place of --dir.")
]


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="Where to write it; it must not be there yet.")],
    folder: Folder = Path(),
    data: Data = None,
    output: Output = Format.table,
) -> None:
    """Write the database as of now to a file, while everything goes on; packages and records lie in the store.

    Example: quarterdeck backup before-upgrade.db
    """
    size = saving.save(_place(folder, data), file)
    show({"file": str(file), "bytes": size}, output, [f"{file}: {size:,} bytes"])


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="What `quarterdeck backup` wrote.")],
    folder: Folder = Path(),
    data: Data = None,
    output: Output = Format.table,
) -> None:
    """Put a backup in the place of the database; nothing may run there. What was there before stays beside it.

    Example: quarterdeck restore before-upgrade.db
    """
    before = saving.put_back(file, _place(folder, data))
    show({"restored": str(file), "before": str(before) if before else None}, output, [f"restored {file}"])
    if before:
        note(f"what was there before: {before}")


def _place(folder: Path, data: Path | None) -> Path:
    return (data or folder / HOME) / _DATABASE
