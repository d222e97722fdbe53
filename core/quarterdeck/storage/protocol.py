"""What every store can do, and the proof that a given one really does it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from quarterdeck.errors import StorageError

PROBE = "checks/probe"
"""Key of the small object that `prove` leaves behind; fixed, so that checks never pile up."""


class Storage(Protocol):
    """Keys are relative, '/'-separated, `[a-z0-9._/=-]` in any case; values are bytes. All methods raise `StorageError`."""

    url: str

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of one object from `start` on, `length` of them at most. `StorageError` code ``not-found`` where absent."""

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on in chunks of at most 1 MiB; may end early with `StorageError` (``unreachable``)."""

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        """Store an object whole or not at all. With `if_absent`, False where the key exists already (nothing is changed)."""

    def size(self, key: str) -> int | None:
        """Bytes of one object; None where there is none."""

    def list(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Remove one object; no error where there is none."""

    def check(self) -> None:
        """Fail with a named `StorageError` where the store cannot be read and written (bucket, credentials, endpoint)."""


def prove(storage: Storage) -> None:
    """Write, read, list and write conditionally, as every publisher will.

    A store that takes a second conditional PUT would let two publishers win the same version number, so it is refused
    here, before anything lies in it.

    Raises:
        StorageError: whatever the store answered; ``store-failed`` where it does not keep its promises.
    """
    content = b"quarterdeck\n"
    storage.put(PROBE, content)
    # Read back and listed: some gateways cache one, the other or both, and records and versions rely on both.
    if storage.get(PROBE) != content or PROBE not in storage.list(PROBE):
        hint = "Use a store with strong read-after-write consistency."
        raise StorageError(f"{storage.url} does not give back what was just written.", hint=hint, kind="store", name=storage.url)
    if storage.put(PROBE, content, if_absent=True):
        detail = f"{storage.url} ignores conditional writes (If-None-Match), so two publishers could win one version number."
        hint = "Upgrade the S3 server to one that honours If-None-Match."
        raise StorageError(detail, retryable=False, hint=hint, kind="store", name=storage.url)
