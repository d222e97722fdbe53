"""A whole deployer for tests: the real application on a real SQLite file, a store in memory and two node twins."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
import uvicorn

from quarterdeck.manifest import Environment, FileEntry, GoldenRow, Manifest
from quarterdeck.schema import Feature, Prediction, Schema
from quarterdeck.storage import Storage, open_storage
from quarterdeck.storage.keys import manifest_key
from quarterdeck_deployer.__main__ import Server
from quarterdeck_deployer.app import create_app
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.settings import Settings, Tokens
from tests.node_twin import NodeTwin
from tests.support import eventually

ADMIN, NODE, MIRROR = "a" * 40, "n" * 40, "m" * 40
TOKENS = Tokens(admin=ADMIN, node=NODE, mirror=MIRROR)
FLOATS = {"hour": "float", "distance": "float"}


def database_of(folder: Path) -> str:
    """QUARTERDECK_DATABASE of the deployer with this folder: SQLite. The fixture `each_database` puts another in its place."""
    return ""


def manifest(model: str = "flights", salt: int = 1, features: dict[str, str] | None = None, **more: Any) -> Manifest:
    """A manifest whose digest depends on `salt`; its files exist nowhere, for no twin loads them."""
    columns = [Feature(name=name, type=kind) for name, kind in (features or FLOATS).items()]
    schema = Schema(task="binary", target="late", classes=["no", "yes"], positive="yes", features=columns)
    golden = GoldenRow(row={column.name: 1.0 for column in columns}, expected=Prediction(prediction="no", scores=[0.7, 0.3]))
    return Manifest(
        **{
            "model": model,
            "form": "compiled",
            "schema": schema,
            "golden": [golden],
            "environment": Environment(python="3.11.7"),
            "files": [FileEntry(path="model.txt", size=salt, sha256=f"{salt:064x}")],
            "metrics": {"brier": 0.1},
            "run": f"run {salt}",
            **more,
        }
    )


def publish(storage: Storage, version: int, package: Manifest) -> None:
    """Put a manifest where a push would put it."""
    storage.put(manifest_key(package.model, version), package.canonical())


@dataclass
class World:
    """One deployer with its client (sends the admin token) and two twins."""

    deployer: Deployer
    http: httpx.Client
    main: NodeTwin
    challenger: NodeTwin
    digests: list[str] = field(default_factory=list)

    def register(self, version: int, model: str = "flights", **more: Any) -> str:
        """Publish and register one version; gives back its digest."""
        package = manifest(model, salt=version, **more)
        publish(self.deployer.storage, version, package)
        answer = self.http.post(f"/api/models/{model}/versions", json={"version": version, "digest": package.digest})
        assert answer.status_code == 201, answer.text
        return package.digest

    def put(self, name: str = "late", main: int = 1, challenger: int | None = None, **more: Any) -> dict[str, Any]:
        """PUT a deployment of `flights`; gives back the action's answer."""
        body = {"main": {"model": "flights", "version": main}, **more}
        if challenger is not None:
            body["challenger"] = {"model": "flights", "version": challenger}
        return self.ok(self.http.put(f"/api/deployments/{name}", json=body))

    def do(self, action: str, name: str = "late", **body: Any) -> dict[str, Any]:
        """POST an action; gives back its answer."""
        return self.ok(self.http.post(f"/api/deployments/{name}/{action}", json=body))

    def get(self, name: str = "late") -> dict[str, Any]:
        """One deployment as the API shows it."""
        return self.ok(self.http.get(f"/api/deployments/{name}"))

    def ok(self, answer: Any) -> dict[str, Any]:
        """The JSON of an answer that must be a success."""
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def step(self) -> None:
        """Both nodes poll and report once."""
        self.main.step()
        self.challenger.step()

    def until(self, check: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Let the nodes live until something is so."""

        def stepped() -> Any:
            self.step()
            return check()

        return eventually(stepped, seconds)

    def settled(self, name: str = "late") -> dict[str, Any]:
        """Let the nodes live until the newest revision is what they do, by the newest plans; gives back what is observed."""
        self.until(lambda: self.get(name)["observed"]["applied"] and not self._news())
        found: dict[str, Any] = self.get(name)["observed"]
        return found

    def _news(self) -> bool:
        return any(self.deployer.local.plan(node.node, node.sequence) for node in (self.main, self.challenger))


def database(folder: Path) -> Database:
    """A second way to the database of the deployer with this folder; whoever asks closes it."""
    return Database(Settings(data=folder, database=database_of(folder)).database_place)


@cache
def _empty() -> Path:
    place = Path(mkdtemp(prefix="database-")) / "deployer.db"
    with closing(Database(place)) as made:
        made.migrate()
    return place


def laid_out(settings: Settings) -> Settings:
    """The same, where its database lies in a file that is there: a new one is a copy of an empty one that was migrated once."""
    place = settings.database_place
    if isinstance(place, Path) and not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_empty(), place)
    return settings


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A running deployer whose data lie in `folder`; the same folder again is a restart."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = laid_out(Settings(data=folder, port=port, database=database_of(folder), store=f"memory://{folder}"))
    deployer = Deployer(settings, TOKENS, open_storage(settings.store_url))
    base = f"http://127.0.0.1:{port}"
    with (
        served(deployer, listener),
        httpx.Client(base_url=base, headers={"authorization": f"Bearer {ADMIN}"}, timeout=60) as http,
    ):
        yield World(deployer, http, NodeTwin(http, "main", NODE), NodeTwin(http, "challenger", NODE))


@contextmanager
def served(deployer: Deployer, listener: socket.socket) -> Iterator[None]:
    """The application behind a real socket, in a thread of this process."""
    server = Server(uvicorn.Config(create_app(deployer), log_level="warning", access_log=False), deployer)
    thread = threading.Thread(target=server.run, args=([listener],), name="deployer")
    thread.start()
    try:
        # Requests wait in the listener's queue until the application is up.
        yield
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the deployer did not stop"
