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
from quarterdeck.records import (
    Answer,
    ChallengerRecord,
    MainRecord,
    MirroredRow,
    Record,
    Stamp,
    challenger_frame,
    main_frame,
    no_answer,
    requests_text,
)
from quarterdeck_node.spool import RecordSpool
from tests.support import PROGRAMS, ROOT, eventually


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
        eventually(self._listens)

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
            self.process.wait(60)

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

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
        caller_id="",
        key_id="",
        rows=[{"number": float(number)} for _ in range(rows)],
        answers=[Answer(json.dumps(number), [0.5, 0.5]) for _ in range(rows)],
    )


def stamped(one: Record) -> Stamp:
    """The stamp of a record."""
    return Stamp(one.deployment, one.project, one.stage, one.revision, one.model, one.version, one.digest)


def text(value: object) -> bytes:
    """JSON as doors write it: compact, in UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def framed(sequence: int, one: Record) -> bytes:
    """The frame of a record."""
    if isinstance(one, MainRecord):
        texts = text(one.rows), text(one.answers)
        return main_frame(
            sequence, stamped(one), one.ts, one.request_id, one.door, one.latency_us, *texts, one.caller_id, one.key_id
        )
    return challenger_frame(sequence, stamped(one), one.ts, one.latency_us, *mirrored_texts(one))


def put(spool: RecordSpool, one: Record) -> int:
    """Have a record written down as the node does, with the time of now."""
    stamp = stamped(one)
    if isinstance(one, ChallengerRecord):
        return spool.write_challenger(stamp, one.latency_us, *mirrored_texts(one), len(one.rows))
    rows, answers = text(one.rows), text(one.answers)
    return spool.write_main(
        stamp, one.request_id, one.door, one.latency_us, rows, answers, len(one.rows), one.caller_id, one.key_id
    )


def mirrored_texts(one: ChallengerRecord) -> tuple[bytes, bytes]:
    """Requests and results of a record as frames hold them; its rows must be whole requests, in order."""
    counts: dict[str, int] = {}
    for row in one.rows:
        request, _, index = row.row_id.rpartition("-")
        assert int(index) == counts.get(request, 0)
        counts[request] = counts.get(request, 0) + 1
    return requests_text(list(counts), list(counts.values())), b"[" + b",".join(map(_result, one.rows)) + b"]"


def _result(row: MirroredRow) -> bytes:
    return text([row.prediction, row.scores]) if row.result == "answered" else no_answer(row.result, row.error_code)
