"""Nodes that joined a system, for tests: the real command, each in a folder and on a port of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx

from quarterdeck.client import Client
from quarterdeck.lifeline import die_with_parent
from quarterdeck_cli.joined import Membership, NodeHome
from tests.local.system import COMMAND, START_SECONDS, STOP_SECONDS
from tests.support import eventually, free_port


class JoinedNode:
    """`quarterdeck node join` in `folder`, started and stopped as a person would.

    Args:
        folder: may be empty.
        client: of the system to join.
        role: main or challenger.
    """

    def __init__(self, folder: Path, client: Client, role: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.home, self.role = folder, NodeHome(folder), role
        self.url = f"http://127.0.0.1:{free_port()}"
        self._client = client
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = False

    def start(self, token: str = "") -> None:
        """Start it without waiting, with a join token or with what its folder holds."""
        # Bound to this process: an aborted test leaves no node behind.
        self._ending = False
        bound = partial(die_with_parent, os.getpid())
        options = ["--folder", str(self.folder), "--url", self.url, "--ship-seconds", "0.2"]
        with (self.folder / "join.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "node", "join", self._client.url, *options],
                env={**os.environ, "QUARTERDECK_DRAIN_SECONDS": "0", "QUARTERDECK_JOIN_TOKEN": token},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=bound,
            )

    def wait_up(self) -> None:
        """Wait until its programs answer and the deployer has heard of it."""

        def up() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                raise SystemExit(f"quarterdeck node join ended:\n{(self.folder / 'join.log').read_text()}")
            note = self.home.note()
            return note is not None and note.ready and bool(self._client.node(self.name)["live"])

        eventually(up, START_SECONDS, every=0.1)

    @property
    def membership(self) -> Membership:
        """What it joined as."""
        found = self.home.membership()
        assert found is not None
        return found

    @property
    def name(self) -> str:
        """The name that the deployer gave it."""
        return self.membership.node

    def kill(self) -> None:
        """kill -9 of the supervisor and of everything that it started."""
        assert self._process is not None
        note = self.home.note()
        assert note is not None
        for child in note.children.values():
            os.kill(child.pid, 9)
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Ask it to stop, without waiting."""
        assert self._process is not None
        self._ending = True
        self._process.terminate()

    def stop(self) -> int:
        """Stop it in order; the exit status."""
        assert self._process is not None
        # Asked twice, it would kill what is left instead of waiting for it.
        if not self._ending:
            self.end()
        return self._process.wait(STOP_SECONDS)

    def ask(self, name: str, key: str = "") -> httpx.Response:
        """The plain door, with one row."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.post(f"{self.url}/deployments/{name}/predict", json=[{"number": 1.0}], headers=headers, trust_env=False)


class Callers:
    """Ask nodes for predictions without a pause until the end of the block; each answer is looked at.

    The models answer with their own version's number, so an answer that names one version and holds another's is wrong.

    Attributes:
        answered: row ids of all answers, by node.
        wrong: what was answered otherwise than it should be.
        gone: how many connections of a node that was killed ended without an answer.
    """

    def __init__(self, name: str, nodes: Sequence[JoinedNode]) -> None:
        self.answered: dict[str, list[str]] = {node.name: [] for node in nodes}
        self.wrong: list[str] = []
        self.gone = 0
        self._name, self._stop = name, Event()
        self._threads = [Thread(target=self._call, args=(node,)) for node in nodes]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def several(self, node: JoinedNode, count: int = 20) -> None:
        """Wait until that node has answered so many more times."""
        wanted = len(self.answered[node.name]) + count
        eventually(lambda: len(self.answered[node.name]) >= wanted)

    def _call(self, node: JoinedNode) -> None:
        with httpx.Client(base_url=node.url, trust_env=False, timeout=60) as http:
            while not self._stop.is_set():
                try:
                    answer = http.post(f"/deployments/{self._name}/predict", json=[{"number": 1.0}])
                except httpx.TransportError:
                    self.gone += 1
                    self._stop.wait(0.02)
                    continue
                self._look(node, answer)

    def _look(self, node: JoinedNode, answer: httpx.Response) -> None:
        # A node that was just started has nothing to answer with yet, and says so.
        if answer.status_code in (404, 503):
            return
        said: dict[str, Any] = answer.json() if answer.is_success else {}
        if not said or said["predictions"][0]["prediction"] != said["version"]:
            self.wrong.append(answer.text)
        else:
            self.answered[node.name].append(f"{said['request_id']}-0")
