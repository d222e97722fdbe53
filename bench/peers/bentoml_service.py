"""BentoML: a service without batching and one with its adaptive batching."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bentoml
import joblib
import lightgbm
import numpy as np
import pandas as pd

WORK = Path(os.environ["BENCH_WORK"])


def _pipe(model: Any, records: list[dict]) -> list[float]:  # type: ignore[type-arg]
    return list(model.predict_proba(pd.DataFrame(records))[:, 1].tolist())


def _trees(model: Any, rows: list[list[float]]) -> list[float]:
    return list(np.asarray(model.predict(np.array(rows), num_threads=1)).tolist())


# BentoML reads these annotations at run time, and a bare `dict` is what its documentation gives to records of mixed types.
@bentoml.service(workers=1, name="plain", logging={"access": {"enabled": False}})
class Plain:
    """One request, one prediction."""

    def __init__(self) -> None:
        self.pipe = joblib.load(WORK / "pipe.joblib")
        self.trees = lightgbm.Booster(model_file=WORK / "booster.txt")

    @bentoml.api
    def predict(self, records: list[dict]) -> list[float]:  # type: ignore[type-arg]
        """Answer records."""
        return _pipe(self.pipe, records)

    @bentoml.api
    def booster(self, rows: list[list[float]]) -> list[float]:
        """Answer rows of floats."""
        return _trees(self.trees, rows)


@bentoml.service(workers=1, name="batched", logging={"access": {"enabled": False}})
class Batched:
    """Requests that wait are predicted together."""

    def __init__(self) -> None:
        self.pipe = joblib.load(WORK / "pipe.joblib")
        self.trees = lightgbm.Booster(model_file=WORK / "booster.txt")

    @bentoml.api(batchable=True, max_batch_size=1024, max_latency_ms=1000)
    def predict(self, records: list[dict]) -> list[float]:  # type: ignore[type-arg]
        """Answer records."""
        return _pipe(self.pipe, records)

    @bentoml.api(batchable=True, max_batch_size=1024, max_latency_ms=1000)
    def booster(self, rows: list[list[float]]) -> list[float]:
        """Answer rows of floats."""
        return _trees(self.trees, rows)
