"""A model in this very process: for forms that run no foreign code and answer in microseconds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from quarterdeck.errors import ModelFailed
from quarterdeck.forms import Model
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.runtimes import guilty

CHUNK_ROWS = 256
"""Rows per turn of the event loop: a large request lets small ones pass between its chunks."""


class InProcess:
    """A runtime around a loaded model.

    Args:
        model: loaded by `quarterdeck.forms.load`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    async def predict(self, rows: Sequence[Row], deadline: float = math.inf) -> list[Answer]:
        """See `Runtime.predict`. One row never waits for anything, so no deadline is missed by waiting."""
        # The common case has no await in it: no other request runs in between.
        if len(rows) <= CHUNK_ROWS:
            return self._run(rows, 0)
        answers: list[Answer] = []
        for start in range(0, len(rows), CHUNK_ROWS):
            answers += self._run(rows[start : start + CHUNK_ROWS], start)
            await asyncio.sleep(0)
        return answers

    async def close(self) -> None:
        """Nothing to end: memory goes with the last reference."""

    def _run(self, rows: Sequence[Row], first: int) -> list[Answer]:
        try:
            return self._ask(rows)
        except ModelFailed as error:
            raise self._named(rows, first, error) from error

    def _named(self, rows: Sequence[Row], first: int, error: ModelFailed) -> ModelFailed:
        """The failure with its row, which is found by asking again."""
        search = guilty.search(len(rows))
        part = next(search)
        while True:
            failed = False
            try:
                self._ask(rows[part[0] : part[1]])
            except ModelFailed as again:
                # The last part asked is the row alone: its own words fit best.
                error, failed = again, True
            try:
                part = search.send(failed)
            except StopIteration as end:
                return error if end.value is None else guilty.named(error, first + end.value)

    def _ask(self, rows: Sequence[Row]) -> list[Answer]:
        try:
            return self.model.predict(rows)
        except ModelFailed:
            raise
        # Whatever a model raises is its failure, never the node's.
        except Exception as error:
            raise ModelFailed(f"The model raised {type(error).__name__}.") from error
