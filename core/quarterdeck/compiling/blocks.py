"""What compilers of transformers share: columns as one checked block, arithmetic in the input's precision, columns again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from quarterdeck.compiled.program import Apply, Arithmetic, Arithmetics
from quarterdeck.compiling.draft import Column, Draft, NotCompilable, Raw, Ref
from quarterdeck.compiling.registry import checked, name_of

Transformer = Callable[[Any, Sequence[Column], Draft], list[Column]]
"""Appends a fitted transformer's steps to a draft, and gives the columns that come out of it."""


def precision(columns: Sequence[Column]) -> Literal["float32", "float64"]:
    """What scikit-learn computes with when these columns are one block.

    Raises:
        NotCompilable: half precision.
    """
    dtypes = [column.dtype for column in columns]
    # Anything that is not a plain number makes scikit-learn convert the block to float64.
    if not all(dtype.startswith(("float", "int", "uint")) for dtype in dtypes) or not dtypes:
        return "float64"
    found = np.result_type(*map(np.dtype, dtypes))
    if found == np.float16:
        raise NotCompilable("numbers of 16 bits have no compiled form")
    if found != np.float32:
        return "float64"
    # With a null, whole numbers become float64, and the whole block with them.
    if any(raw.nullable and raw.dtype.startswith(("int", "uint")) for raw in map(raw_of, columns) if raw is not None):
        raise NotCompilable("whole numbers that may be null beside float32 are computed with now one precision, now another")
    return "float32"


def doubles(estimator: Any, columns: Sequence[Column]) -> None:
    """Refuse a transformer that would compute in float32, whose last bits no step repeats."""
    if precision(columns) == "float32":
        raise NotCompilable(f"{type(estimator).__name__} computes with float32 here: make the columns float64 before training")


def dense(estimator: Any, columns: Sequence[Column]) -> None:
    """Refuse a transformer that treats the zeros of sparse input as absent."""
    if any(column.sparse for column in columns):
        raise NotCompilable(f"{type(estimator).__name__} gets a sparse matrix here: make the transformers before it dense")


class Chain:
    """One block on its way through operations that keep its width.

    Args:
        columns: what the transformer gets.
        draft: where the steps go.
        nan: whether NaN passes; infinities never do.
    """

    def __init__(self, columns: Sequence[Column], draft: Draft, *, nan: bool) -> None:
        self.precision = precision(columns)
        self.sparse = any(column.sparse for column in columns)
        self._draft = draft
        self._width = len(columns)
        self.place = checked(columns, draft, nan=nan)

    def by(self, function: Arithmetic, constants: Any) -> None:
        """An operation with one constant per column."""
        values = [float(value) for value in np.broadcast_to(constants, (self._width,))]
        self.then(Arithmetics(input=self.place, function=function, by=values))

    def then(self, step: Any) -> None:
        """Any step of the same width; float32 is rounded to after each, as numpy does in place."""
        self.place = self._draft.add(step, self._width)
        if self.precision == "float32":
            self.place = self._draft.add(Apply(input=self.place, function="float32"), self._width)

    def columns(self) -> list[Column]:
        """What comes out."""
        return outputs(self._draft, self.place, self.precision, self.sparse)


def outputs(draft: Draft, place: int, dtype: str = "float64", sparse: bool = False) -> list[Column]:
    """Every column of a step's block."""
    return [Column(column.name, column.source, dtype, sparse) for column in draft.columns(place)]


def together(columns: Sequence[Column], *, sparse: bool) -> list[Column]:
    """Columns after they were put into one array: they have one dtype now."""
    kinds = {column.dtype for column in columns}
    if len(kinds) < 2:
        dtype = next(iter(kinds), "float64")
    elif all(kind.startswith(("float", "int", "uint", "bool")) for kind in kinds):
        dtype = str(np.result_type(*map(np.dtype, kinds)))
    else:
        dtype = "object"
    return [Column(column.name, column.source, dtype, sparse) for column in columns]


def is_number(column: Column) -> bool:
    """Whether the column can be one of a block of numbers."""
    return isinstance(column.source, Ref) or column.source.type not in ("string", "datetime")


def is_plain(dtype: str) -> bool:
    """Whether numpy itself has the dtype for numbers: no object, category or nullable one of pandas."""
    return dtype.startswith(("float", "int", "uint"))


def raw_of(column: Column) -> Raw | None:
    """The feature behind a column that no step has read yet."""
    return column.source if isinstance(column.source, Raw) else None


__all__ = [
    "Chain",
    "Transformer",
    "checked",
    "dense",
    "doubles",
    "is_number",
    "is_plain",
    "name_of",
    "outputs",
    "precision",
    "raw_of",
    "together",
]
