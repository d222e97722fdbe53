"""Plans down, reports up: the node's two conversations with whoever decides. Neither can hurt what serves."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import httpx
from pydantic import ValidationError

from quarterdeck.plan import NodeReport, Plan
from quarterdeck_node.settings import Settings

WAIT_SECONDS = 30
REPORT_SECONDS = 2.0
_PAUSE_SECONDS = 1.0
_log = logging.getLogger(__name__)


class PlanFile:
    """The last good plan on disk: what a node starts from when the plan server is gone.

    Args:
        folder: the node's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "plan.json"

    def read(self, node: str) -> Plan | None:
        """The stored plan; None where there is none of this node that can be read."""
        try:
            plan = Plan.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            _log.warning("plan.json cannot be used: %s", type(error).__name__)
            return None
        return plan if plan.node == node else None

    def write(self, plan: Plan) -> None:
        """Replace the stored plan, whole or not at all. It holds the mirror's token, so only the owner may read it."""
        part = self._path.with_suffix(".part")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(plan.model_dump_json().encode())
            file.flush()
            # Without it a power cut could leave the new name with nothing behind it.
            os.fsync(file.fileno())
        part.replace(self._path)


class PlanClient:
    """Long-polls for plans and sends reports, each in its own loop.

    Args:
        settings: names the node, the plan server and the token file.
        apply: takes over a newer plan.
        report: makes the report that is true now.
    """

    def __init__(self, settings: Settings, apply: Callable[[Plan], None], report: Callable[[], NodeReport]) -> None:
        self._node = settings.node
        self._token_file = settings.node_token_file
        self._file = PlanFile(settings.folder)
        self._apply = apply
        self._report = report
        self._sequence = -1
        self._unwritten: Plan | None = None
        self._changed = asyncio.Event()
        # The read must outlast the long poll, or every quiet half minute would be an error.
        timeout = httpx.Timeout(5.0, read=WAIT_SECONDS + 10.0)
        self._client = httpx.AsyncClient(base_url=settings.plan_server or "http://none", timeout=timeout, trust_env=False)
        self._enabled = bool(settings.plan_server)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start from the stored plan, then keep asking for newer ones."""
        stored = self._file.read(self._node)
        if stored is not None:
            self._take(stored)
        if self._enabled:
            self._tasks = [asyncio.create_task(self._poll()), asyncio.create_task(self._reports())]

    def changed(self) -> None:
        """Something worth reporting happened: the next report goes out now."""
        self._changed.set()

    async def close(self) -> None:
        """Send a last report and stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._enabled:
            await self._send()
        await self._client.aclose()

    def _take(self, plan: Plan) -> bool:
        """Apply a plan that is newer. Never back: a server that lost its memory must not undo what was decided."""
        if plan.node != self._node or plan.sequence <= self._sequence:
            return False
        self._sequence = plan.sequence
        self._apply(plan)
        return True

    async def _poll(self) -> None:
        while True:
            try:
                plan = await self._next()
                if plan is not None and self._take(plan):
                    self._unwritten = plan
                # An older plan is answered at once, again and again: without a pause this would spin.
                elif plan is not None:
                    await asyncio.sleep(_PAUSE_SECONDS)
                await self._keep()
            # Whatever it was: a node that no longer asks would serve its old plan for ever and say nothing.
            except Exception as error:
                _log.warning("no plan from the plan server: %s", type(error).__name__)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _keep(self) -> None:
        """Write down the newest plan, after it was applied: serving never waits for the disk."""
        if self._unwritten is None:
            return
        try:
            await asyncio.to_thread(self._file.write, self._unwritten)
            self._unwritten = None
        # Tried again after the next poll: the agent ships nothing and a restart finds an old plan until it lies there.
        except OSError as error:
            _log.warning("plan.json cannot be written: %s", error.strerror)

    async def _next(self) -> Plan | None:
        query = {"after": self._sequence, "wait": WAIT_SECONDS}
        answer = await self._client.get(f"/plans/{self._node}", params=query, headers=self._headers())
        if answer.status_code == 204:
            return None
        answer.raise_for_status()
        return Plan.model_validate_json(answer.content)

    async def _reports(self) -> None:
        while True:
            self._changed.clear()
            await self._send()
            try:
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _send(self) -> None:
        try:
            body = self._report().model_dump_json()
            headers = {**self._headers(), "content-type": "application/json"}
            # The newest report replaces all before, so a lost one is never sent again.
            answer = await self._client.post(f"/nodes/{self._node}/report", content=body, headers=headers, timeout=5.0)
            answer.raise_for_status()
        # As above: reports must go on, or the deployer believes that this node is dead.
        except Exception as error:
            _log.debug("a report was not taken: %s", type(error).__name__)
            await asyncio.sleep(_PAUSE_SECONDS / 4)

    def _headers(self) -> dict[str, str]:
        """Read anew each time: a token that was rotated needs no restart."""
        if self._token_file is None:
            return {}
        return {"authorization": f"Bearer {self._token_file.read_text().strip()}"}
