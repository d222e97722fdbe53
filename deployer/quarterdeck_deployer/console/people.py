"""The pages on people: who may sign in, what they may do, where they are signed in, and ending that. For admins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from quarterdeck.errors import Conflict, NotFound
from quarterdeck_deployer.access import Caller, Role
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.console.forms import NOTHING, Problem, Sent, Why, problems, sent
from quarterdeck_deployer.console.pages import Shell, SurePage
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.listing import Window
from quarterdeck_deployer.people import PersonChange, PersonId, PersonInput, PersonView

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
_ROWS = 50
_MOST = 1_000
ROLE_WORDS: dict[Role, str] = {
    "viewer": "looks at everything",
    "developer": "changes models, and deployments of their projects",
    "approver": "decides on promotions as well",
    "admin": "everything, in every project",
}
"""What a role may do, each more than the one before."""


@dataclass(frozen=True)
class PersonRow:
    """One person, and in how many browsers they are signed in."""

    person: PersonView
    sessions: int


@dataclass(frozen=True)
class PeoplePage:
    """Who may sign in? `more` is the id after which the next page begins."""

    shell: Shell
    rows: list[PersonRow]
    more: str
    projects: list[str]
    provider: bool
    roles: dict[Role, str]
    sent: Sent = NOTHING
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class PersonPage:
    """One person: what may they do, where are they signed in?"""

    shell: Shell
    row: PersonRow
    projects: list[str]
    roles: dict[Role, str]
    problems: tuple[Problem, ...] = ()
    ended: int | None = None


@router.get("/people")
def people(deployer: TheDeployer, after: Annotated[str, Query(max_length=40)] = "") -> HTMLResponse:
    """Everybody who may sign in, with role, projects and sessions; and a form that lets somebody in."""
    return render("people.html", _people_page(deployer, after))


@router.post("/people")
async def create(request: Request, deployer: TheDeployer) -> Response:
    """Let somebody in."""
    form = await sent(request)
    given = {**form.given("name", "email", "role", "why"), "projects": form.chosen.get("projects", [])}
    try:
        made = await run_in_threadpool(deployer.people.create, PersonInput.model_validate(given), _act(request, form))
    except (ValidationError, Conflict, NotFound) as error:
        page = await run_in_threadpool(_people_page, deployer, "")
        return render("people.html", replace(page, sent=form, problems=tuple(problems(error))), 422)
    return RedirectResponse(f"/people/{made.id}", status_code=303)


@router.get("/people/{person}")
def person(person: PersonId, deployer: TheDeployer, ended: Annotated[int | None, Query(ge=0)] = None) -> HTMLResponse:
    """One person: role, projects, last sign-in and sessions."""
    return render("person.html", replace(_person_page(deployer, person), ended=ended))


@router.post("/people/{person}")
async def change(request: Request, person: PersonId, deployer: TheDeployer) -> Response:
    """Change somebody's name, role and projects."""
    form = await sent(request)
    given = {**form.given("name", "role", "why"), "projects": form.chosen.get("projects", [])}
    try:
        wanted = PersonChange.model_validate(given)
        await run_in_threadpool(deployer.people.change, person, wanted, _act(request, form))
    except ValidationError as error:
        page = await run_in_threadpool(_person_page, deployer, person)
        return render("person.html", replace(page, problems=tuple(problems(error))), 422)
    return RedirectResponse(f"/people/{person}", status_code=303)


@router.get("/people/{person}/end-sessions")
def ending(person: PersonId, deployer: TheDeployer) -> HTMLResponse:
    """What ending somebody's sessions will do."""
    return _sure(
        deployer.people.one(person),
        "end-sessions",
        lambda name: f"End the sessions of {name}",
        ["They are signed out of every browser at once, and may sign in again.", "Tokens of theirs go on until they expire."],
    )


@router.post("/people/{person}/end-sessions")
def end_sessions(request: Request, person: PersonId, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """Sign somebody out of every browser."""
    ended = deployer.logins.end(person, request.state.caller.act(why))
    return RedirectResponse(f"/people/{person}?ended={ended.sessions}", status_code=303)


@router.get("/people/{person}/delete")
def deleting(person: PersonId, deployer: TheDeployer) -> HTMLResponse:
    """What taking somebody away will do."""
    return _sure(
        deployer.people.one(person),
        "delete",
        lambda name: f"Delete {name}",
        ["They are signed out at once, and may not sign in again as who they were.", "What they did stays in history and audit."],
    )


@router.post("/people/{person}/delete")
def delete(request: Request, person: PersonId, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """Take somebody away."""
    deployer.people.delete(person, request.state.caller.act(why))
    return RedirectResponse("/people", status_code=303)


def _sure(found: PersonView, verb: str, words: Callable[[str], str], sentences: list[str]) -> HTMLResponse:
    path, button = f"/people/{found.id}", words(found.name)
    shell = Shell(button, "people", f"quarterdeck people {verb} {found.id}", f"/api/people/{found.id}")
    return render("sure.html", SurePage(shell, (path, found.name), f"{path}/{verb}", button, sentences))


def _act(request: Request, form: Sent) -> Act:
    caller: Caller = request.state.caller
    return caller.act(form.typed.get("why", ""))


def _people_page(deployer: Deployer, after: str) -> PeoplePage:
    found = deployer.people.all(Window(_ROWS, (after,) if after else None))
    sessions = deployer.logins.of_people([one.id for one in found.items])
    rows = [PersonRow(one, sessions.get(one.id, 0)) for one in found.items]
    shell = Shell("People", "people", "quarterdeck people list", "/api/people")
    more = str(found.next[0]) if found.next else ""
    return PeoplePage(shell, rows, more, _projects(deployer), deployer.provider is not None, ROLE_WORDS)


def _person_page(deployer: Deployer, ident: str) -> PersonPage:
    found = deployer.people.one(ident)
    row = PersonRow(found, deployer.logins.of_people([ident]).get(ident, 0))
    shell = Shell(found.name, "people", f"quarterdeck people change {ident} …", f"/api/people/{ident}")
    return PersonPage(shell, row, _projects(deployer), ROLE_WORDS)


def _projects(deployer: Deployer) -> list[str]:
    return [one.name for one in deployer.projects.all(Window(_MOST)).items]
