"""The serve side of a model process: requests that wait while a batch runs travel together in the next one."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from quarterdeck.errors import ModelFailed, Overloaded, PackageRefused
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.runtimes import frames, model_environ

BATCH_ROWS = 256
QUEUE_ROWS = 4_096
MAX_REPLY = 64 * 2**20
"""Bytes of one answer; whatever claims to be larger is not one, and must not be collected in the memory of serve."""
LOAD_SECONDS = 120.0
"""Deadline of starting a process and loading the package: importing what a model needs takes seconds on a busy machine."""
_log = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    rows: Sequence[Row]
    done: asyncio.Future[list[Answer]]


class ModelProcess:
    """A runtime whose model lives in a process of its own, replaced when it dies or hangs.

    Args:
        folder: a complete, verified package.
        digest: what its manifest must have.
        allow_code: whether loading may run code of the package.
        seconds: deadline of each batch.
        variables: names of the environment's variables that the package asks for.
    """

    def __init__(self, folder: Path, digest: str, *, allow_code: bool, seconds: float, variables: Sequence[str] = ()) -> None:
        self._question = {"load": str(folder.resolve()), "digest": digest, "allow_code": allow_code, "parent": os.getpid()}
        self._seconds = seconds
        self._variables = variables
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: deque[_Waiting] = deque()
        self._rows = 0
        self._some = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the model process; None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the process and load the package in it.

        Raises:
            PackageRefused: the package was refused in there, or loading died or took too long.
        """
        try:
            await self._spawn()
        except ModelFailed as error:
            raise PackageRefused(error.detail, code="load-failed", kind="package") from None
        except asyncio.CancelledError:
            await self._kill()
            raise
        self._runner = asyncio.create_task(self._run())

    async def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """See `Runtime.predict`."""
        # Nobody would ever answer it: its caller would wait for ever.
        if self._closed:
            raise _unloaded()
        # An empty queue takes any request, so the bound never refuses what fits the row limit.
        if self._rows and self._rows + len(rows) > QUEUE_ROWS:
            raise Overloaded("Too many rows wait for this model already.", hint="Try again in a second.")
        waiting = _Waiting(rows, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._rows += len(rows)
        self._some.set()
        return await waiting.done

    async def close(self) -> None:
        """End the process; whoever still waits gets ModelFailed."""
        self._closed = True
        if self._runner is not None:
            self._runner.cancel()
            with suppress(asyncio.CancelledError):
                await self._runner
        while self._waiting:
            _fail(self._take(QUEUE_ROWS), _unloaded())
        await self._kill()

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            batch = self._take(BATCH_ROWS)
            try:
                if batch:
                    await self._answer(batch)
            except asyncio.CancelledError:
                _fail(batch, _unloaded())
                raise
            if self._process is None:
                # Replaced at once, lest the next request waits for it. What fails here fails again there, and by name.
                with suppress(PackageRefused, ModelFailed):
                    await self._spawn()
            if not self._waiting:
                self._some.clear()

    def _take(self, limit: int) -> list[_Waiting]:
        """Whole requests, at least one, until `limit` rows are together; callers that left are passed over."""
        batch: list[_Waiting] = []
        taken = 0
        while self._waiting and (not batch or taken + len(self._waiting[0].rows) <= limit):
            waiting = self._waiting.popleft()
            self._rows -= len(waiting.rows)
            # A caller that left has cancelled its future: its rows are not computed.
            if not waiting.done.done():
                batch.append(waiting)
                taken += len(waiting.rows)
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            answers = await self._ask([row for waiting in batch for row in waiting.rows])
        except ModelFailed as error:
            if len(batch) == 1 or error.code != "model-failed":
                _fail(batch, error)
                return
            # One row in company made the model raise: alone, the others get their answers.
            for waiting in batch:
                await self._answer([waiting])
            return
        place = 0
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_result(answers[place : place + len(waiting.rows)])
            place += len(waiting.rows)

    async def _ask(self, rows: list[Row]) -> list[Answer]:
        try:
            # It may have died while idle, which nobody is told before the next question.
            if self._process is None or self._process.returncode is not None:
                await self._spawn()
            reply = await self._exchange({"rows": rows}, self._seconds)
        except PackageRefused as error:
            raise ModelFailed(error.detail, code="model-died", hint=error.hint) from None
        if "answers" not in reply:
            raise ModelFailed(str(reply.get("failed", "The model process answered nothing that is known.")))
        try:
            answers = [Answer(prediction, scores) for prediction, scores in reply["answers"]]
        except (TypeError, ValueError):
            raise ModelFailed("The model answered something that is no prediction.") from None
        if len(answers) != len(rows):
            raise ModelFailed(f"The model answered {len(answers)} rows for {len(rows)}.")
        return answers

    async def _spawn(self) -> None:
        await self._kill()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "quarterdeck_node.runtimes.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=model_environ(self._variables),
            )
        # No memory or no process number left: that is this moment's trouble, and the next request tries again.
        except OSError as error:
            raise ModelFailed(f"The model process cannot be started: {error.strerror}.", code="model-died") from None
        reply = await self._exchange(self._question, LOAD_SECONDS)
        if "refused" in reply:
            await self._kill()
            said = reply["refused"]
            raise PackageRefused(said["detail"], code=said["code"], hint=said["hint"], extra=said["extra"], kind="package")

    async def _exchange(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        """One question and its answer; a process that dies or takes too long is ended, the next question starts another."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise ModelFailed("The model process is not running.", code="model-died")
        try:
            async with asyncio.timeout(seconds):
                process.stdin.write(frames.pack(question))
                await process.stdin.drain()
                head = await process.stdout.readexactly(frames.HEAD.size)
                body = await process.stdout.readexactly(_size(head))
                found = json.loads(body)
        except TimeoutError:
            await self._kill()
            raise ModelFailed(f"The model took longer than {seconds:g} s and was ended.", code="model-timeout") from None
        except (OSError, asyncio.IncompleteReadError):
            await self._kill()
            raise ModelFailed("The model process died.", code="model-died", hint="It is started again.") from None
        # Code of the package can write to our pipe: after that no byte on it can be trusted to begin an answer.
        except ValueError:
            found = None
        if not isinstance(found, dict):
            await self._kill()
            raise ModelFailed("The model process answered garbage and was ended.", code="model-died", hint="It is started again.")
        return found

    async def _kill(self) -> None:
        # Forgotten first: nobody may write to it while it ends.
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        status = await process.wait()
        _log.info("model process %s ended with status %s", process.pid, status)


def _size(head: bytes) -> int:
    size: int = frames.HEAD.unpack(head)[0]
    if size > MAX_REPLY:
        raise ValueError(size)
    return size


def _unloaded() -> ModelFailed:
    return ModelFailed("The version was unloaded.")


def _fail(batch: list[_Waiting], error: ModelFailed) -> None:
    for waiting in batch:
        if not waiting.done.done():
            waiting.done.set_exception(error)
