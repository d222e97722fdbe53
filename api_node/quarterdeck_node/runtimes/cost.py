"""How long batches take: learnt from those that ran, so that a deadline that cannot be kept is refused before any work."""

from __future__ import annotations

BATCH_ROWS = 1_024
LONGEST = 0.1
"""Seconds that a batch of several requests is meant to take at most: who arrives meanwhile waits as long."""
_SHORTEST = 0.01
_WORTH = 10
_KEPT = 0.9
_NOTHING = 1e-12
"""Seconds per row that are an error of arithmetic, and not worth dividing by."""


class Cost:
    """Seconds of a batch as a fixed part and a part per row: a line through what was measured, older batches counting less."""

    def __init__(self) -> None:
        self.fixed = 0.0
        self.per_row = 0.0
        # Weighted sums of 1, rows, seconds, rows squared, rows times seconds.
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)

    def add(self, rows: int, seconds: float) -> None:
        """Learn from one batch."""
        found = (1.0, rows, seconds, rows * rows, rows * seconds)
        self._sums = tuple(_KEPT * old + new for old, new in zip(self._sums, found, strict=True))  # type: ignore[assignment]
        weight, n, t, nn, nt = self._sums
        spread = nn * weight - n * n
        # Batches of one size only say nothing about another: then the line keeps its slope and moves to where they lie.
        if spread > 1e-3 * n * n:
            self.per_row = max(0.0, (nt * weight - n * t) / spread)
        self.per_row = min(self.per_row, t / n)
        self.fixed = t / weight - self.per_row * n / weight

    def of(self, rows: int) -> float:
        """Seconds that a batch of so many rows takes."""
        return self.fixed + self.per_row * rows

    @property
    def most_rows(self) -> int:
        """Rows beyond which a batch gains next to nothing by growing, and only makes everybody wait for all."""
        if self.per_row < _NOTHING:
            return BATCH_ROWS
        seconds = min(LONGEST, max(_SHORTEST, _WORTH * self.fixed))
        return max(1, min(BATCH_ROWS, round((seconds - self.fixed) / self.per_row)))

    def of_queue(self, rows: int, requests: int) -> float:
        """Seconds that so many waiting rows of so many requests take, in as many batches as that makes."""
        # A request is never divided: however large it is, it makes one batch at most.
        batches = min(requests, -(-rows // self.most_rows))
        return batches * self.fixed + rows * self.per_row
