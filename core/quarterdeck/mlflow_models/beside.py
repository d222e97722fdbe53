"""Pickles of an MLflow folder, read in a process of their own: it builds the package, and whoever started it reads only that."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from quarterdeck import errors, lifeline, package_files, verify
from quarterdeck.build import BuiltPackage
from quarterdeck.errors import InvalidInput, PackageRefused, QuarterdeckError

PACKAGE, PROBLEM = "package", "problem.json"
"""What the child leaves: one of both."""
PARENT = "QUARTERDECK_MLFLOW_PARENT"
"""Variable that the child knows its parent by."""
_CHILD = "quarterdeck.mlflow_models.child"


def inside() -> bool:
    """Whether this process is the child."""
    return PARENT in os.environ


def run(folder: Path, wanted: str, seconds: float) -> BuiltPackage:
    """Build the package of a folder in a process of its own.

    Args:
        folder: MLflow's.
        wanted: what `importing.Wanted` says, as JSON.
        seconds: how long it may take.

    Raises:
        QuarterdeckError: what the child raised; `PackageRefused` ``load-failed`` where it died or took too long.
    """
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-P", "-m", _CHILD, str(folder.resolve()), scratch]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=2, start_new_session=True, env={**os.environ, PARENT: str(os.getpid())}
        ) as process:
            try:
                process.communicate(wanted.encode(), seconds)
                how = f"ended with {lifeline.ending(process.returncode)}"
            except subprocess.TimeoutExpired:
                how = f"took longer than {seconds:g} s"
            finally:
                # Programs that the pickle started included.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if not (Path(scratch) / PACKAGE).is_dir():
            raise _problem(Path(scratch) / PROBLEM, folder, how)
        place = Path(scratch) / PACKAGE
        manifest = package_files.read(place)
        verify.check_files(manifest, place)
        return BuiltPackage(manifest, {entry.path: (place / entry.path).read_bytes() for entry in manifest.files})


def unpickle(file: Path) -> Any:
    """The object of a pickle, cloudpickle or joblib file. This runs its code; only here.

    Raises:
        PackageRefused: ``load-failed``.
    """
    assert inside(), "pickles are read in the child alone"
    try:
        with file.open("rb") as source:
            return pickle.load(source)
    except Exception as error:
        raise _unreadable(file, error) from error


def skops(file: Path, trusted: list[str]) -> Any:
    """The object of a skops file with types that are not on our list; as `unpickle`."""
    import skops.io

    assert inside(), "foreign types are read in the child alone"
    try:
        return skops.io.load(file, trusted=trusted)
    except Exception as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> PackageRefused:
    return PackageRefused(
        f"{file.name} cannot be read: it raised {type(error).__name__}.",
        code="load-failed",
        kind="mlflow",
        name=file.name,
        hint="Import it where the libraries of its requirements.txt are installed.",
    )


def _problem(file: Path, folder: Path, how: str) -> QuarterdeckError:
    try:
        told = json.loads(file.read_bytes())
        kind = getattr(errors, str(told.pop("class")), InvalidInput)
        found: QuarterdeckError = kind(str(told.pop("detail")), **told)
        return found
    # The file is what a process wrote that ran a stranger's code.
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return PackageRefused(
            f"The process that read the model {how}.",
            code="load-failed",
            kind="mlflow",
            name=folder.name,
            hint="Try to load the model with MLflow itself.",
        )
