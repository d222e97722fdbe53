"""Models that take a known time per row, for overload: one that computes and one that waits, as for another service."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin

MILLISECONDS = 5


class Slow(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Answers the number that it is given, after 5 ms of computing per row."""

    def fit(self, X: pd.DataFrame, y: Any) -> Slow:
        """Nothing to learn."""
        self.fitted_ = True
        return self

    def predict(self, X: pd.DataFrame) -> Any:
        """Answer, in 5 ms per row."""
        for _ in range(len(X)):
            self.take_time()
        return np.asarray(X["number"], dtype=float)

    def take_time(self) -> None:
        """Keep the processor busy. CPU time and not the clock, or a processor that is shared would do less work than asked."""
        until = time.process_time() + MILLISECONDS / 1_000
        while time.process_time() < until:
            pass


class Waiting(Slow):
    """The same, but the processor is free meanwhile."""

    def take_time(self) -> None:
        """Wait."""
        time.sleep(MILLISECONDS / 1_000)
