"""The FastAPI application: the edge in front, routers behind, one deployer in its state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from quarterdeck_deployer import plan_server
from quarterdeck_deployer.api import (
    audit,
    deployments,
    feedback,
    instance,
    keys,
    models,
    pages,
    performance,
    predictions,
    problems,
)
from quarterdeck_deployer.console import routes as console_routes
from quarterdeck_deployer.console.rendering import answer
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.security import Edge

_ROUTERS = (instance, models, deployments, feedback, predictions, performance, keys, audit, plan_server, pages, console_routes)


def create_app(deployer: Deployer) -> FastAPI:
    """The application of one deployer; its reconcile loop runs while the application does."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with deployer.running():
            yield

    app = FastAPI(
        title="Quarterdeck deployer",
        version=instance.program_version(),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        description="Registry, deployments, keys and audit of one Quarterdeck instance.",
    )
    app.state.deployer = deployer
    problems.install(app, answer)
    for module in _ROUTERS:
        app.include_router(module.router)
    app.add_middleware(Edge, settings=deployer.settings, tokens=deployer.tokens, logins=deployer.logins, answer=answer)
    return app
