"""Refusals before anything is loaded: files, environment, and, once it is loaded, the golden rows.

The order is always: manifest digest, files, environment, trust, load, golden rows.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from quarterdeck.environment import compare_interpreter, compare_libraries, compare_variables
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.manifest import FileEntry, Form, GoldenRow, Manifest
from quarterdeck.model import Model
from quarterdeck.records import Answer
from quarterdeck.schema import Row

_CHUNK = 2**20
# A program is data of ours, and a model text one of LightGBM's, stable over releases; the golden rows prove them on the spot.
_NEEDS_NOTHING: frozenset[Form] = frozenset({"compiled"})


def check_files(manifest: Manifest, folder: Path) -> None:
    """Compare the size and sha256 of every listed file with its bytes.

    Args:
        manifest: what must be there.
        folder: the package's folder.

    Raises:
        PackageRefused: ``file-missing`` or ``digest-mismatch``; `extra["place"]` is the file's path in the package.
    """
    for entry in manifest.files:
        digest, size = hashlib.sha256(), 0
        with _Opened(manifest, folder, entry) as descriptor:
            # In pieces: a model may be larger than what is left of memory beside the one that serves.
            while chunk := os.read(descriptor.number, _CHUNK):
                digest.update(chunk)
                size += len(chunk)
        _compare(manifest, entry, digest.hexdigest(), size)


def read_verified(manifest: Manifest, folder: Path, path: str) -> bytes:
    """The bytes of one file, which are the very bytes that were compared with its digest.

    Raises:
        PackageRefused: ``file-missing`` or ``digest-mismatch``.
    """
    entry = manifest.file(path)
    with _Opened(manifest, folder, entry) as descriptor:
        chunks = list(iter(lambda: os.read(descriptor.number, _CHUNK), b""))
    # Read once, digested and handed on: between a check and a second reading the file could be exchanged.
    data = b"".join(chunks)
    _compare(manifest, entry, hashlib.sha256(data).hexdigest(), len(data))
    return data


def check_environment(manifest: Manifest, environ: Mapping[str, str] | None = None) -> None:
    """Compare interpreter, libraries and variables with what is here.

    `compiled` needs no Python environment; every form needs its variables.

    Args:
        manifest: says what the model needs.
        environ: environment variables; this process's own where None.

    Raises:
        PackageRefused: ``environment-mismatch`` naming both sides, or ``variable-missing``.
    """
    # Variables last: to set one is a small matter, a foreign interpreter is not.
    if manifest.form not in _NEEDS_NOTHING:
        compare_interpreter(manifest)
        compare_libraries(manifest)
    compare_variables(manifest, os.environ if environ is None else environ)


def unloadable(manifest: Manifest, place: str, why: str) -> PackageRefused:
    """The refusal of a package whose files are the published ones and still make no model: which file, or part, and why."""
    return PackageRefused(
        f"{place} of {manifest.model} cannot be loaded: {why}.",
        code="load-failed",
        kind="package",
        name=manifest.model,
        hint="Build the package again.",
        extra={"place": place},
    )


def check_golden(manifest: Manifest, model: Model, tolerance: float | None = None) -> None:
    """Ask the model for every golden row, one at a time and all at once, and compare.

    Args:
        manifest: has the rows.
        model: to ask.
        tolerance: the manifest's own where None.

    Raises:
        PackageRefused: ``golden-mismatch``; `extra["place"]` names the row, its number starting at 0.
    """
    allowed = manifest.golden_tolerance if tolerance is None else tolerance
    together = _ask(manifest, model, [golden.row for golden in manifest.golden], "of all")
    for index, golden in enumerate(manifest.golden):
        _same(manifest, index, golden, together[index], allowed)
        # A single row takes the model's fast path, which must agree with the batch.
        _same(manifest, index, golden, _ask(manifest, model, [golden.row], str(index))[0], allowed)


def differs(expected: Answer, answer: Answer, tolerance: float) -> str:
    """What is different between two answers, in words; empty where nothing is beyond the tolerance.

    Labels must be identical; numbers may differ by `tolerance`, absolute or relative, whichever is larger.
    """
    # A regression's prediction is a number with an error of its own; a class label is right or wrong.
    if not expected.scores and _is_number(expected.prediction) and _is_number(answer.prediction):
        if not math.isclose(float(expected.prediction), float(answer.prediction), rel_tol=tolerance, abs_tol=tolerance):
            return "another number than expected"
    elif expected.prediction != answer.prediction:
        return "another label than expected"
    if len(expected.scores) != len(answer.scores):
        return f"{len(answer.scores)} scores instead of {len(expected.scores)}"
    # The size of the difference is safe to tell; the scores themselves may be somebody's data.
    for wanted, given in zip(expected.scores, answer.scores, strict=True):
        if not math.isclose(wanted, given, rel_tol=tolerance, abs_tol=tolerance):
            return f"a score differs by {abs(wanted - given):.3g}"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _ask(manifest: Manifest, model: Model, rows: list[Row], place: str) -> list[Answer]:
    try:
        answers = model.predict(rows)
    except ModelFailed as error:
        raise _golden(manifest, place, error.detail.rstrip(".")) from error
    if len(answers) != len(rows):
        raise _golden(manifest, place, f"{len(answers)} answers to {len(rows)} rows")
    return answers


def _same(manifest: Manifest, index: int, golden: GoldenRow, answer: Answer, tolerance: float) -> None:
    expected = Answer(golden.expected.prediction, golden.expected.scores)
    found = differs(expected, answer, tolerance)
    if found:
        raise _golden(manifest, str(index), found)


def _golden(manifest: Manifest, place: str, what: str) -> PackageRefused:
    return PackageRefused(
        f"{manifest.model} does not reproduce golden row {place}: {what}.",
        code="golden-mismatch",
        kind="package",
        name=manifest.model,
        hint="Build the package again with the libraries that serve it.",
        extra={"place": f"golden row {place}"},
    )


class _Opened:
    """One file of the package, opened without following a link out of the folder."""

    def __init__(self, manifest: Manifest, folder: Path, entry: FileEntry) -> None:
        self.number = -1
        self._place = (manifest, folder, entry)

    def __enter__(self) -> _Opened:
        manifest, folder, entry = self._place
        try:
            # Non-blocking: opening a pipe that somebody put there would wait for its other end, and wait for ever.
            self.number = os.open(folder / entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            raise _missing(manifest, entry) from None
        # A folder opens like a file and fails only when it is read.
        if not stat.S_ISREG(os.fstat(self.number).st_mode):
            os.close(self.number)
            raise _missing(manifest, entry)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.number)


def _missing(manifest: Manifest, entry: FileEntry) -> PackageRefused:
    return PackageRefused(
        f"{entry.path} of {manifest.model} is not there.",
        code="file-missing",
        kind="package",
        name=manifest.model,
        hint="Fetch or publish the package again.",
        extra={"place": entry.path},
    )


def _compare(manifest: Manifest, entry: FileEntry, sha256: str, size: int) -> None:
    if (sha256, size) != (entry.sha256, entry.size):
        raise PackageRefused(
            f"{entry.path} of {manifest.model} is not the file that was published.",
            code="digest-mismatch",
            kind="package",
            name=manifest.model,
            hint="Fetch or publish the package again; never edit a package's files.",
            extra={"place": entry.path},
        )
