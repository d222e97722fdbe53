"""Records at rest at their edges: hours, versions, foreign files, late repetitions, latencies, and the joining of answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import StorageError
from quarterdeck.record_files import CHALLENGER_COLUMNS, MAIN_COLUMNS, files, keys, object_name, pairs, read_challenger, read_main
from quarterdeck.records import Answer, ChallengerRecord, Frame, MainRecord, MirroredRow
from quarterdeck.schema import Feature, Row, Schema
from quarterdeck.storage.memory import MemoryStorage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DIGEST, OTHER = "sha256:" + 64 * "a", "sha256:" + 64 * "b"
SCHEMA = Schema(task="regression", features=[Feature(name="wind", type="float", nullable=True)])


def main(number: int, when: datetime = NOON, rows: int = 1, digest: str = DIGEST, latency: int = 90) -> Frame:
    """One request that main answered."""
    ts = int(when.timestamp() * 1_000_000)
    found: list[Row] = [{"wind": float(place)} for place in range(rows)]
    answers = [Answer(float(place), []) for place in range(rows)]
    record = MainRecord(
        ts, f"r{number}", "late", "default", "dev", 1, "late", 1, digest, "plain", latency, "", "", found, answers
    )  # fmt: skip
    return Frame(number, record)


def copied(number: int, rows: list[MirroredRow], when: datetime = NOON) -> Frame:
    """What became of some mirrored rows."""
    ts = int(when.timestamp() * 1_000_000)
    return Frame(number, ChallengerRecord(ts, "late", "default", "dev", 1, "late", 2, OTHER, 90, rows))


def store(frames: list[Frame], boot: str = "boot", storage: MemoryStorage | None = None) -> MemoryStorage:
    """A store that the frames were delivered to."""
    storage = storage or MemoryStorage()
    for file in files(frames, boot, lambda digest: SCHEMA if digest == DIGEST else None):
        storage.put(file.key, file.data)
    return storage


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([DIGEST, OTHER]), st.integers(1, 3)), min_size=1, max_size=12))
def test_every_row_is_in_one_file_of_its_hour_and_version(requests: list[tuple[int, str, int]]) -> None:
    """However hours and versions are mixed in a segment: all rows come back, each file holds one hour of one version."""
    frames = [
        main(number, NOON + timedelta(hours=hours), rows, digest)
        for number, (hours, digest, rows) in enumerate(requests, start=1)
    ]
    found = list(files(frames, "boot", lambda digest: SCHEMA))
    assert len({file.key for file in found}) == len(found) == len({(hours, digest) for hours, digest, _ in requests})
    table = read_main(store(frames), "late")
    assert sorted(table["row_id"].to_pylist()) == sorted(
        f"r{number}-{row}" for number, (_, _, rows) in enumerate(requests, start=1) for row in range(rows)
    )
    times = table["ts"].to_pylist()
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("when", "part"),
    [
        (NOON, "dt=2026-11-21/hh=12"),
        (datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "dt=2026-12-31/hh=23"),
        (datetime(2027, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "dt=2026-12-31/hh=23"),
        (datetime(2024, 2, 29, tzinfo=UTC), "dt=2024-02-29/hh=00"),
    ],
)
def test_hours_are_utc_and_the_records_own(when: datetime, part: str) -> None:
    """The last microsecond of a year belongs to it, wherever the machine stands."""
    (key,) = store([main(1, when)]).list("")
    assert key == f"records/late/main/{part}/{object_name('boot', 1, 1, DIGEST)}"


def test_a_whole_number_that_no_float_is_exactly_keeps_the_features_typed() -> None:
    """A caller may write a float so; it is the float that the model was asked with."""
    frame = main(1)
    assert isinstance(frame.record, MainRecord)
    frame.record.rows[0] = {"wind": 2**53 + 1}
    assert read_main(store([frame, main(2)]), "late")["features"].to_pylist() == [{"wind": 2.0**53}, {"wind": 0.0}]


def test_names_sort_as_numbers_do() -> None:
    """Twenty digits hold every sequence number, so the order of keys is that of the spool."""
    names = [object_name("b", first, first, DIGEST) for first in (9, 10, 2**63, 2**64 - 1)]
    assert names == sorted(names)
    assert names[0] == "b-00000000000000000009-00000000000000000009-aaaaaaaa.parquet"


def test_since_takes_any_offset_and_leaves_out_whole_hours_unread() -> None:
    """A moment is one moment in every zone; files of earlier hours are not even fetched."""
    storage = store([main(1, NOON - timedelta(hours=2)), main(2, NOON - timedelta(minutes=30)), main(3, NOON)])
    for since in (NOON, NOON.astimezone(timezone(timedelta(hours=-5)))):
        assert len(keys(storage, "late", "main", since)) == 1
        assert read_main(storage, "late", since)["request_id"].to_pylist() == ["r3"]
    half = NOON - timedelta(minutes=15)
    assert len(keys(storage, "late", "main", half)) == 2
    assert read_main(storage, "late", half)["request_id"].to_pylist() == ["r3"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_foreign_file_among_records_is_named(content: bytes) -> None:
    """Somebody's file in our place: the error says which, and that waiting does not help."""
    storage = store([main(1)])
    key = "records/late/main/dt=2026-11-21/hh=12/other.parquet"
    storage.put(key, content)
    with pytest.raises(StorageError) as caught:
        read_main(storage, "late")
    assert (caught.value.name, caught.value.retryable, bool(caught.value.hint)) == (key, False, True)


@pytest.mark.parametrize("name", ["_SUCCESS", "x.parquet.tmp", "x.crc", "notes.txt"])
def test_files_of_other_endings_are_left_alone(name: str) -> None:
    """Only Parquet files are records."""
    storage = store([main(1)])
    storage.put(f"records/late/main/dt=2026-11-21/hh=12/{name}", b"x")
    assert read_main(storage, "late").num_rows == 1


def test_a_deployment_whose_name_begins_like_another_has_its_own_records() -> None:
    """A prefix ends with a slash: `late` never reads what belongs to `late-two`."""
    frame = main(1)
    assert isinstance(frame.record, MainRecord)
    storage = store([frame, Frame(2, frame.record._replace(deployment="late-two", request_id="other"))])
    assert read_main(storage, "late")["request_id"].to_pylist() == ["r1"]
    assert read_main(storage, "late-two")["request_id"].to_pylist() == ["other"]


@pytest.mark.parametrize(
    ("latency", "stored"), [(0, 0), (90, 90), (2**31 - 1, 2**31 - 1), (2**31, 2**31 - 1), (2**53, 2**31 - 1)]
)
def test_a_latency_beyond_all_bounds_is_the_largest(latency: int, stored: int) -> None:
    """A machine that slept for an hour costs no record."""
    assert read_main(store([main(1, latency=latency)]), "late")["latency_us"].to_pylist() == [stored]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_repeated_deliveries_are_read_once_in_whatever_pieces(numbers: list[int]) -> None:
    """At least once becomes exactly once by the row's id, also where boots and files overlap."""
    storage = MemoryStorage()
    for boot, number in enumerate(numbers):
        store([main(number, rows=2)], f"boot{boot}", storage)
    found = read_main(storage, "late")["row_id"].to_pylist()
    assert sorted(found) == sorted(f"r{number}-{row}" for number in set(numbers) for row in range(2))


results = st.sampled_from(["answered", "failed", "expired", "dropped"])


@given(st.integers(0, 6), st.lists(st.tuples(st.integers(0, 8), results), max_size=10, unique_by=lambda pair: pair[0]))
def test_pairs_are_the_rows_that_both_answered(asked: int, mirrored: list[tuple[int, str]]) -> None:
    """In main's order; rows without an answer of the challenger's, and rows that main never had, are left out."""
    frames = [main(number) for number in range(asked)]
    rows = [
        MirroredRow(f"r{number}-0", result, 7.0 if result == "answered" else None, [], "")  # type: ignore[arg-type]
        for number, result in mirrored
    ]
    storage = store([*frames, copied(100, rows)] if rows else frames)
    challenger = read_challenger(storage, "late")
    found = pairs(read_main(storage, "late"), challenger)
    answered = {number for number, result in mirrored if result == "answered"}
    assert found["row_id"].to_pylist() == [f"r{number}-0" for number in range(asked) if number in answered]
    assert set(found["challenger_prediction"].to_pylist()) <= {"7.0"}
    assert found["main_version"].to_pylist() == [1] * found.num_rows
    assert challenger["prediction"].null_count == sum(result != "answered" for _, result in mirrored)


def test_rows_without_a_known_schema_read_back_as_json() -> None:
    """A file of an unknown version beside a typed one: both say the same of their rows."""
    table = read_main(store([main(1), main(2, digest=OTHER)]), "late")
    assert [json.loads(text) for text in table["features_json"].to_pylist()] == [{"wind": 0.0}, {"wind": 0.0}]
    assert "features" not in table.column_names


def test_columns_are_the_stated_ones() -> None:
    """Readers in other languages rely on names, order and types."""
    storage = store([main(1), copied(2, [MirroredRow("r1-0", "answered", 1.0, [], "")])])
    table = read_main(storage, "late")
    assert [name for name in table.column_names if name != "features"] == MAIN_COLUMNS.names
    assert table.select(MAIN_COLUMNS.names).schema.equals(MAIN_COLUMNS)
    assert read_challenger(storage, "late").schema.equals(CHALLENGER_COLUMNS)
