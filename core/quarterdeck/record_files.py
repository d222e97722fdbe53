"""Prediction records at rest: Parquet files under names that repeat when a delivery is repeated, and how to read them.

    records/<data set>/main/dt=YYYY-MM-DD/hh=HH/<boot>-<first>-<last>-<digest8>.parquet
    records/<data set>/challenger/dt=YYYY-MM-DD/hh=HH/<boot>-<first>-<last>-<digest8>.parquet

A data set is called as its deployment, `<deployment>`; in a cluster, where namespaces may have deployments of one name,
`<namespace>.<deployment>`. One row per predicted row. A file holds one version, so its `features` column is a struct typed by
that version's schema; where the schema is not known, or a value does not fit it, `features_json` holds the row as it came.
Delivery is at least once: readers keep one row per `row_id`. Hours are UTC and those of the record, not of its delivery.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from quarterdeck.errors import StorageError
from quarterdeck.records import Frame, MainRecord, row_id
from quarterdeck.schema import Feature, Label, Row, Scalar, Schema
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import dataset_name, records_prefix

Kind = Literal["main", "challenger"]
SUFFIX = ".parquet"
# Reading is waiting for the store; more than this many at once gains nothing from one bucket and costs memory.
_READERS = 8
_HOUR_US = 3_600_000_000
# Frames that become a table together: fewer objects at a time cost less each, and a file's worth of them is a hundred megabytes.
_PIECE = 1_024

# Datetimes stay the ISO 8601 text that was sent: a timestamp would lose its offset, or the fact that it had none.
_TYPES = {"float": pa.float64(), "int": pa.int64(), "string": pa.string(), "boolean": pa.bool_(), "datetime": pa.string()}
_TS = pa.timestamp("us", tz="UTC")
_SCORES = pa.list_(pa.float64())
_ANSWER = [("prediction", pa.string()), ("scores", _SCORES)]
_VERSION = [("model", pa.string()), ("version", pa.int32()), ("digest", pa.string())]
_PLACE = [("deployment", pa.string()), ("project", pa.string()), ("stage", pa.string()), ("revision", pa.int64())]
_FRAME = [("boot", pa.string()), ("seq", pa.int64())]
MAIN_COLUMNS = pa.schema(
    [
        ("ts", _TS), ("row_id", pa.string()), ("request_id", pa.string()), ("row", pa.int32()), ("caller_id", pa.string()),
        *_PLACE, ("door", pa.string()), ("latency_us", pa.int32()), *_VERSION, *_ANSWER, ("key_id", pa.string()), *_FRAME,
    ]
)  # fmt: skip
"""Columns of main's files, `features` or `features_json` aside. `prediction` is JSON: a label, or a number."""

CHALLENGER_COLUMNS = pa.schema(
    [
        ("ts", _TS), ("row_id", pa.string()), *_PLACE, *_VERSION, ("result", pa.string()), ("error_code", pa.string()),
        *_ANSWER, ("latency_us", pa.int32()), *_FRAME,
    ]
)  # fmt: skip
"""Columns of the challenger's files; `prediction` and `scores` are null where `result` is not ``answered``."""

# 35 minutes in microseconds: a latency beyond that is a stopped machine, and not worth eight bytes in every row.
_INT32_MAX = 2**31 - 1


class RecordFile(NamedTuple):
    """One object to store."""

    key: str
    data: bytes


class _Group(NamedTuple):
    """What goes into one file: one deployment, kind, version and hour (since 1970) of a segment."""

    kind: Kind
    deployment: str
    digest: str
    hour: int


class _Piece(NamedTuple):
    """Some frames of a group as a table: the first and last sequence number in it."""

    first: int
    last: int
    table: pa.Table


def files(
    frames: Iterable[Frame], boot: str, schema_of: Callable[[str], Schema | None], namespace: str = ""
) -> Iterator[RecordFile]:
    """The Parquet files of one segment of a spool; the same frames always give the same keys.

    Args:
        frames: in the order of the spool.
        boot: the boot that wrote them.
        schema_of: digest → schema of that version, None where it is not known.
        namespace: of the cluster that the node runs in; empty: of none.
    """
    pieces: dict[_Group, list[_Piece]] = defaultdict(list)
    left = iter(frames)
    while some := list(islice(left, _PIECE)):
        for group, members in _grouped(some).items():
            main = group.kind == "main"
            table = main_table(members, boot, schema_of(group.digest)) if main else challenger_table(members, boot)
            pieces[group].append(_Piece(members[0].sequence, members[-1].sequence, table))
    for group, made in pieces.items():
        hour = datetime.fromtimestamp(group.hour * 3600, UTC)
        prefix = f"{records_prefix(dataset_name(group.deployment, namespace), group.kind)}{hour:dt=%Y-%m-%d/hh=%H}/"
        # Where only some rows fit the schema, these are a file of their own beside those that do not.
        for _, alike in groupby(made, key=lambda piece: piece.table.schema):
            together = list(alike)
            name = object_name(boot, together[0].first, together[-1].last, group.digest)
            yield RecordFile(prefix + name, parquet(pa.concat_tables([piece.table for piece in together])))


def _grouped(frames: Iterable[Frame]) -> dict[_Group, list[Frame]]:
    found: dict[tuple[bool, tuple[str, str, int]], list[Frame]] = defaultdict(list)
    for frame in frames:
        record = frame.record
        found[type(record) is MainRecord, (record.deployment, record.digest, record.ts // _HOUR_US)].append(frame)
    return {_Group("main" if main else "challenger", *place): members for (main, place), members in found.items()}


def object_name(boot: str, first: int, last: int, digest: str) -> str:
    """The last part of a file's key: first and last sequence number in it, and the first 8 hex digits of the version's digest."""
    return f"{boot}-{first:020d}-{last:020d}-{digest.removeprefix('sha256:')[:8]}{SUFFIX}"


def main_table(frames: Sequence[Frame], boot: str, schema: Schema | None) -> pa.Table:
    """Rows that main answered: `MAIN_COLUMNS` and `features` typed by `schema`, or `features_json` where that cannot be.

    Args:
        frames: of MainRecords of one version.
        boot: the boot that wrote them.
        schema: of that version.
    """
    alike = _members(frames, boot)
    found, answered, requests = alike.pop("rows"), alike.pop("answers"), alike["request_id"]
    counts, rows = list(map(len, found)), list(chain.from_iterable(found))
    predictions, scores = list(zip(*chain.from_iterable(answered), strict=True)) or ((), ())
    ids = (row_id(name, place) for name, count in zip(requests, counts, strict=True) for place in range(count))
    own: dict[str, Sequence[Any]] = {
        "row_id": list(ids),
        "row": list(chain.from_iterable(map(range, counts))),
        "prediction": _labels(predictions),
        "scores": scores,
    }
    # Many share an id, or have none.
    texts = {name: _text(name) for name in set(alike["caller_id"])}
    alike["caller_id"] = [texts[name] for name in alike["caller_id"]]
    table = _table(MAIN_COLUMNS, alike, counts, own)
    name, column = _features(rows, schema)
    return table.add_column(table.schema.get_field_index("prediction"), name, column)


def challenger_table(frames: Sequence[Frame], boot: str) -> pa.Table:
    """What became of mirrored rows: `CHALLENGER_COLUMNS`.

    Args:
        frames: of ChallengerRecords.
        boot: the boot that wrote them.
    """
    alike = _members(frames, boot)
    found = alike.pop("rows")
    ids, results, predictions, scores, codes = list(zip(*chain.from_iterable(found), strict=True)) or ((),) * 5
    answered = [result == "answered" for result in results]
    own = {
        "row_id": ids,
        "result": results,
        "error_code": codes,
        "prediction": _labels(label if good else None for label, good in zip(predictions, answered, strict=True)),
        "scores": [numbers if good else None for numbers, good in zip(scores, answered, strict=True)],
    }
    return _table(CHALLENGER_COLUMNS, alike, list(map(len, found)), own)


def parquet(table: pa.Table) -> bytes:
    """The table as a Parquet file: zstd, with statistics on every column."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_statistics=True)
    return sink.getvalue()


def keys(storage: Storage, dataset: str, kind: Kind, since: datetime | None = None) -> list[str]:
    """Keys of the record files of a data set, sorted; with `since` only those of its hour and later ones.

    Raises:
        StorageError: the store's own.
    """
    prefix = records_prefix(dataset, kind)
    # Partitions sort as text in the order of time, so whole hours are left out without opening a file.
    start = prefix + f"{since.astimezone(UTC):dt=%Y-%m-%d/hh=%H}" if since else prefix
    return [key for key in storage.list(prefix) if key >= start and key.endswith(SUFFIX)]


def read_main(storage: Storage, dataset: str, since: datetime | None = None) -> pa.Table:
    """Every row that main answered, once each, in the order of time.

    Where all files agree on the features' types there is a column `features` (struct), else `features_json` (text); a mixture
    of versions has the union of their features.

    Args:
        storage: the record store.
        dataset: `<deployment>`, or in a cluster `<namespace>.<deployment>`.
        since: rows before this moment are left out.

    Raises:
        StorageError: the store's own.
    """
    tables = _tables(storage, dataset, "main", since) or [MAIN_COLUMNS.empty_table()]
    if any("features_json" in table.column_names for table in tables):
        tables = [_as_json(table) for table in tables]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # Two versions disagree on the type of a feature.
        table = pa.concat_tables([_as_json(table) for table in tables])
    return _ordered(table, since)


def read_challenger(storage: Storage, dataset: str, since: datetime | None = None) -> pa.Table:
    """What became of every mirrored row, once each, in the order of time: `CHALLENGER_COLUMNS`.

    Args:
        storage: the record store.
        dataset: `<deployment>`, or in a cluster `<namespace>.<deployment>`.
        since: rows before this moment are left out.

    Raises:
        StorageError: the store's own.
    """
    tables = _tables(storage, dataset, "challenger", since)
    return _ordered(pa.concat_tables([CHALLENGER_COLUMNS.empty_table(), *tables]), since)


def pairs(main: pa.Table, challenger: pa.Table) -> pa.Table:
    """Rows that both models answered, in main's order.

    Columns: `row_id`, `ts`, `deployment`, then `main_` and `challenger_` each with `model`, `version`, `digest`, `prediction`
    and `scores`.

    Args:
        main: as `read_main` gives it.
        challenger: as `read_challenger` gives it.
    """
    answered = challenger.filter(pc.equal(challenger["result"], "answered"))
    place = pc.index_in(main["row_id"], value_set=answered["row_id"].combine_chunks())
    left = main.filter(pc.is_valid(place))
    right = answered.take(pc.drop_null(place))
    names = ["model", "version", "digest", "prediction", "scores"]
    columns = {name: left[name] for name in ("row_id", "ts", "deployment")}
    columns |= {f"main_{name}": left[name] for name in names}
    columns |= {f"challenger_{name}": right[name] for name in names}
    return pa.table(columns)


def _members(frames: Sequence[Frame], boot: str) -> dict[str, Sequence[Any]]:
    """Every member of records of one kind, by name, one value per record."""
    sequences, records = zip(*frames, strict=True)
    # All records turned into columns by one call.
    members: dict[str, Sequence[Any]] = dict(zip(records[0]._fields, zip(*records, strict=True), strict=True))
    members["latency_us"] = [min(latency, _INT32_MAX) for latency in members["latency_us"]]
    return members | {"boot": [boot] * len(records), "seq": sequences}


def _table(
    schema: pa.Schema, alike: Mapping[str, Sequence[Any]], counts: list[int], rows: Mapping[str, Sequence[Any]]
) -> pa.Table:
    """Put together what records share, repeated for each of their rows, and what rows have for themselves."""
    arrays = [pa.array(rows[field.name] if field.name in rows else alike[field.name], field.type) for field in schema]
    # One row to a record is the usual case, and then there is nothing to repeat.
    if sum(counts) != len(counts) or 0 in counts:
        places = pa.array([place for place, count in enumerate(counts) for _ in range(count)], pa.int64())
        arrays = [array if field.name in rows else array.take(places) for field, array in zip(schema, arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _features(rows: list[Row], schema: Schema | None) -> tuple[str, pa.Array]:
    """Name and content of the features' column."""
    columns = _columns(rows, schema.names) if schema is not None else None
    if schema is not None and columns is not None:
        try:
            arrays = [_array(feature, column) for feature, column in zip(schema.features, columns, strict=True)]
            return "features", pa.StructArray.from_arrays(arrays, fields=[_field(feature) for feature in schema.features])
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError):
            # A record is worth more than its type: an integer beyond 64 bits, half a surrogate pair.
            pass
    return "features_json", pa.array([json.dumps(row) for row in rows], pa.string())


def _columns(rows: list[Row], names: list[str]) -> Sequence[Sequence[Scalar]] | None:
    """Rows turned into columns, null where a row lacks one; None where a row has others than these."""
    if rows and len(names) > 1 and set(map(len, rows)) == {len(names)}:
        try:
            return list(zip(*map(itemgetter(*names), rows), strict=True))
        except KeyError:
            return None
    if all(row.keys() <= set(names) for row in rows):
        return [[row.get(name) for row in rows] for name in names]
    return None


def _labels(labels: Iterable[Label | None]) -> list[str | None]:
    """The JSON text of each; None stays None."""
    # There are few labels and many rows. By type too, since True, 1 and 1.0 are equal; numbers differ anyhow.
    typed = [(type(label), label) for label in labels]
    texts = {key: json.dumps(key[1]) for key in set(typed) if key[0] is not float}
    return [None if label is None else json.dumps(label) if kind is float else texts[kind, label] for kind, label in typed]


def _array(feature: Feature, column: Sequence[Scalar]) -> pa.Array:
    try:
        return pa.array(column, _type(feature))
    except pa.ArrowInvalid:
        if feature.type != "float":
            raise
        # Callers may write a float as a whole number that no float is exactly: the model was asked with the next one.
        return pa.array([float(value) if type(value) is int else value for value in column], _type(feature))


def _type(feature: Feature) -> pa.DataType:
    return _TYPES[feature.type]


def _field(feature: Feature) -> pa.Field:
    return pa.field(feature.name, _type(feature))


def _text(value: str) -> str:
    """Text that UTF-8 can hold."""
    return value.encode("utf-8", "replace").decode()


def _tables(storage: Storage, dataset: str, kind: Kind, since: datetime | None) -> list[pa.Table]:
    def read(key: str) -> pa.Table:
        try:
            return pq.read_table(pa.BufferReader(storage.get(key)))
        except (pa.ArrowException, OSError) as error:
            # Arrow calls some damage an OSError, of bytes in memory too. Stores put objects whole, so this was no broken
            # delivery: somebody's file lies among ours.
            raise StorageError(
                f"{key} is not a file of records.",
                retryable=False,
                kind="object",
                name=key,
                hint="Take it out of the store, or restore it.",
            ) from error

    with ThreadPoolExecutor(_READERS, thread_name_prefix="records") as pool:
        return list(pool.map(read, keys(storage, dataset, kind, since)))


def _as_json(table: pa.Table) -> pa.Table:
    """The same table with `features_json` in the place of `features`."""
    place = table.schema.get_field_index("features")
    if place < 0:
        return table
    texts = [json.dumps(row) for row in table["features"].to_pylist()]
    return table.set_column(place, "features_json", pa.array(texts, pa.string()))


def _ordered(table: pa.Table, since: datetime | None) -> pa.Table:
    """One row per row id, in the order of time, none before `since`."""
    if since is not None:
        table = table.filter(pc.greater_equal(table["ts"], pa.scalar(since.astimezone(UTC), _TS)))
    # Which copy stays does not matter, for copies of a row are equal; that it is always the first makes reading repeatable.
    numbered = pa.table({"row_id": table["row_id"], "place": pa.array(range(table.num_rows), pa.int64())})
    first = numbered.group_by("row_id", use_threads=False).aggregate([("place", "min")])
    kept = table.take(first["place_min"].combine_chunks())
    # Arrow cannot sort lists along, so only the order is worked out by it.
    return kept.take(
        pc.sort_indices(
            kept.select(["ts", "seq", "row_id"]), [("ts", "ascending"), ("seq", "ascending"), ("row_id", "ascending")]
        )
    )
