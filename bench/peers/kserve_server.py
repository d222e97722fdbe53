"""KServe: custom predictors behind its V1 protocol."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas as pd
from kserve import Model, ModelServer

WORK = Path(os.environ["BENCH_WORK"])


class Pipe(Model):
    """The pipeline."""

    def load(self) -> bool:
        """Read the model."""
        self.model = joblib.load(WORK / "pipe.joblib")
        self.ready = True
        return True

    def predict(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Answer instances."""
        frame = pd.DataFrame(payload["instances"])
        return {"predictions": self.model.predict_proba(frame)[:, 1].tolist()}


class Trees(Model):
    """The Booster."""

    def load(self) -> bool:
        """Read the model."""
        self.model = lightgbm.Booster(model_file=WORK / "booster.txt")
        self.ready = True
        return True

    def predict(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Answer instances."""
        found = np.asarray(self.model.predict(np.array(payload["instances"]), num_threads=1))
        return {"predictions": found.tolist()}


if __name__ == "__main__":
    pipe, trees = Pipe("pipe"), Trees("booster")
    pipe.load()
    trees.load()
    server = ModelServer(http_port=int(os.environ["PORT"]), workers=1, enable_grpc=False, enable_latency_logging=False)
    server.start([pipe, trees])
