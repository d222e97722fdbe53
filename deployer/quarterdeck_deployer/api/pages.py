"""Routes for everybody: health, metrics, login and the list of routes."""

from __future__ import annotations

from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from quarterdeck.schema import Frozen
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.instance import program_version
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.metrics import DeployerCollector
from quarterdeck_deployer.security import COOKIE, SESSION_HOURS, same

router = APIRouter(tags=["instance"], responses=ERRORS)
_LOGIN = """<h1>Log in to Quarterdeck</h1>
<p>Open the link that <code>quarterdeck up</code> printed, or run <code>quarterdeck status</code> to see it again.</p>
<form method="get" action="/login"><label>Admin token <input name="token" type="password" autocomplete="off" required></label>
<button>Log in</button></form>"""


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


@router.get("/login", response_class=HTMLResponse)
async def login(deployer: TheDeployer, token: Annotated[str, Query(description="The admin token.")] = "") -> Response:
    """Exchange the admin token for a session cookie and go to the console."""
    # The token stands in the address only for this one redirect; pages never see it again.
    if not same(token, deployer.tokens.admin):
        refused = '<p role="alert">This is not the admin token of this instance.</p>' if token else ""
        return HTMLResponse(_page("Log in", refused + _LOGIN), status_code=401)
    answer = RedirectResponse("/", status_code=303)
    session = await run_in_threadpool(deployer.logins.open)
    answer.set_cookie(COOKIE, session, max_age=SESSION_HOURS * 3600, httponly=True, samesite="strict")
    return answer


@router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """The API as a page: every route with its parameters and answers, from the OpenAPI document."""
    document: dict[str, Any] = request.app.openapi()
    routes = [
        _route(method, path, operation) for path, methods in document["paths"].items() for method, operation in methods.items()
    ]
    head = f'<h1>{escape(document["info"]["title"])}</h1><p>The same for programs: <a href="/openapi.json">openapi.json</a>.</p>'
    return HTMLResponse(_page("API", head + "".join(routes)))


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{escape(one['name'])}</code> ({escape(one['in'])}) {escape(one.get('description', ''))}</li>"
        for one in operation.get("parameters", [])
    )
    answers = ", ".join(escape(status) for status in operation["responses"])
    body = "<p>Takes a JSON body.</p>" if "requestBody" in operation else ""
    return (
        f"<section><h2><code>{escape(method.upper())} {escape(path)}</code></h2><p>{escape(operation.get('description', ''))}</p>"
        f"<ul>{parameters}</ul>{body}<p>Answers: {answers}</p></section>"
    )


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)} · Quarterdeck</title>'
        f'<meta name="viewport" content="width=device-width"></head><body><main>{body}</main></body></html>'
    )
