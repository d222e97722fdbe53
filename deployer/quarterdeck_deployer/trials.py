"""Versions on trial: fetched from a store and loaded in a process of their own, as a node would, to be asked and put away."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from quarterdeck import forms, verify
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.fetch import fetch_package, forget
from quarterdeck.manifest import MANIFEST, Manifest
from quarterdeck.model_environ import model_environ
from quarterdeck.plan import VersionRef
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck.storage import Storage
from quarterdeck.worker_client import ProcessModel

AT_ONCE = 2
"""Models that are loaded at one time: they take memory beside a deployer that has other things to do."""
SECONDS = 60.0
MEMORY_BYTES = 16 * 2**30
CACHE_BYTES = 2**30


class OnTrial(NamedTuple):
    """A loaded version."""

    manifest: Manifest
    model: ProcessModel


class Trials:
    """Loads versions, a few at a time.

    Args:
        folder: of the cache that packages are fetched to; made where it is missing.
        allow_code: whether packages that run code when loaded may be tried on this host at all.
    """

    def __init__(self, folder: Path, *, allow_code: bool) -> None:
        self._folder, self._allow_code = folder, allow_code
        self._free = threading.BoundedSemaphore(AT_ONCE)
        self._lock, self._used = threading.Lock(), Counter[str]()

    @contextmanager
    def loaded(self, storage: Storage, ref: VersionRef) -> Iterator[OnTrial]:
        """One version, ready to be asked; `ref.trust` says what its deployment allows.

        Raises:
            PackageRefused: by name: files, environment, trust, loading.
            StorageError: of the store or of the cache.
        """
        with self._free, self._using(ref.digest):
            folder = fetch_package(storage, ref, self._folder)
            manifest = Manifest.parse((folder / MANIFEST).read_bytes(), ref.digest)
            self._check_trust(manifest, ref)
            environ = model_environ(manifest.environment.variables)
            allowed = ref.trust == "code"
            with ProcessModel(
                folder, manifest, allow_code=allowed, seconds=SECONDS, environ=environ, memory_bytes=MEMORY_BYTES
            ) as model:
                yield OnTrial(manifest, model)
            with self._lock:
                forget(self._folder, +self._used, CACHE_BYTES)

    @contextmanager
    def _using(self, digest: str) -> Iterator[None]:
        """Keep a version in the cache, whoever makes room there meanwhile."""
        with self._lock:
            self._used[digest] += 1
        try:
            yield
        finally:
            with self._lock:
                self._used[digest] -= 1

    def _check_trust(self, manifest: Manifest, ref: VersionRef) -> None:
        forms.check_trust(manifest, allow_code=ref.trust == "code")
        # Whoever may publish and deploy code is not thereby somebody who may run it beside keys and database.
        if manifest.trust == "code" and not self._allow_code:
            raise PackageRefused(
                f"{ref} runs code from its package, and gates of this deployer may not run any.",
                code="trust-required",
                kind="package",
                name=str(ref),
                hint="Set QUARTERDECK_GATES_RUN_CODE on the deployer, or take the gates that load packages from the stage.",
                extra={"place": "trust"},
            )


def prove(trial: OnTrial) -> None:
    """Ask for the golden rows. Raises PackageRefused ``golden-mismatch``."""
    verify.check_golden(trial.manifest, trial.model)


def answers(model: ProcessModel, rows: Sequence[Row]) -> list[Answer | str]:
    """An answer to each row, or the words of why there is none: one bad row costs no other its answer.

    Raises:
        ModelFailed: ``model-died`` or ``model-timeout``: this process answers nothing more.
    """
    try:
        return list(model.predict(rows))
    except ModelFailed as error:
        if error.code in ("model-died", "model-timeout"):
            raise
        if len(rows) <= 1:
            return [error.detail]
    # Halves: where a few rows of a thousand are bad, a few dozen questions find them.
    middle = len(rows) // 2
    return answers(model, rows[:middle]) + answers(model, rows[middle:])
