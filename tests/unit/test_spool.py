"""The spool keeps every acknowledged record through the death of its writer, and counts what it cannot keep."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from quarterdeck.records import ChallengerRecord, Frame, MirroredRow, Record, decode
from quarterdeck_node.spool import MemorySpool, RecordSpool, Spool
from tests.agents import put, record, stamped
from tests.support import PROGRAMS, ROOT

WRITER = """
import sys
from pathlib import Path
from quarterdeck_node.spool import Spool
from tests.agents import put, record
spool = Spool(Path(sys.argv[1]), "boot", max_bytes=20_000)
print("ready", flush=True)
number = 0
while True:
    number += 1
    assert put(spool, record(number)) == number
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


MIRRORED = ChallengerRecord(
    0, "flights", "default", "dev", 1, "late-flights", 2, "sha256:" + "b" * 64, 900,
    [MirroredRow("r-0", "answered", "yes", [0.25, 0.75], ""), MirroredRow("r-1", "failed", None, [], "model-failed")],
)  # fmt: skip


def frames(folder: Path) -> list[Frame]:
    """All whole frames in the folder, by file name."""
    return [frame for path in sorted(folder.iterdir()) for frame in decode(path.read_bytes())]


def timeless(records: Iterable[Record]) -> list[Record]:
    """Records without the moment they were written at."""
    return [one._replace(ts=0) for one in records]


@pytest.mark.parametrize("one", [record(1, rows=2), MIRRORED], ids=["main", "challenger"])
def test_the_twin_keeps_what_the_spool_would_write(tmp_path: Path, one: Record) -> None:
    """Records of both kinds, in order, until there is no room left."""
    spool, twin = Spool(tmp_path, "boot"), MemorySpool(room=2)
    written: list[RecordSpool] = [spool, twin]
    assert [[put(where, one) for _ in range(2)] for where in written] == [[1, 2], [1, 2]]
    assert timeless(frame.record for frame in frames(tmp_path)) == timeless(twin.records) == timeless([one] * 2)
    assert put(twin, one) == 0
    kind = "challenger" if one is MIRRORED else "main"
    assert spool.written == twin.written == {kind: 4}
    assert (spool.dropped, twin.dropped) == ({}, {(kind, "spool-full"): 2})


def test_records_are_readable_when_they_are_acknowledged(tmp_path: Path) -> None:
    """No flush, no close: the kernel has them, and the moment they were written at."""
    spool, before = Spool(tmp_path, "boot"), time.time_ns() // 1000
    assert [put(spool, record(number, rows=number)) for number in (1, 2, 3)] == [1, 2, 3]
    found = frames(tmp_path)
    assert [frame.sequence for frame in found] == [1, 2, 3]
    assert timeless(frame.record for frame in found) == timeless(record(number, rows=number) for number in (1, 2, 3))
    assert before <= found[0].record.ts <= found[1].record.ts <= time.time_ns() // 1000
    assert [path.name for path in tmp_path.iterdir()] == ["boot-00000000000000000001.open"]
    assert (spool.rows, spool.written["main"], spool.dropped.total()) == (6, 6, 0)
    assert spool.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_the_open_file_is_locked_by_its_living_writer(tmp_path: Path) -> None:
    """So an agent can tell an orphan from a file that is being written."""
    spool = Spool(tmp_path, "boot")
    put(spool, record(1))
    with next(tmp_path.iterdir()).open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_size_finishes_a_file(tmp_path: Path) -> None:
    """Files are finished at their size, and named by their first sequence number."""
    spool = Spool(tmp_path, "boot", max_bytes=1000)
    for number in range(1, 11):
        put(spool, record(number))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) > 1
    assert [frame.sequence for frame in frames(tmp_path)] == list(range(1, 11))
    for path in tmp_path.iterdir():
        assert int(path.stem.split("-")[1]) == next(iter(decode(path.read_bytes()))).sequence
    assert spool.rows == 10


def test_age_finishes_a_file_that_holds_anything(tmp_path: Path) -> None:
    """A quiet deployment's records do not wait for company."""
    spool = Spool(tmp_path, "boot", max_age=5.0)
    spool.tick(time.monotonic() + 60)
    assert list(tmp_path.iterdir()) == []
    put(spool, record(1))
    spool.tick(time.monotonic() + 4)
    assert next(tmp_path.iterdir()).suffix == ".open"
    spool.tick(time.monotonic() + 6)
    assert next(tmp_path.iterdir()).suffix == ".seg"


def test_a_backlog_makes_large_files(tmp_path: Path) -> None:
    """While the agent is behind, age makes no more small files."""
    spool = Spool(tmp_path, "boot", max_age=5.0)
    for number in range(1, 31):
        put(spool, record(number))
        spool.tick(time.monotonic() + 6)
    assert len(list(tmp_path.iterdir())) == 17
    assert [frame.sequence for frame in frames(tmp_path)] == list(range(1, 31))


def test_what_the_agent_has_taken_is_gone_from_the_figures(tmp_path: Path) -> None:
    """Rows, bytes and age speak of what is not shipped yet."""
    spool = Spool(tmp_path, "boot")
    put(spool, record(1, rows=5))
    spool.close()
    assert spool.rows == 5
    assert spool.oldest_age > 0
    next(tmp_path.iterdir()).unlink()
    spool.tick(time.monotonic())
    assert (spool.rows, spool.bytes, spool.oldest_age) == (0, 0, 0.0)


def test_files_of_an_earlier_boot_count_against_the_limit(tmp_path: Path) -> None:
    """A full folder drops and counts; once something is shipped, records are kept again, and the gap shows."""
    (tmp_path / "earlier-00000000000000000001.seg").write_bytes(b"x" * 900)
    spool = Spool(tmp_path, "boot", limit_bytes=1000)
    assert put(spool, record(1, rows=3)) == 0
    assert spool.dropped == {("main", "spool-full"): 3}
    (tmp_path / "earlier-00000000000000000001.seg").unlink()
    spool.tick(time.monotonic())
    assert put(spool, record(2)) == 2
    assert [frame.sequence for frame in frames(tmp_path)] == [2]


def test_what_is_no_text_is_counted(tmp_path: Path) -> None:
    """It would be a fault of ours; the answer goes out all the same, and readers see the gap."""
    spool, stamp = Spool(tmp_path, "boot"), stamped(MIRRORED)
    assert spool.write_main(stamp, "r", "plain", 1, [], b"[]", 3) == 0  # type: ignore[arg-type]
    assert spool.write_challenger(stamp, 1, b"[]", None, 2) == 0  # type: ignore[arg-type]
    assert spool.dropped == {("main", "not-encodable"): 3, ("challenger", "not-encodable"): 2}
    assert put(spool, MIRRORED) == 3


def test_a_frame_that_the_kernel_takes_in_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short write is followed by others until everything is there."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:7])))
    spool = Spool(tmp_path, "boot")
    assert [put(spool, MIRRORED), put(spool, record(2))] == [1, 2]
    assert [frame.sequence for frame in frames(tmp_path)] == [1, 2]
    assert spool.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_a_full_disk_leaves_whole_frames_only(tmp_path: Path) -> None:
    """The kernel takes half a frame and then no more: the half is cut off, the record counted, and later ones are kept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    spool = Spool(tmp_path, "boot")
    assert put(spool, record(1)) == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (spool.bytes + 40, hard))
    try:
        assert put(spool, record(2)) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert spool.dropped == {("main", "write-failed"): 1}
    assert put(spool, record(3)) == 3
    assert [frame.sequence for frame in frames(tmp_path)] == [1, 3]
    assert spool.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_a_folder_that_vanishes_costs_records_only(tmp_path: Path) -> None:
    """Nothing raises into the answer."""
    folder = tmp_path / "spool"
    spool = Spool(folder, "boot")
    folder.rmdir()
    assert put(spool, record(1)) == 0
    assert spool.dropped == {("main", "write-failed"): 1}


def test_threads_share_a_spool(tmp_path: Path) -> None:
    """Every record once, whole, under a number of its own."""
    spool = Spool(tmp_path, "boot", max_bytes=5_000)

    def write(thread: int) -> None:
        for number in range(50):
            put(spool, record(thread * 1000 + number))

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = frames(tmp_path)
    assert sorted(frame.sequence for frame in found) == list(range(1, 201))
    assert len({frame.record.rows[0]["number"] for frame in found if not isinstance(frame.record, ChallengerRecord)}) == 200


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path, seed: int) -> None:
    """SIGKILL at a random moment: every number that came out of the pipe is in the folder."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([*(str(ROOT / name) for name in PROGRAMS), str(ROOT)])}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        acknowledged = [writer.stdout.readline() for _ in range(random.Random(seed).randrange(5, 400))]
        writer.kill()
        acknowledged += writer.stdout
    # A line that was cut in the pipe was not acknowledged.
    last = max(int(line) for line in acknowledged if line.endswith("\n"))
    written = [frame.sequence for frame in frames(tmp_path)]
    assert written == list(range(1, len(written) + 1))
    assert len(written) >= last
