"""The model of a compiled package: rows in, answers out, with neither pandas nor scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from quarterdeck.column_rows import ColumnRows
from quarterdeck.compiled.batch import Batch
from quarterdeck.compiled.explain import Contributions, Explainer
from quarterdeck.compiled.kernels import Block
from quarterdeck.compiled.layout import Unfit, lay_out
from quarterdeck.compiled.program import PROGRAM_FILE, Program, Trees
from quarterdeck.compiled.scalar import row_function
from quarterdeck.compiled.trees import Booster
from quarterdeck.errors import ModelFailed, ValueRefused
from quarterdeck.manifest import Manifest
from quarterdeck.records import Answer
from quarterdeck.schema import Row, Schema
from quarterdeck.verify import read_verified, unloadable

__all__ = ["CompiledModel", "load"]

# Up to here rows are scored one by one: numpy's fixed costs are those of some thirty rows (32 rows of 12 features through
# 100 trees take 73 µs one by one, 77 µs by column; 64 take 158 and 108).
_FEW = 32
# Large requests pass in parts, so that their columns stay in the processor's cache and memory stays bounded.
_MANY = 4096
# So many rows are certain to be evaluated by column.
_ENOUGH = 40


class CompiledModel:
    """A program ready to answer. Safe to call from several threads.

    Args:
        schema: of the model.
        program: reads the schema's features.
        boosters: by file, each that the program names.

    Raises:
        Unfit: schema, program and boosters do not fit together.
    """

    def __init__(self, schema: Schema, program: Program, boosters: Mapping[str, Booster]) -> None:
        layout = lay_out(program, schema, boosters)
        self.schema = schema
        self._classes = list(schema.classes)
        self.batch = Batch(layout, boosters)
        """The program by column, for whoever wants the columns that a step is given."""
        self._explainer = Explainer(self.batch)
        self.scores = row_function(layout, boosters, self._slowly)
        """One row's numbers: the regression's one, or the score of each class in schema order. Raises `ModelFailed`."""

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer per row, in order; the label is the first class of the highest score.

        Args:
            rows: valid by the schema. `ColumnRows` are taken column by column.

        Raises:
            ValueRefused: the model refuses a row, or its score is not finite; names the feature where it is a single one,
                `extra["row"]` is the row's place.
            ModelFailed: a row that does not fit the schema.
        """
        if len(rows) == 1 and not isinstance(rows, ColumnRows):
            return [self._answer(self.scores(rows[0]))]
        found = self.many(rows)
        if not self._classes:
            return [Answer(value, []) for value in found[:, 0].tolist()]
        labels = map(self._classes.__getitem__, found.argmax(axis=1).tolist())
        return list(map(Answer, labels, found.tolist()))

    def many(self, rows: Sequence[Row]) -> Block:
        """The scores of many rows: float64, shape (rows, classes), (rows, 1) for a regression.

        Raises:
            ModelFailed: as `predict`.
        """
        if len(rows) <= _FEW and not isinstance(rows, ColumnRows):
            return self._few(rows)
        if len(rows) <= _MANY:
            return self._checked(self.batch.scores(rows))
        parts = []
        for start in range(0, len(rows), _MANY):
            try:
                parts.append(self._checked(self.batch.scores(rows[start : start + _MANY])))
            except ModelFailed as error:
                error.extra["row"] = error.extra.get("row", 0) + start
                raise
        return np.concatenate(parts)

    def explain(self, rows: Sequence[Row]) -> list[Contributions]:
        """What each feature adds to the raw score of each output, row by row.

        Raises:
            NotExplainable: the model's columns mix features, or no single step gives its scores; the detail says which.
            ModelFailed: as `predict`.
        """
        return self._explainer.explain(rows) if rows else []

    def _answer(self, scores: tuple[float, ...]) -> Answer:
        if not self._classes:
            return Answer(scores[0], [])
        return Answer(self._classes[scores.index(max(scores))], list(scores))

    def _few(self, rows: Sequence[Row]) -> Block:
        found = np.empty((len(rows), len(self._classes) or 1))
        for place, row in enumerate(rows):
            try:
                found[place] = self.scores(row)
            except ModelFailed as error:
                error.extra["row"] = place
                raise
        return found

    def _slowly(self, row: Row) -> tuple[float, ...]:
        scores: tuple[float, ...] = tuple(self._checked(self.batch.scores([row]))[0].tolist())
        return scores

    def _checked(self, scores: Block) -> Block:
        finite = np.isfinite(scores).all(axis=1)
        if not finite.all():
            hint = "Look at the row that was sent, then at the model."
            row = int(np.flatnonzero(~finite)[0])
            # Golden rows have proven the program: it is this row that it has no answer for.
            raise ValueRefused("The model answered a number that is not finite.", hint=hint, extra={"row": row, "column": ""})
        return scores


def load(manifest: Manifest, folder: Path) -> CompiledModel:
    """The model of a compiled package whose files have been verified; the bytes that are loaded are compared once more.

    Raises:
        PackageRefused: ``load-failed`` naming the file where program, schema and trees do not fit; ``file-missing`` or
            ``digest-mismatch``; ``environment-mismatch`` where LightGBM's library is not installed.
    """
    try:
        program = Program.model_validate_json(read_verified(manifest, folder, PROGRAM_FILE))
    except ValidationError as error:
        # One place is enough to mend, and the input stays out of the message.
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise unloadable(manifest, PROGRAM_FILE, f"{place}: {first['msg']}") from None
    boosters: dict[str, Booster] = {}
    for step in program.steps:
        if isinstance(step, Trees) and step.file not in boosters:
            boosters[step.file] = _booster(manifest, folder, step.file)
    try:
        model = CompiledModel(manifest.data_schema, program, boosters)
        _compare(manifest, model)
    except Unfit as error:
        raise unloadable(manifest, PROGRAM_FILE, str(error)) from None
    return model


def _compare(manifest: Manifest, model: CompiledModel) -> None:
    """Ask for golden rows one by one and by column: the two are different code, and numpy's own differs by processor."""
    rows = [golden.row for golden in manifest.golden]
    try:
        single = np.array([model.scores(row) for row in rows])
        many = model.many(rows * (-(-_ENOUGH // len(rows))))[: len(rows)]
    except ModelFailed as error:
        raise Unfit(f"a golden row is refused: {error.detail.rstrip('.')}") from error
    tolerance = manifest.golden_tolerance
    if not np.allclose(single, many, rtol=tolerance, atol=tolerance):
        raise Unfit("one row alone and among others are answered differently here")


def _booster(manifest: Manifest, folder: Path, file: str) -> Booster:
    try:
        return Booster(read_verified(manifest, folder, file))
    except ModelFailed as error:
        raise unloadable(manifest, file, error.detail.rstrip(".")) from error
