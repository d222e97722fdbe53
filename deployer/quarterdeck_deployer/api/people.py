"""/api/people: who may sign in, with which role, in which projects. For admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query

from quarterdeck_deployer.api.common import TheAuthor, TheDeployer
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.people import PersonChange, PersonId, PersonInput, PersonView
from quarterdeck_deployer.sessions import EndedSessions

router = APIRouter(prefix="/api/people", tags=["access"], responses=ERRORS)
_EXAMPLE = {"name": "Anna Berg", "email": "anna@example.org", "role": "developer", "projects": ["default"]}


@router.get("")
def people(
    deployer: TheDeployer, page: ThePage, project: Annotated[str, Query(max_length=200, description="Only those in it.")] = ""
) -> list[PersonView]:
    """All people, by id."""
    return page.answer(deployer.people.all(page.window, project))


@router.get("/{person}")
def person(person: PersonId, deployer: TheDeployer) -> PersonView:
    """One person."""
    return deployer.people.one(person)


@router.post("", status_code=201)
def create(body: Annotated[PersonInput, Body(examples=[_EXAMPLE])], author: TheAuthor, deployer: TheDeployer) -> PersonView:
    """Let somebody in; the provider of identities tells them by their verified address."""
    return deployer.people.create(body, author.act(body.why))


@router.patch("/{person}")
def change(
    person: PersonId,
    body: Annotated[PersonChange, Body(examples=[{"role": "approver"}])],
    author: TheAuthor,
    deployer: TheDeployer,
) -> PersonView:
    """Change name, role or projects; it counts from their next request on."""
    return deployer.people.change(person, body, author.act(body.why))


@router.delete("/{person}", status_code=204)
def delete(person: PersonId, author: TheAuthor, deployer: TheDeployer) -> None:
    """Take somebody away; their sessions end with this."""
    deployer.people.delete(person, author.act())


@router.delete("/{person}/sessions")
def end_sessions(person: PersonId, author: TheAuthor, deployer: TheDeployer) -> EndedSessions:
    """End all sessions of somebody, in every browser; tokens that they hold go on until they expire."""
    return deployer.logins.end(person, author.act())
