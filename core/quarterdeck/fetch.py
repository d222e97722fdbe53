"""From a store to a complete, verified folder in the cache, resumable at every byte, never half visible.

    cache/<64 hex of the version's digest>/        manifest.json + files; appears by one rename, when all of it is verified
    cache/partial/<64 hex of a blob>.part          what has arrived of one file; kept until its package is in place
    cache/partial/<64 hex of a digest>.lock        held (flock) by whoever fetches that version
    cache/partial/<64 hex of a digest>.tmp/        a package being put together; removed by the next one who fetches it
    cache/partial/<64 hex of a digest>.*.gone/     a package being removed

Several threads and processes may fetch into one cache: a version is fetched once, a file that two versions share too.
Files in the cache are never written again; whoever finds a wrong one removes it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from quarterdeck.errors import PackageRefused, StorageError
from quarterdeck.manifest import MANIFEST, Digest, FileEntry, Manifest, digest_of
from quarterdeck.plan import VersionName, VersionRef
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import blob_key, manifest_key

PARTIAL = "partial"
MAX_MANIFEST = 64 << 20
"""Largest manifest that is read, in bytes: it is held in memory before anything of it is known to be true."""
Progress = Callable[[str, int, int], None]
"""Told (path in the package, bytes that are here, bytes in all) after every chunk."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PART = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_HEX = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fetch_package(storage: Storage, ref: VersionRef, cache: Path, progress: Progress | None = None) -> Path:
    """The folder of one version in the cache, fetched where it is not there yet.

    What an earlier, broken attempt left is continued, so whoever calls again after a retryable error reads at most one
    chunk twice. A folder that is there already is checked by its manifest's digest and the sizes of its files; call
    `quarterdeck.verify.check_files` before loading it.

    Args:
        storage: where the version lies.
        ref: model, number and the digest that its manifest must have.
        cache: folder of the cache; made where it is missing.
        progress: told after every chunk.

    Raises:
        StorageError: the store's own; ``cache-full`` where the disk of the cache is full, ``cache-failed`` where it fails.
        PackageRefused: ``digest-mismatch``, ``file-missing`` or ``manifest-invalid``; `extra["place"]` names the file.
    """
    digest = ref.digest.removeprefix("sha256:")
    folder = cache / digest
    with _cache_errors(), ExitStack() as held:
        partial = held.enter_context(_partial(cache))
        # Waiting here is the whole of "fetched once": whoever comes second finds the folder complete and is done.
        held.enter_context(_locked(f"{digest}.lock", partial, remove=True))
        if _complete(folder, ref):
            os.utime(folder)  # the cache forgets what was used least recently
            return folder
        _remove(folder, cache)
        for left in (cache / PARTIAL).glob(f"{digest}.*"):
            if left.suffix in (".tmp", ".gone"):
                shutil.rmtree(left, ignore_errors=True)
        raw, manifest = _manifest(storage, ref)
        parts = {entry.sha256: entry for entry in manifest.files}
        # Sorted, so that two fetchers who share files wait for each other in the same order and never in a ring.
        for sha256 in sorted(parts):
            held.enter_context(_fetched(storage, parts[sha256], partial, progress))
        _assemble(folder, raw, manifest)
    return folder


def forget(cache: Path, keep: Iterable[str], limit_bytes: int) -> list[str]:
    """Remove the least recently fetched versions, and what is left of broken fetches, until the cache is within its limit.

    Args:
        cache: folder of the cache.
        keep: digests (``sha256:…`` or their hex) that stay, whatever their age and size.
        limit_bytes: bytes that the whole cache may hold.

    Returns:
        The removed digests, ``sha256:…``, oldest first.
    """
    kept = {digest.removeprefix("sha256:") for digest in keep}
    removed: list[str] = []
    with _cache_errors(), _partial(cache) as partial:
        for gone in (cache / PARTIAL).glob("*.gone"):
            shutil.rmtree(gone, ignore_errors=True)
        packages = [entry for entry in os.scandir(cache) if _HEX.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
        sizes = {entry.name: _size(Path(entry.path)) for entry in packages}
        total = sum(sizes.values()) + _size(cache / PARTIAL)
        # Parts first: they cost a download at most, a package may be what somebody rolls back to.
        if total > limit_bytes:
            total -= _drop_parts(partial)
        for entry in sorted(packages, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns):
            if total > limit_bytes and entry.name not in kept:
                _remove(Path(entry.path), cache)
                total -= sizes[entry.name]
                removed.append(f"sha256:{entry.name}")
    return removed


def discard(cache: Path, digest: str) -> None:
    """Remove one version from the cache, for one that was found damaged there; the next fetch brings it anew."""
    with _cache_errors(), _partial(cache):
        _remove(cache / digest.removeprefix("sha256:"), cache)


def find_digest(storage: Storage, wanted: VersionName) -> Digest:
    """The digest of a version that is known by its number.

    Raises:
        StorageError: the store's own; ``not-found`` where there is no such version.
        PackageRefused: ``manifest-invalid``.
    """
    try:
        raw = _manifest_bytes(storage, wanted)
    except StorageError as error:
        if error.code != "not-found":
            raise
        raise StorageError(
            f"The store has no {wanted}.",
            code="not-found",
            retryable=False,
            kind="version",
            name=str(wanted),
            hint="Push the package, or correct the model's name, the version or the store's URL.",
        ) from None
    # Read, so that whatever lies there under a manifest's name is not pinned for ever.
    Manifest.parse(raw)
    return digest_of(raw)


def _manifest_bytes(storage: Storage, wanted: VersionRef | VersionName) -> bytes:
    raw = storage.get(manifest_key(wanted.model, wanted.version), 0, MAX_MANIFEST + 1)
    # One byte more than allowed was asked for, so that too large is told from just fitting.
    if len(raw) > MAX_MANIFEST:
        raise _refused(f"The manifest of {wanted} is larger than {MAX_MANIFEST >> 20} MiB.", "manifest-invalid", MANIFEST)
    return raw


def _manifest(storage: Storage, ref: VersionRef) -> tuple[bytes, Manifest]:
    """The manifest's bytes and what they say; nothing in it is believed before the digest is right."""
    raw = _manifest_bytes(storage, ref)
    manifest = Manifest.parse(raw, ref.digest)
    blobs = {(entry.sha256, entry.size) for entry in manifest.files}
    paths = [MANIFEST, *(entry.path for entry in manifest.files)]
    folders = {str(parent) for path in paths for parent in Path(path).parents}
    if len(set(paths)) < len(paths) or folders & set(paths) or len({sha256 for sha256, _ in blobs}) < len(blobs):
        raise _refused(f"The manifest of {ref} says two things of one file.", "manifest-invalid", MANIFEST)
    return raw, manifest


@contextmanager
def _fetched(storage: Storage, entry: FileEntry, partial: int, progress: Progress | None) -> Iterator[None]:
    """A blob, complete and verified in its part file, which is held until its package is in place and then removed."""
    name = f"{entry.sha256}.part"
    with ExitStack() as held:
        part = held.enter_context(_locked(name, partial))
        if os.fstat(part).st_nlink > 1:
            # A crash left it linked into a package that may be serving: that file must not be written through this name.
            _unlink(name, partial)
            part = held.enter_context(_locked(name, partial))
        try:
            _bring(storage, entry, part, progress)
        except OSError as error:
            # A part that does not fit is in the way of everything else on that disk.
            if error.errno in _FULL:
                _unlink(name, partial)
            raise
        except PackageRefused:
            _unlink(name, partial)
            raise
        yield
        _unlink(name, partial)


def _bring(storage: Storage, entry: FileEntry, part: int, progress: Progress | None) -> None:
    """Fill a part file from where it ends; bytes of an earlier attempt that turn out wrong are thrown away once."""
    resumed = os.fstat(part).st_size > 0
    if _continue(storage, entry, part, progress):
        return
    if resumed:
        os.ftruncate(part, 0)
        if _continue(storage, entry, part, progress):
            return
    raise _refused(f"{entry.path} is not what the manifest says it is.", "digest-mismatch", entry.path)


def _continue(storage: Storage, entry: FileEntry, part: int, progress: Progress | None) -> bool:
    """Read the rest of a blob into its part file and say whether the whole has the right size and sha256."""
    # The bytes of an earlier attempt are hashed again, not trusted: they may have been written by a machine that lost power.
    running = hashlib.sha256()
    have = 0
    for chunk in _read(part):
        running.update(chunk)
        have += len(chunk)
    if have < entry.size:
        for chunk in _blob(storage, entry, have):
            # More than was promised is not written: a hostile store must not fill the disk.
            if have + len(chunk) > entry.size:
                return False
            _write(part, chunk, have)
            running.update(chunk)
            have += len(chunk)
            if progress is not None:
                progress(entry.path, have, entry.size)
    os.fsync(part)
    return have == entry.size and running.hexdigest() == entry.sha256


def _blob(storage: Storage, entry: FileEntry, start: int) -> Iterator[bytes]:
    try:
        yield from storage.stream(blob_key(entry.sha256), start)
    except StorageError as error:
        if error.code == "not-found":
            raise _refused(f"The store holds no bytes for {entry.path}.", "file-missing", entry.path) from error
        raise


def _assemble(folder: Path, raw: bytes, manifest: Manifest) -> None:
    """Link the parts into a folder of their own, fsync all of it, and show it by one rename."""
    parts = folder.parent / PARTIAL
    temporary = parts / f"{folder.name}.tmp"
    temporary.mkdir()
    for entry in manifest.files:
        target = temporary / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        # A link costs nothing, and leaves the part where it is until the package is in place: a crash here costs no download.
        os.link(parts / f"{entry.sha256}.part", target, follow_symlinks=False)
    handle = os.open(temporary / MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _write(handle, raw, 0)
        os.fsync(handle)
    finally:
        os.close(handle)
    # Folders too: after a power loss a renamed folder whose entries were never written would be an empty package.
    for inside, _, _ in os.walk(temporary, topdown=False):
        _fsync_folder(Path(inside))
    temporary.rename(folder)
    _fsync_folder(folder.parent)


def _complete(folder: Path, ref: VersionRef) -> bool:
    """Whether a cached package has the right manifest and all its files at their sizes; cheap, so no file is hashed."""
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return False
        handle = os.open(folder / MANIFEST, _READ)
        try:
            raw = b"".join(_read(handle))
        finally:
            os.close(handle)
        manifest = Manifest.parse(raw, ref.digest)
        found = [(folder / entry.path).lstat() for entry in manifest.files]
    except (OSError, PackageRefused):
        return False
    return all(
        stat.S_ISREG(info.st_mode) and info.st_size == entry.size for info, entry in zip(found, manifest.files, strict=True)
    )


@contextmanager
def _partial(cache: Path) -> Iterator[int]:
    """Descriptor of the cache's `partial` folder."""
    cache.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(cache / PARTIAL)
    handle = os.open(cache / PARTIAL, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _locked(name: str, folder: int, *, remove: bool = False) -> Iterator[int]:
    """Descriptor of a file that only we hold; waits for whoever holds it now. The kernel drops the lock of the dead.

    Holders remove such files, so after each wait it is checked that the name still leads to what was locked.
    """
    # Opened anew in each round: a file that its holder removed can be locked, but locks nobody else out.
    while True:
        handle = os.open(name, _PART, 0o644, dir_fd=folder)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _same(handle, name, folder):
                yield handle
                if remove:
                    _unlink(name, folder)
                return
        finally:
            os.close(handle)


def _same(handle: int, name: str, folder: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _drop_parts(partial: int) -> int:
    """Remove the part files that nobody is filling; their bytes."""
    freed = 0
    for name in os.listdir(partial):
        if not name.endswith(".part"):
            continue
        with suppress(BlockingIOError, FileNotFoundError):
            handle = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=partial)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same(handle, name, partial):
                    freed += os.fstat(handle).st_size
                    _unlink(name, partial)
            finally:
                os.close(handle)
    return freed


def _remove(folder: Path, cache: Path) -> None:
    """Take a package out of sight by one rename, then remove it; readers see all of it or nothing."""
    # A name of its own each time: two processes may remove the same package at once.
    aside = cache / PARTIAL / f"{folder.name}.{secrets.token_hex(4)}.gone"
    with suppress(FileNotFoundError):
        folder.rename(aside)
        if aside.is_symlink() or not aside.is_dir():
            aside.unlink()
        shutil.rmtree(aside, ignore_errors=True)


def _read(handle: int) -> Iterator[bytes]:
    """The whole file from its beginning, by position."""
    position = 0
    while chunk := os.pread(handle, _CHUNK, position):
        position += len(chunk)
        yield chunk


def _write(handle: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, position)
        view, position = view[written:], position + written


def _size(folder: Path) -> int:
    total = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(inside) / name).lstat().st_size
    return total


def _unlink(name: str, folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refused(detail: str, code: str, place: str) -> PackageRefused:
    hint = "Publish the version again from its source."
    return PackageRefused(detail, code=code, kind="package", name=place, hint=hint, extra={"place": place})


@contextmanager
def _cache_errors() -> Iterator[None]:
    """Whatever the disk of the cache says becomes an error with a name."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            hint = "Free space on its disk, or lower the cache's limit."
            raise StorageError("The disk of the package cache is full.", code="cache-full", kind="cache", hint=hint) from error
        detail = f"The package cache failed: {os.strerror(error.errno or errno.EIO)}."
        raise StorageError(
            detail, code="cache-failed", kind="cache", hint="Check the disk and the rights of the cache's folder."
        ) from error
