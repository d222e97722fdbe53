"""A deployer with a console to look at: two versions, a challenger, records and labels, and nodes that live and answer."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from quarterdeck.plan import VersionRef
from quarterdeck.records import Answer
from quarterdeck.storage import open_storage
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.settings import Settings
from tests.deployer_world import ADMIN, NODE, TOKENS, World, laid_out, served
from tests.node_twin import NodeTwin
from tests.stored_records import Stored

NAME = "late"


class DoorTwin:
    """The doors of both nodes: they answer with what the node twins say is active, and keep what they were asked."""

    def __init__(self) -> None:
        self.answering: dict[str, VersionRef] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.refusal: dict[str, Any] | None = None
        doors = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                doors.asked.append((self.path, self.headers["authorization"], body))
                status, answer = doors.answer(self.path)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Tests read no access log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="doors")
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """(status, body) of the plain door or of the mirroring door."""
        role = "challenger" if path.startswith("/mirror/") else "main"
        if self.refusal is not None:
            return 422, self.refusal
        if role not in self.answering:
            return 404, {"detail": "There is no such deployment on this node.", "hint": "Deploy it first."}
        ref = self.answering[role]
        said = {"model": ref.model, "version": ref.version, "digest": ref.digest, "revision": 1}
        if role == "challenger":
            return 200, {**said, "answers": [["yes", [0.3, 0.7]]]}
        return 200, {**said, "predictions": [{"prediction": "no", "scores": {"no": 0.9, "yes": 0.1}}]}

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass
class Console:
    """One deployer with its console, its nodes and their doors."""

    world: World
    doors: DoorTwin
    base: str
    login: str
    digests: dict[int, str] = field(default_factory=dict)

    def page(self, path: str, **query: Any) -> str:
        """The HTML of a page that must be there, asked as a browser without scripts does."""
        answer = self.world.http.get(path, params=query or None, headers={"accept": "text/html"})
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(self, path: str, **form: Any) -> httpx.Response:
        """Send a form as the console's own page does."""
        return self.world.http.post(path, data=form, headers={"origin": self.base, "sec-fetch-site": "same-origin"})

    def deploy(self) -> None:
        """Version 1 is main, version 2 its challenger, and the nodes do it."""
        self.digests = {number: self.world.register(number) for number in (1, 2)}
        self.world.put(challenger=2, description="Will this flight arrive more than 15 minutes late?", why="first deployment")
        self.settle()

    def settle(self) -> None:
        """Wait until the nodes do what is wished, then let the doors answer likewise."""
        observed = self.world.settled()
        for role in ("main", "challenger"):
            if observed[role]:
                self.doors.answering[role] = VersionRef.model_validate(observed[role]["ref"])

    def record(self, folder: Path, rows: int = 40) -> None:
        """Store predicted rows with both answers, most of them with the truth."""
        stored = Stored(folder, storage=self.world.deployer.storage, deployment=NAME)
        chance = random.Random(7)
        answers = [Answer("yes" if score > 0.5 else "no", [1 - score, score]) for score in (chance.random() for _ in range(rows))]
        theirs = [Answer("yes" if score > 0.5 else "no", [1 - score, score]) for score in (chance.random() for _ in range(rows))]
        ids = stored.main(self.ref(1), answers)
        stored.challenger(self.ref(2), ids, theirs)
        labels = [{"row_id": name, "value": chance.choice(["no", "yes"])} for name in ids[: rows - 2]]
        self.world.ok(self.world.http.post(f"/api/deployments/{NAME}/feedback", json={"labels": labels}))
        stored.close()

    def ref(self, number: int) -> VersionRef:
        """A registered version."""
        return VersionRef(model="flights", version=number, digest=self.digests[number])


@contextmanager
def console(folder: Path) -> Iterator[Console]:
    """A running deployer with nothing deployed."""
    doors = DoorTwin()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = laid_out(
        Settings(data=folder, port=port, store=f"memory://{folder}", main_url=doors.url, challenger_url=doors.url)
    )
    deployer = Deployer(settings, TOKENS, open_storage(settings.store_url))
    base = f"http://127.0.0.1:{port}"
    headers = {"authorization": f"Bearer {ADMIN}"}
    try:
        with served(deployer, listener), httpx.Client(base_url=base, headers=headers, timeout=60) as http:
            world = World(deployer, http, NodeTwin(http, "main", NODE), NodeTwin(http, "challenger", NODE))
            yield Console(world, doors, base, f"{base}/login?token={ADMIN}")
    finally:
        doors.close()


@contextmanager
def living(found: Console) -> Iterator[None]:
    """Let the nodes poll and report by themselves, and the doors answer with what is active."""
    stop = threading.Event()
    nodes = [found.world.main, found.world.challenger]
    threads = [threading.Thread(target=node.run, args=(stop,), name=node.node) for node in nodes]
    threads.append(threading.Thread(target=_follow, args=(found, stop), name="doors follow"))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _follow(found: Console, stop: threading.Event) -> None:
    refs = {found.ref(number).digest: found.ref(number) for number in found.digests}
    while not stop.is_set():
        for node in (found.world.main, found.world.challenger):
            digest = node.answering.get(NAME)
            if digest in refs:
                found.doors.answering[node.node] = refs[digest]
        stop.wait(0.05)
