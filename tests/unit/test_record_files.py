"""Records at rest: typed where the schema is known, named the same in every delivery, read once each."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quarterdeck.record_files import CHALLENGER_COLUMNS, MAIN_COLUMNS, files, keys, main_table, pairs, read_challenger, read_main
from quarterdeck.records import Answer, ChallengerRecord, Frame, MirroredRow
from quarterdeck.schema import Feature, Row, Schema
from quarterdeck.storage.memory import MemoryStorage
from tests.agents import record

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
SCHEMA = Schema(
    task="binary",
    classes=["no", "yes"],
    positive="yes",
    features=[
        Feature(name="wind", type="float", nullable=True),
        Feature(name="hour", type="int"),
        Feature(name="carrier", type="string"),
        Feature(name="holiday", type="boolean"),
        Feature(name="at", type="datetime"),
    ],
)
ROW: Row = {"wind": 3, "hour": 7, "carrier": "AA", "holiday": True, "at": "2013-01-01T05:00:00-05:00"}


def frame(number: int, rows: list[Row] | None = None, **changed: Any) -> Frame:
    """One request; its rows are `ROW` unless told."""
    rows = rows or [ROW]
    answers = [Answer("yes", [0.25, 0.75])] * len(rows)
    return Frame(number, record(number, digest=DIGEST)._replace(rows=rows, answers=answers, **changed))


def challenger_frame(number: int, rows: list[MirroredRow]) -> Frame:
    """What became of some rows."""
    return Frame(
        number, ChallengerRecord(1_763_700_000_000_000, "flights", "default", "dev", 1, "late-flights", 2, OTHER, 90, rows)
    )


def stored(
    frames: list[Frame], boot: str = "boot", storage: MemoryStorage | None = None, schema: Schema | None = SCHEMA
) -> MemoryStorage:
    """A store that the frames were delivered to."""
    storage = storage or MemoryStorage()
    for file in files(frames, boot, lambda digest: schema if digest == DIGEST else None):
        storage.put(file.key, file.data)
    return storage


def test_deployments_of_one_name_in_two_namespaces_share_a_store_and_no_record() -> None:
    """Each is read by namespace and name; that of no cluster by its name alone."""
    storage = MemoryStorage()
    for number, namespace in enumerate(("", "shop", "lab"), start=1):
        for file in files([frame(number)], "boot", lambda _: SCHEMA, namespace):
            storage.put(file.key, file.data)
    found = {name: read_main(storage, name)["seq"].to_pylist() for name in ("flights", "shop.flights", "lab.flights")}
    assert found == {"flights": [1], "shop.flights": [2], "lab.flights": [3]}


def test_features_are_typed_by_the_schema() -> None:
    """A struct in the schema's order; an integer is a fine float; null stays null."""
    table = main_table([frame(1, [ROW, {**ROW, "wind": None}])], "boot", SCHEMA)
    features = table.schema.field("features").type
    assert [(field.name, field.type) for field in features] == [
        ("wind", pa.float64()), ("hour", pa.int64()), ("carrier", pa.string()), ("holiday", pa.bool_()), ("at", pa.string()),
    ]  # fmt: skip
    assert table["features"].to_pylist() == [{**ROW, "wind": 3.0}, {**ROW, "wind": None}]
    assert [table.schema.field(name).type for name in MAIN_COLUMNS.names] == MAIN_COLUMNS.types
    assert table["row_id"].to_pylist() == [f"{1:032x}-0", f"{1:032x}-1"]
    assert table["prediction"].to_pylist() == ['"yes"', '"yes"']


@pytest.mark.parametrize(
    "row",
    [
        {**ROW, "hour": 2**70},
        {**ROW, "carrier": "\ud800"},
        {**ROW, "hour": "seven"},
        {**ROW, "unknown": 1},
    ],
    ids=["too-large", "half-a-pair", "another-type", "another-name"],
)
def test_what_does_not_fit_the_schema_is_kept_as_json(row: Row) -> None:
    """A record is worth more than its type."""
    table = main_table([frame(1, [row])], "boot", SCHEMA)
    assert "features" not in table.column_names
    assert json.loads(table["features_json"][0].as_py()) == row


def test_an_unknown_schema_gives_json() -> None:
    """The agent may not have the version any more."""
    table = main_table([frame(1)], "boot", None)
    assert json.loads(table["features_json"][0].as_py()) == ROW


def test_names_repeat_and_say_where_they_belong() -> None:
    """One file for each deployment, kind, version and hour; the same frames give the same names."""
    later = frame(3, ts=1_763_700_000_000_000 + 3_600_000_000)
    found = [frame(1), challenger_frame(2, [MirroredRow("x-0", "expired", None, [], "expired")]), later, frame(4, digest=OTHER)]
    names = [file.key for file in files(found, "boot", lambda _: SCHEMA)]
    assert names == [
        "records/flights/main/dt=2025-11-21/hh=04/boot-00000000000000000001-00000000000000000001-aaaaaaaa.parquet",
        "records/flights/challenger/dt=2025-11-21/hh=04/boot-00000000000000000002-00000000000000000002-bbbbbbbb.parquet",
        "records/flights/main/dt=2025-11-21/hh=05/boot-00000000000000000003-00000000000000000003-aaaaaaaa.parquet",
        "records/flights/main/dt=2025-11-21/hh=04/boot-00000000000000000004-00000000000000000004-bbbbbbbb.parquet",
    ]
    assert names == [file.key for file in files(found, "boot", lambda _: None)]


def test_files_are_zstd_with_statistics() -> None:
    """Readers prune by them."""
    file = next(files([frame(1)], "boot", lambda _: SCHEMA))
    column = pq.ParquetFile(io.BytesIO(file.data)).metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert column.statistics.has_min_max


def test_a_repeated_delivery_is_read_once() -> None:
    """The same frames in other files, as after a restart that cut the spool elsewhere, give no row twice."""
    frames = [frame(number, [ROW] * 3) for number in range(1, 5)]
    storage = stored(frames)
    stored(frames[:2], storage=storage)
    stored(frames[1:], storage=storage)
    table = read_main(storage, "flights")
    assert table["row_id"].to_pylist() == [f"{number:032x}-{row}" for number in range(1, 5) for row in range(3)]


def test_versions_with_different_features_are_read_together() -> None:
    """Known and unknown schemas, and types that disagree: everything is there as JSON."""
    storage = stored([frame(1)])
    stored([frame(2, digest=OTHER)], storage=storage)
    table = read_main(storage, "flights")
    assert [json.loads(text)["hour"] for text in table["features_json"].to_pylist()] == [7, 7]


def test_features_of_two_schemas_are_united() -> None:
    """A version with one feature more: the former rows have null there."""
    storage = stored([frame(1)])
    wider = Schema(**{**dict(SCHEMA), "features": [*SCHEMA.features, Feature(name="gate", type="string")]})
    stored([frame(2, [{**ROW, "gate": "B7"}])], storage=storage, schema=wider)
    assert [row["gate"] for row in read_main(storage, "flights")["features"].to_pylist()] == [None, "B7"]


def test_types_that_disagree_become_json() -> None:
    """The hour as text in another version."""
    storage = stored([frame(1)])
    other = Schema(**{**dict(SCHEMA), "features": [Feature(name="hour", type="string")]})
    stored([frame(2, [{"hour": "seven"}])], storage=storage, schema=other)
    assert [json.loads(text)["hour"] for text in read_main(storage, "flights")["features_json"].to_pylist()] == [7, "seven"]


def test_since_leaves_out_what_was_before() -> None:
    """Whole hours by their names, and rows inside the hour by their time."""
    start = 1_763_700_000_000_000
    storage = stored([frame(number, ts=start + number * 600_000_000) for number in range(12)])
    since = datetime.fromtimestamp(start / 1e6, UTC) + timedelta(minutes=45)
    assert read_main(storage, "flights", since)["seq"].to_pylist() == list(range(5, 12))


def test_nothing_stored_is_an_empty_table() -> None:
    """With the columns that there would be."""
    storage = MemoryStorage()
    assert read_main(storage, "flights").num_rows == 0
    assert read_challenger(storage, "flights").schema == CHALLENGER_COLUMNS
    assert pairs(read_main(storage, "flights"), read_challenger(storage, "flights")).num_rows == 0


def test_pairs_are_rows_that_both_answered() -> None:
    """Joined by row id, in main's order; failed rows and rows of nobody are left out."""
    storage = stored([frame(1, [ROW] * 3), frame(2)])
    name = f"{1:032x}"
    mirrored = [
        MirroredRow(f"{name}-2", "answered", "no", [0.9, 0.1], ""),
        MirroredRow(f"{name}-1", "failed", None, [], "challenger-timeout"),
        MirroredRow(f"{name}-0", "answered", "yes", [0.4, 0.6], ""),
        MirroredRow("nobody-0", "answered", "yes", [0.4, 0.6], ""),
    ]
    stored([challenger_frame(3, mirrored)], storage=storage)
    challenger = read_challenger(storage, "flights")
    assert challenger.num_rows == 4
    found = pairs(read_main(storage, "flights"), challenger)
    assert found["row_id"].to_pylist() == [f"{name}-0", f"{name}-2"]
    assert found["challenger_prediction"].to_pylist() == ['"yes"', '"no"']
    assert found["challenger_scores"].to_pylist() == [[0.4, 0.6], [0.9, 0.1]]
    assert found["main_version"].to_pylist() == [1, 1]


def test_a_long_segment_is_one_file_and_rows_that_do_not_fit_are_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row is there once; only the part of the segment that has the misfit loses its types."""
    monkeypatch.setattr("quarterdeck.record_files._PIECE", 10)
    fitting = [frame(number) for number in range(1, 41)]
    storage = stored(fitting)
    assert [key.rsplit("-", 3)[1:3] for key in keys(storage, "flights", "main")] == [[f"{1:020d}", f"{40:020d}"]]
    assert read_main(storage, "flights")["seq"].to_pylist() == list(range(1, 41))
    misfit = frame(41, [{**ROW, "hour": 2**80}])
    storage = stored([*fitting, misfit, frame(42)])
    assert [key.rsplit("-", 3)[1:3] for key in keys(storage, "flights", "main")] == [
        [f"{1:020d}", f"{40:020d}"],
        [f"{41:020d}", f"{42:020d}"],
    ]
    assert read_main(storage, "flights")["seq"].to_pylist() == list(range(1, 43))
