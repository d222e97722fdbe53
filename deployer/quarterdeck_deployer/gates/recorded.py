"""Recorded rows for the gates: whole files, newest hours first, one row for each row id where that matters."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from quarterdeck.record_files import MAIN_COLUMNS, keys
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck.storage import Storage

_READERS = 4
_NAMES = ("ts", "row_id", "key_id", "model", "version", "digest", "prediction", "scores")
_COLUMNS = pa.schema([MAIN_COLUMNS.field(name) for name in _NAMES])
_FEATURES = ("features", "features_json")


class Recorded(NamedTuple):
    """One recorded row: what was asked, by the key with that id, and what which version answered."""

    row_id: str
    at: datetime
    key: str
    row: Row
    answer: Answer
    model: str
    version: int
    digest: str


def tables(storage: Storage, dataset: str, since: datetime) -> Iterator[pa.Table | None]:
    """The files of main's records since a moment, the newest hour first; None for each that nobody can read.

    Raises:
        StorageError: the store's own.
    """
    for hour in _hours(storage, dataset, since):
        yield from _read(storage, hour, since)


def newest(storage: Storage, dataset: str, since: datetime, count: int) -> pa.Table | None:
    """The newest `count` rows since a moment, newest first, once each; None where there are none.

    Raises:
        StorageError: the store's own.
    """
    found: list[pa.Table] = []
    for hour in _hours(storage, dataset, since):
        # Hours whole: files of several nodes lie beside each other, and the newest rows may be in any of them.
        found += [_as_json(table) for table in _read(storage, hour, since) if table is not None and table.num_rows]
        if sum(table.num_rows for table in found) >= count:
            break
    if not found:
        return None
    table = pa.concat_tables(found)
    table = table.take(pc.sort_indices(table.select(["ts", "row_id"]), [("ts", "descending"), ("row_id", "ascending")]))
    # Delivery is at least once: of rows with one id one counts, and copies of a row are equal.
    places = {name: place for place, name in enumerate(table["row_id"].to_pylist())}
    return table.take(sorted(places.values())[:count])


def rows(table: pa.Table) -> list[Recorded]:
    """The rows of `newest`."""
    return [
        Recorded(
            row_id=one["row_id"],
            at=one["ts"],
            key=one["key_id"],
            row=json.loads(one["features_json"]),
            answer=Answer(json.loads(one["prediction"]), list(one["scores"] or [])),
            model=one["model"],
            version=one["version"],
            digest=one["digest"],
        )
        for one in table.to_pylist()
    ]


def _hours(storage: Storage, dataset: str, since: datetime) -> Iterator[list[str]]:
    found = sorted(keys(storage, dataset, "main", since), reverse=True)
    for _, hour in groupby(found, key=lambda key: key.rpartition("/")[0]):
        yield list(hour)


def _read(storage: Storage, hour: Sequence[str], since: datetime) -> Iterator[pa.Table | None]:
    def read(key: str) -> pa.Table | None:
        return _parquet(storage.get(key), since)

    with ThreadPoolExecutor(_READERS, thread_name_prefix="records") as pool:
        yield from pool.map(read, hour)


def _parquet(data: bytes, since: datetime) -> pa.Table | None:
    try:
        table = pq.read_table(io.BytesIO(data))
        features = next(name for name in _FEATURES if name in table.column_names)
        # Columns of the right names may hold anything; only what has the types fits beside the other files.
        table = table.select(_NAMES).cast(_COLUMNS).append_column(features, table[features])
        return table.filter(pc.greater_equal(table["ts"], pa.scalar(since, table["ts"].type)))
    # A foreign or damaged file must not hide all others; whoever asks counts it.
    except (pa.ArrowException, KeyError, ValueError, OSError, StopIteration):
        return None


def _as_json(table: pa.Table) -> pa.Table:
    """Rows of several versions side by side: their features as text, whatever their types."""
    if "features_json" in table.column_names:
        return table
    texts = [json.dumps(row) for row in table["features"].to_pylist()]
    return table.drop_columns("features").append_column("features_json", pa.array(texts, pa.string()))
