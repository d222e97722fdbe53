"""Arguments that mean the same in every command, and how a change is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from quarterdeck.client import Client, Done, connect
from quarterdeck.errors import InvalidInput, PackageRefused, QuarterdeckError
from quarterdeck_cli.commands.completion import deployment_names, model_names
from quarterdeck_cli.errors import INTERRUPTED, StillRunning
from quarterdeck_cli.output import ABSENT, Format, Stopwatch, next_step, note, show, spinner

Deployment = Annotated[str, typer.Argument(help="Name of the deployment.", autocompletion=deployment_names)]
ModelName = Annotated[str, typer.Argument(help="Name of the model.", autocompletion=model_names)]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the revision and in the audit log.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0, max=600, help="Seconds to wait until the nodes follow; 0: do not wait.")
]


def ref(version: dict[str, Any] | None) -> str:
    """A version as people call it."""
    return f"{version['model']} v{version['version']}" if version else ABSENT


def pair(wish: dict[str, Any]) -> str:
    """Main and challenger in a few words."""
    challenger = wish.get("challenger")
    return f"main {ref(wish.get('main'))}" + (f", challenger {ref(challenger)}" if challenger else "")


def read_object(file: Path, hint: str) -> dict[str, Any]:
    """The object in a JSON or YAML file; ``-`` reads stdin.

    Args:
        file: its path.
        hint: for whoever wrote something else into it.

    Raises:
        InvalidInput: it cannot be read, or holds no object.
    """
    try:
        found = _parsed(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInput(
            f"{file} cannot be read as JSON or YAML: {type(error).__name__}.", kind="file", name=file.name, hint="Check the file."
        ) from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{file} holds no object.", kind="file", name=file.name, hint=hint)
    return found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    # Nearly all JSON is YAML; but numbers such as 1e5 would be words there, so that is tried last.
    except ValueError:
        return yaml.safe_load(text)


def change(name: str, verb: str, form: Format, timeout: float, act: Callable[[Client, float | None], Done]) -> None:
    """Do something to a deployment and tell it: type/name and past verb, then one line of effect.

    Raises:
        StillRunning: the nodes have not followed within the time; the change goes on.
        PackageRefused: a node refuses the version; what served serves on.
    """
    watch = Stopwatch()
    with connect() as client:
        try:
            with spinner(f"waiting until the nodes follow: deployment/{name}"):
                done = act(client, timeout or None)
        # The deployer has the change in its database; only the waiting can be interrupted.
        except KeyboardInterrupt:
            note(f"no longer waiting; the change goes on, look with `quarterdeck status {name}`")
            raise typer.Exit(INTERRUPTED) from None
        seconds = watch.seconds
        # The answer of an action tells its revision, not the pair that serves now.
        after = client.deployment(name)
    effect = f"{pair(after['wish'])} in {seconds:.2f} s, revision {done['revision']}" if done["changed"] else done["note"]
    show(dict(done), form, [f"deployment/{name} {verb if done['changed'] else 'unchanged'}", *filter(None, [effect])])
    for warning in done.get("warnings", ()):
        note(f"warning: {warning}")
    if timeout and not done["applied"]:
        raise _unfinished(name, done, after["observed"])
    next_step(f"quarterdeck status {name}")


def _unfinished(name: str, done: Done, observed: dict[str, Any]) -> QuarterdeckError:
    """Why the nodes do not do what the newest revision says: they refuse it, or they need longer."""
    about: dict[str, Any] = {"kind": "deployment", "name": name}
    # Waiting longer would not help: a refusal ends with the next change only.
    refused = observed["hold"] or observed["failure"]
    if refused:
        serving = f" {ref(observed['main']['ref'])} serves on." if observed["main"] else ""
        return PackageRefused(
            f"Revision {done['revision']} of deployment/{name} is refused: {refused['reason']}{serving}",
            code=refused["code"],
            hint=f"Mend and push a new version, or return with `quarterdeck rollback {name}`.",
            **about,
        )
    return StillRunning(
        f"The nodes have not taken over revision {done['revision']} of deployment/{name}. {done['note']}".strip(),
        hint=f"The change goes on; look with `quarterdeck status {name}`.",
        **about,
    )
