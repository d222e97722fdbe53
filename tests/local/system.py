"""A local system for tests, campaigns and the demo's tests: the real programs, started as users start them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx

from quarterdeck.build import BuiltPackage
from quarterdeck.client import Client, connect
from quarterdeck.lifeline import die_with_parent
from quarterdeck.plan import VersionRef
from quarterdeck.resources import ModelDeployment
from quarterdeck.storage import open_storage
from quarterdeck_cli import processes
from quarterdeck_cli.home import Home, Note
from quarterdeck_cli.processes import Process
from tests.support import eventually

COMMAND = (sys.executable, "-m", "quarterdeck_cli")
START_SECONDS, STOP_SECONDS = 90.0, 75.0


def cli(
    folder: Path, *arguments: str, stdin: str = "", environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one `quarterdeck` command in a folder, to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **(environ or {})},
    )


class LocalSystem:
    """`quarterdeck up` in `folder`. In a `with` block it is up at the start and stopped at the end.

    Args:
        folder: may be empty.
        port: of the deployer; 0 picks free ones.
        store: URL; empty for the system's own folder.
        ship_seconds: longest time that a record waits in the spool.
        environ: more variables for its programs.
    """

    def __init__(
        self, folder: Path, *, port: int = 0, store: str = "", ship_seconds: float = 0.5, environ: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.home = Home(folder)
        self._arguments = ["--port", str(port), "--ship-seconds", str(ship_seconds), *(["--store", store] if store else [])]
        # Whoever stops it asks it nothing any more: nobody is waited for at its doors.
        self._environ = {**os.environ, "QUARTERDECK_DRAIN_SECONDS": "0", **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Start it and wait until everything answers."""
        self.spawn()
        eventually(self._up, START_SECONDS)
        return self

    def spawn(self) -> None:
        """Start it without waiting."""
        with (self.folder / "up.log").open("ab") as log:
            # Bound to this process: an aborted test leaves no system behind.
            self._process = subprocess.Popen(
                [*COMMAND, "up", *self._arguments],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    def _up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise SystemExit(f"quarterdeck up ended:\n{self.log}")
        note = self.home.note()
        return note is not None and note.ready and note.supervisor.pid == self._process.pid

    def stop(self) -> int:
        """Stop it in order; the exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait until it ends by itself; the exit status."""
        assert self._process is not None
        return self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """kill -9 of the supervisor, and of nothing else."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the supervisor has said so far."""
        return (self.folder / "up.log").read_text()

    @property
    def note(self) -> Note:
        """What supervisor.json says."""
        note = self.home.note()
        assert note is not None
        return note

    @property
    def main_url(self) -> str:
        """Base URL of the main node."""
        return self.note.urls["main"]

    def child(self, name: str) -> Process:
        """The living child of that name."""
        return self.note.children[name]

    def kill_child(self, name: str, seconds: float = 60.0) -> None:
        """kill -9 one child, and wait until another one of that name answers in its place."""
        killed = self.child(name)
        assert processes.send(killed, signal.SIGKILL)
        eventually(lambda: self.child(name) not in (killed, None) and self.answers(name), seconds)

    def answers(self, name: str) -> bool:
        """Whether a child's health question is answered; agents are asked over their socket."""
        if name.endswith("-agent"):
            with socket.socket(socket.AF_UNIX) as asking:
                asking.settimeout(5)
                asking.connect(str(self.home.folder / name.removesuffix("-agent") / "agent.sock"))
                asking.sendall(b"GET /health HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")
                return asking.recv(64).split()[1] == b"200"
        url = self.note.urls["console"] + "/health" if name == "deployer" else self.note.urls[name] + "/live"
        return httpx.get(url, trust_env=False).is_success

    def client(self) -> Client:
        """A client of the deployer with the admin token."""
        return connect(self.folder)

    def publish(self, built: BuiltPackage) -> VersionRef:
        """Push a package to the system's store and register it."""
        with self.client() as client:
            ref = built.push(open_storage(client.instance()["store"]))
            client.register(ref)
        return ref

    def deploy(self, name: str, main: VersionRef, challenger: VersionRef | None = None, **spec: Any) -> int:
        """Apply a public deployment and wait until it is so; the revision."""
        wanted: dict[str, Any] = {"model": {"name": main.model, "version": main.version}, "access": "public", **spec}
        if challenger:
            wanted["challenger"] = {"model": challenger.model, "version": challenger.version}
        with self.client() as client:
            done = client.apply(ModelDeployment.model_validate({"metadata": {"name": name}, "spec": wanted}), wait=60)
        assert done["applied"], done
        return done["revision"]
