"""Ray Serve: one replica of a deployment with both models."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas as pd
import ray
from ray import serve

WORK = Path(os.environ["BENCH_WORK"])
LOGGING = {"enable_access_log": False, "log_level": "WARNING"}


class Models:
    """Takes `{"records": […]}` or `{"rows": […]}`."""

    def __init__(self) -> None:
        self.pipe = joblib.load(WORK / "pipe.joblib")
        self.trees = lightgbm.Booster(model_file=WORK / "booster.txt")

    async def __call__(self, request: Any) -> dict[str, list[float]]:
        """Answer one request."""
        given = await request.json()
        if "rows" in given:
            return {"predictions": np.asarray(self.trees.predict(np.array(given["rows"]), num_threads=1)).tolist()}
        return {"predictions": self.pipe.predict_proba(pd.DataFrame(given["records"]))[:, 1].tolist()}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])}, logging_config=LOGGING)
    deployment = serve.deployment(Models, num_replicas=1, max_ongoing_requests=128, ray_actor_options={"num_cpus": 1})
    serve.run(deployment.bind(), route_prefix="/", logging_config=LOGGING)
    while True:
        time.sleep(60)
