"""From a page's dataclass to the answer: Jinja2 templates, the files beside them, and errors as pages."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Coroutine
from importlib.resources import files
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck_deployer.api.instance import program_version
from quarterdeck_deployer.console import words
from quarterdeck_deployer.console.pages import ErrorPage, Shell

_MEDIA = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml", "txt": "text/plain"}
# By the package, so that a wheel or a zip serves them as well.
_FOLDER = files("quarterdeck_deployer.console") / "static"
ASSETS = {file.name: file.read_bytes() for file in _FOLDER.iterdir() if file.name.rpartition(".")[2] in _MEDIA}
"""Everything under /static/, read once."""
_TICKETS = 1_000


def asset_url(name: str) -> str:
    """Where a static file is; the address changes with its bytes, so browsers may keep it."""
    return f"/static/{name}?v={hashlib.sha256(ASSETS[name]).hexdigest()[:12]}"


def media_type(name: str) -> str:
    """The content type of a static file."""
    return _MEDIA[name.rpartition(".")[2]]


_environment = Environment(
    loader=PackageLoader("quarterdeck_deployer.console"),
    autoescape=True,
    # A name that is missing fails the page in tests, instead of showing nothing.
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(
    short=words.short, stamp=words.stamp, age=words.age, number=words.number, count=words.count, size=words.size
)
_environment.globals.update(asset=asset_url, program_version=program_version)


def render(template: str, page: object, status: int = 200) -> HTMLResponse:
    """The page as HTML."""
    return HTMLResponse(_environment.get_template(template).render(page=page), status_code=status)


class PageRoute(APIRoute):
    """A route whose errors are pages that say what failed, what did not change and what to do."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with errors turned into pages."""
        handle = super().get_route_handler()

        async def handle_for_people(request: Request) -> Response:
            try:
                return await handle(request)
            except QuarterdeckError as error:
                return _error(request, error)
            # FastAPI's own answer is JSON, and repeats what was sent.
            except RequestValidationError as error:
                # Only where, never what: the answer does not repeat the input.
                place = ".".join(str(part) for part in error.errors()[0]["loc"][1:])
                return _error(request, InvalidInput(f"The field {place} cannot be used.", hint="Go back and correct it."))

        return handle_for_people


def _error(request: Request, error: QuarterdeckError) -> HTMLResponse:
    page = ErrorPage(
        shell=Shell("Error", "", "quarterdeck status", "/api/instance"),
        status=error.status,
        detail=error.detail,
        hint=error.hint,
        code=error.code,
        request_id=request.state.request_id,
        unchanged=request.method == "POST",
    )
    return render("error.html", page, error.status)


class Tickets:
    """Each form that makes something new carries a ticket that is good for one time: a double click makes one thing."""

    def __init__(self) -> None:
        self._used: dict[str, None] = {}
        self._lock = threading.Lock()

    def new(self) -> str:
        """A ticket that nobody has."""
        return secrets.token_urlsafe(16)

    def use(self, ticket: str) -> bool:
        """Whether this is the ticket's first use."""
        with self._lock:
            if ticket in self._used:
                return False
            self._used[ticket] = None
            # Old tickets may be forgotten: their pages were left long ago.
            while len(self._used) > _TICKETS:
                del self._used[next(iter(self._used))]
            return True
