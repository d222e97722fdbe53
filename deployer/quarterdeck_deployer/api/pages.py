"""Routes for everybody: health, metrics, login and the list of routes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.responses import HTMLResponse, Response

from quarterdeck.schema import Frozen
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.instance import program_version
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.console.pages import DocsPage, DocumentedRoute, Shell
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.metrics import DeployerCollector

router = APIRouter(tags=["instance"], responses=ERRORS)


class Health(Frozen):
    """The program answers and its loop runs."""

    status: str = "ok"
    version: str


@router.get("/health")
async def health() -> Health:
    """200 as long as the program can answer."""
    return Health(version=program_version())


@router.get("/metrics", response_class=Response)
def metrics(deployer: TheDeployer) -> Response:
    """Prometheus metrics."""
    # A registry per scrape, not the global one: tests and processes with two deployers stay apart.
    registry = CollectorRegistry()
    registry.register(DeployerCollector(deployer))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """The API as a page: every route with its parameters and answers, from the OpenAPI document."""
    document: dict[str, Any] = request.app.openapi()
    operations = [
        DocumentedRoute(
            method=method.upper(),
            path=path,
            description=operation.get("description", ""),
            parameters=[(one["name"], one["in"], one.get("description", "")) for one in operation.get("parameters", [])],
            takes_body="requestBody" in operation,
            answers=", ".join(operation["responses"]),
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    shell = Shell("API", "api", "quarterdeck --help", "/openapi.json")
    return render("docs.html", DocsPage(shell, document["info"]["title"], operations))
