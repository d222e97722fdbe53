"""What runs a model: in this process where the form is safe and fast, in a process of its own where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from quarterdeck.records import Answer
from quarterdeck.schema import Row


class Runtime(Protocol):
    """One loaded version. Batches never mix versions, because each version has a runtime of its own."""

    async def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer per row, in order.

        Raises:
            ModelFailed: the model raised, died, took too long or answered something else.
            Overloaded: too many rows wait already.
        """

    async def close(self) -> None:
        """Free the model. Called once, after the last answer."""
