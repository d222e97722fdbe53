"""Plans down, reports up: the node's two conversations with whoever decides. Neither can hurt what serves.

Plans come from the plan server and, in a cluster, also from a mounted file, which follows with some delay and is there when the
server is not. The higher number counts, wherever it comes from.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
from pydantic import ValidationError

from quarterdeck.plan import TELL, NodeReport, Plan
from quarterdeck_node.settings import Settings

WAIT_SECONDS = 30
REPORT_SECONDS = 2.0
MOUNTED_SECONDS = 5.0
"""Pause between looks at the mounted plan: with the minute or so by which a mounted file lags, a revoked key is gone in two."""
PLAN = "plan.json"
AUTHORITY = "ca.crt"
REVOKED = "node-revoked"
_PAUSE_SECONDS = 1.0
_log = logging.getLogger(__name__)


class PlanFile:
    """The last good plan on disk: what a node starts from when the plan server is gone.

    Args:
        folder: the node's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / PLAN

    def read(self, name: str) -> Plan | None:
        """The stored plan; None where there is none of this name that can be read."""
        return _read(self._path, name)

    def write(self, plan: Plan) -> None:
        """Replace the stored plan, whole or not at all. It holds the mirror's token, so only the owner may read it."""
        part = self._path.with_suffix(".part")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(plan.model_dump_json().encode())
            file.flush()
            # Without it a power cut could leave the new name with nothing behind it.
            os.fsync(file.fileno())
        part.replace(self._path)


class MountedPlan:
    """A plan that somebody else writes into a folder, and that this process may only read.

    Args:
        folder: the mounted folder; None: there is none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / PLAN if folder else None
        self._seen: tuple[int, int, int] | None = None

    def changed(self, name: str) -> Plan | None:
        """The plan, where the file is another one than at the last look and can be read; None where not."""
        seen = _state(self._path)
        if self._path is None or seen is None or seen == self._seen:
            return None
        self._seen = seen
        return _read(self._path, name)


class Connection:
    """The client of the plan server, made anew when the authority's file has changed.

    Args:
        url: base URL of the plan server.
        authority: PEM file; None or not there: the system's authorities.
    """

    def __init__(self, url: str, authority: Path | None) -> None:
        self._url = url
        self._authority = authority if url.startswith("https:") else None
        self._seen: tuple[int, int, int] | None = None
        self._made: httpx.AsyncClient | None = None

    async def client(self) -> httpx.AsyncClient:
        """A client that trusts the authority of this moment.

        Raises:
            OSError: the authority's file cannot be read, or is no certificate.
        """
        seen = _state(self._authority)
        if self._made is None or seen != self._seen:
            # Read before the old one is let go of: half a file must not cost the connection that there is.
            context = ssl.create_default_context(cafile=self._authority if seen else None)
            # The read must outlast the long poll, or every quiet half minute would be an error.
            timeout = httpx.Timeout(5.0, read=WAIT_SECONDS + 10.0)
            made = httpx.AsyncClient(base_url=self._url, timeout=timeout, trust_env=False, verify=context)
            # In one turn of the loop, for two loops ask here.
            old, self._made, self._seen = self._made, made, seen
            if old is not None:
                await old.aclose()
            return made
        return self._made

    async def close(self) -> None:
        """End what there is; whoever waits for an answer is told."""
        made, self._made = self._made, None
        if made is not None:
            await made.aclose()


class PlanClient:
    """Long-polls for plans, looks after the mounted one and sends reports, each in its own loop.

    Args:
        settings: names the node, its plan, the plan server, the mounted folder and the token file.
        apply: takes over a newer plan.
        report: makes the report that is true now.
    """

    def __init__(self, settings: Settings, apply: Callable[[Plan], None], report: Callable[[], NodeReport]) -> None:
        self._node, self._plan = settings.node, settings.plan_name
        self._token_file = settings.node_token_file
        self._file = PlanFile(settings.folder)
        self._mounted = MountedPlan(settings.plan_folder)
        folder = settings.plan_folder
        self._connection = Connection(settings.plan_server, folder / AUTHORITY if folder else None)
        self._apply = apply
        self._report = report
        self._sequence = -1
        self._taken: Plan | None = None
        self._asked = False
        self._unwritten: Plan | None = None
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._trouble = ""
        self._served, self._mounts = bool(settings.plan_server), folder is not None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start from the stored or the mounted plan, then keep asking for newer ones."""
        stored = self._file.read(self._plan)
        if stored is not None:
            self._take(stored)
        # After the stored one: a pod whose process was restarted knows the served plan, which says more.
        self._look()
        loops = [*([self._poll, self._reports] if self._served else []), *([self._look_again] if self._mounts else [])]
        self._tasks = [asyncio.create_task(loop()) for loop in loops]

    def changed(self) -> None:
        """Something worth reporting happened: the next report goes out now."""
        self._changed.set()

    async def close(self) -> None:
        """Send a last report and stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._served:
            await self._send()
        await self._connection.close()

    def _take(self, plan: Plan) -> bool:
        """Apply a plan that is newer. Never back: a server that lost its memory must not undo what was decided."""
        if plan.node != self._plan or plan.sequence <= self._sequence:
            return False
        self._apply(plan)
        # After it: a plan that could not be applied is asked for again, not passed over until the next decision.
        self._sequence, self._taken = plan.sequence, plan
        return True

    def _leave(self) -> None:
        """This node was sent away: it answers nobody any more, and says so in its stored plan too."""
        before = self._taken
        if before is None or not (before.deployments or before.keyring):
            return
        # The store stays: records of what was answered until now are still shipped.
        empty = Plan(node=before.node, sequence=before.sequence, store=before.store)
        self._apply(empty)
        self._taken = self._unwritten = empty
        _log.warning("this node was revoked: it serves nothing any more; let it join again with a new token")

    def _look(self) -> None:
        """Take the mounted plan where it is newer than what is known."""
        plan = self._mounted.changed(self._plan)
        if plan is not None and self._take(plan):
            # The agent reads the store's name from the stored plan only.
            self._unwritten = plan

    async def _look_again(self) -> None:
        while True:
            try:
                self._look()
                await self._keep()
            # As in the other loops: whatever it was, a later plan may be better.
            except Exception as error:
                _log.warning("the mounted plan cannot be used: %s", type(error).__name__)
            await asyncio.sleep(MOUNTED_SECONDS)

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
                self._say("")
            # Whatever it was: a node that no longer asks would serve its old plan for ever and say nothing.
            except Exception as error:
                self._say(_why(error))
                await self._keep()
                await asyncio.sleep(_PAUSE_SECONDS)

    def _say(self, trouble: str) -> None:
        """Log what changed about the plan server, once and not every second."""
        if trouble and trouble != self._trouble:
            _log.warning("no plan from the plan server: %s", trouble)
        elif self._trouble and not trouble:
            _log.info("the plan server answers again")
        self._trouble = trouble

    async def _keep(self) -> None:
        """Write down the newest plan, after it was applied: serving never waits for the disk."""
        async with self._writing:
            plan = self._unwritten
            if plan is None:
                return
            try:
                await asyncio.to_thread(self._file.write, plan)
            # Tried again after the next poll: the agent ships nothing and a restart finds an old plan until it lies there.
            except OSError as error:
                _log.warning("plan.json cannot be written: %s", error.strerror)
                return
            # Another one may have come meanwhile.
            if self._unwritten is plan:
                self._unwritten = None

    async def _next(self) -> Plan | None:
        query = {"after": self._sequence, "wait": WAIT_SECONDS}
        client = await self._connection.client()
        answer = await client.get(f"/plans/{self._plan}", params=query, headers=self._headers())
        if answer.status_code == 204:
            return None
        self._check(answer)
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
            told = self._taken.told() if self._asked and self._taken else []
            body = self._report().model_copy(update={"told": told}).model_dump_json()
            headers = {**self._headers(), "content-type": "application/json"}
            client = await self._connection.client()
            # The newest report replaces all before, so a lost one is never sent again.
            answer = await client.post(f"/nodes/{self._node}/report", content=body, headers=headers, timeout=5.0)
            self._check(answer)
            # A deployer whose database was restored from a backup may know less than this node.
            asked, self._asked = self._asked, TELL in answer.headers
            if self._asked and not asked:
                self._changed.set()
        # As above: reports must go on, or the deployer believes that this node is dead.
        except Exception as error:
            _log.debug("a report was not taken: %s", _why(error))
            await asyncio.sleep(_PAUSE_SECONDS / 4)

    def _check(self, answer: httpx.Response) -> None:
        # Any other refusal may be a mistake of the server's, which must not end what serves; this one is somebody's will.
        if answer.status_code == 401 and _code(answer) == REVOKED:
            self._leave()
        answer.raise_for_status()

    def _headers(self) -> dict[str, str]:
        """Read anew each time: a token that was rotated needs no restart."""
        if self._token_file is None:
            return {}
        return {"authorization": f"Bearer {self._token_file.read_text().strip()}"}


def _read(path: Path, name: str) -> Plan | None:
    try:
        plan = Plan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        _log.warning("%s cannot be used: %s", path, type(error).__name__)
        return None
    return plan if plan.node == name else None


def _state(path: Path | None) -> tuple[int, int, int] | None:
    """Something that differs after the file was replaced; None where there is none."""
    try:
        found = os.stat(path) if path else None
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if found else None


def _code(answer: httpx.Response) -> str:
    """The code of a problem document; empty where it is something else."""
    try:
        return str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def _why(error: Exception) -> str:
    """In a few words, for the log: which file is missing, or which status was answered."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}"
    return type(error).__name__
