"""Packages on this node: fetched, compared, tried and remembered, each once however many ask for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from quarterdeck import verify
from quarterdeck.errors import PackageRefused, QuarterdeckError, StorageError
from quarterdeck.fetch import discard, fetch_package, find_digest, forget
from quarterdeck.manifest import MANIFEST, Digest, Manifest
from quarterdeck.plan import VersionName, VersionRef
from quarterdeck.schema import Frozen
from quarterdeck.storage import Storage, open_storage
from quarterdeck_node.agent.settings import AgentSettings
from quarterdeck_node.agent.trial import Tried, try_load

CACHE = "cache"
TRIALS = 2
T = TypeVar("T")


class Progress(Frozen):
    """How far the agent is with one version; bytes count the file that is being fetched."""

    state: Literal["fetching", "trying", "ready", "failed"]
    code: str = ""
    reason: str = ""
    place: str = ""
    file_bytes: int = 0
    file_size: int = 0


class Ensured(Frozen):
    """A package that serve may load. `folder` is relative to the node's folder."""

    folder: str
    memory_bytes: int
    load_seconds: float


class _Work(NamedTuple):
    """Whoever asks for the same shares the answer; trust is part of it because it decides what may be loaded."""

    ref: VersionRef
    store: str


class Packages:
    """The cache `cache/` of one node. Belongs to one event loop; the work is done in threads.

    Args:
        settings: of the agent.
        opened: from a store's URL to the store.
    """

    def __init__(self, settings: AgentSettings, opened: Callable[[str], Storage] = open_storage) -> None:
        self.state: dict[str, Progress] = {}
        self._settings, self._opened = settings, opened
        self._cache = settings.folder / CACHE
        self._running: dict[_Work, asyncio.Task[Ensured]] = {}
        self._tried: dict[tuple[str, str], Tried] = {}
        self._stores: dict[str, Storage] = {}
        self._trials = threading.BoundedSemaphore(TRIALS)

    async def ensure(self, ref: VersionRef, store: str) -> Ensured:
        """Have one version here: fetched, compared with its manifest, fitting this environment, tried with its golden rows.

        The trial is remembered until the agent ends; files are compared every time. A failure is forgotten: asking again tries
        again.

        Raises:
            PackageRefused: it must not be loaded; `extra["place"]` names the file, library, row or variable.
            StorageError: the store or the cache's disk cannot be used now.
        """
        work = _Work(ref, store)
        if work not in self._running:
            task = asyncio.get_running_loop().create_task(self._bring(work))
            self._running[work] = task
            task.add_done_callback(lambda _: self._running.pop(work, None))
        # One caller who leaves must not end the work of the others.
        return await asyncio.shield(self._running[work])

    async def resolve(self, wanted: VersionName, store: str) -> Digest:
        """The digest of a version that is known by number; nothing is remembered.

        Raises:
            StorageError: the store cannot be used now, or has no such version.
            PackageRefused: what lies there is no manifest.
        """
        try:
            return await in_thread(lambda: find_digest(self._store(store), wanted))
        except StorageError:
            self._stores.pop(store, None)
            raise

    async def forget(self, keep: list[str]) -> list[str]:
        """Let go of the least recently used versions while the cache is over its limit; the digests that went."""
        # What is being brought was asked for after the caller made its list.
        busy = [work.ref.digest for work in self._running]
        gone = await in_thread(lambda: forget(self._cache, [*keep, *busy], self._settings.cache_bytes))
        for digest in gone:
            self.state.pop(digest, None)
        return gone

    async def _bring(self, work: _Work) -> Ensured:
        try:
            return await in_thread(lambda: self._bring_now(work))
        except QuarterdeckError as error:
            # Opened anew next time: an open store keeps the credentials it was opened with, and they may be what gets corrected.
            if isinstance(error, StorageError):
                self._stores.pop(work.store, None)
            place = str(error.extra.get("place", ""))
            self.state[work.ref.digest] = Progress(state="failed", code=error.code, reason=str(error), place=place)
            raise

    def _bring_now(self, work: _Work) -> Ensured:
        ref = work.ref
        manifest, folder = self._verified(work)
        # Before the trial: a foreign environment shows as any odd error in there, and by its own name here.
        try:
            verify.check_environment(manifest)
        except PackageRefused as error:
            error.extra.setdefault("place", "environment")
            raise
        tried = self._tried.get((ref.digest, ref.trust))
        if tried is None:
            self.state[ref.digest] = Progress(state="trying")
            # Few at a time: at the start of a node with many deployments they would slow each other down past their deadlines.
            with self._trials:
                tried = try_load(
                    manifest, folder, allow_code=ref.trust == "code",
                    seconds=self._settings.trial_seconds, memory_bytes=self._settings.trial_bytes,
                )  # fmt: skip
            self._tried[ref.digest, ref.trust] = tried
        self.state[ref.digest] = Progress(state="ready")
        return Ensured(folder=f"{CACHE}/{folder.name}", memory_bytes=tried.memory_bytes, load_seconds=tried.load_seconds)

    def _verified(self, work: _Work) -> tuple[Manifest, Path]:
        """A package whose files are what its manifest says; one that was damaged in the cache is fetched anew, once."""
        try:
            return self._fetched(work)
        except PackageRefused as error:
            if error.code not in ("digest-mismatch", "file-missing"):
                raise
        discard(self._cache, work.ref.digest)
        return self._fetched(work)

    def _fetched(self, work: _Work) -> tuple[Manifest, Path]:
        def progress(_path: str, have: int, size: int) -> None:
            self.state[work.ref.digest] = Progress(state="fetching", file_bytes=have, file_size=size)

        self.state[work.ref.digest] = Progress(state="fetching")
        folder = fetch_package(self._store(work.store), work.ref, self._cache, progress)
        manifest = Manifest.parse((folder / MANIFEST).read_bytes(), work.ref.digest)
        verify.check_files(manifest, folder)
        return manifest, folder

    def _store(self, url: str) -> Storage:
        if url not in self._stores:
            self._stores[url] = self._opened(url)
        return self._stores[url]


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a daemon thread: unlike a pool's, it never keeps the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def deliver(setter: Callable[[Any], None], value: object) -> None:
        if not done.done():
            setter(value)

    def run() -> None:
        try:
            result: tuple[Callable[[Any], None], object] = done.set_result, work()
        except BaseException as error:
            result = done.set_exception, error
        # The loop may be gone when the process ends meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(deliver, *result)

    threading.Thread(target=run, daemon=True).start()
    return await done
