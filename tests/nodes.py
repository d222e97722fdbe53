"""A serve node inside the test's own process: the real application and the real loop, without a network and without an agent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

import httpx
import numpy as np
import pandas as pd
from anyio.from_thread import BlockingPortal, start_blocking_portal

from quarterdeck.build import BuiltPackage, package
from quarterdeck.manifest import Manifest
from quarterdeck.plan import DeploymentPlan, Key, NodeReport, Plan, VersionRef
from quarterdeck_node.agent_client import MemoryAgent
from quarterdeck_node.app import create_app
from quarterdeck_node.node import Node
from quarterdeck_node.settings import Settings
from tests.models import model_package, version_encoding_model
from tests.support import eventually
from tests.touchy import Touchy

JSON = {"content-type": "application/json"}


@cache
def encoding(version: int, form: Literal["compiled", "skops"] = "compiled") -> BuiltPackage:
    """A package whose every answer is its version number."""
    return version_encoding_model(version, form)


@cache
def binary() -> BuiltPackage:
    """A classifier with a feature of every type but datetime; `wind` and `carrier` may be null."""
    return model_package("binary", "compiled", "late")


@cache
def touchy() -> BuiltPackage:
    """A model in a process of its own that misbehaves when told to."""
    X = pd.DataFrame({"number": np.arange(10.0)})
    y = pd.Series(np.ones(10), name="one")
    return package(Touchy(1.0).fit(X, y), X, y, name="touchy", form="joblib", trust="code")


@cache
def folder_of(digest: str) -> Path:
    """A folder for one package, made once in this run."""
    return Path(mkdtemp(prefix="package-")) / digest.removeprefix("sha256:")


def written(built: BuiltPackage) -> Path:
    """The package as a folder that must not be changed."""
    folder = folder_of(built.manifest.digest)
    return folder if folder.exists() else built.write(folder)


def rewritten(built: BuiltPackage, folder: Path, **changes: Any) -> tuple[Path, Manifest]:
    """A copy whose manifest says something else: a whole package of its own, with its own digest."""
    changed = BuiltPackage(built.manifest.model_copy(update=changes), built.files)
    return changed.write(folder), changed.manifest


def ref(built: BuiltPackage | Manifest, version: int) -> VersionRef:
    """The package as version `version` of its model."""
    manifest = built.manifest if isinstance(built, BuiltPackage) else built
    return VersionRef(model=manifest.model, version=version, digest=manifest.digest, trust=manifest.trust)


def deployment(active: VersionRef | None, *others: VersionRef, name: str = "numbers", **named: Any) -> DeploymentPlan:
    """A deployment's part of a plan, public where nothing else is said."""
    resident = [*([active] if active else []), *others]
    given: dict[str, Any] = {"role": "main", "revision": 1, "access": "public", **named}
    return DeploymentPlan(name=name, active=active, resident=resident, **given)


def key(
    secret: str, project: str = "default", scopes: tuple[str, ...] = ("predict", "read"), expires: float | None = None
) -> Key:
    """A key as the keyring holds it."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return Key.model_validate(
        {"id": secret[:8], "sha256": digest, "project": project, "scopes": list(scopes), "expires": expires}
    )


class LocalNode:
    """A started node and a client of it; safe to use from several threads."""

    def __init__(self, portal: BlockingPortal, node: Node, agent: MemoryAgent) -> None:
        self.node = node
        self.agent = agent
        self._portal = portal
        self._sequence = 0
        self._application = create_app(node)
        transport = httpx.ASGITransport(self._application, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://node")

    def request(self, method: str, path: str, **named: Any) -> httpx.Response:
        """One request through the whole application."""
        return self._portal.call(lambda: self._client.request(method, path, **named))

    def get(self, path: str, **named: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, **named)

    def predict(self, body: Any, name: str = "numbers", **headers: str) -> httpx.Response:
        """POST plain records; bytes go as they are."""
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return self.request("POST", f"/deployments/{name}/predict", headers={**JSON, **headers}, **content)

    def raw(self, method: str, path: str, *parts: bytes | None, **headers: str) -> list[dict[str, Any]]:
        """What the application sends where a body arrives in these parts; None: the caller is gone."""
        messages = [_part(part, number < len(parts)) for number, part in enumerate(parts, 1)]
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(dict(message))

        scope = {"type": "http", "method": method, "path": path, "root_path": "", "query_string": b"", "headers": named}
        self._portal.call(self._application, scope, receive, send)
        return sent

    def holds(self, built: BuiltPackage, version: int) -> VersionRef:
        """Make a package known to the agent."""
        self.agent.packages[built.manifest.digest] = written(built)
        return ref(built, version)

    def apply(self, *deployments: DeploymentPlan, keys: tuple[Key, ...] = ()) -> Plan:
        """Give the node its next plan, in its own loop."""
        self._sequence += 1
        plan = Plan(node="main", sequence=self._sequence, store="memory://", deployments=list(deployments), keyring=list(keys))
        self._portal.call(self.node.apply, plan)
        return plan

    def serves(self, *deployments: DeploymentPlan, keys: tuple[Key, ...] = ()) -> None:
        """Apply a plan and wait until everything it names answers."""
        self.apply(*deployments, keys=keys)
        eventually(lambda: all(self.active(one.name) == (one.active and one.active.digest) for one in deployments))

    def waits_for(self, name: str, version: int) -> None:
        """Until a version that does not answer by itself is held as well."""
        eventually(lambda: version in self.node.predictor.slots[name].versions)

    def active(self, name: str) -> str | None:
        """Digest of what answers."""
        slot = self.node.predictor.slots.get(name)
        return slot.live.resident.ref.digest if slot and slot.live else None

    def report(self) -> NodeReport:
        """What the node would tell the plan server."""
        return self._portal.call(self.node.report)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run something in the node's loop."""
        return self._portal.call(function, *arguments)


def _part(part: bytes | None, more: bool) -> dict[str, Any]:
    return {"type": "http.disconnect"} if part is None else {"type": "http.request", "body": part, "more_body": more}


@contextmanager
def local_node(folder: Path, **settings: Any) -> Iterator[LocalNode]:
    """A node in a loop of its own, stopped at the end."""
    agent = MemoryAgent()
    with start_blocking_portal() as portal:
        # A test asks what it has just changed: each scrape is made anew. And a machine that is busy elsewhere for a moment sheds
        # nobody, and makes no compiled model look too slow for the event loop.
        given = {"metrics_seconds": 0.0, "queue_seconds": 60.0, "loop_seconds": 60.0, **settings}
        told = Settings(folder=folder, **given)
        node = portal.call(lambda: _made(told, agent))
        portal.call(node.start)
        try:
            yield LocalNode(portal, node, agent)
        finally:
            portal.call(node.stop)


async def _made(settings: Settings, agent: MemoryAgent) -> Node:
    return Node(settings, agent)
