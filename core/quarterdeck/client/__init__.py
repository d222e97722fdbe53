"""The deployer's API and the nodes' doors for Python programs; the command line and the demo use nothing else.

    with connect() as client:                 # finds the system that `quarterdeck up` started in this folder or above
        client.swap("late-flights", why="the challenger is better")
        client.predict("late-flights", [{"month": 1, "carrier": "UA"}])

Answers are the API's own JSON documents; errors are those of `quarterdeck.errors`, with the server's words.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from quarterdeck.client.access import Access
from quarterdeck.client.actions import Actions
from quarterdeck.client.audit import Audit
from quarterdeck.client.calls import Json
from quarterdeck.client.deployments import Deployments, Done
from quarterdeck.client.infrastructures import Infrastructures
from quarterdeck.client.keys import Keys
from quarterdeck.client.models import Models
from quarterdeck.client.predictions import Label, Predicted, Predictions
from quarterdeck.client.stages import Stages
from quarterdeck.errors import NotReady

__all__ = ["HOME", "STATE", "TOKEN", "TOKEN_VARIABLE", "URL_VARIABLE", "Client", "Done", "Json", "Label", "Predicted", "connect"]

HOME, STATE, TOKEN = ".quarterdeck", "supervisor.json", "token"
URL_VARIABLE, TOKEN_VARIABLE = "QUARTERDECK_URL", "QUARTERDECK_TOKEN"


class Client(Deployments, Models, Predictions, Keys, Audit, Actions, Stages, Infrastructures, Access):
    """One deployer, with one base class per area of its API. Safe to share between threads; close it, or use it in `with`."""


def connect(folder: Path | None = None, *, timeout: float = 30.0) -> Client:
    """A client of the running system.

    Args:
        folder: where `quarterdeck up` runs; None: what QUARTERDECK_URL and QUARTERDECK_TOKEN name, else this folder or one above.
        timeout: seconds to wait for an answer.

    Raises:
        NotReady: ``not-running``: no system runs there.
    """
    url = os.environ.get(URL_VARIABLE, "")
    if folder is None and url:
        return Client(url, os.environ.get(TOKEN_VARIABLE, ""), timeout=timeout)
    start = (folder or Path()).resolve()
    # As git does: commands work in every folder below the one where the system was brought up.
    for place in [start] if folder else [start, *start.parents]:
        home = place / HOME
        if (home / STATE).is_file():
            return _client_of(home, timeout)
    raise NotReady(
        f"No system runs in {start}{'' if folder else ' or above'}.",
        code="not-running",
        kind="folder",
        hint=f"Start one with `quarterdeck up`, or set {URL_VARIABLE} and {TOKEN_VARIABLE}.",
    )


def _client_of(home: Path, timeout: float) -> Client:
    try:
        note = json.loads((home / STATE).read_bytes())
        return Client(note["urls"]["console"], (home / TOKEN).read_text().strip(), timeout=timeout)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotReady(
            f"{home} cannot be read: {type(error).__name__}.",
            code="not-running",
            kind="folder",
            hint="Start the system again with `quarterdeck up`.",
        ) from error
