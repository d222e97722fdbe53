"""Brings versions to the store of the stage where they are wanted, before anything is wished for there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from quarterdeck.copying import copy_version, holds
from quarterdeck.plan import VersionRef
from quarterdeck.storage import Storage

T = TypeVar("T")
Require = Callable[[str, Sequence[VersionRef]], None]
"""Called with a stage and versions within a transaction, which it ends where one of them is still to be brought there."""


def none_needed(_stage: str, _refs: Sequence[VersionRef]) -> None:
    """For whoever has brought the versions himself."""


class Stores(NamedTuple):
    """Where versions come from and go to.

    Attributes:
        published: the store that every version is registered from.
        apart: whether a stage has another store than that; asks no store.
        of: the store of a stage; may raise InvalidInput or StorageError.
    """

    published: Storage
    apart: Callable[[str], bool]
    of: Callable[[str], Storage]


class Supply:
    """Copies as promotions do: what is missing, the manifest last. Interrupted, it goes on where it was when asked again.

    Args:
        stores: between which.
        spare: folder for one file at a time.
    """

    def __init__(self, stores: Stores, spare: Path) -> None:
        self._stores, self._spare = stores, spare

    def before(self, change: Callable[[Require], T]) -> T:
        """Make a change whose versions lie in the store of their stage when it is committed.

        The change is begun first, so that whoever may not make it moves nothing; a copy is never made within its transaction,
        which would keep everybody else from writing for as long.

        Args:
            change: one transaction; begun again after what it was found to need has been brought.

        Raises:
            Conflict: ``version-taken`` where that store has the number with another digest.
            PackageRefused: the published version is not complete.
            InvalidInput, StorageError: of either store.
        """
        brought: set[tuple[str, VersionRef]] = set()

        def require(stage: str, refs: Sequence[VersionRef]) -> None:
            missing = [(stage, ref) for ref in refs if (stage, ref) not in brought]
            if missing and self._stores.apart(stage):
                raise _MissingError(missing)

        while True:
            try:
                return change(require)
            except _MissingError as found:
                for stage, ref in found.missing:
                    self._bring(self._stores.of(stage), ref)
                brought.update(found.missing)

    def _bring(self, target: Storage, ref: VersionRef) -> None:
        # What lies there already needs nothing of the other store, which may be away.
        if not holds(target, ref):
            copy_version(self._stores.published, target, ref, self._spare)


class _MissingError(Exception):
    """Ends a transaction that must wait for a copy."""

    def __init__(self, missing: list[tuple[str, VersionRef]]) -> None:
        super().__init__()
        self.missing = missing
