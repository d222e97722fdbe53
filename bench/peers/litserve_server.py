"""LitServe: one model a process, with and without its batching (BATCH: rows at most)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import litserve
import numpy as np
import pandas as pd

WORK = Path(os.environ["BENCH_WORK"])
BATCH = int(os.environ.get("BATCH", "1"))
WAIT_SECONDS = 0.005


class Api(litserve.LitAPI):
    """Takes `{"records": […]}` or `{"rows": […]}`, whichever model it has."""

    def setup(self, device: str) -> None:
        """Read the model."""
        self.trees = os.environ["MODEL"] == "booster"
        self.model: Any = lightgbm.Booster(model_file=WORK / "booster.txt") if self.trees else joblib.load(WORK / "pipe.joblib")

    # LitServe takes annotations here for a request model of FastAPI's; its documentation leaves them out.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """The rows of one request."""
        return list(request["rows" if self.trees else "records"])

    def scores(self, rows: list[Any]) -> list[float]:
        """P(class 1) of each row."""
        if self.trees:
            return list(np.asarray(self.model.predict(np.array(rows), num_threads=1)).tolist())
        return list(self.model.predict_proba(pd.DataFrame(rows))[:, 1].tolist())

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        """One answer."""
        return {"predictions": output}


class One(Api):
    """One request, one prediction."""

    def predict(self, rows: list[Any]) -> list[float]:
        """Answer one request."""
        return self.scores(rows)


class Many(Api):
    """Requests that wait are predicted together."""

    def batch(self, inputs: list[list[Any]]) -> list[list[Any]]:
        """Requests as they came."""
        return inputs

    def predict(self, requests: list[list[Any]]) -> list[list[float]]:
        """Answer several requests with one call of the model."""
        scores = iter(self.scores([row for rows in requests for row in rows]))
        return [[next(scores) for _ in rows] for rows in requests]

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """Answers as they are."""
        return output


if __name__ == "__main__":
    api = One(api_path="/predict") if BATCH == 1 else Many(api_path="/predict", max_batch_size=BATCH, batch_timeout=WAIT_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, timeout=30)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), log_level="error", generate_client_file=False, access_log=False)
