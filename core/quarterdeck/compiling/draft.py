"""A program while it is being written, and the columns that pass from one transformer to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from quarterdeck.compiled.program import Apply, Arithmetics, Check, Lookup, Number, Step, Take
from quarterdeck.frames import Missing
from quarterdeck.schema import FeatureType, Scalar, Schema

_INEXACT = {"float16", "Float32"}
# Of whole numbers that fit 64 bits, as every door has them, those that these cannot hold are refused by numpy.
_NARROW = {"int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64"}


class NotCompilable(Exception):
    """A part of the model has no compiled form. Its text says which, and why; shown by `package inspect`."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A feature that no step has read yet: what encoders look values up by.

    `filled` stands in the place of null where an imputer came before; `is_filled` tells it from a null that stays. `swaps` are
    values that an imputer takes for missing, each with what it puts there. `refuses_null` where it takes none.
    """

    feature: str
    type: FeatureType
    nullable: bool
    filled: Scalar = None
    is_filled: bool = False
    dtype: str = "object"
    missing: Missing = "nan"
    categories: tuple[Scalar, ...] | None = None
    swaps: tuple[tuple[Scalar, Scalar], ...] = ()
    refuses_null: bool = False


@dataclass(frozen=True, slots=True)
class Ref:
    """One column of a step's block."""

    step: int
    column: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column between two transformers: the name it is selected by, and where its values come from.

    `dtype` is what numpy or pandas would say of it here, and `sparse` whether scikit-learn would hold it in a sparse matrix:
    both change the last bits of what some transformers compute.
    """

    name: str
    source: Raw | Ref
    dtype: str = "float64"
    sparse: bool = False


@dataclass
class Draft:
    """Steps so far, their widths, and the files that they name."""

    schema: Schema
    steps: list[Step] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    _numbers: dict[Raw, Ref] = field(default_factory=dict)

    def add(self, step: Step, width: int) -> int:
        """Append a step whose block has so many columns; its place."""
        self.steps.append(step)
        self.widths.append(width)
        return len(self.steps) - 1

    def columns(self, step: int, names: Sequence[str] | None = None) -> list[Column]:
        """Every column of a step's block, by name (`x0` … where there are none)."""
        width = self.widths[step]
        return [Column(names[place] if names is not None else f"x{place}", Ref(step, place)) for place in range(width)]

    def block(self, columns: Sequence[Column]) -> int:
        """One step that holds these columns as numbers, side by side; the step itself where they are one already.

        Raises:
            NotCompilable: a column is text.
        """
        refs = [self._number(column.source) if isinstance(column.source, Raw) else column.source for column in columns]
        first = refs[0].step if refs else -1
        if refs and refs == [Ref(first, place) for place in range(self.widths[first])]:
            return first
        return self.add(Take(parts=[(ref.step, ref.column) for ref in refs]), len(refs))

    def _number(self, raw: Raw) -> Ref:
        if raw not in self._numbers:
            self._numbers[raw] = Ref(self._added(raw), 0)
        return self._numbers[raw]

    def _added(self, raw: Raw) -> int:
        given = [scalar for scalar in (raw.filled, *(raw.categories or ()), *(to for _, to in raw.swaps)) if scalar is not None]
        if raw.type in ("string", "datetime") or any(isinstance(scalar, str) for scalar in given):
            raise NotCompilable(f"{raw.feature} is text where a number is needed")
        if raw.swaps or raw.dtype in _INEXACT or (raw.missing == "na" and raw.nullable):
            raise NotCompilable(f"{raw.feature} is a number of a kind that has no compiled form")
        place = self.add(_reading(raw), 1)
        if raw.dtype == "float32":
            place = self.add(Apply(input=place, function="float32"), 1)
        if raw.is_filled and isinstance(raw.filled, (int, float)):
            return self.add(Arithmetics(input=place, function="fill", by=[float(raw.filled)]), 1)
        return self.add(Check(input=place, infinite=True), 1) if raw.refuses_null else place


def _reading(raw: Raw) -> Step:
    """The step that reads a feature as a number, and refuses what a frame of the training data's dtypes would."""
    if raw.categories is not None:
        # A value that is no category is missing by the time the model sees it.
        numbers = [float(category) for category in raw.categories if category is not None]
        rows: list[list[float | None]] = [[number] for number in numbers]
        return Lookup(feature=raw.feature, values=list(raw.categories), rows=rows, unseen=[None], missing=[None])
    kind = raw.dtype.lower()
    limits = np.iinfo(kind) if kind in _NARROW else None
    return Number(feature=raw.feature, bounds=None if limits is None else (float(limits.min), float(limits.max)))
