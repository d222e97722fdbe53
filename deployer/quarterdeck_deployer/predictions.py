"""What the stored records say: an index of the store's Parquet files and of the labels, joined by row id.

The index is a cache in DuckDB that can be thrown away at any time: it is filled by reading the files which the store has and
it has not seen yet, and the labels that came since. Its memory is bounded; what does not fit is spilled to a folder.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from quarterdeck.record_files import CHALLENGER_COLUMNS, MAIN_COLUMNS, Kind, keys
from quarterdeck.schema import Label as LabelValue
from quarterdeck.storage import Storage
from quarterdeck_deployer.infrastructures.base import Records
from quarterdeck_deployer.labels import SQL_MACRO
from quarterdeck_deployer.models import Label

MEMORY_LIMIT = "512MB"
LABEL_CHUNK = 50_000
_FILES_AT_ONCE = 64
_READERS = 8


def _columns(of: pa.Schema, *names: str) -> pa.Schema:
    return pa.schema([of.field(name) for name in names])


# In the order of the tables below.
_MAIN = _columns(MAIN_COLUMNS, "row_id", "ts", "request_id", "row", "caller_id", "model", "version", "digest", "revision", "door",
                 "latency_us", "prediction", "scores")  # fmt: skip
_CHALLENGER = _columns(CHALLENGER_COLUMNS, "row_id", "ts", "model", "version", "digest", "result", "error_code", "prediction",
                       "scores", "latency_us")  # fmt: skip
# One thread: sums of floats then come out the same each time, and scores can be compared for equality.
_TABLES = f"""
create table main (deployment varchar, row_id varchar, ts timestamp, request_id varchar, "row" integer, caller_id varchar,
    model varchar, version integer, digest varchar, revision bigint, door varchar, latency_us integer, prediction varchar,
    scores double[]);
create table challenger (deployment varchar, row_id varchar, ts timestamp, model varchar, version integer, digest varchar,
    result varchar, error_code varchar, prediction varchar, scores double[], latency_us integer);
create table labels (deployment varchar, row_id varchar, value varchar, received_at timestamp);
create table files (deployment varchar, key varchar, readable boolean);
set memory_limit = '{MEMORY_LIMIT}';
set threads = 1;
"""


@dataclass(frozen=True)
class Ledger:
    """Rows of one deployment by what became of them, counted in the store: nothing is taken from a node's word."""

    records: int
    challenger_answered: int
    challenger_failed: int
    challenger_expired: int
    challenger_dropped: int
    pairs: int
    labelled: int
    unreadable_files: int


@dataclass(frozen=True)
class Answered:
    """What one role answered to a row; `result` is `answered`, or why there is no answer."""

    model: str
    version: int
    digest: str
    result: str
    error_code: str
    prediction: LabelValue | None
    scores: list[float]
    latency_us: int | None


@dataclass(frozen=True)
class PredictedRow:
    """One stored row with both answers and, where it has come, the truth. `challenger` is None while none has been stored."""

    row_id: str
    at: datetime
    caller_id: str
    door: str
    revision: int
    main: Answered
    challenger: Answered | None
    label: LabelValue | None


class PredictionIndex:
    """All stored records and labels, ready to be joined. Every method may block on the store: call it from a thread.

    Args:
        records: from a deployment's name to where nodes ship its records to.
        sessions: reading sessions of the deployer's database, for the labels.
        spill: folder for what does not fit into memory; made when needed.
    """

    def __init__(self, records: Callable[[str], Records], sessions: sessionmaker[Session], spill: Path) -> None:
        self._records = records
        self._sessions = sessions
        self._lock = threading.Lock()
        # No extension is ever fetched or loaded: this process opens no connection that its settings do not name.
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "temp_directory": str(spill),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        self._connection.execute(_TABLES)
        self._connection.execute(SQL_MACRO)

    def close(self) -> None:
        """Free the memory and the spilled files."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def current(self, deployment: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """The connection to the tables `main`, `challenger` and `labels`, up to date for this deployment, to this thread alone.

        Raises:
            StorageError: the store cannot be read.
        """
        # One connection, one thread at a time: DuckDB uses its cores inside a query.
        with self._lock:
            self._read_files(deployment)
            self._read_labels(deployment)
            yield self._connection

    def ledger(self, deployment: str) -> Ledger:
        """Counts of stored rows. Raises `StorageError` where the store cannot be read."""
        with self.current(deployment) as connection:
            records, labelled = _one(connection, _RECORDS, deployment)
            results: dict[str, int] = dict(connection.execute(_RESULTS, [deployment]).fetchall())
            (pairs,) = _one(connection, _PAIRS, deployment)
            (unreadable,) = _one(connection, "select count(*) from files where deployment = ? and not readable", deployment)
        return Ledger(
            records=records,
            challenger_answered=results.get("answered", 0),
            challenger_failed=results.get("failed", 0),
            challenger_expired=results.get("expired", 0),
            challenger_dropped=results.get("dropped", 0),
            pairs=pairs,
            labelled=labelled,
            unreadable_files=unreadable,
        )

    def newest(self, deployment: str, limit: int) -> list[PredictedRow]:
        """The newest `limit` rows of main, newest first. Raises `StorageError` where the store cannot be read."""
        with self.current(deployment) as connection:
            cursor = connection.execute(_NEWEST, [deployment, limit])
            names = [column[0] for column in cursor.description or []]
            rows = cursor.fetchall()
        return [_predicted(dict(zip(names, row, strict=True))) for row in rows]

    def known_rows(self, deployment: str, row_ids: list[str]) -> set[str]:
        """Those of `row_ids` whose record is in the store."""
        table = pa.table({"row_id": pa.array(row_ids, pa.string())})
        query = "select row_id from main semi join asked using (row_id) where deployment = ?"
        with self.current(deployment) as connection, _registered(connection, "asked", table):
            return {row_id for (row_id,) in connection.execute(query, [deployment]).fetchall()}

    def rows_of_callers(self, deployment: str, asked: list[tuple[str, int]]) -> dict[tuple[str, int], list[str]]:
        """Row ids by the (id that the caller sent, row index); several where a caller used an id again."""
        table = pa.table({"caller_id": [caller for caller, _ in asked], "row": pa.array([row for _, row in asked], pa.int32())})
        found: dict[tuple[str, int], list[str]] = {}
        with self.current(deployment) as connection, _registered(connection, "asked", table):
            rows = connection.execute(_BY_CALLER, [deployment]).fetchall()
        for caller, row, row_id in rows:
            found.setdefault((caller, row), []).append(row_id)
        return found

    def _read_files(self, deployment: str) -> None:
        seen = {key for (key,) in self._connection.execute("select key from files where deployment = ?", [deployment]).fetchall()}
        kinds: tuple[tuple[Kind, pa.Schema], ...] = (("main", _MAIN), ("challenger", _CHALLENGER))
        storage, dataset = self._records(deployment)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="records") as pool:
            for kind, columns in kinds:
                # Objects never change, so a key that was read once need not be read again.
                fresh = [key for key in keys(storage, dataset, kind) if key not in seen]
                for start in range(0, len(fresh), _FILES_AT_ONCE):
                    batch = fresh[start : start + _FILES_AT_ONCE]
                    tables = list(pool.map(partial(_read_file, storage, columns), batch))
                    self._take_files(deployment, kind, dict(zip(batch, tables, strict=True)))

    def _take_files(self, deployment: str, kind: Kind, tables: dict[str, pa.Table | None]) -> None:
        whole = [table for table in tables.values() if table is not None]
        # The files' names and their rows go in together, so that a failure between them cannot count a row twice.
        with _transaction(self._connection):
            for key, table in tables.items():
                self._connection.execute("insert into files values (?, ?, ?)", [deployment, key, table is not None])
            if whole:
                with _registered(self._connection, "incoming", pa.concat_tables(whole)):
                    self._connection.execute(_TAKE.format(kind=kind), [deployment, deployment])

    def _read_labels(self, deployment: str) -> None:
        """Take over labels that came since the newest one known; the times of receipt never fall (see feedback)."""
        # Labels of that very moment are read again: another one may have come at the same time.
        (newest,) = _one(self._connection, "select max(received_at) from labels where deployment = ?", deployment)
        wanted = select(Label.row_id, Label.value, Label.received_at).where(Label.deployment == deployment)
        if newest is not None:
            wanted = wanted.where(Label.received_at >= newest.replace(tzinfo=UTC))
        with self._sessions() as session:
            for chunk in session.execute(wanted.order_by(Label.received_at)).partitions(LABEL_CHUNK):
                ids, values, times = zip(*chunk, strict=True)
                # Naive, like everything in the index: all of it is UTC.
                received = pa.array([time.replace(tzinfo=None) for time in times], pa.timestamp("us"))
                self._take_labels(deployment, pa.table({"row_id": ids, "value": values, "received_at": received}))

    def _take_labels(self, deployment: str, incoming: pa.Table) -> None:
        with _registered(self._connection, "incoming", incoming), _transaction(self._connection):
            self._connection.execute(
                "delete from labels where deployment = ? and row_id in (select row_id from incoming)", [deployment]
            )
            self._connection.execute("insert into labels select ?, row_id, value, received_at from incoming", [deployment])


# Delivery is at least once: of rows with one id the first one counts.
_TAKE = """
insert into {kind}
select ?, i.* from (select distinct on (row_id) * from incoming) i
where not exists (select 1 from {kind} k where k.deployment = ? and k.row_id = i.row_id)
"""
_RECORDS = """
select count(*), count(l.row_id) from main m left join labels l using (deployment, row_id) where deployment = ?
"""
_RESULTS = "select result, count(*) from challenger where deployment = ? group by result"
_PAIRS = """
select count(*) from main m join challenger c using (deployment, row_id) where deployment = ? and c.result = 'answered'
"""
_BY_CALLER = """
select distinct caller_id, "row", row_id from main semi join asked using (caller_id, "row") where deployment = ?
"""
_NEWEST = """
with newest as (select * from main where deployment = ? order by ts desc, request_id desc, "row" desc limit ?)
select m.row_id, m.ts, m.caller_id, m.door, m.revision,
    m.model as main_model, m.version as main_version, m.digest as main_digest, 'answered' as main_result, '' as main_error_code,
    m.prediction as main_prediction, m.scores as main_scores, m.latency_us as main_latency_us,
    c.model as challenger_model, c.version as challenger_version, c.digest as challenger_digest, c.result as challenger_result,
    c.error_code as challenger_error_code, c.prediction as challenger_prediction, c.scores as challenger_scores,
    c.latency_us as challenger_latency_us, l.value as label
from newest m left join challenger c using (deployment, row_id) left join labels l using (deployment, row_id)
order by m.ts desc, m.request_id desc, m."row" desc
"""


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> Iterator[None]:
    connection.register(name, table)
    try:
        yield
    finally:
        connection.unregister(name)


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
    except BaseException:
        # Left open, it would be in the way of every later one, until the process ends.
        connection.rollback()
        raise
    connection.commit()


def _one(connection: duckdb.DuckDBPyConnection, query: str, *values: object) -> Any:
    # All of it, though it is one row: a result that has not been read to its end keeps the connection busy.
    return connection.execute(query, list(values)).fetchall()[0]


def _read_file(storage: Storage, columns: pa.Schema, key: str) -> pa.Table | None:
    return _parquet(storage.get(key), columns)


def _parquet(data: bytes, columns: pa.Schema) -> pa.Table | None:
    """The columns of one record file, times as naive UTC; None where it is no such file."""
    try:
        # Features are left out: no question here needs them, and they are most of the bytes.
        table = pq.read_table(io.BytesIO(data), columns=columns.names).select(columns.names)
        # Columns of the right names may hold anything; only what has the types fits beside the other files.
        table = table.cast(columns)
        return table.set_column(table.column_names.index("ts"), "ts", table["ts"].cast(pa.timestamp("us")))
    # A foreign or damaged file must not hide all others; the ledger counts it. Arrow tells of damaged pages by OSError.
    except (pa.ArrowException, KeyError, ValueError, OSError):
        return None


def _predicted(row: dict[str, Any]) -> PredictedRow:
    return PredictedRow(
        row_id=row["row_id"],
        at=row["ts"].replace(tzinfo=UTC),
        caller_id=row["caller_id"] or "",
        door=row["door"],
        revision=row["revision"],
        main=_answered(row, "main_"),
        challenger=_answered(row, "challenger_") if row["challenger_result"] else None,
        label=_value(row["label"]),
    )


def _answered(row: dict[str, Any], prefix: str) -> Answered:
    return Answered(
        model=row[prefix + "model"],
        version=row[prefix + "version"],
        digest=row[prefix + "digest"],
        result=row[prefix + "result"],
        error_code=row[prefix + "error_code"] or "",
        prediction=_value(row[prefix + "prediction"]),
        scores=list(row[prefix + "scores"] or []),
        latency_us=row[prefix + "latency_us"],
    )


def _value(text: str | None) -> LabelValue | None:
    value: LabelValue | None = json.loads(text) if text else None
    return value
