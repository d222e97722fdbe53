"""The ways into the console and out of it: the admin token, the provider of identities, and the log-out."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from quarterdeck.errors import NotFound
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.console.pages import LoginPage, Shell, SignedInPage
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.oidc import SIGN_IN_SECONDS, Provider
from quarterdeck_deployer.security import same
from quarterdeck_deployer.sessions import COOKIE, SESSION_HOURS, cookie_of, session_of

router = APIRouter(tags=["instance"], responses=ERRORS)
SIGN_IN = "quarterdeck_signin"


@router.get("/login", response_class=HTMLResponse)
async def login(
    request: Request, deployer: TheDeployer, token: Annotated[str, Query(description="The admin token.")] = ""
) -> Response:
    """Exchange the admin token for a session cookie and go to the console: the link that `quarterdeck up` prints."""
    # The token stands in the address only for this one redirect; pages never see it again.
    return await _logged_in(request, deployer, token)


@router.post("/login", response_class=HTMLResponse, include_in_schema=False)
async def login_by_form(request: Request, deployer: TheDeployer, token: Annotated[str, Form()] = "") -> Response:
    """The same by a form: what is typed stays out of addresses, and so out of the browser's history."""
    return await _logged_in(request, deployer, token)


@router.get("/login/start", include_in_schema=False)
async def start(request: Request, deployer: TheDeployer) -> Response:
    """Go to the provider of identities."""
    begun = await _provider(deployer).begin()
    answer = RedirectResponse(begun.url, status_code=303)
    # Lax: the way back comes from the provider's site, and a strict cookie would stay at home.
    _Cookie(request, deployer, SIGN_IN).set(answer, begun.cookie, SIGN_IN_SECONDS, "lax")
    return answer


@router.get("/login/callback", response_class=HTMLResponse, include_in_schema=False)
async def callback(request: Request, deployer: TheDeployer) -> Response:
    """The way back from the provider: a session for whom it names."""
    begun = _Cookie(request, deployer, SIGN_IN)
    identity = await _provider(deployer).finish(request.cookies.get(begun.name, ""), dict(request.query_params))
    person = await run_in_threadpool(deployer.people.signed_in, identity)
    # A page, not a redirect: browsers send a strict cookie only where the step before was one of ours.
    shell = Shell("Signed in", "log in", "quarterdeck status", "/openapi.json")
    answer = render("signed_in.html", SignedInPage(shell, person.name))
    await _open(request, deployer, answer, person.id)
    begun.drop(answer)
    return answer


@router.post("/logout", include_in_schema=False)
async def logout(request: Request, deployer: TheDeployer) -> Response:
    """End the session here, not only in the browser."""
    session = session_of(request.scope, deployer.settings)
    if session:
        await run_in_threadpool(deployer.logins.close, session)
    answer = RedirectResponse("/login", status_code=303)
    _Cookie(request, deployer, COOKIE).drop(answer)
    return answer


class _Cookie:
    """A cookie of the host that the browser asks for: bound to https where that is how it comes."""

    def __init__(self, request: Request, deployer: Deployer, name: str) -> None:
        host = request.headers.get("host", "")
        self.name, self._secure = cookie_of(deployer.settings, host, name), deployer.settings.secure(host)

    def set(self, answer: Response, value: str, seconds: int, same_site: Literal["lax", "strict"]) -> None:
        answer.set_cookie(self.name, value, seconds, secure=self._secure, httponly=True, samesite=same_site)

    def drop(self, answer: Response) -> None:
        answer.delete_cookie(self.name, secure=self._secure, httponly=True)


async def _logged_in(request: Request, deployer: Deployer, token: str) -> Response:
    if not same(token, deployer.tokens.admin):
        shell = Shell("Log in", "log in", "quarterdeck status", "/openapi.json")
        return render("login.html", LoginPage(shell, refused=bool(token), provider=deployer.provider is not None), 401)
    answer = RedirectResponse("/", status_code=303)
    await _open(request, deployer, answer, None)
    return answer


async def _open(request: Request, deployer: Deployer, answer: Response, person: str | None) -> None:
    session = await run_in_threadpool(deployer.logins.open, person)
    _Cookie(request, deployer, COOKIE).set(answer, session, SESSION_HOURS * 3600, "strict")


def _provider(deployer: Deployer) -> Provider:
    if deployer.provider is None:
        raise NotFound("This instance has no provider of identities.", kind="provider", hint="Log in with the admin token.")
    return deployer.provider
