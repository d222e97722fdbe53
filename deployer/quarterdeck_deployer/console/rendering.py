"""From a page's dataclass to the answer: Jinja2 templates, the files beside them, and errors as pages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

from quarterdeck.errors import QuarterdeckError, Unauthenticated
from quarterdeck_deployer.api.instance import program_version
from quarterdeck_deployer.api.problems import Failed, problem_response
from quarterdeck_deployer.console import allowed, words
from quarterdeck_deployer.console.pages import ErrorPage, Shell
from quarterdeck_deployer.sessions import FORM_FIELD, visit

_MEDIA = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml", "txt": "text/plain"}
# By the package, so that a wheel or a zip serves them as well.
_FOLDER = files("quarterdeck_deployer.console") / "static"
ASSETS = {file.name: file.read_bytes() for file in _FOLDER.iterdir() if file.name.rpartition(".")[2] in _MEDIA}
"""Everything under /static/, read once."""
_PEOPLE = re.compile(
    r"/|/(login|docs|deployments|models|promotions|stages|infrastructures|keys|projects|people|actions|audit|account|logout)(/.*)?"
)
_PROGRAMS = re.compile(r"/(api|plans|nodes|static|\.well-known)/.*|/(health|metrics|openapi\.json)")


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
    short=words.short,
    stamp=words.stamp,
    age=words.age,
    number=words.number,
    count=words.count,
    size=words.size,
    cores=words.cores,
)
_environment.globals.update(asset=asset_url, program_version=program_version, visit=visit.get)
_environment.globals.update(offered=allowed.offered, looked_at=allowed.looked_at, needed=allowed.needed)
# Of every form that does something, whoever writes its template: one that was forgotten could be sent from another site.
_POSTING = re.compile(r'<form\b[^>]*\bmethod="post"[^>]*>', re.IGNORECASE)


def render(template: str, page: object, status: int = 200, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """The page as HTML; of `headers`, what describes another body is left out."""
    given = {name: value for name, value in (headers or {}).items() if not name.startswith("content-")}
    return HTMLResponse(_with_tokens(_environment.get_template(template).render(page=page)), status_code=status, headers=given)


def _with_tokens(html: str) -> str:
    """The page with the visit's token in every form that posts; as it is where no session asks for it."""
    asking = visit.get()
    if asking is None:
        return html
    field = f'<input type="hidden" name="{FORM_FIELD}" value="{asking.form_token}">'
    return _POSTING.sub(lambda form: form.group() + field, html)


def answer(scope: Scope, error: QuarterdeckError) -> Response:
    """An error as a page where a person looks at the console, as problem+json where a program asks."""
    accept = Headers(scope=scope).get("accept", "*/*")
    # Who takes anything gets what the path has: pages where there are pages.
    page = "text/html" in accept or ("*/*" in accept and _PEOPLE.fullmatch(scope["path"]))
    if not page or _PROGRAMS.fullmatch(scope["path"]):
        return problem_response(error)
    # A browser whose session is over gets the way back in; what it was about to do is asked again there.
    if isinstance(error, Unauthenticated) and scope["method"] == "GET" and "text/html" in accept:
        return RedirectResponse("/login", status_code=303)
    shown = ErrorPage(
        shell=Shell("Error", "", "quarterdeck status", "/api/instance"),
        status=error.status,
        detail=error.detail,
        hint=error.hint,
        code=error.code,
        request_id=scope["state"]["request_id"],
        changed=_changed(scope["method"], error),
    )
    # The headers that go with an error are the same for people and programs.
    return render("error.html", shown, error.status, dict(problem_response(error).headers))


def _changed(method: str, error: QuarterdeckError) -> str:
    if method in ("GET", "HEAD"):
        return "Nothing was changed: this was only a look."
    # What no rule foresaw may have happened after the deed was done; claiming otherwise would invite doing it twice.
    if isinstance(error, Failed):
        return "It is not known whether anything was changed: look before you send it again."
    return "Nothing was changed."
