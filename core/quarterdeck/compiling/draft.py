"""A program while it is being written, and the columns that pass from one transformer to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from quarterdeck.compiled.program import Arithmetics, Number, Step, Take
from quarterdeck.schema import FeatureType, Scalar, Schema


class NotCompilable(Exception):
    """A part of the model has no compiled form. Its text says which, and why; shown by `package inspect`."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A feature that no step has read yet: what encoders look values up by.

    `filled` stands in the place of null where an imputer came before; `is_filled` tells it from a null that stays.
    """

    feature: str
    type: FeatureType
    nullable: bool
    filled: Scalar = None
    is_filled: bool = False


@dataclass(frozen=True, slots=True)
class Ref:
    """One column of a step's block."""

    step: int
    column: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column between two transformers: the name it is selected by, and where its values come from."""

    name: str
    source: Raw | Ref


@dataclass
class Draft:
    """Steps so far, their widths, and the files that they name."""

    schema: Schema
    steps: list[Step] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

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
        if raw.type in ("string", "datetime"):
            raise NotCompilable(f"{raw.feature} is text where a number is needed")
        place = self.add(Number(feature=raw.feature), 1)
        if raw.is_filled and isinstance(raw.filled, (int, float)):
            place = self.add(Arithmetics(input=place, function="fill", by=[float(raw.filled)]), 1)
        return Ref(place, 0)
