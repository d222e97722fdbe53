"""Packages that come through the API: for pipelines that cannot reach the store themselves.

Files come one by one under their digests, the manifest last; what was sent before an interruption need not be sent again.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from quarterdeck import package_files
from quarterdeck.errors import Conflict, InvalidInput, Malformed, PackageRefused, StorageError, TooLarge
from quarterdeck.manifest import Manifest
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import blob_key
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.registry import Registry
from quarterdeck_deployer.registry_views import Registered, VersionInput


class Uploads:
    """Files and manifests on their way to the store.

    Args:
        registry: that learns of what was published.
        storage: where it goes.
        folder: for files on their way; what lies in it is thrown away.
        limit: bytes of one file at most.
    """

    def __init__(self, registry: Registry, storage: Storage, folder: Path, limit: int) -> None:
        self._registry, self._storage, self._folder, self._limit = registry, storage, folder, limit
        # Left by a process that was killed: nobody else writes here.
        shutil.rmtree(folder, ignore_errors=True)

    async def receive(self, sha256: str, size: int | None, chunks: AsyncIterator[bytes]) -> bool:
        """Take one file; False where the store had it already, and nothing was read.

        Args:
            sha256: its name, 64 hex digits.
            size: bytes that are announced; None: not known.
            chunks: the bytes.

        Raises:
            PackageRefused: ``digest-mismatch``; nothing is kept.
            TooLarge: more than the limit.
            Malformed: the connection ended before the file did.
            StorageError: store or disk cannot take it.
        """
        key = blob_key(sha256)
        if size is not None and size > self._limit:
            raise self._too_large()
        known = await run_in_threadpool(self._storage.size, key)
        if known is not None and known == size:
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder) as target:
            digest, count = hashlib.sha256(), 0
            async for chunk in chunks:
                count += len(chunk)
                if count > self._limit:
                    raise self._too_large()
                digest.update(chunk)
                await run_in_threadpool(_write, target, chunk)
            if size is not None and count != size:
                raise Malformed("The connection ended before the file did.", hint="Send it again.")
            if digest.hexdigest() != sha256:
                raise PackageRefused(
                    "The file does not have the SHA-256 that it was sent under.",
                    code="digest-mismatch",
                    kind="file",
                    name=sha256,
                    hint="Send the file as it was when the package was built.",
                )
            target.flush()
            await run_in_threadpool(self._storage.put, key, Path(target.name))
        return True

    def publish(self, model: str, manifest: Manifest, version: int | None, act: Act) -> Registered:
        """Give a package whose files were sent its number, and register it. Publishing it again changes nothing.

        Args:
            model: that it must belong to.
            manifest: of the package.
            version: the number it must get; the next free one where None.
            act: whose.

        Raises:
            InvalidInput: it belongs to another model.
            Conflict: ``files-missing``, with their SHA-256 in `extra`; or `version` is taken by another package.
            StorageError: the store cannot be used.
        """
        if manifest.model != model:
            raise InvalidInput(
                f"The package says that it belongs to model {manifest.model}.",
                kind="package",
                name=model,
                hint="Publish it under its own model.",
            )
        known = self._registry.known(model, manifest.digest)
        if known is not None and version in (None, known.version):
            return Registered(version=known, created=False)
        self._require_files(manifest)
        ref = package_files.claim(manifest, self._storage, version)
        # Whoever deletes another version looks which files are still needed: until now nobody could see that these are.
        self._require_files(manifest)
        return self._registry.register(model, VersionInput(version=ref.version, digest=ref.digest), act)

    def _require_files(self, manifest: Manifest) -> None:
        missing = package_files.missing(manifest, self._storage)
        if missing:
            raise Conflict(
                f"{len(missing)} of the package's files are not in the store yet.",
                code="files-missing",
                kind="package",
                name=manifest.model,
                hint="Send each with PUT /api/models/<model>/blobs/<sha256>, then the manifest again.",
                extra={"missing": missing},
            )

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"A file may have {self._limit // 2**20} MiB.", hint="Raise QUARTERDECK_UPLOAD_BYTES, or push it to the store itself."
        )


def _write(target: tempfile._TemporaryFileWrapper[bytes], chunk: bytes) -> None:
    try:
        target.write(chunk)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StorageError(
            "The deployer's disk cannot take the file.",
            code="cache-full" if full else "cache-failed",
            kind="folder",
            hint="Make room in the deployer's data folder.",
        ) from error
