"""A node behind a real socket and the real protocol, with a model that is plain arithmetic: for tests of what is around it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import uvicorn
import uvloop

from quarterdeck.errors import ModelFailed, ValueRefused
from quarterdeck.manifest import Environment, Manifest
from quarterdeck.plan import DeploymentPlan, Key, VersionRef
from quarterdeck.records import Answer
from quarterdeck.schema import Feature, Row, Schema
from quarterdeck_node.agent_client import MemoryAgent
from quarterdeck_node.app import create_app
from quarterdeck_node.auth import Keyring
from quarterdeck_node.drain import DrainingServer
from quarterdeck_node.node import Node
from quarterdeck_node.predictor import Live, Predictor, Resident, Slot
from quarterdeck_node.protocol import limited
from quarterdeck_node.runtimes.inprocess import InProcess
from quarterdeck_node.settings import Settings
from quarterdeck_node.spool import MemorySpool
from tests.support import eventually

SCHEMA = Schema(
    task="binary",
    classes=["no", "50 % yes"],
    positive="50 % yes",
    features=[
        Feature(name="x", type="float"),
        Feature(name="n", type="int", nullable=True),
        Feature(name="s", type="string"),
    ],
)
ROW: dict[str, Any] = {"x": 0.25, "n": 3, "s": "abc"}


class Share:
    """A model in this process: the score of the second class is `x`; it fails or refuses where `s` says so."""

    def scores(self, row: Row) -> tuple[float, ...]:
        """As `Scoring.scores`."""
        if row["s"] == "fail":
            raise ModelFailed("This row cannot be answered.")
        if row["s"] == "unseen":
            raise ValueRefused("Feature s has a value that the model refuses.", kind="feature", name="s", extra={"column": "s"})
        return 1.0 - float(row["x"]), float(row["x"])  # type: ignore[arg-type]

    def many(self, rows: Sequence[Row]) -> np.ndarray[Any, Any]:
        """As `Scoring.many`."""
        return np.array([self.scores(row) for row in rows])

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """As `Model.predict`."""
        found = [self.scores(row) for row in rows]
        return [Answer(SCHEMA.classes[scores[1] > scores[0]], list(scores)) for scores in found]


class Waits:
    """The same behind a wait, as a model in a process of its own is."""

    async def predict(self, rows: Sequence[Row], deadline: float = 0.0) -> list[Answer]:
        """As `Runtime.predict`."""
        # A deadline as real runtimes have it: this needs a task.
        async with asyncio.timeout(60):
            await asyncio.sleep(0.001)
        return Share().predict(rows)

    async def close(self) -> None:
        """As `Runtime.close`."""


def manifest(schema: Schema = SCHEMA) -> Manifest:
    """As much of a manifest as a node that serves looks at."""
    return Manifest.model_construct(
        data_schema=schema,
        golden=[],
        description="",
        form="compiled",
        model="shares",
        files=[],
        environment=Environment(python="3.11"),
    )


def slot(name: str, runtime: Any, access: Any = "public", node: Node | None = None, **named: Any) -> Slot:
    """A deployment that answers with version 3, and holds version 2."""
    given: dict[str, Any] = {"role": "main", "revision": 7, **named}
    residents = {}
    for number in (2, 3):
        ref = VersionRef(model="shares", version=number, digest=f"sha256:{number:064x}")
        limits = (node.limits,) if node is not None else ()
        residents[number] = Resident(ref, manifest(), runtime, *limits)
    refs = [one.ref for one in residents.values()]
    plan = DeploymentPlan(name=name, active=refs[1], resident=refs, access=access, **given)
    return Slot(plan, Live(plan, residents[3]), residents)


class Answered(NamedTuple):
    """One response as it came over the wire; headers by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes


class Served:
    """A node that listens."""

    def __init__(self, node: Node, spool: MemorySpool, protocol: Any) -> None:
        self.node, self.spool, self.protocol = node, spool, protocol
        self.port = 0

    def connect(self) -> socket.socket:
        """A new connection."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def exchange(self, *parts: bytes, answers: int = 1) -> list[Answered]:
        """What comes back on a new connection for these bytes; each part is sent when the one before has been taken."""
        with self.connect() as connection, connection.makefile("rb") as stream:
            for part in parts:
                connection.sendall(part)
            return [self.read(stream) for _ in range(answers)]

    @staticmethod
    def read(stream: Any) -> Answered:
        """The next response of a stream."""
        status = int(stream.readline().split()[1])
        headers: dict[str, str] = {}
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(": ")
            headers[name] = value
        if status == 100:
            return Served.read(stream)
        return Answered(status, headers, stream.read(int(headers["content-length"])))


@contextmanager
def served(
    folder: Path, slots: Callable[[Node], dict[str, Slot]], keys: tuple[Key, ...] = (), **settings: Any
) -> Iterator[Served]:
    """A node that answers with these slots, in a thread of its own; drained at the end."""
    listener = socket.create_server(("127.0.0.1", 0))
    ready: list[tuple[Served, DrainingServer]] = []

    async def run() -> None:
        told = Settings(folder=folder, **{"drain_seconds": 0.0, "metrics_seconds": 0.0, **settings})
        node, spool = Node(told, MemoryAgent()), MemorySpool()
        node.predictor = Predictor(spool, node.mirror)
        node.predictor.slots = slots(node)
        node.keyring = Keyring(keys)
        node.metrics.prepare(node.predictor.slots)
        app = create_app(node)
        protocol = limited(told.max_connections, app.state.edge, told.max_head_bytes)
        config = uvicorn.Config(
            app, http=protocol, ws="none", lifespan="off", log_config=None, server_header=False, timeout_graceful_shutdown=1
        )
        server = DrainingServer(config, node)
        ready.append((Served(node, spool, protocol), server))
        await server.serve(sockets=[listener])

    def main() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=main)
    port = listener.getsockname()[1]
    thread.start()
    try:
        eventually(lambda: ready and ready[0][1].started)
        made = ready[0][0]
        made.port = port
        yield made
    finally:
        ready[0][1].should_exit = True
        thread.join(60)


def default_slots(node: Node) -> dict[str, Slot]:
    """One deployment for everybody, one with keys, and one whose model is waited for."""
    return {
        "open": slot("open", InProcess(Share()), node=node),
        "keyed": slot("keyed", InProcess(Share()), "instance", node=node),
        "slow": slot("slow", Waits(), node=node),
    }
