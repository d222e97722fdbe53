"""The account page: who is signed in, what they may do, and a token for their programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse

from quarterdeck_deployer.access import Caller
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.tokens import issued
from quarterdeck_deployer.console.pages import Shell
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.issuing import MAX_MINUTES, TokenInput

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)


@dataclass(frozen=True)
class AccountPage:
    """One visitor; `token` only in the answer that made it."""

    shell: Shell
    name: str
    role: str
    projects: list[str] | None
    token: str = ""
    expires: datetime | None = None


@router.get("/account")
def account(request: Request) -> HTMLResponse:
    """Who is signed in, with role and projects; and a token for their programs."""
    return render("account.html", _page(request.state.caller))


@router.post("/account/token")
def token(request: Request, deployer: TheDeployer, minutes: Annotated[int, Form(ge=1, le=MAX_MINUTES)] = 60) -> HTMLResponse:
    """Make a token and show it, this once."""
    caller: Caller = request.state.caller
    made = issued(deployer, caller, TokenInput(minutes=minutes), caller.act())
    return render("account.html", _page(caller, made.token, made.expires))


def _page(caller: Caller, token: str = "", expires: datetime | None = None) -> AccountPage:
    shell = Shell("Account", "account", "quarterdeck token", "/api/instance")
    projects = sorted(caller.projects) if caller.projects is not None else None
    return AccountPage(shell, caller.name, caller.role or "", projects, token, expires)
