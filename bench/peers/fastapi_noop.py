"""FastAPI with the tutorial's request and response models, and no model behind them."""

from __future__ import annotations

from fastapi import FastAPI

from bench.peers.tutorial import Out, OutMany, Record

app = FastAPI()
CONSTANT = 0.9688024293199047


@app.post("/predict")
async def predict(record: Record) -> Out:
    """One record."""
    return Out(probability=CONSTANT)


@app.post("/batch")
async def batch(records: list[Record]) -> OutMany:
    """Many records."""
    return OutMany(probabilities=[CONSTANT] * len(records))


@app.post("/booster")
async def booster(row: list[float]) -> Out:
    """One row of floats."""
    return Out(probability=CONSTANT)
