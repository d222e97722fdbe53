"""From the spool to the store: finished files become Parquet objects, and only then are they deleted.

Whatever dies in between, the file is still there and the same names are written again. Files go in the order of their names,
which is that of boots and sequences; while the store cannot be used they stay where they are.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from quarterdeck.errors import PackageRefused, QuarterdeckError, StorageError
from quarterdeck.manifest import MANIFEST, Manifest
from quarterdeck.plan import Plan
from quarterdeck.record_files import files
from quarterdeck.records import read, whole_bytes
from quarterdeck.schema import Frozen, Schema
from quarterdeck.storage import Storage, open_storage
from quarterdeck_node.agent.packages import CACHE
from quarterdeck_node.spool import FINISHED, OPEN

log = logging.getLogger(__name__)

PLAN = "plan.json"
SPOOL = "spool"
REFUSED = ".refused"
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
_YOUNG_SECONDS = 60.0


class Shipped(Frozen):
    """What was shipped in this life of the agent, and what keeps it from shipping more."""

    files: int = 0
    objects: int = 0
    bytes: int = 0
    torn_bytes: int = 0
    refused: int = 0
    last_error: str = ""


class Shipper:
    """Ships one node's spool, in a thread of its own between `start` and `finish`.

    Args:
        folder: the node's folder.
        poll: seconds between looks for finished files.
        opened: from a store's URL to the store.
    """

    def __init__(self, folder: Path, poll: float = 0.25, opened: Callable[[str], Storage] = open_storage) -> None:
        self.shipped = Shipped()
        self._folder, self._poll, self._opened = folder, poll, opened
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipping", daemon=True)
        self._store: tuple[str, Storage] | None = None
        self._schemas: dict[str, Schema] = {}

    def start(self) -> None:
        """Ship in the background."""
        self._thread.start()

    def finish(self, seconds: float) -> bool:
        """Stop in the background and ship what is left for at most `seconds`; whether nothing is left."""
        deadline = time.monotonic() + seconds
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self._thread.is_alive():
            return False
        # A thread again, because a store that hangs must not hold up the end of the process.
        last = threading.Thread(target=self._last, args=(deadline,), name="shipping the rest", daemon=True)
        last.start()
        last.join(max(0.0, deadline - time.monotonic()))
        return not last.is_alive() and not any(self._ready())

    def ship(self) -> int:
        """Ship everything that is finished now; how many files that were.

        Raises:
            QuarterdeckError: the store cannot be used; what was not shipped is still in the spool.
        """
        done = 0
        for path in self._ready():
            self._ship(path)
            done += 1
        return done

    def _run(self) -> None:
        pause = self._poll
        while not self._stop.wait(pause):
            pause = self._poll if self._try() else min(max(FIRST_PAUSE, pause * 2), LONGEST_PAUSE)

    def _last(self, deadline: float) -> None:
        while not self._try() and time.monotonic() < deadline:
            time.sleep(min(FIRST_PAUSE, max(0.0, deadline - time.monotonic())))

    def _try(self) -> bool:
        try:
            self.ship()
        except (QuarterdeckError, OSError) as error:
            code = error.code if isinstance(error, QuarterdeckError) else type(error).__name__
            if self.shipped.last_error != code:
                log.warning("records wait in the spool", extra={"code": code, "detail": str(error)})
            self._count(last_error=code)
            # Opened anew next time: credentials may have been corrected meanwhile.
            self._store = None
            return False
        if self.shipped.last_error:
            log.info("records are shipped again")
            self._count(last_error="")
        return True

    def _ready(self) -> Iterator[Path]:
        """Finished files in order; those of writers that died are finished here."""
        folder = self._folder / SPOOL
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        for name in names:
            path = folder / name
            if name.endswith(FINISHED):
                yield path
            elif name.endswith(OPEN) and (taken := self._take_over(path)):
                yield taken

    def _take_over(self, path: Path) -> Path | None:
        """Finish the file of a dead writer, without its torn frame; None while its writer lives."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None  # finished by its writer this very moment; its new name is found in the next round
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(descriptor)
            if not os.path.samestat(found, path.stat()):
                return None
            if found.st_size == 0:
                # It may be newborn, its writer about to lock it.
                if time.time() - found.st_mtime > _YOUNG_SECONDS:
                    path.unlink()
                return None
            self._trim(descriptor, path)
            return path.rename(path.with_suffix(FINISHED))
        except (BlockingIOError, FileNotFoundError):
            return None
        finally:
            os.close(descriptor)

    def _trim(self, descriptor: int, path: Path) -> None:
        data = path.read_bytes()
        whole = whole_bytes(data)
        if whole < len(data):
            os.ftruncate(descriptor, whole)
            self._count(torn_bytes=self.shipped.torn_bytes + len(data) - whole)
            log.warning(
                "a torn frame was cut off: it was never acknowledged", extra={"file": path.name, "bytes": len(data) - whole}
            )

    def _ship(self, path: Path) -> None:
        data = path.read_bytes()
        boot = path.stem.rpartition("-")[0]
        frames, whole = read(data)
        plan = self._plan()
        if whole < len(data):
            # Frames after a damaged one cannot be found any more: keep the file for a person, ship what is whole.
            self._set_aside(path, data)
        try:
            made = list(files(frames, boot, self._schema, plan.namespace))
        except Exception:
            # It would fail the same way for ever and hold up every file behind it.
            log.exception("a spool file cannot be converted")
            self._set_aside(path, data)
            made = []
        if made:
            storage = self._storage(plan.store)
            for file in made:
                storage.put(file.key, file.data)
        path.unlink(missing_ok=True)
        shipped, sent = self.shipped, sum(len(file.data) for file in made)
        self._count(files=shipped.files + 1, objects=shipped.objects + len(made), bytes=shipped.bytes + sent)

    def _set_aside(self, path: Path, data: bytes) -> None:
        aside = path.with_suffix(REFUSED)
        if not aside.exists():
            aside.write_bytes(data)
            self._count(refused=self.shipped.refused + 1)
            log.error("a spool file is set aside", extra={"file": aside.name})

    def _plan(self) -> Plan:
        """The node's plan, which says where its records go."""
        try:
            return Plan.model_validate_json((self._folder / PLAN).read_bytes())
        except (OSError, ValidationError):
            raise StorageError("The node has no plan that names a store yet.", code="no-plan", kind="node") from None

    def _storage(self, url: str) -> Storage:
        if self._store is None or self._store[0] != url:
            self._store = (url, self._opened(url))
        return self._store[1]

    def _schema(self, digest: str) -> Schema | None:
        """The schema of a version that is in the cache."""
        if digest not in self._schemas:
            with suppress(OSError, PackageRefused):
                raw = (self._folder / CACHE / digest.removeprefix("sha256:") / MANIFEST).read_bytes()
                self._schemas[digest] = Manifest.parse(raw, digest).data_schema
        return self._schemas.get(digest)

    def _count(self, **changed: int | str) -> None:
        self.shipped = self.shipped.model_copy(update=changed)
