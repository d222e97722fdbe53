"""From a verified folder to a proven version in memory: files, environment, load, golden rows, in this order.

A compiled model that turns out slow at its golden rows is loaded once more in a process of its own, and proven again there: the
event loop is for models that answer while nobody notices.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from quarterdeck import forms, verify
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.manifest import MANIFEST, Manifest
from quarterdeck.model import Model
from quarterdeck.plan import VersionRef
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.limits import DEFAULT, Limits
from quarterdeck_node.predictor import Resident
from quarterdeck_node.runtimes import Budget, Runtime
from quarterdeck_node.runtimes.inprocess import InProcess
from quarterdeck_node.runtimes.process import ModelProcess

_TRIES = 3


async def open_version(ref: VersionRef, folder: Path, budget: Budget, limits: Limits = DEFAULT) -> Resident:
    """Load one version and prove it through the very runtime that will serve it.

    Args:
        ref: which version; its digest must be the manifest's.
        folder: a complete package.
        budget: what a model outside the event loop may take, and what counts as slow inside it.
        limits: what requests may be.

    Raises:
        PackageRefused: by name, before anything of it is loaded where that can be known before.
    """
    manifest = await asyncio.to_thread(_read, ref, folder)
    allow_code = ref.trust == "code"
    # A GPU is asked for batches: its time for one row is that for hundreds.
    if forms.in_process(manifest.form) and ref.accelerator == "none":
        # Here the environment is this process; for a model process it is compared in there.
        verify.check_environment(manifest)
        model = await asyncio.to_thread(forms.load, manifest, folder, allow_code=allow_code)
        resident = await _proven(ref, manifest, InProcess(model), limits)
        if await asyncio.to_thread(_row_seconds, model, manifest) <= budget.loop_seconds:
            return resident
        await resident.runtime.close()
    process = ModelProcess(folder, manifest, allow_code=allow_code, budget=budget, accelerator=ref.accelerator)
    await process.start()
    return await _proven(ref, manifest, process, limits)


async def _proven(ref: VersionRef, manifest: Manifest, runtime: Runtime, limits: Limits) -> Resident:
    model = _Blocking(runtime, asyncio.get_running_loop())
    try:
        # In a thread, because the check blocks on answers that this loop must bring.
        await asyncio.to_thread(verify.check_golden, manifest, model, _tolerance(ref, manifest))
    except BaseException as error:
        await runtime.close()
        if isinstance(error, ModelFailed):
            raise PackageRefused(
                f"A golden row of {ref} was not answered: {error.detail}", code="golden-mismatch", kind="package", name=ref.model
            ) from None
        raise
    return Resident(ref, manifest, runtime, limits)


def _tolerance(ref: VersionRef, manifest: Manifest) -> float | None:
    """What golden answers may differ by: on a GPU as much as its graph was proven to."""
    return manifest.accelerated.tolerance if ref.accelerator != "none" and manifest.accelerated is not None else None


def _read(ref: VersionRef, folder: Path) -> Manifest:
    try:
        raw = (folder / MANIFEST).read_bytes()
    except OSError:
        raise PackageRefused(
            f"{ref} has no manifest on this node.",
            code="file-missing",
            kind="package",
            name=ref.model,
            hint="It is fetched again when the deployment is applied again.",
            extra={"place": MANIFEST},
        ) from None
    # The agent has compared all this before; the cache may have been touched since.
    manifest = Manifest.parse(raw, expected=ref.digest)
    verify.check_files(manifest, folder)
    return manifest


def _row_seconds(model: Model, manifest: Manifest) -> float:
    """What one row takes: the middle one of the golden rows."""
    # The best of some tries: a busy machine makes a model look slower than it is, never faster.
    return statistics.median(min(_seconds(model, golden.row) for _ in range(_TRIES)) for golden in manifest.golden)


def _seconds(model: Model, row: Row) -> float:
    began = time.perf_counter()
    model.predict([row])
    return time.perf_counter() - began


class _Blocking:
    """A runtime as the plain model that the check asks."""

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        self._runtime = runtime
        self._loop = loop

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """See `quarterdeck.model.Model.predict`."""
        return asyncio.run_coroutine_threadsafe(self._answers(rows), self._loop).result()

    async def _answers(self, rows: Sequence[Row]) -> list[Answer]:
        return await self._runtime.predict(rows)
