"""Records between spool and store in any order of crashes, full disks and store outages, held against what was acknowledged.

Boots of the writer come and go; a crash leaves the open file as a dead process does, now and then with half a frame at its end.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from quarterdeck.errors import StorageError
from quarterdeck.plan import Plan
from quarterdeck.record_files import read_challenger, read_main
from quarterdeck.records import ChallengerRecord, MainRecord, MirroredRow, Record, decode, row_id
from quarterdeck.storage.memory import MemoryStorage
from quarterdeck_node.agent.shipping import Shipper
from quarterdeck_node.spool import FINISHED, OPEN, Spool
from tests.agents import framed, put, record, stamped

LIMIT = 6_000
MAX_BYTES = 2_500
DIGESTS = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)


class Moody(MemoryStorage):
    """A store that fails on purpose: before it stores, or after it has stored and before anybody hears of it."""

    def __init__(self) -> None:
        super().__init__("spool")
        self.good = 0
        self.mood = "well"

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        """Store; after `good` objects in a bad mood, fail."""
        if self.mood == "well":
            return super().put(key, data, if_absent=if_absent)
        if self.good > 0:
            self.good -= 1
            return super().put(key, data, if_absent=if_absent)
        if self.mood == "answer lost":
            super().put(key, data, if_absent=if_absent)
        raise StorageError("The store cannot be reached.", code="unreachable")


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel takes bytes up to this size of any file and then no more: a full disk, as far as a writer can tell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def mirrored(number: int, rows: int, digest: str) -> ChallengerRecord:
    """What became of the rows of request `number`."""
    results = [MirroredRow(row_id(f"{number:032x}", row), "answered", f"{number}", [0.5, 0.5], "") for row in range(rows)]
    return ChallengerRecord(1_763_700_000_000_000, "flights", "default", "dev", 1, "late-flights", 1, digest, 900, results)


def rows_of(one: Record) -> list[str]:
    """The ids of a record's rows."""
    if isinstance(one, MainRecord):
        return [row_id(one.request_id, row) for row in range(len(one.rows))]
    return [row.row_id for row in one.rows]


class Shipping(RuleBasedStateMachine):
    """Rules are what a writer, an agent, a disk and a store can do; the model is two lists: acknowledged, and dropped."""

    @initialize()
    def begin(self) -> None:
        """An empty node folder and a healthy store."""
        self.folder = Path(tempfile.mkdtemp(prefix="spool-"))
        (self.folder / "plan.json").write_text(Plan(node="main", sequence=1, store="memory://spool").model_dump_json())
        self.store = Moody()
        self.shipper = self._agent()
        self.boot = self.number = 0
        self.acknowledged: dict[str, list[str]] = {"main": [], "challenger": []}
        self.used: dict[str, int] = {}
        self.lost: dict[str, set[int]] = {}
        self._boots()

    def _agent(self) -> Shipper:
        return Shipper(self.folder, opened=lambda _: self.store)

    def _boots(self) -> None:
        self.boot += 1
        self.name = f"boot{self.boot:03d}"
        self.spool = Spool(self.folder / "spool", self.name, max_bytes=MAX_BYTES, limit_bytes=LIMIT)
        self.used[self.name], self.lost[self.name] = 0, set()
        self.written: Counter[str] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()

    def _put(self, one: Record, reasons: tuple[str, ...]) -> None:
        kind = "main" if isinstance(one, MainRecord) else "challenger"
        before = self.spool.bytes
        self.used[self.name] += 1
        number = put(self.spool, one)
        if number:
            assert number == self.used[self.name]
            assert before + len(framed(number, one)) <= LIMIT
            self.acknowledged[kind] += rows_of(one)
            self.written[kind] += len(one.rows)
            return
        reason = next(iter(reasons), "")
        # The only drop that nobody provoked is that of a full spool, and it must really have been full.
        reason = "spool-full" if before + len(framed(self.used[self.name], one)) > LIMIT else reason
        assert reason, "a record was dropped for no reason"
        self.lost[self.name].add(self.used[self.name])
        self.dropped[kind, reason] += len(one.rows)

    @rule(rows=st.integers(1, 6), digest=st.sampled_from(DIGESTS))
    def main_answers(self, rows: int, digest: str) -> None:
        """A record of main is put down."""
        self.number += 1
        self._put(record(self.number, rows, digest), ())

    @rule(rows=st.integers(1, 4), digest=st.sampled_from(DIGESTS))
    def challenger_answers(self, rows: int, digest: str) -> None:
        """A record of the challenger is put down."""
        self.number += 1
        self._put(mirrored(self.number, rows, digest), ())

    @rule()
    def something_is_no_record(self) -> None:
        """A list where its text should be: dropped, counted, and nothing else suffers."""
        self.used[self.name] += 1
        assert self.spool.write_main(stamped(record(1)), "r", "plain", 1, [], b"[]", 1) == 0  # type: ignore[arg-type]
        self.lost[self.name].add(self.used[self.name])
        self.dropped["main", "not-encodable"] += 1

    @rule(room=st.integers(0, 300), rows=st.integers(1, 3))
    def disk_is_full(self, room: int, rows: int) -> None:
        """The kernel takes part of the frame at most, unless it fits."""
        self.number += 1
        sizes = [path.stat().st_size for path in self.folder.glob(f"spool/{self.name}-*{OPEN}")]
        with files_no_larger_than(sum(sizes) + room):
            self._put(record(self.number, rows), ("write-failed",))

    @rule(seconds=st.sampled_from([0.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        """Old files are finished, and the figures are those of the folder."""
        self.spool.tick(time.monotonic() + seconds)
        sizes = [path.stat().st_size for path in (self.folder / "spool").iterdir() if path.suffix in (OPEN, FINISHED)]
        assert self.spool.bytes == sum(sizes)

    @rule()
    def writer_ends_well(self) -> None:
        """It finishes its file and another boot begins."""
        self.spool.close()
        self._boots()

    @rule(torn=st.none() | st.integers(1, 200))
    def writer_dies(self, torn: int | None) -> None:
        """Its descriptor and with it its lock are gone; perhaps the kernel had half of a frame that was never acknowledged."""
        descriptor, self.spool._file = self.spool._file, None
        if descriptor is not None:
            frame = framed(self.used[self.name] + 1, record(999_999, rows=3))
            os.write(descriptor, frame[: min(torn, len(frame) - 1)] if torn else b"")
            os.close(descriptor)
        self._boots()

    @rule(mood=st.sampled_from(["refuses", "answer lost"]), good=st.integers(0, 3))
    def store_is_sick(self, mood: str, good: int) -> None:
        """From the next object but `good` on, storing fails or its answer is lost; the agent meets it at once."""
        self.store.mood, self.store.good = mood, good
        self._ship()

    @rule()
    def store_is_well(self) -> None:
        """And the agent ships what waits."""
        self.store.mood = "well"
        self._ship()

    @rule()
    def agent_restarts(self) -> None:
        """It remembers nothing; the folder tells it everything."""
        self.shipper = self._agent()
        self._ship()

    def _ship(self) -> None:
        try:
            self.shipper.ship()
        except StorageError as error:
            if self.store.mood == "well" or error.code != "unreachable":
                raise

    @invariant()
    def counters_are_exact(self) -> None:
        """Rows written and rows dropped, by kind and reason, of this boot."""
        assert +self.spool.written == self.written
        assert +self.spool.dropped == self.dropped

    @invariant()
    def every_acknowledged_row_is_somewhere(self) -> None:
        """In a whole frame on the disk or in an object of the store, at every moment; what nobody acknowledged is nowhere."""
        spooled = self._spooled()
        for kind, found in (("main", read_main(self.store, "flights")), ("challenger", read_challenger(self.store, "flights"))):
            assert set(found["row_id"].to_pylist()) | spooled[kind] == set(self.acknowledged[kind])

    def _spooled(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {"main": set(), "challenger": set()}
        for path in (self.folder / "spool").iterdir():
            for frame in decode(path.read_bytes()):
                found["main" if isinstance(frame.record, MainRecord) else "challenger"] |= set(rows_of(frame.record))
        return found

    def teardown(self) -> None:
        """At last the store is well: everything acknowledged is read exactly once, and every gap is a counted drop."""
        if not hasattr(self, "folder"):
            return
        self.store.mood = "well"
        self.spool.close()
        self.shipper.ship()
        main, challenger = read_main(self.store, "flights"), read_challenger(self.store, "flights")
        assert sorted(main["row_id"].to_pylist()) == sorted(self.acknowledged["main"])
        assert sorted(challenger["row_id"].to_pylist()) == sorted(self.acknowledged["challenger"])
        seen = {(boot, seq) for table in (main, challenger) for boot, seq in zip(*self._frames(table), strict=True)}
        expected = {(boot, seq) for boot, count in self.used.items() for seq in range(1, count + 1) if seq not in self.lost[boot]}
        assert seen == expected
        assert [path.name for path in (self.folder / "spool").iterdir() if path.stat().st_size] == []
        assert self.shipper.shipped.refused == 0
        shutil.rmtree(self.folder)

    def _frames(self, table: pa.Table) -> tuple[list[str], list[int]]:
        return table["boot"].to_pylist(), table["seq"].to_pylist()


def test_any_order_of_crashes_and_outages_loses_no_acknowledged_row() -> None:
    """Each is read exactly once in the end; each drop is counted by its reason and shows as a gap in the sequence."""
    # Not shrunk: the steps of a long story are short to read, and shrinking one takes minutes.
    unhurried = settings(
        derandomize=True,
        database=None,
        max_examples=40,
        stateful_step_count=40,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Shipping, settings=unhurried)
