"""`quarterdeck people`, `token` and `issuer`: who may sign in, and the short-lived tokens that they show to programs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from quarterdeck.client import connect
from quarterdeck_cli.commands.shared import Reason
from quarterdeck_cli.output import Column, Format, ListFormat, ListOutput, Output, age, emit, note, show, show_list

app = typer.Typer(help="Let people in, and say what they may do.")
issuer = typer.Typer(help="The keys that people's tokens are signed with.")
tokens = typer.Typer()
Role = Literal["viewer", "developer", "approver", "admin"]
PersonId = Annotated[str, typer.Argument(help="Id of the person.")]
Projects = Annotated[
    list[str] | None, typer.Option("--project", help="Whose deployments they may change; may be given several times.")
]

COLUMNS: list[Column] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("EMAIL", "email"),
    ("ROLE", "role"),
    ("PROJECTS", "projects"),
    ("LAST SIGN-IN", lambda row: age(row["seen"])),
]


@app.command("list")
def list_(output: ListOutput = ListFormat.table) -> None:
    """List the people.

    Example: quarterdeck people list
    """
    with connect() as client:
        show_list(client.people(), COLUMNS, output, "Nobody yet; let somebody in with `quarterdeck people create`.")


@app.command()
def create(
    email: Annotated[str, typer.Argument(help="Their address, as the provider of identities has verified it.")],
    name: Annotated[str, typer.Option("--name", help="Their name; the address where left out.")] = "",
    role: Annotated[Role, typer.Option("--role", help="What they may do.")] = "viewer",
    projects: Projects = None,
    reason: Reason = "",
    output: Output = Format.table,
) -> None:
    """Let somebody in; their first sign-in with this address makes it theirs.

    Example: quarterdeck people create anna@example.org --role developer --project delays
    """
    given = {"name": name or email, "email": email, "role": role, "why": reason}
    with connect() as client:
        found = client.create_person({**given, **({"projects": projects} if projects else {})})
    show(found, output, [f"person/{found['id']} created: {found['email']} is {found['role']}"])


@app.command()
def change(
    person: PersonId,
    role: Annotated[Role | None, typer.Option("--role", help="What they may do.")] = None,
    projects: Projects = None,
    reason: Reason = "",
    output: Output = Format.table,
) -> None:
    """Change somebody's role or projects; it counts from their next request on.

    Example: quarterdeck people change k3v9x0a1b2c3 --role approver
    """
    given = {"role": role, "projects": projects or None, "why": reason}
    with connect() as client:
        found = client.change_person(person, {name: value for name, value in given.items() if value is not None})
    show(found, output, [f"person/{person} is {found['role']} in {', '.join(found['projects']) or 'no project'}"])


@app.command()
def delete(person: PersonId, output: Output = Format.table) -> None:
    """Take somebody away; their sessions end with this.

    Example: quarterdeck people delete k3v9x0a1b2c3
    """
    with connect() as client:
        client.delete_person(person)
    show({"id": person, "deleted": True}, output, [f"person/{person} deleted"])


@app.command("end-sessions")
def end_sessions(person: PersonId, output: Output = Format.table) -> None:
    """Sign somebody out of every browser; they may sign in again.

    Example: quarterdeck people end-sessions k3v9x0a1b2c3
    """
    with connect() as client:
        found = client.end_sessions(person)
    show(found, output, [f"person/{person} signed out: {found['sessions']} sessions ended"])


@tokens.command()
def token(
    minutes: Annotated[int, typer.Option("--minutes", min=1, max=1_440, help="How long it is good.")] = 60,
    person: Annotated[str | None, typer.Option("--person", help="Id of the person whose token it is; admins only.")] = None,
    output: Output = Format.table,
) -> None:
    """Make a short-lived token for programs: it opens the API, and deployments in place of a key. Printed alone on stdout.

    Example: quarterdeck token --minutes 60 > quarterdeck.token
    """
    with connect() as client:
        found = client.create_token(minutes, person)
    if output is Format.table:
        note(f"a token of {found['subject']}, good until {found['expires'][:16].replace('T', ' ')} UTC")
        print(found["token"])
    else:
        emit(found, output)


@issuer.command()
def rotate(output: Output = Format.table) -> None:
    """Sign tokens with a new key; those of the key before are good until they expire, those of older ones end now.

    Example: quarterdeck issuer rotate
    """
    with connect() as client:
        found = client.rotate_token_keys()
    show(found, output, [f"tokens are signed with key {found['keys'][0]['kid']} from now on"])
