"""What runs a model: in this process where the form is safe and fast, in a process of its own where it is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from quarterdeck.records import Answer
from quarterdeck.schema import Row


class Budget(NamedTuple):
    """What a model outside the event loop may take. Durations in seconds.

    Attributes:
        batch_seconds: deadline of one batch; a model that needs longer is ended.
        load_seconds: deadline of starting a process and loading the package; importing what a model needs takes seconds.
        memory_bytes: address space of a model process; 0: as much as the system gives.
        queue_rows: rows that may wait.
        queue_seconds: how long a request that names no deadline may wait for its batch to begin.
        loop_seconds: time of one row above which a model leaves the event loop for a process of its own.
        threads: that the libraries of a model process may use for one batch; 0: as many as they find processors.
    """

    batch_seconds: float = 30.0
    load_seconds: float = 120.0
    memory_bytes: int = 16 * 2**30
    queue_rows: int = 4_096
    queue_seconds: float = 1.0
    loop_seconds: float = 0.002
    threads: int = 1


class Runtime(Protocol):
    """One loaded version. Batches never mix versions, because each version has a runtime of its own."""

    async def predict(self, rows: Sequence[Row], deadline: float = math.inf) -> list[Answer]:
        """One answer per row, in order.

        Args:
            rows: valid by the version's schema.
            deadline: `time.monotonic()` by which the answer must be there.

        Raises:
            ModelFailed: the model raised, died, took too long or answered something else; names the row where that is known.
            Overloaded: ``queue-full`` where too much waits already, ``deadline-exceeded`` where the answer would come too late.
        """

    async def close(self) -> None:
        """Free the model. Called once, after the last answer."""
