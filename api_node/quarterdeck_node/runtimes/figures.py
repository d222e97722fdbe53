"""What is counted of the requests that travel together to one model."""

from __future__ import annotations

from bisect import bisect_left

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)
"""Upper bounds, in rows."""
SHED_REASONS = ("queue-full", "deadline-exceeded")


class Figures:
    """Of one queue since its version was loaded.

    Attributes:
        waiting_rows: in the queue now, the running batch not among them.
        batches: how many the model was asked, by bucket of their rows; in the last place those beyond all of `BATCH_BUCKETS`.
        rows: in all of these; a row that was asked again is counted again.
        shed: requests that were refused before the model was asked, or told that their time is over, by code.
    """

    __slots__ = ("batches", "rows", "shed", "waiting_rows")

    def __init__(self) -> None:
        self.waiting_rows = 0
        self.batches = [0] * (len(BATCH_BUCKETS) + 1)
        self.rows = 0
        self.shed = dict.fromkeys(SHED_REASONS, 0)

    def batch(self, rows: int) -> None:
        """Count one batch."""
        self.batches[bisect_left(BATCH_BUCKETS, rows)] += 1
        self.rows += rows
