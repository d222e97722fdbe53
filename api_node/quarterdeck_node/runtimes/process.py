"""A model in a process of its own, replaced when it dies or hangs; requests that wait travel together."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from quarterdeck import lifeline, worker_wire
from quarterdeck.errors import ModelFailed, PackageRefused, ValueRefused
from quarterdeck.manifest import Manifest
from quarterdeck.model_environ import model_environ
from quarterdeck.plan import Accelerator
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.runtimes import Budget
from quarterdeck_node.runtimes.batching import Batcher, NotStarted
from quarterdeck_node.runtimes.figures import Figures
from quarterdeck_node.runtimes.link import Garbage, Gone, Link

_AGAIN = "It is started again."
_MOST_WORDS = 500
"""Characters of each thing that a model process says in words that are passed on."""
_log = logging.getLogger(__name__)


class ModelProcess:
    """A runtime whose model lives in a process of its own.

    Args:
        folder: a complete, verified package.
        manifest: of the package.
        allow_code: whether loading may run code of the package.
        budget: what it may take.
        accelerator: what shall score.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, *, allow_code: bool, budget: Budget, accelerator: Accelerator = "none"
    ) -> None:
        self._manifest, self._budget = manifest, budget
        self._questions = worker_wire.Questions(manifest.data_schema.names)
        self._load = self._questions.load(
            folder=str(folder.resolve()),
            digest=manifest.digest,
            allow_code=allow_code,
            accelerator=accelerator,
            memory_bytes=budget.memory_bytes,
            parent=os.getpid(),
        )
        self._batcher = Batcher(self._ask, budget)
        self._process: asyncio.subprocess.Process | None = None
        self._link: Link | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the model process; None while there is none."""
        return self._process.pid if self._process else None

    @property
    def figures(self) -> Figures:
        """What is counted of its queue."""
        return self._batcher.figures

    async def start(self) -> None:
        """Start the process and load the package in it.

        Raises:
            PackageRefused: the package was refused in there, or loading died, took too long or ran out of memory.
        """
        try:
            await self._spawn()
        except ModelFailed as error:
            raise PackageRefused(error.detail, code="load-failed", kind="package", name=self._manifest.model) from None
        except asyncio.CancelledError:
            await self._kill()
            raise
        self._batcher.start()

    async def predict(self, rows: Sequence[Row], deadline: float = math.inf) -> list[Answer]:
        """See `Runtime.predict`."""
        return await self._batcher.predict(rows, deadline)

    def admit(self, count: int, deadline: float = math.inf) -> None:
        """See `Batcher.admit`."""
        self._batcher.admit(count, deadline)

    async def close(self) -> None:
        """End the process; whoever still waits gets ModelFailed."""
        await self._batcher.close()
        await self._kill()

    async def _ask(self, parts: Sequence[Sequence[Row]]) -> list[Answer]:
        # It may have died while idle, which nobody is told before the next question.
        if self._link is None or not self._link.open:
            await self._replace()
        try:
            body = await self._exchange(self._questions.rows(parts), self._budget.batch_seconds)
            return self._answers(body, sum(map(len, parts)))
        except ModelFailed:
            if self._process is None:
                # Replaced at once, lest the next request waits for it. What fails here fails again there, and by name.
                with suppress(ModelFailed):
                    await self._replace()
            raise

    def _answers(self, body: bytes, count: int) -> list[Answer]:
        if body[:1] == b"F":
            said = worker_wire.words(body[1:])
            detail, hint, kind, name = (str(said.get(member, ""))[:_MOST_WORDS] for member in ("detail", "hint", "kind", "name"))
            # Of the model's own words one code is believed: any other could tell of a process that died, and this one answers.
            failure = ValueRefused if said.get("code") == ValueRefused.default_code else ModelFailed
            raise failure(detail or "The model failed.", hint=hint, kind=kind, name=name, extra={"column": name})
        if body[:1] != b"S":
            raise ModelFailed("The model process answered something that is no prediction.")
        answers = worker_wire.answers(body, self._manifest.data_schema)
        if len(answers) != count:
            raise ModelFailed(f"The model answered {len(answers)} rows for {count}.")
        return answers

    async def _replace(self) -> None:
        """Start another process; `NotStarted` where that cannot be done now."""
        self._batcher.interrupted()
        try:
            await self._spawn()
        except (ModelFailed, PackageRefused) as error:
            raise NotStarted(error.detail, code="model-died", hint=error.hint) from None
        finally:
            self._batcher.revived()

    async def _spawn(self) -> None:
        await self._kill()
        ours, theirs = socket.socketpair()
        # Code of a package imports from itself and the environment, never from the folder that somebody happened to start us in.
        safely = ["-P"] if self._manifest.form == "python" else []
        try:
            # Every other descriptor of ours is closed in there: no listener, no connection of a caller, no spool.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *safely, "-m", "quarterdeck.worker", str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL, pass_fds=(theirs.fileno(),), start_new_session=True,
                env=model_environ(self._manifest.environment.variables, self._budget.threads),
            )  # fmt: skip
            self._link = await Link.over(ours)
        # No memory or no process number left: that is this moment's trouble, and the next request tries again.
        except OSError as error:
            ours.close()
            raise ModelFailed(f"The model process cannot be started: {error.strerror}.", code="model-died") from None
        except asyncio.CancelledError:
            ours.close()
            raise
        finally:
            theirs.close()
        body = await self._exchange(self._load, self._budget.load_seconds)
        if body != b"R":
            await self._kill()
            raise self._refusal(body)

    def _refusal(self, body: bytes) -> PackageRefused:
        try:
            said = worker_wire.words(body[1:] if body[:1] == b"X" else b"")
            return PackageRefused(
                str(said["detail"]), code=str(said["code"]), hint=str(said["hint"]), extra=dict(said["extra"]), kind="package",
                name=self._manifest.model,
            )  # fmt: skip
        # It has run code of the package by now, and can say anything.
        except (ValueError, KeyError, TypeError):
            return PackageRefused(
                "The model process said something unknown while it loaded.", code="load-failed", kind="package",
                name=self._manifest.model,
            )  # fmt: skip

    async def _exchange(self, question: bytes, seconds: float) -> bytes:
        """One question and its answer; a process that dies or takes too long is ended, the next question starts another."""
        if self._link is None:
            raise ModelFailed("The model process is not running.", code="model-died")
        try:
            return await self._link.ask(question, seconds)
        except TimeoutError:
            await self._kill()
            raise ModelFailed(f"The model took longer than {seconds:g} s and was ended.", code="model-timeout") from None
        except Gone:
            raise self._death(await self._ended()) from None
        # Code of the package can write to our socket: after that no byte on it can be trusted to begin an answer.
        except Garbage:
            await self._kill()
            raise ModelFailed("The model process answered garbage and was ended.", code="model-died", hint=_AGAIN) from None

    async def _ended(self) -> int:
        """The exit status of a process that has closed its end."""
        process = self._process
        try:
            # It may have closed its end and live on: then it is of no use any more.
            async with asyncio.timeout(1.0):
                status = await process.wait() if process else 0
        except TimeoutError:
            status = 0
        await self._kill()
        return status

    def _death(self, status: int) -> ModelFailed:
        if status == worker_wire.OUT_OF_MEMORY:
            return ModelFailed(
                f"The model needed more than {self._budget.memory_bytes >> 20} MiB of memory and was ended.",
                code="model-out-of-memory",
                hint="Send fewer rows at once; raise QUARTERDECK_MODEL_BYTES if the model is sound.",
            )
        if status == -signal.SIGKILL:
            hint = f"If the system ran out of memory, its log says so. {_AGAIN}"
            return ModelFailed("The model process was killed.", code="model-died", hint=hint)
        return ModelFailed(f"The model process ended with {lifeline.ending(status)}.", code="model-died", hint=_AGAIN)

    async def _kill(self) -> None:
        # Forgotten first: nobody may write to it while it ends.
        process, self._process = self._process, None
        link, self._link = self._link, None
        if link is not None:
            link.close()
        if process is None:
            return
        # Programs that the model started included; it may be gone itself and have left them behind, or have left their group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            process.kill()
        status = await process.wait()
        _log.info("model process %s ended with status %s", process.pid, status)
