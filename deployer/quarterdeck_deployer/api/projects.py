"""/api/projects: what deployments, keys and people are grouped by."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheAuthor, TheDeployer
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.projects import ProjectInput, ProjectView

router = APIRouter(prefix="/api/projects", tags=["access"], responses=ERRORS)


@router.get("")
def projects(deployer: TheDeployer, page: ThePage) -> list[ProjectView]:
    """All projects, by name."""
    return page.answer(deployer.projects.all(page.window))


@router.get("/{project}")
def project(project: Name, deployer: TheDeployer) -> ProjectView:
    """One project."""
    return deployer.projects.one(project)


@router.post("", status_code=201)
def create(
    body: Annotated[ProjectInput, Body(examples=[{"name": "delays", "description": "Flight delays"}])],
    author: TheAuthor,
    deployer: TheDeployer,
) -> ProjectView:
    """Create a project with nobody in it."""
    return deployer.projects.create(body, author.act(body.why))


@router.delete("/{project}", status_code=204)
def delete(project: Name, author: TheAuthor, deployer: TheDeployer) -> None:
    """Delete a project; refused while a deployment, a key or a person is in it."""
    deployer.projects.delete(project, author.act())
