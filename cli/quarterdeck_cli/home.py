"""The folder `.quarterdeck/` of a local system: its lock, its tokens and the note of what runs."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from quarterdeck.client import HOME, STATE, TOKEN
from quarterdeck_cli.errors import NotStarted
from quarterdeck_cli.processes import Process

NODES = ("main", "challenger")
NODE_TOKEN, MIRROR_TOKEN = "node-token", "mirror-token"


@dataclass
class Note:
    """What `supervisor.json` tells: who supervises, which ports and URLs, and every child by pid and start time."""

    supervisor: Process
    ports: dict[str, int]
    urls: dict[str, str]
    store: str
    ready: bool = False
    children: dict[str, Process] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """The JSON form."""
        return {
            **self.supervisor._asdict(),
            "ready": self.ready,
            "ports": self.ports,
            "urls": self.urls,
            "store": self.store,
            "children": {name: child._asdict() for name, child in self.children.items()},
        }


class Home:
    """The folder of one supervisor, `inside` another one. Everything that is written here appears whole, by rename."""

    def __init__(self, place: Path, inside: str = HOME) -> None:
        self.place = place.resolve()
        self.folder = self.place / inside
        self._lock = -1
        self._made = False

    def take(self) -> None:
        """Become the folder's one supervisor, making the folder where there is none.

        Raises:
            NotStarted: ``already-running`` naming the first supervisor's pid and console; ``folder-refused``.
        """
        try:
            self._made = not self.folder.exists()
            self._lock = self._locked()
        except BlockingIOError:
            raise self._already_running() from None
        except OSError as error:
            raise NotStarted(
                f"{self.folder} cannot be used: {error.strerror}.",
                code="folder-refused",
                kind="folder",
                hint="Choose a folder that you may write to with --dir.",
            ) from error
        # The note comes much later; whoever is refused meanwhile can at least be told the pid.
        os.ftruncate(self._lock, 0)
        os.write(self._lock, str(os.getpid()).encode())

    def _locked(self) -> int:
        """A descriptor that holds the lock. The kernel drops it with its process, so it is never stale."""
        while True:
            # Closed to others: logs, records and the nodes' plans inside are nobody else's business.
            self.folder.mkdir(mode=0o700, exist_ok=True)
            # A supervisor that is refused just now may remove the folder that it made, at any point of this round.
            with suppress(FileNotFoundError):
                taken = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # The name must still lead to the file that we hold; another one could be locked by somebody else.
                    if os.path.samestat(os.fstat(taken), os.stat(self.folder / "lock")):
                        return taken
                except OSError:
                    os.close(taken)
                    raise
                os.close(taken)

    def _already_running(self) -> NotStarted:
        pid = (self.folder / "lock").read_text().strip() or "unknown"
        note = self.note()
        console = f", its console is at {note.urls['console']}" if note and str(note.supervisor.pid) == pid else ""
        return NotStarted(
            f"A supervisor runs in {self.place} already: pid {pid}{console}.",
            code="already-running",
            kind="supervisor",
            name=pid,
            hint="Use that one, stop it with `quarterdeck down`, or choose another folder with --dir.",
        )

    def release(self, *, undo: bool = False) -> None:
        """Give the lock back; with `undo`, remove the folder where this very supervisor made it."""
        # Under the lock, so that nobody else has begun to use the folder.
        if undo and self._made:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def note(self) -> Note | None:
        """The note of the supervisor that runs or ran here last; None where none did."""
        try:
            # Whoever reads while nobody runs finds the last words of a killed supervisor, or nothing.
            found = json.loads((self.folder / STATE).read_bytes())
            children = {name: Process(**child) for name, child in found["children"].items()}
            who = Process(found["pid"], found["started"])
            return Note(who, found["ports"], found["urls"], found["store"], found["ready"], children)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_note(self, note: Note) -> None:
        """Replace the note."""
        self.write(STATE, json.dumps(note.document(), indent=1).encode())

    def forget_note(self) -> None:
        """Remove the note: nothing runs here any more."""
        (self.folder / STATE).unlink(missing_ok=True)

    def prepare(self) -> dict[str, str]:
        """Make the folders and the three tokens where they are missing; the tokens by name of their file."""
        for name in ("logs", *NODES):
            (self.folder / name).mkdir(exist_ok=True)
        tokens = {}
        for name in (TOKEN, NODE_TOKEN, MIRROR_TOKEN):
            path = self.folder / name
            # Kept from start to start: consoles, scripts and nodes hold them.
            if not path.exists():
                self.write(name, secrets.token_urlsafe(32).encode())
            tokens[name] = path.read_text().strip()
        return tokens

    @property
    def store(self) -> str:
        """The store that is used where none is named: a folder of the system's own."""
        return str(self.folder / "store")

    def log(self, name: str) -> Path:
        """The log file of one child."""
        return self.folder / "logs" / f"{name}.log"

    def write(self, name: str, data: bytes) -> None:
        """Replace a file, readable by nobody else, whole or not at all."""
        fresh = self.folder / f"{name}.new"
        # Born with 0600: a token is never readable by others, not even for a moment.
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        fresh.replace(self.folder / name)
