"""The table that the catalogue's pipelines are trained on, and the values at the edges that their answers are compared on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from quarterdeck.schema import FeatureType, Row, Scalar, Task

TRAINING_ROWS = 600
_CARRIERS = ["AA", "B6", "DL", "UA", "WN", "Ærø", "charter"]
_SHARES = [0.3, 0.2, 0.2, 0.15, 0.12, 0.02, 0.01]
_WEATHER = ["clear", "cloud", "rain", "snow", ""]

EDGES: dict[FeatureType, list[Scalar]] = {
    "float": [None, math.nan, math.inf, -math.inf, 0.0, -0.0, 7, -3, 1e-300, 1e300, -1e300, 1e39, 3.4028235e38, 5e-324, 2**53],
    "int": [None, 0, -1, 7, 300, 70_000, 2**31, 2**53 + 1, -(2**62)],
    "string": [None, "", " ", "quarterdeck-unseen", "AA", "aa", "Ærø", "nan", "None", "0"],
    "boolean": [None, True, False],
    "datetime": [None, "2024-02-29T12:00:00", "1999-12-31", "2024-05-01T00:00:00+02:00"],
}
"""Per type: what a caller may send that training rows hardly hold. Those that a pipeline takes no null for get none."""


@dataclass(frozen=True)
class Table:
    """Training rows, and a target for each task."""

    frame: pd.DataFrame
    targets: dict[Task, Any]


@cache
def table() -> Table:
    """Flights that nobody flew: every type of column, missing values in several spellings, rare categories."""
    rng = np.random.default_rng(20)
    count = TRAINING_ROWS
    number = pd.DataFrame(
        {
            "distance": rng.gamma(4.0, 250.0, count).round(1),
            "fare": rng.lognormal(4.5, 0.7, count),
            "speed": rng.normal(420.0, 60.0, count),
            "temperature": _holes(rng, rng.normal(12.0, 9.0, count).round(1), 0.12),
            "wind": _holes(rng, rng.gamma(2.0, 6.0, count).round(1), 0.08),
            "gauge": np.where(rng.random(count) < 0.1, -999.0, rng.normal(0.0, 1.0, count).round(2)),
            "hour": rng.integers(0, 24, count),
            "stops": rng.choice([0, 0, 0, 1, 2], count).astype("int32"),
            "seats": rng.choice([50, 76, 120, 180], count).astype("int16"),
            "load": rng.random(count).astype("float32"),
            "ratio": rng.lognormal(0.0, 0.5, count).astype("float32"),
        }
    )
    text = pd.DataFrame(
        {
            "carrier": rng.choice(_CARRIERS, count, p=_SHARES),
            "origin": [f"A{place:02d}" for place in rng.integers(0, 40, count)],
            "weather": pd.Series(_objects(rng, _WEATHER, count, math.nan), dtype=object),
            "gate": pd.Series(_objects(rng, ["A", "B", "C"], count, None), dtype=object),
            "crew": pd.Series(rng.choice(["full", "short", "?"], count, p=[0.7, 0.2, 0.1]), dtype=object),
            "cabin": pd.Categorical(_objects(rng, ["eco", "plus", "first"], count, None), categories=["eco", "first", "plus"]),
            "zone": pd.Categorical(rng.choice([3, 5, 9], count)),
            "note": [f"row {place % 7} of a longer remark" for place in range(count)],
        }
    )
    other = pd.DataFrame(
        {
            "weekend": rng.random(count) < 0.3,
            "loyal": pd.Series(_objects(rng, [True, False], count, None), dtype=object),
            "booked": pd.date_range("2024-01-01", periods=count, freq="7h"),
        }
    )
    frame = pd.concat([number, text, other], axis=1)
    return Table(frame, _targets(rng, frame))


def sample(rows: list[Row], count: int) -> list[Row]:
    """`count` rows whose cells each come from one of `rows`: combinations that nobody has seen."""
    rng = np.random.default_rng(7)
    places = {name: rng.integers(0, len(rows), count).tolist() for name in rows[0]}
    return [{name: rows[places[name][row]][name] for name in places} for row in range(count)]


def _targets(rng: Any, frame: pd.DataFrame) -> dict[Task, Any]:
    risk = (
        frame["hour"] / 12
        + np.nan_to_num(frame["wind"], nan=15.0) / 10
        + (frame["carrier"].isin(["DL", "WN"])) * 0.8
        + (frame["cabin"] == "first") * 0.5
        - frame["distance"] / 1500
        + rng.normal(0.0, 0.6, len(frame))
    )
    thirds = pd.qcut(risk, 3, labels=["early", "late", "on time"]).astype(str).to_numpy(dtype=object)
    return {"binary": (risk > risk.median()).astype(int).to_numpy(), "multiclass": thirds, "regression": np.exp(risk).to_numpy()}


def _holes(rng: Any, values: Any, share: float) -> Any:
    return np.where(rng.random(len(values)) < share, np.nan, values)


def _objects(rng: Any, values: list[Any], count: int, absent: Any) -> list[Any]:
    return [absent if rng.random() < 0.1 else values[place] for place in rng.integers(0, len(values), count)]
