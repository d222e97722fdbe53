"""The store that is gone with the process: the twin of the other two, for tests and notebooks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from quarterdeck.errors import StorageError
from quarterdeck.storage.keys import check_key, check_prefix
from quarterdeck.storage.protocol import prove

CHUNK = 1 << 20

_named: dict[str, MemoryStorage] = {}
_naming = threading.Lock()


class MemoryStorage:
    """Objects in a dictionary under a lock; `url` is ``memory://<name>``."""

    def __init__(self, name: str = "") -> None:
        self.url = f"memory://{name}"
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @classmethod
    def named(cls, name: str) -> MemoryStorage:
        """The one store of this name in this process; it is made when first asked for."""
        with _naming:
            return _named.setdefault(name, cls(name))

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes from `start` on, `length` of them at most. `StorageError` ``not-found`` where there is none."""
        end = None if length is None else start + length
        return self._held(key)[start:end]

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on, in chunks of at most 1 MiB."""
        data = self._held(key)
        for position in range(start, len(data), CHUNK):
            yield data[position : position + CHUNK]

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        """Store an object; with `if_absent`, False and no change where the key exists."""
        # A copy: a bytearray that the caller goes on filling must not change what is stored.
        content = data.read_bytes() if isinstance(data, Path) else bytes(data)
        with self._lock:
            if if_absent and check_key(key) in self._objects:
                return False
            self._objects[check_key(key)] = content
            return True

    def size(self, key: str) -> int | None:
        """Bytes of one object; None where there is none."""
        with self._lock:
            found = self._objects.get(check_key(key))
        return None if found is None else len(found)

    def list(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, sorted."""
        check_prefix(prefix)
        with self._lock:
            return iter(sorted(key for key in self._objects if key.startswith(prefix)))

    def delete(self, key: str) -> None:
        """Remove one object; no error where there is none."""
        with self._lock:
            self._objects.pop(check_key(key), None)

    def check(self) -> None:
        """Memory can always be read and written; the promises are proven all the same."""
        prove(self)

    def _held(self, key: str) -> bytes:
        with self._lock:
            found = self._objects.get(check_key(key))
        if found is None:
            raise StorageError(f"{self.url} holds no object {key}.", code="not-found", retryable=False, kind="object", name=key)
        return found
