"""Rows that arrived by column (tensors, CSV, Arrow): rows to whoever asks for rows, columns to whoever is faster with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from quarterdeck.schema import Row, Scalar

if TYPE_CHECKING:
    import numpy as np

    Values = Sequence[Scalar] | np.ndarray[Any, Any]
else:
    Values = Any


class ColumnRows(Sequence[Row]):
    """Rows behind columns.

    Args:
        columns: by feature name, in schema order, all of one length: a numpy array of float64, int64 or bool where no value is
            null, a list of JSON scalars with None for null otherwise.
        count: that length.
    """

    def __init__(self, columns: Mapping[str, Values], count: int) -> None:
        self.columns = columns
        self._count = count
        self._lists: dict[str, Sequence[Scalar]] | None = None

    @classmethod
    def of(cls, rows: Sequence[Row]) -> ColumnRows:
        """Rows of one set of names, at least one."""
        return cls({name: [row[name] for row in rows] for name in rows[0]}, len(rows))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        if isinstance(place, slice):
            # A part stays columns: a large request is answered in chunks.
            part = {name: values[place] for name, values in self.columns.items()}
            return ColumnRows(part, len(range(*place.indices(self._count))))
        return {name: values[place] for name, values in self.lists().items()}

    def __iter__(self) -> Iterator[Row]:
        lists = self.lists()
        names = list(lists)
        return (dict(zip(names, values, strict=True)) for values in zip(*lists.values(), strict=True))

    def lists(self) -> Mapping[str, Sequence[Scalar]]:
        """The columns as lists of JSON scalars; made once."""
        if self._lists is None:
            # numpy's own scalars are no JSON: tolist gives Python's.
            self._lists = {name: values if isinstance(values, list) else _plain(values) for name, values in self.columns.items()}
        return self._lists


def _plain(values: Any) -> Sequence[Scalar]:
    return values.tolist() if hasattr(values, "tolist") else list(values)
