"""The agent's HTTP on its unix socket: ensure, resolve, forget, state, health. Only serve of the same node talks to it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from quarterdeck.errors import InvalidInput, QuarterdeckError, StorageError
from quarterdeck.manifest import Digest
from quarterdeck.plan import VersionName, VersionRef
from quarterdeck.schema import Frozen
from quarterdeck_node.agent.packages import Ensured, Packages, Progress
from quarterdeck_node.agent.shipping import Shipped, Shipper

PROBLEM = "application/problem+json"


class EnsureInput(VersionRef):
    """Which version, and in which store it lies."""

    store: str


class ResolveInput(VersionName):
    """Which version's digest is wanted, and in which store it lies."""

    store: str


class Found(Frozen):
    """What a version's number stands for."""

    digest: Digest


class ForgetInput(Frozen):
    """Digests that the node still needs."""

    keep: list[str]


class Forgotten(Frozen):
    """Digests that left the cache."""

    forgotten: list[str]


class Health(Frozen):
    """The agent answers; `shipping` tells of the records."""

    status: str
    shipping: Shipped


def create_app(packages: Packages, shipper: Shipper) -> FastAPI:
    """The agent's application around its two jobs."""
    app = FastAPI(title="Quarterdeck agent", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(QuarterdeckError, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)

    @app.post("/ensure")
    async def ensure(wanted: EnsureInput) -> Ensured:
        """Fetch, compare and try one version; callers who want the same one share the work."""
        ref = VersionRef(model=wanted.model, version=wanted.version, digest=wanted.digest, trust=wanted.trust)
        return await packages.ensure(ref, wanted.store)

    @app.post("/resolve")
    async def resolve(wanted: ResolveInput) -> Found:
        """Look up the digest of a version."""
        name = VersionName(model=wanted.model, version=wanted.version)
        return Found(digest=await packages.resolve(name, wanted.store))

    @app.post("/forget")
    async def forget(wanted: ForgetInput) -> Forgotten:
        """Let go of versions that nobody needs, as far as room is needed."""
        return Forgotten(forgotten=await packages.forget(wanted.keep))

    @app.get("/state")
    async def state() -> dict[str, Progress]:
        """How far every version is that was asked for, by digest."""
        return packages.state

    @app.get("/health")
    async def health() -> Health:
        """That the agent lives, and what became of the records."""
        return Health(status="ok", shipping=shipper.shipped)

    return app


async def _problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QuarterdeckError)
    return _answer(error, {"retryable": error.retryable} if isinstance(error, StorageError) else {})


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return _answer(InvalidInput(f"{place}: {first['msg']}.", kind="request"), {})


def _answer(error: QuarterdeckError, more: dict[str, Any]) -> JSONResponse:
    # The refusal of a package and a request that is no request must differ: serve takes 422 for the former.
    status = 400 if isinstance(error, InvalidInput) else error.status
    return JSONResponse({**error.problem(), **more, "status": status}, status, media_type=PROBLEM)
