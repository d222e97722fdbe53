"""Real nodes, serve and agent as programs, for clients that other people wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from quarterdeck.plan import DeploymentPlan, Key, Plan
from quarterdeck.storage import open_storage
from tests.agents import AgentProcess, agent_in
from tests.nodes import binary, deployment, key
from tests.support import PROGRAMS, ROOT, eventually, free_port

SECRET = "a-key-of-a-caller"


class Place(NamedTuple):
    """Where a node is asked: the base URL of its HTTP doors, and host and port of the gRPC door."""

    url: str
    grpc: str


@contextmanager
def running(base: Path, keys: tuple[Key, ...] = (), **named: Any) -> Iterator[Place]:
    """A node whose only deployment, `mixed`, is a classifier with features of several types."""
    store = str(base / "store")
    ref = binary().push(open_storage(store))
    with agent_in(base / "node", store) as agent:
        yield from _serving(agent, deployment(ref, name="mixed", service="flights", **named), keys)


def _serving(agent: AgentProcess, only: DeploymentPlan, keys: tuple[Key, ...]) -> Iterator[Place]:
    plan = Plan(node="main", sequence=2, store=agent.store, deployments=[only], keyring=list(keys))
    (agent.folder / "plan.json").write_text(plan.model_dump_json())
    port, grpc = free_port(), free_port()
    told = {"NODE": "main", "PORT": str(port), "GRPC_PORT": str(grpc), "FOLDER": str(agent.folder), "DRAIN_SECONDS": "0"}
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in PROGRAMS)}
    environ |= {f"QUARTERDECK_{name}": value for name, value in told.items()}
    serve = subprocess.Popen([sys.executable, "-m", "quarterdeck_node"], cwd=agent.folder, env=environ)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            eventually(lambda: client.get("/ready").status_code == 200)
        yield Place(f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc}")
    finally:
        serve.terminate()
        serve.wait(60)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node that everybody may ask."""
    with running(tmp_path_factory.mktemp("public")) as found:
        yield found


@pytest.fixture(scope="session")
def public(place: Place) -> str:
    """Its base URL."""
    return place.url


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node that asks for a key."""
    with running(tmp_path_factory.mktemp("closed"), (key(SECRET),), access="instance") as found:
        yield found.url


def asked(script: str, **told: Any) -> dict[str, Any]:
    """What a client's script prints: it runs in the clients' own environment."""
    done = subprocess.run(
        [ROOT / ".clients" / "bin" / "python", Path(__file__).parent / f"ask_{script}.py"],
        input=json.dumps(told).encode(), capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
