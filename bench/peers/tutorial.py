"""The request and response models of the tutorial's application."""

from __future__ import annotations

from pydantic import BaseModel


class Record(BaseModel):
    """One customer."""

    age: float
    income: float
    balance: float
    tenure_months: float
    utilization: float
    last_txn_days: float
    score: float
    n_products: float
    country: str
    channel: str
    plan: str
    device: str


class Out(BaseModel):
    """One answer."""

    probability: float


class OutMany(BaseModel):
    """An answer per record."""

    probabilities: list[float]
