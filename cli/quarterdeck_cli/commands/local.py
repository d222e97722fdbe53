"""The local system: up, down, status."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.status import Status

from quarterdeck.client import Client, connect
from quarterdeck_cli import processes, start, tree
from quarterdeck_cli.commands.completion import deployment_names
from quarterdeck_cli.errors import INTERRUPTED, StillRunning
from quarterdeck_cli.home import Home, Note
from quarterdeck_cli.output import Format, Output, Stopwatch, emit, err, note, show, stdout
from quarterdeck_cli.supervisor import Told

app = typer.Typer()
_LOOK_SECONDS = 1.0
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
    end(Home(folder), timeout, output, ["system stopped", "everything is kept; start again with `quarterdeck up`"])


def end(home: Home, timeout: float, output: Format, done: Sequence[str]) -> None:
    """Stop the supervisor of a folder and wait until it is gone; what is said then is `done`.

    Raises:
        StillRunning: it goes on stopping after `timeout` seconds.
    """
    running = home.note()
    # Signalled by pid and start time: a note of a dead supervisor may carry a pid that lives on as somebody else.
    if running is None or not processes.send(running.supervisor, signal.SIGTERM):
        show({"stopped": False}, output, ["nothing runs here"])
        return
    # The supervisor goes last, so that its end is the end of everything.
    note(f"stopping the supervisor, pid {running.supervisor.pid}")
    if processes.wait_gone([running.supervisor], timeout):
        raise StillRunning(
            f"The supervisor, pid {running.supervisor.pid}, has not ended within {timeout:g} s.",
            kind="supervisor",
            hint=f"It goes on stopping; ask again, or read {home.folder / 'logs'}.",
        )
    show({"stopped": True, "pid": running.supervisor.pid}, output, done)


@app.command()
def status(
    name: Annotated[str, typer.Argument(help="One deployment; all where left out.", autocompletion=deployment_names)] = "",
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on showing it until Ctrl-C.")] = False,
    output: Output = Format.table,
) -> None:
    """Show what runs: deployment, revision, role, node, each with its state in a word.

    Example: quarterdeck status late-flights -w
    """
    with connect() as client:
        if watch:
            try:
                follow(_again_and_again(client, name), output)
            except KeyboardInterrupt:
                # The only way to end it, so nothing went wrong; the status still tells scripts that it did not end by itself.
                raise typer.Exit(INTERRUPTED) from None
        elif output is Format.table:
            stdout().print(tree.system(**_system(client, name)))
        else:
            emit(_system(client, name), output)


def follow(systems: Iterable[dict[str, Any]], form: Format) -> None:
    """Show a system each time that it is looked at: redrawn on a terminal; elsewhere a line, or a document, per change.

    Args:
        systems: what `status` shows, once per look.
        form: JSON documents stand on one line each.
    """
    console = stdout()
    if form is Format.table and console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for each in systems:
                live.update(tree.system(**each), refresh=True)
        return
    seen: dict[str, str] = {}
    for each in systems:
        # Ages change with every look; what counts as a change is what the line says.
        now = {found["name"]: tree.line(found) for found in each["deployments"]}
        changed = [line for name, line in now.items() if seen.get(name) != line]
        changed += [f"{name}  deleted" for name in seen.keys() - now.keys()]
        if form is Format.table:
            print("".join(f"{line}\n" for line in changed), end="", flush=True)
        elif changed or not seen:
            print("---\n" if form is Format.yaml and seen else "", end="")
            emit(each, form, lines=True)
        seen = now


def _again_and_again(client: Client, name: str) -> Iterator[dict[str, Any]]:
    while True:
        yield _system(client, name)
        time.sleep(_LOOK_SECONDS)


def _system(client: Client, name: str) -> dict[str, Any]:
    """The instance and its deployments, or the one with that name."""
    found = [client.deployment(name)] if name else client.deployments()
    return {"instance": client.instance(), "deployments": found}


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
