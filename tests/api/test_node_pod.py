"""Serve and agent as the two containers of a pod: nobody starts them in order, and they share a folder and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from quarterdeck.plan import Plan
from quarterdeck.record_files import read_main
from quarterdeck.storage import Storage, open_storage
from tests.nodes import deployment, encoding
from tests.support import PROGRAMS, ROOT, eventually, free_port

NAME, POD = "numbers-main-0123456789", "numbers-main-0123456789-abcde"
DRAIN_SECONDS = 3.0


class Pod:
    """Two containers as they are started in a cluster: variables, mounted files, another working folder than the shared one."""

    def __init__(self, base: Path) -> None:
        self.folder, self.mounted = base / "node", base / "plan"
        self.folder.mkdir()
        self.mounted.mkdir()
        self.store_url, self.port = str(base / "store"), free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in PROGRAMS),
            "PYTHONSAFEPATH": "1",
            "QUARTERDECK_FOLDER": str(self.folder),
        }

    @property
    def store(self) -> Storage:
        """Where packages lie and records go."""
        return open_storage(self.store_url)

    def mount(self, plan: Plan) -> None:
        """What the operator wrote before it went."""
        part = self.mounted / "..plan"
        part.write_text(plan.model_dump_json())
        part.replace(self.mounted / "plan.json")

    def start(self, container: str) -> None:
        """Start `agent` or `serve`."""
        told = {
            "NODE": POD,
            "PLAN": NAME,
            "PORT": str(self.port),
            # Neither the operator, nor its authority, nor the token are there.
            "PLAN_SERVER": "https://127.0.0.1:9",
            "PLAN_FOLDER": str(self.mounted),
            "NODE_TOKEN_FILE": str(self.folder.parent / "token"),
            "DRAIN_SECONDS": str(DRAIN_SECONDS),
        }
        more = {f"QUARTERDECK_{name}": value for name, value in told.items()} if container == "serve" else {}
        module = {"serve": "quarterdeck_node", "agent": "quarterdeck_node.agent"}[container]
        with (self.folder.parent / f"{container}.log").open("ab") as log:
            self.running[container] = subprocess.Popen(
                [sys.executable, "-m", module], cwd="/", env={**self._variables, **more}, stdout=log, stderr=log
            )

    def status(self, path: str = "/ready") -> int:
        """Of a probe; 0: nothing listens."""
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return 0

    def ask(self, count: int) -> set[str]:
        """Request ids of so many answers."""
        answers = [self.client.post("/deployments/numbers/predict", json={"number": 1.0}) for _ in range(count)]
        assert {answer.status_code for answer in answers} == {200}
        return {answer.json()["request_id"] for answer in answers}

    def end(self, container: str) -> int:
        """SIGTERM; the exit status."""
        self.running[container].send_signal(signal.SIGTERM)
        return self.running[container].wait(60)

    def shipped(self) -> set[str]:
        """Request ids in the store."""
        return set(read_main(self.store, "numbers")["request_id"].to_pylist())


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    """A pod with a mounted plan for a package in the store; nothing runs yet."""
    made = Pod(tmp_path)
    ref = encoding(1).push(made.store)
    made.mount(Plan(node=NAME, sequence=2, store=made.store_url, deployments=[deployment(ref)]))
    try:
        yield made
    finally:
        made.client.close()
        for process in made.running.values():
            process.kill()
            process.wait()


@pytest.mark.parametrize("order", [("agent", "serve"), ("serve", "agent")], ids=" first, ".join)
def test_a_pod_starts_in_any_order_and_leaves_with_every_record(pod: Pod, order: tuple[str, str]) -> None:
    """Without its operator: ready, asked, told to leave; serve drains and ends, then the agent ships the tail."""
    pod.start(order[0])
    if order[0] == "serve":
        eventually(lambda: pod.status("/live") == 200)
        assert pod.status() == 503
    else:
        eventually((pod.folder / "agent.sock").exists)
    pod.start(order[1])
    eventually(lambda: pod.status() == 200)
    answered = pod.ask(20)

    pod.running["serve"].send_signal(signal.SIGTERM)
    eventually(lambda: pod.client.get("/ready").json()["draining"])
    # The door stays open while others still send here, and a kept connection is asked to be closed.
    assert (pod.status(), pod.client.get("/ready").headers["connection"]) == (200, "close")
    answered |= pod.ask(20)
    assert pod.running["serve"].wait(60) == 0
    assert pod.status() == 0
    # Written last, as the tail of a real pod is: nobody has handed it over.
    assert pod.end("agent") == 0

    assert pod.shipped() == answered
    assert list((pod.folder / "spool").iterdir()) == []


def test_an_agent_that_is_started_again_is_taken_as_it_is(pod: Pod) -> None:
    """Given a container that died, then serve goes on, loads what is new through the next one, and nothing is lost."""
    pod.start("agent")
    pod.start("serve")
    eventually(lambda: pod.status() == 200)
    pod.running["agent"].kill()
    pod.running["agent"].wait()
    answered = pod.ask(20)
    two = encoding(2).push(pod.store)
    pod.mount(Plan(node=NAME, sequence=4, store=pod.store_url, deployments=[deployment(two, revision=2)]))
    pod.start("agent")

    def version() -> int:
        answer = pod.client.post("/deployments/numbers/predict", json={"number": 1.0}).json()
        answered.add(answer["request_id"])
        return int(answer["version"])

    eventually(lambda: version() == 2)
    assert (pod.end("serve"), pod.end("agent")) == (0, 0)
    assert pod.shipped() == answered
