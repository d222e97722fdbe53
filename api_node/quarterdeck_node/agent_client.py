"""The serve process's view of its agent: "is this version here, verified and proven?", and "which bytes is this number?"."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx

from quarterdeck.errors import PackageRefused, QuarterdeckError, StorageError
from quarterdeck.manifest import Digest
from quarterdeck.plan import VersionName, VersionRef

_ENSURE_SECONDS = 3_600.0


class Ensured(NamedTuple):
    """A package that is here: complete, verified, trial-loaded and proven by its golden rows."""

    folder: Path
    memory_bytes: int = 0
    load_seconds: float = 0.0


class Agent(Protocol):
    """Fetches packages so that serve needs no credentials for the store."""

    async def ensure(self, ref: VersionRef, store: str) -> Ensured:
        """Have one version here.

        Raises:
            PackageRefused: it must not be loaded; final until the plan changes.
            StorageError: the store or the agent cannot be used now; `retryable` says whether waiting may help.
        """

    async def resolve(self, wanted: VersionName, store: str) -> Digest:
        """The digest of a version that is known by number.

        Raises:
            StorageError: as above; ``not-found`` where the store has no such version.
            PackageRefused: what lies there is no manifest.
        """

    async def forget(self, keep: list[str]) -> None:
        """Let go of cached packages other than those with these digests, as far as room is needed."""

    async def close(self) -> None:
        """End the connection."""


class HttpAgent:
    """The agent behind its unix socket.

    Args:
        folder: the node's folder; the socket and the folders that the agent names lie in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Proxies and certificates of the environment have no say over a socket in our own folder.
        transport = httpx.AsyncHTTPTransport(uds=_short(folder / "agent.sock"))
        # A fetch takes as long as it takes; a dead agent closes the connection.
        timeout = httpx.Timeout(5.0, read=_ENSURE_SECONDS)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://agent", timeout=timeout, trust_env=False)

    async def ensure(self, ref: VersionRef, store: str) -> Ensured:
        """See `Agent.ensure`."""
        said = await self._post("/ensure", {**ref.model_dump(mode="json"), "store": store})
        return Ensured(self._folder / said["folder"], said.get("memory_bytes", 0), said.get("load_seconds", 0.0))

    async def resolve(self, wanted: VersionName, store: str) -> Digest:
        """See `Agent.resolve`."""
        said = await self._post("/resolve", {**wanted.model_dump(mode="json"), "store": store})
        return str(said["digest"])

    async def forget(self, keep: list[str]) -> None:
        """See `Agent.forget`."""
        await self._post("/forget", {"keep": keep})

    async def close(self) -> None:
        """See `Agent.close`."""
        await self._client.aclose()

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            response = await self._client.post(path, json=body)
        except httpx.TransportError:
            raise StorageError(
                "The agent of this node does not answer.",
                code="agent-unreachable",
                kind="agent",
                hint="See its log: the supervisor starts it, in a cluster it is the container `agent`.",
            ) from None
        if response.is_success:
            return dict(response.json()) if response.content else {}
        raise _error(response)


class MemoryAgent:
    """A twin without a process: packages are folders that it was told of, failures are those it was given.

    Args:
        packages: digest → folder of a package.
    """

    def __init__(self, packages: dict[str, Path] | None = None) -> None:
        self.packages = dict(packages or {})
        self.digests: dict[str, Digest] = {}
        self.failures: dict[str, QuarterdeckError] = {}
        self.asked: list[str] = []
        self.kept: list[str] = []

    async def ensure(self, ref: VersionRef, store: str) -> Ensured:
        """See `Agent.ensure`; `failures` holds the error to raise for a digest, until it is removed."""
        self.asked.append(ref.digest)
        if ref.digest in self.failures:
            raise self.failures[ref.digest]
        if ref.digest not in self.packages:
            raise StorageError(f"The store has no {ref}.", code="not-found", kind="version", name=str(ref))
        return Ensured(self.packages[ref.digest])

    async def resolve(self, wanted: VersionName, store: str) -> Digest:
        """See `Agent.resolve`; `digests` and `failures` go by the version's name in words."""
        self.asked.append(str(wanted))
        if str(wanted) in self.failures:
            raise self.failures[str(wanted)]
        if str(wanted) not in self.digests:
            raise StorageError(f"The store has no {wanted}.", code="not-found", retryable=False, kind="version", name=str(wanted))
        return self.digests[str(wanted)]

    async def forget(self, keep: list[str]) -> None:
        """See `Agent.forget`. There is always room here, so nothing goes; `kept` tells what was asked."""
        self.kept = list(keep)

    async def close(self) -> None:
        """See `Agent.close`."""


def _short(path: Path) -> str:
    """The shorter way to a socket: the kernel takes about 107 bytes, and serve usually runs in the very folder."""
    return min(str(path), os.path.relpath(path), key=len)


def _error(response: httpx.Response) -> QuarterdeckError:
    """The agent's problem, as the error that it was there."""
    try:
        said = response.json()
    except ValueError:
        said = None
    problem = said if isinstance(said, dict) else {}
    named = {name: str(problem.get(name, "")) for name in ("code", "hint", "kind", "name")}
    extra = {name: problem[name] for name in ("place",) if name in problem}
    detail = str(problem.get("detail", f"The agent answered with status {response.status_code}."))
    # The agent says 422 for refused packages only; everything else may be better in a moment.
    if response.status_code == 422:
        return PackageRefused(detail, extra=extra, **named)
    return StorageError(detail, retryable=bool(problem.get("retryable", True)), extra=extra, **named)
