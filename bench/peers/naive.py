"""The tutorial: pydantic model → pandas DataFrame → predict_proba, in an `async def` route of FastAPI."""

from __future__ import annotations

import os
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import pandas as pd
from fastapi import FastAPI

from bench.peers.tutorial import Out, OutMany, Record

WORK = Path(os.environ["BENCH_WORK"])
pipe = joblib.load(WORK / "pipe.joblib")
trees = lightgbm.Booster(model_file=WORK / "booster.txt")
app = FastAPI()


@app.post("/predict")
async def predict(record: Record) -> Out:
    """One record."""
    frame = pd.DataFrame([record.model_dump()])
    return Out(probability=float(pipe.predict_proba(frame)[0, 1]))


@app.post("/batch")
async def batch(records: list[Record]) -> OutMany:
    """Many records."""
    frame = pd.DataFrame([record.model_dump() for record in records])
    return OutMany(probabilities=pipe.predict_proba(frame)[:, 1].tolist())


@app.post("/booster")
async def booster(row: list[float]) -> Out:
    """One row of floats."""
    return Out(probability=float(np.asarray(trees.predict(np.array([row]), num_threads=1))[0]))
