"""The FastAPI application: the edge in front, routers behind, one deployer in its state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from quarterdeck_deployer import plan_server
from quarterdeck_deployer.api import (
    actions,
    audit,
    deployments,
    document,
    export,
    feedback,
    infrastructures,
    instance,
    keys,
    models,
    nodes,
    pages,
    people,
    performance,
    predictions,
    problems,
    projects,
    promotions,
    signing_in,
    stages,
    test_queries,
    tokens,
)
from quarterdeck_deployer.console import routes as console_routes
from quarterdeck_deployer.console.rendering import answer
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.security import Edge

_ROUTERS = (
    instance, models, deployments, export, actions, feedback, predictions, performance, keys, audit, infrastructures, nodes,
    stages, promotions, test_queries, people, projects, tokens, signing_in, plan_server, pages,
    console_routes,
)  # fmt: skip


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
    document.install(app)
    app.add_middleware(Edge, settings=deployer.settings, tokens=deployer.tokens, known=deployer, answer=answer)
    return app
