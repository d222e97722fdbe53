"""`quarterdeck node`: nodes on other hosts join, are looked at and sent away."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from socket import gethostname
from typing import Annotated

import typer

from quarterdeck.client import connect
from quarterdeck_cli import joined
from quarterdeck_cli.commands import local
from quarterdeck_cli.home import Note
from quarterdeck_cli.joined import Membership, NodeHome
from quarterdeck_cli.output import (
    Column,
    Format,
    Json,
    ListFormat,
    ListOutput,
    Output,
    age,
    emit,
    next_step,
    note,
    show,
    show_list,
    span,
)
from quarterdeck_cli.supervisor import Told

app = typer.Typer(help="Let nodes on other hosts join, look at all nodes, send one away.")
tokens = typer.Typer(help="Make what lets a node join.")
app.add_typer(tokens, name="token")
SHOWN_POINTS = 20
Folder = Annotated[Path, typer.Option("--folder", file_okay=False, help="Folder of the node; everything lies in it.")]


class Roles(StrEnum):
    """What a node does."""

    main = "main"
    challenger = "challenger"


COLUMNS: list[Column] = [
    ("NAME", "node"),
    ("INFRASTRUCTURE", "infrastructure"),
    ("ROLE", "role"),
    ("STATE", lambda row: state(row)),
    ("HEARD", lambda row: "never" if row["age_seconds"] is None else f"{span(row['age_seconds'])} ago"),
    ("MEMORY", lambda row: _mebibytes(row["rss_bytes"])),
    ("CPU", lambda row: _cores(row["cpu_cores"])),
    ("URL", "url"),
]
POINTS: list[Column] = [
    ("AGE", lambda row: age(row["at"])),
    ("MEMORY", lambda row: _mebibytes(row["rss_bytes"])),
    ("CPU", lambda row: _cores(row["cpu_cores"])),
]


@tokens.command()
def create(
    infrastructure: Annotated[str, typer.Option("--infrastructure", help="A static one.")],
    role: Annotated[Roles, typer.Option("--role", help="What the node will do.")] = Roles.main,
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, help="Minutes until it opens nothing any more.")] = 60.0,
    output: Output = Format.table,
) -> None:
    """Make a token that lets one node join. It is printed this once, alone on stdout.

    Example: quarterdeck node token create --infrastructure edge --role main
    """
    with connect() as client:
        found = client.create_join_token({"infrastructure": infrastructure, "role": role.value, "minutes": minutes})
    if output is Format.table:
        note(f"lets one {found['role']} node join {found['infrastructure']} within {minutes:g} minutes; it is not shown again")
        print(found["token"])
    else:
        emit(found, output)


@app.command()
def join(
    deployer: Annotated[str, typer.Argument(help="Base URL of the system, e.g. https://models.example.org.")],
    token: Annotated[
        str, typer.Option("--token", envvar=joined.TOKEN_VARIABLE, help="Join token; only the first start needs one.")
    ] = "",
    folder: Folder = Path("quarterdeck-node"),
    url: Annotated[
        str, typer.Option("--url", help="How callers and other nodes reach it; this host's name and port 8401 where left out.")
    ] = "",
    name: Annotated[str, typer.Option("--name", help="Its name; made up where left out.")] = "",
    host: Annotated[str, typer.Option("--host", help="Address to listen on; by itself as --url needs it.")] = "",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; that of --url where 0.")] = 0,
    ship_seconds: Annotated[
        float, typer.Option("--ship-seconds", min=0.1, max=3600, help="Longest time that a record waits to be shipped.")
    ] = 5.0,
    output: Output = Format.table,
) -> None:
    """Join a system and serve until Ctrl-C; started again, it serves at once from what its folder holds.

    Example: quarterdeck node join https://models.example.org --token T --url http://edge-1.example.org:8401
    """

    def waiting(names: Sequence[str]) -> None:
        note(f"starting: waiting for {', '.join(names)}" if names else "everything answers")

    def ready(running: Note, membership: Membership) -> None:
        if output is Format.table:
            print(
                f"node {membership.node} ({membership.role}) of {membership.infrastructure} serves at {membership.url}",
                flush=True,
            )
        else:
            emit({**running.document(), **membership._asdict()}, output)

    own = url or f"http://{gethostname()}:{port or 8401}"
    wanted = joined.Wanted(deployer, token, own, name, host, port, ship_seconds)
    joined.join(NodeHome(folder), wanted, Told(waiting, note), ready)
    note("stopped; everything is kept")


@app.command()
def stop(
    folder: Folder = Path("quarterdeck-node"),
    timeout: Annotated[float, typer.Option("--timeout", min=0, max=600, help="Seconds to wait for the end.")] = 70.0,
    output: Output = Format.table,
) -> None:
    """Stop the node of a folder in order: requests end, records are shipped, then everything ends.

    Example: quarterdeck node stop --folder quarterdeck-node
    """
    local.end(NodeHome(folder), timeout, output, ["node stopped", "everything is kept; start again with `quarterdeck node join`"])


@app.command("list")
def list_(
    infrastructure: Annotated[str, typer.Option("--infrastructure", help="Only those of this one.")] = "",
    output: ListOutput = ListFormat.table,
) -> None:
    """List the nodes of all infrastructures with the memory and processors that they use.

    Example: quarterdeck node list --infrastructure edge
    """
    with connect() as client:
        show_list(
            client.nodes(infrastructure), COLUMNS, output, "No nodes; make a join token with `quarterdeck node token create`."
        )


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(help="Name of the node.")],
    limit: Annotated[int, typer.Option("--limit", min=0, max=5760, help="Samples, 15 s apart, the newest first.")] = SHOWN_POINTS,
    output: Output = Format.table,
) -> None:
    """Show one node, and what it used.

    Example: quarterdeck node show edge-main-1
    """
    with connect() as client:
        found = client.node(name)
        points = client.node_usage(name, limit) if limit else []
    if output is not Format.table:
        emit({**found, "usage": points}, output)
        return
    heard = "never heard of" if found["age_seconds"] is None else f"heard of {span(found['age_seconds'])} ago"
    print(f"node/{name}  {found['role']} of {found['infrastructure']}  {state(found)}  {heard}")
    print(
        f"  {found['url']}  plan {found['sequence']}  memory {_mebibytes(found['rss_bytes'])}  cpu {_cores(found['cpu_cores'])}"
    )
    show_list(points, POINTS, ListFormat.table, "No samples yet; the first comes within 15 s.")


@app.command()
def revoke(name: Annotated[str, typer.Argument(help="Name of the node.")], output: Output = Format.table) -> None:
    """Send a node away: it gets no more plans, and stops answering when it hears of that.

    Example: quarterdeck node revoke edge-main-1
    """
    with connect() as client:
        found = client.revoke_node(name)
    show(
        found, output, [f"node/{name} revoked", "it stops answering as soon as it hears of that, within 10 s where it is reached"]
    )
    if output is Format.table:
        next_step("quarterdeck node list")


def state(node: Json) -> str:
    """In a word: `ready`, `live`, `silent` or `revoked`."""
    if node["revoked"]:
        return "revoked"
    return ("ready" if node["ready"] else "live") if node["live"] else "silent"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size else "-"


def _cores(cores: float | None) -> str:
    return "-" if cores is None else f"{cores:.2f}"
