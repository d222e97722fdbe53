"""The spool: every record is handed to the kernel before its answer leaves, so no process death loses an answered row.

One file at a time is open, locked and appended to; the agent ships what is finished:

    spool/<boot>-<first sequence, 20 digits>.open    being written, under flock(LOCK_EX) while its writer lives
    spool/<boot>-<first sequence, 20 digits>.seg     finished

Nothing here waits for a disk: there is no fsync, since what is promised is to outlive processes, not power. When the disk is
full or broken, answers go on and every record that could not be written is counted by its reason.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import struct
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple, Protocol

from quarterdeck.records import Record, Stamp, challenger_frame, decode, main_frame

log = logging.getLogger(__name__)

OPEN, FINISHED = ".open", ".seg"
TICK_SECONDS = 0.25
BACKLOG = 16
"""Finished files that wait for the agent beyond which age finishes no more: a store outage must not make 10,000 small files."""

MAIN, CHALLENGER = KINDS = ("main", "challenger")
REASONS = ("spool-full", "write-failed", "not-encodable")


class RecordSpool(Protocol):
    """What the predictor and the mirror need of a spool. Counters are in rows and of this boot.

    `written` is keyed by kind (``main``, ``challenger``), `dropped` by (kind, reason); answered rows = written + dropped.
    """

    written: Counter[str]
    dropped: Counter[tuple[str, str]]

    def write_main(
        self,
        stamp: Stamp,
        request_id: str,
        door: str,
        latency_us: int,
        rows: bytes,
        answers: bytes,
        count: int,
        caller_id: str = "",
        key_id: str = "",
    ) -> int:
        """Put down one request that main answered.

        Args:
            stamp: who answered.
            request_id: of the node's own making.
            door: the protocol it came by.
            latency_us: microseconds.
            rows: JSON text, validated: array of objects, or ``{"columns": {name: [values]}}``. It is put down as it is.
            answers: JSON text ``[[prediction, [scores]], …]``.
            count: rows in it.
            caller_id: the caller's own id of the request.
            key_id: of the key that was shown.

        Returns:
            The record's sequence number, or 0 where it was dropped and counted. Never raises.
        """

    def write_challenger(self, stamp: Stamp, latency_us: int, requests: bytes, results: bytes, count: int) -> int:
        """Put down what became of `count` mirrored rows; texts as `records.challenger_frame` takes them, the rest as above."""


class MemorySpool:
    """The twin: keeps records in a list. `room` is how many it takes before it drops, as a full spool does."""

    def __init__(self, room: int | None = None) -> None:
        self.records: list[Record] = []
        self.written: Counter[str] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.room = room

    def write_main(
        self,
        stamp: Stamp,
        request_id: str,
        door: str,
        latency_us: int,
        rows: bytes,
        answers: bytes,
        count: int,
        caller_id: str = "",
        key_id: str = "",
    ) -> int:
        """Keep the record; 0 where there is no room left."""
        return self._keep(
            main_frame(1, stamp, _now(), request_id, door, latency_us, rows, answers, caller_id, key_id), MAIN, count
        )

    def write_challenger(self, stamp: Stamp, latency_us: int, requests: bytes, results: bytes, count: int) -> int:
        """Keep the record; 0 where there is no room left."""
        return self._keep(challenger_frame(1, stamp, _now(), latency_us, requests, results), CHALLENGER, count)

    def _keep(self, frame: bytes, kind: str, count: int) -> int:
        if self.room is not None and len(self.records) >= self.room:
            self.dropped[kind, "spool-full"] += count
            return 0
        self.records += [found.record for found in decode(frame)]
        self.written[kind] += count
        return len(self.records)


class _Segment(NamedTuple):
    """A finished file of this boot that the agent has not shipped yet."""

    name: str
    rows: int
    began: float


class Spool:
    """Writes records to files in `folder`; safe to use from several threads.

    A number is used up by a dropped record too, so whoever reads the store sees the gap.

    Args:
        folder: made where it is absent.
        boot: name of this life of the process; sequences count from 1 in each.
        max_bytes: a file this large is finished.
        max_age: seconds after which a file that holds anything is finished.
        limit_bytes: when all files in the folder together hold this much, records are dropped until some are shipped.
    """

    def __init__(
        self, folder: Path, boot: str, *, max_bytes: int = 8 * 2**20, max_age: float = 5.0, limit_bytes: int = 2**30
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.written: Counter[str] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()
        self._folder, self._boot = folder, boot
        self._max_bytes, self._max_age, self._limit_bytes = max_bytes, max_age, limit_bytes
        self._lock = threading.RLock()
        self._sequence = 0
        self._file: int | None = None
        self._name = ""
        self._size = self._rows = 0
        self._began = 0.0
        self._finished: deque[_Segment] = deque()
        self._finished_bytes = 0
        self._oldest_foreign: float | None = None
        self._look_around()

    def write_main(
        self,
        stamp: Stamp,
        request_id: str,
        door: str,
        latency_us: int,
        rows: bytes,
        answers: bytes,
        count: int,
        caller_id: str = "",
        key_id: str = "",
    ) -> int:
        """Write one frame; when this returns its number, the kernel holds the whole frame. 0: dropped and counted."""
        with self._lock:
            # Before anything can fail: the gap that a lost record leaves is what readers count.
            self._sequence = sequence = self._sequence + 1
            try:
                frame = main_frame(sequence, stamp, _now(), request_id, door, latency_us, rows, answers, caller_id, key_id)
            except (ValueError, TypeError, struct.error) as error:
                return self._drop(MAIN, count, "not-encodable", error)
            return self._put(frame, MAIN, count)

    def write_challenger(self, stamp: Stamp, latency_us: int, requests: bytes, results: bytes, count: int) -> int:
        """Write one frame, as `write_main` does."""
        with self._lock:
            self._sequence = sequence = self._sequence + 1
            try:
                frame = challenger_frame(sequence, stamp, _now(), latency_us, requests, results)
            except (ValueError, TypeError, struct.error) as error:
                return self._drop(CHALLENGER, count, "not-encodable", error)
            return self._put(frame, CHALLENGER, count)

    def _put(self, frame: bytes, kind: str, count: int) -> int:
        size = len(frame)
        if self._size + self._finished_bytes + size > self._limit_bytes:
            return self._drop(kind, count, "spool-full")
        try:
            descriptor = self._open() if self._file is None else self._file
            # Not gathered with the frames of other requests: the call costs a microsecond, and their answers would have to wait.
            if (taken := os.write(descriptor, frame)) < size:
                left = memoryview(frame)[taken:]
                while left:
                    left = left[os.write(descriptor, left) :]
        except OSError as error:
            self._cut_back()
            return self._drop(kind, count, "write-failed", error)
        self._size += size
        self._rows += count
        self.written[kind] += count
        if self._size >= self._max_bytes:
            self._finish()
        return self._sequence

    def tick(self, now: float) -> None:
        """Finish the open file when it is old enough and see what the agent has taken; `now` is time.monotonic()."""
        with self._lock:
            if self._rows and now - self._began >= self._max_age and len(self._finished) < BACKLOG:
                self._finish()
            self._look_around()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                self.tick(time.monotonic())
            except OSError as error:
                log.error("the spool's folder cannot be read", extra={"errno": error.errno})

    def close(self) -> None:
        """Finish the open file, so that the agent ships the tail at once; writing again opens a new one."""
        with self._lock:
            self._finish()

    @property
    def rows(self) -> int:
        """Rows of this boot that are written and not shipped yet."""
        with self._lock:
            return self._rows + sum(segment.rows for segment in self._finished)

    @property
    def bytes(self) -> int:
        """Bytes in the folder that are not shipped yet, those of earlier boots included."""
        return self._size + self._finished_bytes

    @property
    def oldest_age(self) -> float:
        """Seconds since the oldest record that is not shipped yet was written; 0 where there is none."""
        with self._lock:
            ages = [time.monotonic() - segment.began for segment in self._finished]
            if self._rows:
                ages.append(time.monotonic() - self._began)
            if self._oldest_foreign is not None:
                ages.append(time.time() - self._oldest_foreign)
            return max(ages, default=0.0)

    def _open(self) -> int:
        self._name = f"{self._boot}-{self._sequence:020d}"
        descriptor = os.open(self._path(OPEN), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        # The agent takes this lock only in passing while a file is empty, so waiting here is short.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._file, self._size, self._rows, self._began = descriptor, 0, 0, time.monotonic()
        return descriptor

    def _cut_back(self) -> None:
        """Leave only whole frames behind; where even that fails the file is given up: readers stop at a torn frame."""
        if self._file is None:
            return
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._finish()

    def _finish(self) -> None:
        if self._file is None:
            return
        descriptor, self._file = self._file, None
        try:
            # Renamed while locked: whoever opened the old name and gets the lock later finds that the name is gone.
            os.rename(self._path(OPEN), self._path(FINISHED))
            self._finished.append(_Segment(self._name + FINISHED, self._rows, self._began))
            self._finished_bytes += self._size
        except OSError as error:
            # Unlocked, it looks like a dead writer's and the agent takes it over as it is.
            log.warning("could not finish a spool file", extra={"errno": error.errno})
        finally:
            os.close(descriptor)
            self._size = self._rows = 0

    def _look_around(self) -> None:
        """What is left in the folder, apart from the open file."""
        sizes: dict[str, int] = {}
        oldest: float | None = None
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if not entry.name.endswith((OPEN, FINISHED)) or (self._file is not None and entry.name == self._name + OPEN):
                    continue
                try:
                    found = entry.stat()
                except FileNotFoundError:
                    continue  # shipped this very moment
                sizes[entry.name] = found.st_size
                if not entry.name.startswith(self._boot) and found.st_size:
                    oldest = min(found.st_mtime, oldest if oldest is not None else found.st_mtime)
        self._finished = deque(segment for segment in self._finished if segment.name in sizes)
        self._finished_bytes, self._oldest_foreign = sum(sizes.values()), oldest

    def _drop(self, kind: str, rows: int, reason: str, error: Exception | None = None) -> int:
        if not self.dropped[kind, reason]:
            # Once per reason: the counters tell how many, a log line per record would fill what is left of the disk.
            named = {"kind": kind, "reason": reason, "error": type(error).__name__ if error else ""}
            log.error("records are dropped", extra=named)
        self.dropped[kind, reason] += rows
        return 0

    def _path(self, suffix: str) -> Path:
        return self._folder / (self._name + suffix)


def _now() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000
