"""The pages on projects: what each holds, and who may change that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from quarterdeck.errors import Conflict
from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.console.allowed import looked_at
from quarterdeck_deployer.console.forms import NOTHING, Problem, Sent, Why, problems, sent
from quarterdeck_deployer.console.pages import Shell, SurePage
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.console.words import Slice, slice_of
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.deployments import DeploymentFilter
from quarterdeck_deployer.keys import KeyView
from quarterdeck_deployer.listing import Window
from quarterdeck_deployer.people import PersonView
from quarterdeck_deployer.projects import ProjectInput, ProjectView
from quarterdeck_deployer.revisions import RevisionView

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
_MOST = 10_000
_SHOWN = 100


@dataclass(frozen=True)
class ProjectsPage:
    """All projects."""

    shell: Shell
    rows: Slice[ProjectView]
    sent: Sent = NOTHING
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class ProjectPage:
    """One project; `people` is None for those who may not know who they are. Lists hold the first hundred."""

    shell: Shell
    project: ProjectView
    deployments: list[RevisionView]
    people: list[PersonView] | None
    keys: list[KeyView]
    shown: int = _SHOWN


@router.get("/projects")
def projects(deployer: TheDeployer, page: Annotated[int, Query(ge=1)] = 1) -> HTMLResponse:
    """All projects with how many people are in each, and a form for a new one."""
    return render("projects.html", _projects_page(deployer, page))


@router.post("/projects")
async def create(request: Request, deployer: TheDeployer) -> Response:
    """Create a project."""
    form = await sent(request)
    try:
        wanted = ProjectInput.model_validate(form.given("name", "description", "why"))
        made = await run_in_threadpool(deployer.projects.create, wanted, request.state.caller.act(wanted.why))
    except (ValidationError, Conflict) as error:
        page = await run_in_threadpool(_projects_page, deployer, 1)
        return render("projects.html", replace(page, sent=form, problems=tuple(problems(error))), 422)
    return RedirectResponse(f"/projects/{made.name}", status_code=303)


@router.get("/projects/{name}")
def project(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """One project: its deployments, its keys, and for admins the people who are in it."""
    first = Window(_SHOWN)
    page = ProjectPage(
        shell=Shell(name, "projects", "quarterdeck project list", f"/api/projects/{name}"),
        project=deployer.projects.one(name),
        deployments=[one.wish for one in deployer.deployments.listed(first, DeploymentFilter(project=name)).items],
        people=deployer.people.all(first, name).items if looked_at("/people") else None,
        keys=[one for one in deployer.keys.listed(first, name).items if one.revoked is None],
    )
    return render("project.html", page)


@router.get("/projects/{name}/delete")
def deleting(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """What deleting a project will do."""
    found = deployer.projects.one(name)
    path = f"/projects/{found.name}"
    page = SurePage(
        Shell(f"Delete project {name}", "projects", f"quarterdeck project delete {name}", f"/api{path}"),
        back=(path, name),
        action=f"{path}/delete",
        button=f"Delete project {name}",
        sentences=["It is refused while a deployment, a key or a person is in it.", "What was done in it stays in the audit."],
    )
    return render("sure.html", page)


@router.post("/projects/{name}/delete")
def delete(request: Request, name: Name, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """Delete a project that nothing is in."""
    deployer.projects.delete(name, request.state.caller.act(why))
    return RedirectResponse("/projects", status_code=303)


def _projects_page(deployer: Deployer, page: int) -> ProjectsPage:
    shell = Shell("Projects", "projects", "quarterdeck project list", "/api/projects")
    return ProjectsPage(shell, slice_of(deployer.projects.all(Window(_MOST)).items, page))
