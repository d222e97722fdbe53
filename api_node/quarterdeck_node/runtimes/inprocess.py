"""A model in this very process: for forms that run no foreign code and answer in microseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from quarterdeck.errors import ModelFailed
from quarterdeck.forms import Model
from quarterdeck.records import Answer
from quarterdeck.schema import Row

CHUNK_ROWS = 128
"""Rows per turn of the event loop: a large request lets small ones pass between its chunks."""


class InProcess:
    """A runtime around a loaded model.

    Args:
        model: loaded by `quarterdeck.forms.load`.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    async def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """See `Runtime.predict`. One row never waits for anything."""
        # The common case has no await in it: no other request runs in between.
        if len(rows) <= CHUNK_ROWS:
            return self._run(rows)
        answers: list[Answer] = []
        for start in range(0, len(rows), CHUNK_ROWS):
            answers += self._run(rows[start : start + CHUNK_ROWS])
            await asyncio.sleep(0)
        return answers

    async def close(self) -> None:
        """Nothing to end: memory goes with the last reference."""

    def _run(self, rows: Sequence[Row]) -> list[Answer]:
        try:
            return self._model.predict(rows)
        except ModelFailed:
            raise
        # Whatever a model raises is its failure, never the node's.
        except Exception as error:
            raise ModelFailed(f"The model raised {type(error).__name__}.") from error
