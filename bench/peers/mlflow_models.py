"""Writes the two models as MLflow models into the folder that is named, the pipeline with its signature, as MLflow advises."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import joblib
import lightgbm
import mlflow.lightgbm
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature

WORK = Path(os.environ["BENCH_WORK"])


def main(target: Path) -> None:
    """Save both."""
    frame = pd.DataFrame(json.loads((WORK / "records.json").read_text()))
    pipe = joblib.load(WORK / "pipe.joblib")
    mlflow.sklearn.save_model(
        pipe,
        target / "pipe",
        signature=infer_signature(frame, pipe.predict_proba(frame)),
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
    )
    trees = lightgbm.Booster(model_file=WORK / "booster.txt")
    mlflow.lightgbm.save_model(trees, target / "booster", pip_requirements=["lightgbm"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
