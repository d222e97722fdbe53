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
from pathlib import Path

import pytest

from quarterdeck.records import ChallengerRecord, Frame, MirroredRow, decode
from quarterdeck_node.spool import MemorySpool, RecordSpool, Spool
from tests.agents import record
from tests.support import PROGRAMS, ROOT

WRITER = """
import sys
from pathlib import Path
from quarterdeck_node.spool import Spool
from tests.agents import record
spool = Spool(Path(sys.argv[1]), "boot", max_bytes=20_000)
print("ready", flush=True)
number = 0
while True:
    number += 1
    assert spool.append(record(number)) == number
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def frames(folder: Path) -> list[Frame]:
    """All whole frames in the folder, by file name."""
    return [frame for path in sorted(folder.iterdir()) for frame in decode(path.read_bytes())]


def test_an_appended_record_is_in_the_file() -> None:
    """Checked below for the real one: the twin keeps what it is given, in order."""
    spool: RecordSpool = MemorySpool(room=2)
    assert [spool.append(record(number, rows=2)) for number in range(3)] == [1, 2, 0]
    assert spool.written == {"main": 4}
    assert spool.dropped == {("main", "spool-full"): 2}


def test_records_are_readable_when_append_returns(tmp_path: Path) -> None:
    """No flush, no close: the kernel has them."""
    spool = Spool(tmp_path, "boot")
    assert [spool.append(record(number, rows=number)) for number in (1, 2, 3)] == [1, 2, 3]
    assert frames(tmp_path) == [Frame(number, record(number, rows=number)) for number in (1, 2, 3)]
    assert [path.name for path in tmp_path.iterdir()] == ["boot-00000000000000000001.open"]
    assert (spool.rows, spool.written["main"], spool.dropped.total()) == (6, 6, 0)
    assert spool.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_the_open_file_is_locked_by_its_living_writer(tmp_path: Path) -> None:
    """So an agent can tell an orphan from a file that is being written."""
    spool = Spool(tmp_path, "boot")
    spool.append(record(1))
    with next(tmp_path.iterdir()).open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_size_finishes_a_file(tmp_path: Path) -> None:
    """Files are finished at their size, and named by their first sequence number."""
    spool = Spool(tmp_path, "boot", max_bytes=1000)
    for number in range(1, 11):
        spool.append(record(number))
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
    spool.append(record(1))
    spool.tick(time.monotonic() + 4)
    assert next(tmp_path.iterdir()).suffix == ".open"
    spool.tick(time.monotonic() + 6)
    assert next(tmp_path.iterdir()).suffix == ".seg"


def test_a_backlog_makes_large_files(tmp_path: Path) -> None:
    """While the agent is behind, age makes no more small files."""
    spool = Spool(tmp_path, "boot", max_age=5.0)
    for number in range(1, 31):
        spool.append(record(number))
        spool.tick(time.monotonic() + 6)
    assert len(list(tmp_path.iterdir())) == 17
    assert [frame.sequence for frame in frames(tmp_path)] == list(range(1, 31))


def test_what_the_agent_has_taken_is_gone_from_the_figures(tmp_path: Path) -> None:
    """Rows, bytes and age speak of what is not shipped yet."""
    spool = Spool(tmp_path, "boot")
    spool.append(record(1, rows=5))
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
    assert spool.append(record(1, rows=3)) == 0
    assert spool.dropped == {("main", "spool-full"): 3}
    (tmp_path / "earlier-00000000000000000001.seg").unlink()
    spool.tick(time.monotonic())
    assert spool.append(record(2)) == 2
    assert [frame.sequence for frame in frames(tmp_path)] == [2]


def test_a_record_that_json_cannot_hold_is_counted(tmp_path: Path) -> None:
    """It would be a fault of ours; the answer goes out all the same."""
    spool = Spool(tmp_path, "boot")
    bad = ChallengerRecord(1, "d", "p", "s", 1, "m", 1, "x", 1, [MirroredRow("r-0", "answered", float("nan"), [], "")])
    assert spool.append(bad) == 0
    assert spool.dropped == {("challenger", "not-encodable"): 1}


def test_a_full_disk_leaves_whole_frames_only(tmp_path: Path) -> None:
    """The kernel takes half a frame and then no more: the half is cut off, the record counted, and later ones are kept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    spool = Spool(tmp_path, "boot")
    assert spool.append(record(1)) == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (spool.bytes + 40, hard))
    try:
        assert spool.append(record(2)) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert spool.dropped == {("main", "write-failed"): 1}
    assert spool.append(record(3)) == 3
    assert [frame.sequence for frame in frames(tmp_path)] == [1, 3]
    assert spool.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_a_folder_that_vanishes_costs_records_only(tmp_path: Path) -> None:
    """Nothing raises into the answer."""
    folder = tmp_path / "spool"
    spool = Spool(folder, "boot")
    folder.rmdir()
    assert spool.append(record(1)) == 0
    assert spool.dropped == {("main", "write-failed"): 1}


def test_threads_share_a_spool(tmp_path: Path) -> None:
    """Every record once, whole, under a number of its own."""
    spool = Spool(tmp_path, "boot", max_bytes=5_000)

    def write(thread: int) -> None:
        for number in range(50):
            spool.append(record(thread * 1000 + number))

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
