"""`quarterdeck challenger`: who gets copies of the traffic."""

from __future__ import annotations

from typing import Annotated

import typer

from quarterdeck_cli.commands.shared import Deployment, Reason, Timeout, change
from quarterdeck_cli.output import Format, Output

app = typer.Typer(help="Set, clear or swap the challenger of a deployment.")


@app.command("set")
def set_(
    name: Deployment,
    version: Annotated[int, typer.Argument(min=1, help="Number of the version.")],
    model: Annotated[str | None, typer.Option("--model", help="Its model; main's own where left out.")] = None,
    trust_code: Annotated[bool, typer.Option("--trust-code", help="Let its package run code when it is loaded.")] = False,
    reason: Reason = "",
    timeout: Timeout = 60.0,
    output: Output = Format.table,
) -> None:
    """Send copies of a deployment's traffic to a version.

    Example: quarterdeck challenger set late-flights 2
    """
    # Trust belongs to one version and one decision, so it is said anew each time and never remembered here.
    trust = "code" if trust_code else "data"
    change(
        name,
        "challenged",
        output,
        timeout,
        lambda client, wait: client.set_challenger(name, version, model, reason, wait, trust=trust),
    )


@app.command()
def clear(name: Deployment, reason: Reason = "", timeout: Timeout = 60.0, output: Output = Format.table) -> None:
    """Stop sending copies of the traffic anywhere.

    Example: quarterdeck challenger clear late-flights
    """
    change(name, "unchallenged", output, timeout, lambda client, wait: client.clear_challenger(name, reason, wait))


@app.command()
def swap(name: Deployment, reason: Reason = "", timeout: Timeout = 60.0, output: Output = Format.table) -> None:
    """Let main and challenger change places.

    Example: quarterdeck challenger swap late-flights --reason "better on March"
    """
    change(name, "swapped", output, timeout, lambda client, wait: client.swap(name, reason, wait))
