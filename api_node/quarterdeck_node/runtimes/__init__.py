"""What runs a model: in this process where the form is safe and fast, in a process of its own where it is not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Protocol

from quarterdeck.records import Answer
from quarterdeck.schema import Row

_OURS = ("AWS_", "QUARTERDECK_")


def model_environ(needed: Iterable[str]) -> dict[str, str]:
    """The environment of a process that a package is loaded in.

    It is ours without what belongs to this program alone: a package that may run code need not see the store's keys, neither when
    it is tried nor when it serves. What the package itself asks for, `needed`, is left in.
    """
    asked = set(needed)
    return {name: value for name, value in os.environ.items() if name in asked or not name.startswith(_OURS)}


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
