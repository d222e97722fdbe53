"""The store in a folder: every object a file, put in place by one link or rename, never followed through a link.

Files are opened relative to a descriptor of the root, one path segment at a time with O_NOFOLLOW, so that neither a key
nor a link that somebody planted in the folder leads outside it.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quarterdeck.errors import StorageError
from quarterdeck.storage.keys import check_key, check_prefix
from quarterdeck.storage.protocol import prove

CHUNK = 1 << 20
INCOMING = ".incoming"
"""Where objects are written before they are put in place; its dot keeps it out of the keys."""
STALE_SECONDS = 86_400.0
"""A file in `.incoming` that is older than this was left by a writer that died."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a planted pipe must not hang; it changes nothing for regular files.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_DENIED = (
    "access-denied",
    False,
    "may not be used by this program's user",
    "Give the user the right to read and write the folder.",
)
_FULL = ("store-failed", True, "is full, nothing was stored", "Free space on its disk.")
_FOREIGN = (
    "store-failed",
    False,
    "holds a link or a file where a folder or a file belongs",
    "Remove what does not belong there.",
)
_VERDICTS = {
    errno.ENOENT: ("not-found", False, "holds no such object", ""),
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _DENIED,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.ELOOP: _FOREIGN,
    errno.ENOTDIR: _FOREIGN,
    errno.EISDIR: _FOREIGN,
}
"""What an errno means to the user of a store: code, retryable, detail, hint."""


class FolderStorage:
    """Objects as files under `root`; the folder itself is made by the first write, its parent must be there.

    Args:
        root: the folder; may itself be a link, for that is its owner's choice.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = self.root.as_uri()

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes from `start` on, `length` of them at most. `StorageError` ``not-found`` where there is none."""
        with self._named(key), self._reading(key) as handle:
            size = os.fstat(handle).st_size
            wanted = max(0, size - start) if length is None else length
            return b"".join(_chunks(handle, start, wanted))

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on, in chunks of at most 1 MiB."""
        with self._named(key), self._reading(key) as handle:
            yield from _chunks(handle, start, os.fstat(handle).st_size)

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        """Store an object whole or not at all: written aside, fsynced, then linked or renamed; the folder is fsynced last."""
        check_key(key)
        with self._named(key), self._opened_root(create=True) as root, _parent(root, key, create=True) as (folder, name):
            if if_absent and _exists(folder, name):
                return False
            with _written_aside(root, data) as (incoming, temporary):
                # Looked at before only to spare the writing; who wins is decided here, by the kernel.
                stored = _place(incoming, temporary, folder, name, if_absent)
            # Without it a power loss may forget the name although the content is on the disk.
            os.fsync(folder)
            return stored

    def size(self, key: str) -> int | None:
        """Bytes of one object; None where there is none."""
        try:
            with self._named(key), self._reading(key) as handle:
                return os.fstat(handle).st_size
        except StorageError as error:
            if error.code == "not-found":
                return None
            raise

    def list(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, sorted; what is put or removed meanwhile may or may not be among them."""
        check_prefix(prefix)
        with self._named(prefix):
            try:
                with self._opened_root(create=False) as root:
                    yield from _walk(root, "", prefix)
            except FileNotFoundError:
                return

    def delete(self, key: str) -> None:
        """Remove one object; no error where there is none."""
        check_key(key)
        with (
            self._named(key),
            suppress(FileNotFoundError),
            self._opened_root(create=False) as root,
            _parent(root, key, create=False) as (folder, name),
        ):
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    def check(self) -> None:
        """Prove that the folder can be read and written; sweeps what dead writers left in it."""
        prove(self)
        with self._named(""), self._opened_root(create=True) as root, _subfolder(root, INCOMING, create=True) as incoming:
            for name in os.listdir(incoming):
                with suppress(FileNotFoundError):
                    if time.time() - os.stat(name, dir_fd=incoming, follow_symlinks=False).st_mtime > STALE_SECONDS:
                        os.unlink(name, dir_fd=incoming)

    @contextmanager
    def _reading(self, key: str) -> Iterator[int]:
        """Descriptor of a regular file."""
        check_key(key)
        with self._opened_root(create=False) as root, _parent(root, key, create=False) as (folder, name):
            handle = os.open(name, _READ, dir_fd=folder)
        try:
            # Asked of the descriptor, not of the name: in between the name could become something else.
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a file")
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def _opened_root(self, *, create: bool) -> Iterator[int]:
        """Only the last folder is made: a missing parent is a mistyped path or a mount that is not there."""
        if not self.root.parent.is_dir():
            raise StorageError(
                f"The folder that should hold the store {self.url} does not exist.",
                code="no-such-bucket",
                retryable=False,
                kind="store",
                name=self.url,
                hint="Create it, or mount it, or correct the store's URL.",
            )
        if create:
            with suppress(FileExistsError):
                self.root.mkdir()
        # The root may be a link, so no O_NOFOLLOW here.
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def _named(self, key: str) -> Iterator[None]:
        """Turn what the system says into an error that names the store and the object."""
        try:
            yield
        except OSError as error:
            raise _explain(error, self.url, key) from error


def _explain(error: OSError, url: str, key: str) -> StorageError:
    number = error.errno or errno.EIO
    code, retryable, detail, hint = _VERDICTS.get(number, ("store-failed", True, f"failed: {os.strerror(number)}", ""))
    thing = f" ({key})" if key else ""
    return StorageError(
        f"{url} {detail}{thing}.", code=code, retryable=retryable, hint=hint, kind="object" if key else "store", name=key or url
    )


def _chunks(handle: int, start: int, length: int) -> Iterator[bytes]:
    """Reads by position, so that a short read needs no bookkeeping by the kernel."""
    end = start + length
    while start < end:
        chunk = os.pread(handle, min(CHUNK, end - start), start)
        if not chunk:
            return
        start += len(chunk)
        yield chunk


@contextmanager
def _subfolder(parent: int, name: str, *, create: bool) -> Iterator[int]:
    try:
        handle = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
        os.fsync(parent)
        handle = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _parent(root: int, key: str, *, create: bool) -> Iterator[tuple[int, str]]:
    """Descriptor of the folder that holds the object, and the object's name in it."""
    head, separator, rest = key.partition("/")
    if not separator:
        yield root, key
        return
    with _subfolder(root, head, create=create) as inner, _parent(inner, rest, create=create) as found:
        yield found


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _written_aside(root: int, data: bytes | Path) -> Iterator[tuple[int, str]]:
    """A complete, fsynced file in `.incoming`; gone again afterwards, whatever happens."""
    temporary = secrets.token_hex(16)
    with _subfolder(root, INCOMING, create=True) as incoming:
        handle = os.open(temporary, _NEW, 0o644, dir_fd=incoming)
        try:
            with os.fdopen(handle, "wb") as out:
                if isinstance(data, Path):
                    _copy(data, out.fileno())
                else:
                    out.write(data)
                out.flush()
                os.fsync(out.fileno())
            yield incoming, temporary
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=incoming)


def _copy(source: Path, target: int) -> None:
    with source.open("rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            view = memoryview(chunk)
            while view:
                view = view[os.write(target, view) :]


def _place(incoming: int, temporary: str, folder: int, name: str, if_absent: bool) -> bool:
    """link(2) fails where the name exists, which is what makes `if_absent` atomic between processes; rename(2) replaces."""
    if not if_absent:
        os.rename(temporary, name, src_dir_fd=incoming, dst_dir_fd=folder)
        return True
    try:
        os.link(temporary, name, src_dir_fd=incoming, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    return True


def _walk(folder: int, path: str, prefix: str) -> Iterator[str]:
    """Keys under one folder in the order of whole keys: a folder sorts as its name with the slash that follows."""
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
            for entry in entries
            if not entry.name.startswith(".") and not entry.is_symlink()
        )
    for name in names:
        full = path + name
        if not name.endswith("/"):
            if full.startswith(prefix):
                yield full
        elif full.startswith(prefix) or prefix.startswith(full):
            with suppress(FileNotFoundError), _subfolder(folder, name[:-1], create=False) as inner:
                yield from _walk(inner, full, prefix)
