"""What each feature adds to a score: contributions of encoded columns, added up over the columns that a feature became."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from quarterdeck.compiled.batch import Batch
from quarterdeck.compiled.kernels import Block
from quarterdeck.compiled.program import Linear, Trees
from quarterdeck.compiled.segments import width
from quarterdeck.errors import NotExplainable, ValueRefused
from quarterdeck.schema import Label, Row

_HINT = "Ask a model whose features reach its trees or its linear formula one by one."


class Contribution(NamedTuple):
    """One output of one row: `base` and the numbers of all features add up to `raw`, the score before any link.

    `label` is the class that the output speaks of; None for a regression, and where outputs are not classes.
    """

    label: Label | None
    base: float
    features: dict[str, float]
    raw: float


Contributions = list[Contribution]
"""One row: a contribution for each output of the step that is explained."""


class Explainer:
    """Explains the step that a program names.

    Args:
        batch: evaluates what the step is given.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.reason, self._places = self._sources()

    def explain(self, rows: Sequence[Row]) -> list[Contributions]:
        """One list per row, one contribution per output.

        Raises:
            NotExplainable: no step's scores can be split among features; the detail says why.
            ValueRefused: a row that the model refuses, or whose contributions are no numbers; `extra["row"]` is its place.
        """
        place = self._batch.layout.program.explain
        if self.reason or place is None:
            raise NotExplainable(f"The model cannot be explained: {self.reason}.", hint=_HINT)
        step = self._batch.layout.program.steps[place]
        matrix = self._batch.inputs(rows, place)
        parts, base, raw = self._linear(step, matrix) if isinstance(step, Linear) else self._trees(step, matrix)
        finite = np.isfinite(parts).all(axis=(1, 2)) & np.isfinite(raw).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            said = "The model gave contributions that are not finite."
            raise ValueRefused(said, hint="Look at the row that was sent.", extra={"row": row, "column": ""})
        return self._named(parts, base, raw)

    def _trees(self, step: Any, matrix: Any) -> tuple[Block, Block, Block]:
        booster = self._batch.boosters[step.file]
        found = booster.contributions(matrix)
        return found[:, :, :-1], found[:, :, -1], booster.raw(matrix)

    def _linear(self, step: Linear, matrix: Any) -> tuple[Block, Block, Block]:
        weights, bias = np.array(step.weights), np.array(step.bias)
        return matrix[:, None, :] * weights, np.broadcast_to(bias, (len(matrix), len(bias))), matrix @ weights.T + bias

    def _named(self, parts: Block, base: Block, raw: Block) -> list[Contributions]:
        labels = self._labels(parts.shape[1])
        names = [name for name in self._places if name]
        sums = np.stack([parts[:, :, columns].sum(axis=2) for columns in self._places.values()], axis=2)
        # A column of constants belongs to no feature: what it adds is added for every row.
        of_nobody = [place for place, name in enumerate(self._places) if not name]
        bases = base + sums[:, :, of_nobody].sum(axis=2)
        kept = np.delete(sums, of_nobody, axis=2)
        return [
            [
                Contribution(label, start, dict(zip(names, values, strict=True)), score)
                for label, start, values, score in zip(labels, *row, strict=True)
            ]
            for row in zip(bases.tolist(), kept.tolist(), raw.tolist(), strict=True)
        ]

    def _labels(self, outputs: int) -> list[Label | None]:
        classes = self._batch.layout.schema.classes
        if outputs == len(classes):
            return list(classes)
        # One output of a binary model is the score of its second class.
        return [classes[1]] if outputs == 1 and len(classes) == 2 else [None] * outputs

    def _sources(self) -> tuple[str, dict[str, list[int]]]:
        """Why there is no explanation, or the columns of each feature; those of no feature under the empty name."""
        layout = self._batch.layout
        place = layout.program.explain
        if place is None:
            return "its scores are not those of one ensemble of trees or one linear formula", {}
        node = next((node for node in layout.nodes if node.place == place), None)
        if node is None or not isinstance(node.step, (Linear, Trees)):
            return "the step that its package names has no contributions", {}
        found: dict[str, list[int]] = {}
        for column, features in enumerate(layout.features_of(node.inputs[0])):
            if len(features) > 1:
                return f"one of its {width(node.inputs[0])} columns is made from {', '.join(sorted(features))} together", {}
            found.setdefault(next(iter(features), ""), []).append(column)
        return "", found
