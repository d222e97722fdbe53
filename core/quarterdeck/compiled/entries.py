"""What a lookup finds: a dictionary that knows what to answer for values it has never seen, and for none at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from quarterdeck.schema import Scalar

T = TypeVar("T")


class Entries(dict[Scalar, T], Generic[T]):
    """Value → what was found for it, by `[]`.

    Args:
        known: of each value; values are compared as Python does, so 1, 1.0 and True are one.
        unseen: of any other value; None: a KeyError.
        missing: of None and NaN; None: a KeyError.
        refused: values that are a KeyError although others that are not known are not.
    """

    __slots__ = ("_missing", "_refused", "_unseen")

    def __init__(self, known: Mapping[Scalar, T], unseen: T | None, missing: T | None, refused: Iterable[Scalar] = ()) -> None:
        super().__init__(known)
        self._unseen = unseen
        self._missing = missing
        self._refused = frozenset(refused)
        if missing is not None:
            self[None] = missing

    def __missing__(self, key: Scalar) -> T:
        # NaN is not equal to itself, so no dictionary finds it.
        found = self._missing if key is None or key != key else None if key in self._refused else self._unseen
        if found is None:
            raise KeyError
        return found

    def others(self) -> list[T]:
        """What stands for unseen and missing values, where they are allowed."""
        return [found for found in (self._unseen, self._missing) if found is not None]

    def mapped(self, results: Mapping[T, object]) -> Entries[object]:
        """The same entries with other results; those without one are refused."""
        known: dict[Scalar, object] = {
            value: results[entry] for value, entry in self.items() if value is not None and entry in results
        }
        refused = [value for value, entry in self.items() if value is not None and entry not in results]
        unseen = None if self._unseen is None else results.get(self._unseen)
        missing = None if self._missing is None else results.get(self._missing)
        return Entries(known, unseen, missing, refused)
