"""From a verified folder to a proven version in memory: files, environment, load, golden rows, in this order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from quarterdeck import forms, verify
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.manifest import MANIFEST, Manifest
from quarterdeck.plan import VersionRef
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.predictor import Resident
from quarterdeck_node.runtimes import Runtime
from quarterdeck_node.runtimes.inprocess import InProcess
from quarterdeck_node.runtimes.process import ModelProcess


async def open_version(ref: VersionRef, folder: Path, seconds: float) -> Resident:
    """Load one version and prove it through the very runtime that will serve it.

    Args:
        ref: which version; its digest must be the manifest's.
        folder: a complete package.
        seconds: deadline of a batch in a model process.

    Raises:
        PackageRefused: by name, before anything of it is loaded where that can be known before.
    """
    manifest = await asyncio.to_thread(_read, ref, folder)
    runtime = await _runtime(ref, manifest, folder, seconds)
    model = _Blocking(runtime, asyncio.get_running_loop())
    try:
        # In a thread, because the check blocks on answers that this loop must bring.
        await asyncio.to_thread(verify.check_golden, manifest, model)
    except BaseException as error:
        await runtime.close()
        if isinstance(error, ModelFailed):
            raise PackageRefused(
                f"A golden row of {ref} was not answered: {error.detail}", code="golden-mismatch", kind="package", name=ref.model
            ) from None
        raise
    return Resident(ref, manifest, runtime)


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


async def _runtime(ref: VersionRef, manifest: Manifest, folder: Path, seconds: float) -> Runtime:
    allow_code = ref.trust == "code"
    # Here the environment is this process; for a model process it is compared in there.
    if forms.in_process(manifest.form):
        verify.check_environment(manifest)
        return InProcess(await asyncio.to_thread(forms.load, manifest, folder, allow_code=allow_code))
    process = ModelProcess(folder, ref.digest, allow_code=allow_code, seconds=seconds, variables=manifest.environment.variables)
    await process.start()
    return process


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
