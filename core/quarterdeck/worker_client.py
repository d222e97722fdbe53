"""A model process for programs that wait: builders and gates run somebody's code beside themselves, never in themselves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from quarterdeck import lifeline, worker_wire
from quarterdeck.errors import ModelFailed, PackageRefused, ValueRefused
from quarterdeck.manifest import Manifest
from quarterdeck.records import Answer
from quarterdeck.schema import Row

_CLOSED_SECONDS = 1.0
"""How long a process that has closed its end may take to end."""
_ROWS = 1_000
"""Rows of one question: what a request may have at most by default."""


class ProcessModel:
    """The model of a package folder in a process of its own, as a context manager; a `quarterdeck.model.Model`.

    Args:
        folder: a complete package.
        manifest: of the package.
        allow_code: whether loading may run code of the package.
        seconds: deadline of loading, and of each question.
        environ: variables of the process; this process's own where None.
        memory_bytes: address space that it may use; 0: as much as the system gives.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        allow_code: bool,
        seconds: float = 120.0,
        environ: Mapping[str, str] | None = None,
        memory_bytes: int = 0,
    ) -> None:
        self._folder, self._manifest, self._seconds = folder, manifest, seconds
        self._allow_code, self._environ, self._memory_bytes = allow_code, environ, memory_bytes
        self._questions = worker_wire.Questions(manifest.data_schema.names)

    def __enter__(self) -> ProcessModel:
        self._link, theirs = socket.socketpair()
        self._link.settimeout(self._seconds)
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "quarterdeck.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=2, pass_fds=(theirs.fileno(),), start_new_session=True,
                env=self._environ,
            )  # fmt: skip
        try:
            self._load()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()
        # Programs that the model started included.
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.kill()
        self._child.wait()

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer per row; raises `ModelFailed`, by `ValueRefused` where the model answers and refuses a row."""
        answers: list[Answer] = []
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            body = self._ask(self._questions.rows([part]))
            if body[:1] == b"F":
                said = worker_wire.words(body[1:])
                # One code is believed: what fits the schema and the model has no answer for says nothing against the process.
                kind = ValueRefused if said.get("code") == ValueRefused.default_code else ModelFailed
                raise kind(str(said["detail"]), hint=str(said.get("hint", "")))
            found = worker_wire.answers(body, self._manifest.data_schema)
            if len(found) != len(part):
                raise ModelFailed(f"The model answered {len(found)} rows for {len(part)}.")
            answers += found
        return answers

    def _load(self) -> None:
        question = self._questions.load(
            folder=str(self._folder.resolve()),
            digest=self._manifest.digest,
            allow_code=self._allow_code,
            accelerator="none",
            memory_bytes=self._memory_bytes,
            parent=os.getpid(),
        )
        try:
            body = self._ask(question)
        except ModelFailed as error:
            raise PackageRefused(error.detail, code="load-failed", kind="package", name=self._manifest.model) from None
        if body != b"R":
            said = worker_wire.words(body[1:])
            raise PackageRefused(kind="package", name=self._manifest.model, **said)

    def _ask(self, question: bytes) -> bytes:
        try:
            self._link.sendall(question)
            return self._exactly(worker_wire.size(self._exactly(worker_wire.HEAD.size)))
        except TimeoutError:
            raise ModelFailed(f"The model took longer than {self._seconds:g} s.", code="model-timeout") from None
        except EOFError:
            # It may have closed its end and live on.
            try:
                how = f"ended with {lifeline.ending(self._child.wait(_CLOSED_SECONDS))}"
            except subprocess.TimeoutExpired:
                how = "closed its end"
            raise ModelFailed(f"The model process {how}.", code="model-died") from None
        except (ValueError, OSError):
            raise ModelFailed("The model process answered garbage.", code="model-died") from None

    def _exactly(self, count: int) -> bytes:
        data, have = bytearray(count), 0
        while have < count:
            more = self._link.recv_into(memoryview(data)[have:])
            if not more:
                raise EOFError
            have += more
        return bytes(data)
