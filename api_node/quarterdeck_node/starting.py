"""What a node's programs see to before they serve: a folder that can be written, files enough, plain words where that fails."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import NoReturn

from quarterdeck.errors import InvalidInput, QuarterdeckError

OTHER_FILES = 1_024
"""Descriptors beside callers' connections: spool, models and their pipes, mirror, plan server, connections being refused."""


def refuse(error: QuarterdeckError) -> NoReturn:
    """End the process with status 2, saying what is wrong and what to do next: one line each on standard error."""
    print(f"error: {error.detail}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    sys.exit(2)


def prepare(folder: Path) -> None:
    """Make the node's folder where it is missing, and see that it can be written.

    Raises:
        InvalidInput: code ``folder-unusable``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Asked now, since later it would show only as records that are dropped and plans that are not kept.
        usable, why = os.access(folder, os.W_OK | os.X_OK), "it cannot be written"
    except OSError as error:
        usable, why = False, error.strerror or type(error).__name__
    if not usable:
        raise InvalidInput(
            f"The node's folder {folder} cannot be used: {why}.",
            code="folder-unusable",
            kind="setting",
            name="QUARTERDECK_FOLDER",
            hint="Give this user the right to write there, or choose another QUARTERDECK_FOLDER.",
        )


def allow_files(connections: int) -> None:
    """Raise this process's limit of open files to what so many connections need, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    # The usual 1,024 would be used up before the cap is reached, and accepting would fail without a word to the caller.
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
