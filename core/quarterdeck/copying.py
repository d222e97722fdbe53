"""One version from store to store: missing files first, the manifest last, and everything compared with its digest."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from quarterdeck.errors import Conflict, PackageRefused, StorageError
from quarterdeck.manifest import MANIFEST, FileEntry, Manifest, digest_of
from quarterdeck.plan import VersionRef
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import blob_key, manifest_key

_AGAIN = "Publish the version again from its source."


class Copied(NamedTuple):
    """What a copy has moved; nothing where the target has it all already."""

    files: int = 0
    size: int = 0


def copy_version(source: Storage, target: Storage, ref: VersionRef, spare: Path) -> Copied:
    """Bring a version to another store under the same number and digest. Interrupted, it is simply called again.

    Args:
        source: has the version.
        target: may have some of its files already, or all of it.
        ref: model, number and digest.
        spare: folder for one file at a time.

    Raises:
        Conflict: ``version-taken`` where the target has that number with another digest.
        PackageRefused: ``digest-mismatch``, ``file-missing`` or ``manifest-invalid``: what the source has is not what was
            published.
        StorageError: of either store.
    """
    # One store under two names of infrastructures: what is published there is there.
    if source.url == target.url:
        return Copied()
    holds(target, ref)
    manifest = _manifest(source, ref)
    files = size = 0
    # Equal files have one blob, however many paths the package gives them.
    for entry in {entry.sha256: entry for entry in manifest.files}.values():
        # Blobs are named by their content, so one of the right size is the one from an earlier copy.
        if target.size(blob_key(entry.sha256)) != entry.size:
            _copy(source, target, entry, spare)
            files, size = files + 1, size + entry.size
    # The number is won by a conditional write, as in publishing: a version that can be seen has all its files.
    if not target.put(manifest_key(ref.model, ref.version), manifest.canonical(), if_absent=True):
        holds(target, ref)
    return Copied(files, size)


def check_stored(storage: Storage, ref: VersionRef) -> Manifest:
    """Compare the manifest and every file of a version in a store with their digests, byte for byte.

    Raises:
        PackageRefused: ``digest-mismatch``, ``file-missing`` or ``manifest-invalid``; `extra["place"]` names the file.
        StorageError: the store's own.
    """
    manifest = _manifest(storage, ref)
    for entry in manifest.files:
        digest, size = hashlib.sha256(), 0
        for chunk in _chunks(storage, entry):
            digest.update(chunk)
            size += len(chunk)
        if (digest.hexdigest(), size) != (entry.sha256, entry.size):
            raise _not_published(entry.path)
    return manifest


def holds(target: Storage, ref: VersionRef) -> bool:
    """Whether a store has this very version; its manifest comes last, so that all of its files are there with it.

    Raises:
        Conflict: ``version-taken`` where it has another one under that number.
        StorageError: the store's own.
    """
    try:
        there = digest_of(target.get(manifest_key(ref.model, ref.version)))
    except StorageError as error:
        if error.code != "not-found":
            raise
        return False
    if there != ref.digest:
        raise Conflict(
            f"The target's store has another {ref}: its digest is {there}, and {ref.digest} was to be copied.",
            code="version-taken",
            kind="version",
            name=str(ref),
            hint="Publish the package under a number that is free in both stores.",
        )
    return True


def _manifest(storage: Storage, ref: VersionRef) -> Manifest:
    try:
        return Manifest.parse(storage.get(manifest_key(ref.model, ref.version)), ref.digest)
    except StorageError as error:
        if error.code == "not-found":
            raise _missing(MANIFEST) from None
        raise


def _copy(source: Storage, target: Storage, entry: FileEntry, spare: Path) -> None:
    spare.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    # By way of a file: a model may be larger than memory, and stores want to know the length before the first byte.
    with tempfile.NamedTemporaryFile(dir=spare) as between:
        for chunk in _chunks(source, entry):
            digest.update(chunk)
            size += len(chunk)
            between.write(chunk)
        between.flush()
        if (digest.hexdigest(), size) != (entry.sha256, entry.size):
            raise _not_published(entry.path)
        target.put(blob_key(entry.sha256), Path(between.name))


def _chunks(storage: Storage, entry: FileEntry) -> Iterator[bytes]:
    try:
        yield from storage.stream(blob_key(entry.sha256))
    except StorageError as error:
        if error.code == "not-found":
            raise _missing(entry.path) from None
        raise


def _missing(place: str) -> PackageRefused:
    detail = f"The store has no {place} of this version."
    return PackageRefused(detail, code="file-missing", kind="package", name=place, hint=_AGAIN, extra={"place": place})


def _not_published(place: str) -> PackageRefused:
    detail = f"{place} in the store is not the file that was published."
    return PackageRefused(detail, code="digest-mismatch", kind="package", name=place, hint=_AGAIN, extra={"place": place})
