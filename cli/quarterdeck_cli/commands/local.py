"""The local system: up, down, status."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.status import Status

from quarterdeck.client import connect
from quarterdeck_cli import processes, start, tree
from quarterdeck_cli.commands.completion import deployment_names
from quarterdeck_cli.errors import StillRunning
from quarterdeck_cli.home import Home, Note
from quarterdeck_cli.output import Format, Output, Stopwatch, emit, err, note, show, stdout
from quarterdeck_cli.supervisor import Told

app = typer.Typer()
Folder = Annotated[
    Path, typer.Option("--dir", file_okay=False, help="Folder of the system; everything lies in its .quarterdeck/.")
]


@app.command()
def up(
    folder: Folder = Path(),
    port: Annotated[
        int, typer.Option("--port", help="Port of the deployer; the nodes take the next two. 0 picks free ones.")
    ] = 8400,
    store: Annotated[
        str, typer.Option("--store", help="Folder or s3:// URL for packages and records; a folder of its own where left out.")
    ] = "",
    ship_seconds: Annotated[
        float, typer.Option("--ship-seconds", min=0.1, max=3600, help="Longest time that a record waits to be shipped.")
    ] = 5.0,
    output: Output = Format.table,
) -> None:
    """Start a whole system in a folder and keep it up until Ctrl-C.

    Example: quarterdeck up --dir ./flights --port 8400
    """
    watch = Stopwatch()
    with Status("starting", console=err) as shown:

        def waiting(names: Sequence[str]) -> None:
            said = f"starting: waiting for {', '.join(names)}" if names else "everything answers"
            shown.update(said)
            # A redrawn line is nothing in a log file; there each step gets a line of its own.
            if not err.is_terminal:
                note(said)

        def ready(running: Note) -> None:
            shown.stop()
            if output is Format.table:
                print("\n".join(banner(running, watch.seconds)), flush=True)
            else:
                emit(running.document(), output)

        start.up(Home(folder), start.Wanted(port, store, ship_seconds), Told(waiting, note), ready)
    note("stopped; everything is kept")


@app.command()
def down(
    folder: Folder = Path(),
    timeout: Annotated[float, typer.Option("--timeout", min=0, max=600, help="Seconds to wait for the end.")] = 70.0,
    output: Output = Format.table,
) -> None:
    """Stop the system of a folder in order: requests end, records are shipped, then everything ends.

    Example: quarterdeck down --dir ./flights
    """
    running = Home(folder).note()
    # Signalled by pid and start time: a note of a dead supervisor may carry a pid that lives on as somebody else.
    if running is None or not processes.send(running.supervisor, signal.SIGTERM):
        show({"stopped": False}, output, ["nothing runs here"])
        return
    note(f"stopping the supervisor, pid {running.supervisor.pid}")
    if processes.wait_gone([running.supervisor], timeout):
        raise StillRunning(
            f"The supervisor, pid {running.supervisor.pid}, has not ended within {timeout:g} s.",
            kind="supervisor",
            hint="It goes on stopping; ask again, or read .quarterdeck/logs.",
        )
    show(
        {"stopped": True, "pid": running.supervisor.pid},
        output,
        ["system stopped", "everything is kept; start again with `quarterdeck up`"],
    )


@app.command()
def status(
    name: Annotated[str, typer.Argument(help="One deployment; all where left out.", autocompletion=deployment_names)] = "",
    output: Output = Format.table,
) -> None:
    """Show what runs: deployment, revision, role, node, each with its state in a word.

    Example: quarterdeck status late-flights
    """
    with connect() as client:
        instance = client.instance()
        names = [name] if name else [each["name"] for each in client.deployments()]
        found = [client.deployment(each) for each in names]
    if output is Format.table:
        stdout().print(tree.system(instance, found))
    else:
        emit({"instance": instance, "deployments": found}, output)


def banner(running: Note, seconds: float) -> list[str]:
    """What `up` says once everything answers."""
    urls = running.urls
    return [
        f"Quarterdeck is up after {seconds:.1f} s.",
        f"  console   {urls['login']}",
        f"  API docs  {urls['deployer_docs']}  (deployer)",
        f"            {urls['main_docs']}  (predictions)",
        f"  form      {urls['main']}/deployments/NAME/form",
        f"  store     {running.store}",
        "Ctrl-C stops it; everything is kept.",
    ]
