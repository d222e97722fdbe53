"""A real agent process in a folder of its own, and what a serve process would put there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from quarterdeck.plan import Plan, VersionRef
from quarterdeck.records import Answer, MainRecord
from tests.support import PROGRAMS, ROOT, eventually

START_SECONDS = 30.0


class AgentProcess:
    """One node folder; `store` is the URL that its plan names."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store = folder, store
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        (folder / "plan.json").write_text(Plan(node="main", sequence=1, store=store).model_dump_json())

    def start(self, **settings: object) -> None:
        """Start the program and wait until it answers."""
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in PROGRAMS)}
        environ |= {f"QUARTERDECK_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "quarterdeck_node.agent"]
        inherited = [int(str(settings["lifeline_fd"]))] if "lifeline_fd" in settings else []
        self.process = subprocess.Popen(command, cwd=self.folder, env=environ, pass_fds=inherited)
        eventually(self._listens, START_SECONDS)

    def client(self) -> httpx.Client:
        """A client of the socket."""
        return httpx.Client(transport=httpx.HTTPTransport(uds=self._socket()), base_url="http://agent", timeout=60.0)

    def get(self, path: str) -> Any:
        """A JSON document."""
        with self.client() as client:
            return client.get(path).raise_for_status().json()

    def ensure(self, ref: VersionRef, store: str | None = None) -> httpx.Response:
        """What serve asks."""
        with self.client() as client:
            return client.post("/ensure", json={**ref.model_dump(mode="json"), "store": store or self.store})

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def spooled(self) -> list[str]:
        """Names in the spool."""
        return sorted(path.name for path in (self.folder / "spool").iterdir())

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self._socket()) == 0

    def _socket(self) -> str:
        # The folder of a test can be deeper than a socket's path may be long; our own working folder is not ours to change.
        return f"/proc/self/fd/{self._handle}/agent.sock"

    def close(self) -> None:
        """End the process, whatever it does."""
        self.kill()
        os.close(self._handle)


@contextmanager
def agent_in(folder: Path, store: str, **settings: object) -> Iterator[AgentProcess]:
    """A running agent."""
    agent = AgentProcess(folder, store)
    try:
        agent.start(**settings)
        yield agent
    finally:
        agent.close()


def record(number: int, rows: int = 1, digest: str = "sha256:" + "a" * 64) -> MainRecord:
    """A record of a late-flights model whose rows tell their number."""
    return MainRecord(
        ts=1_763_700_000_000_000 + number,
        request_id=f"{number:032x}",
        deployment="flights",
        project="default",
        stage="dev",
        revision=1,
        model="late-flights",
        version=1,
        digest=digest,
        door="plain",
        latency_us=800,
        rows=[{"number": float(number)} for _ in range(rows)],
        answers=[Answer(json.dumps(number), [0.5, 0.5]) for _ in range(rows)],
    )
