"""`quarterdeck up`, step by step: whatever can be refused is refused before anything is started, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from quarterdeck.client import TOKEN
from quarterdeck.errors import InvalidInput, QuarterdeckError, StorageError
from quarterdeck.storage import open_storage
from quarterdeck_cli import ports, processes
from quarterdeck_cli.errors import NotStarted
from quarterdeck_cli.home import Home, Note
from quarterdeck_cli.programs import programs, urls
from quarterdeck_cli.supervisor import Supervisor, Told


class Wanted(NamedTuple):
    """What the user asks for. `store` is empty for the system's own folder; `ship_seconds` is the longest wait of a record."""

    port: int
    store: str
    ship_seconds: float


def up(home: Home, wanted: Wanted, told: Told, ready: Callable[[Note], None]) -> None:
    """Run a local system until it is told to stop.

    Raises:
        NotStarted: another supervisor, a port, the store or the folder is in the way; nothing was started or is left behind.
        StartFailed: a program does not come up; everything has been stopped again.
    """
    # The lock comes first: all that follows may then trust that nobody else changes the folder.
    home.take()
    undo = True
    try:
        clear_leftovers(home)
        chosen = ports.choose(wanted.port)
        store = _store(home, wanted.store)
        tokens = home.prepare()
        # From here on there is something worth keeping, whatever happens.
        undo = False
        me = processes.identify(os.getpid())
        assert me is not None, "this process lives"
        note = Note(me, chosen._asdict(), urls(chosen, tokens[TOKEN]), store)
        Supervisor(home, programs(home, chosen, store, wanted.ship_seconds), note, told).run(lambda: ready(note))
    finally:
        home.release(undo=undo)


def clear_leftovers(home: Home) -> None:
    """End what a killed supervisor left, by pid and start time together: a pid alone may be somebody else's by now."""
    note = home.note()
    if note is None:
        return
    stuck = processes.end(note.children.values())
    if stuck:
        pids = ", ".join(str(process.pid) for process in stuck)
        raise NotStarted(
            f"Processes of an earlier supervisor cannot be ended: pid {pids}.",
            code="leftovers",
            kind="process",
            name=pids,
            hint="End them by hand and start again.",
        )
    home.forget_note()


def _store(home: Home, wanted: str) -> str:
    """The store's URL once it has been read from and written to."""
    # Children run in folders of their own, so a folder is named from the root.
    url = wanted if "://" in wanted else os.path.abspath(os.path.expanduser(wanted)) if wanted else home.store
    if url.startswith("memory:"):
        # Each of the five programs would get a memory of its own, and find nothing in it.
        raise NotStarted(
            "A store in memory cannot be shared by several programs.",
            code="store-refused",
            kind="store",
            hint="Give --store a folder or an s3:// URL, or leave it out. Nothing was started.",
        )
    try:
        if not wanted:
            os.makedirs(url, exist_ok=True)
        open_storage(url).check()
    except (StorageError, InvalidInput) as error:
        raise _not_started(error) from error
    return url


def _not_started(error: QuarterdeckError) -> NotStarted:
    return NotStarted(
        error.detail, code=error.code, hint=error.hint or "Check --store. Nothing was started.", kind=error.kind, name=error.name
    )
