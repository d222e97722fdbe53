"""/api/stages: the steps on the way of a version."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response

from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheAuthor, TheDeployer
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.revisions import Why
from quarterdeck_deployer.stages import StageInput, StageView

router = APIRouter(prefix="/api/stages", tags=["stages"], responses=ERRORS)
_EXAMPLE = {
    "position": 2,
    "infrastructure": "local",
    "gates": [{"gate": "package"}, {"gate": "golden"}, {"gate": "schema", "days": 7}, {"gate": "replay", "max_changed": 0.1}],
    "approval": True,
    "why": "two people for production",
}


@router.get("")
def stages(deployer: TheDeployer, page: ThePage) -> list[StageView]:
    """All stages, in their order."""
    return page.answer(deployer.stages.listed(page.window))


@router.get("/{name}")
def stage(name: Name, deployer: TheDeployer) -> StageView:
    """One stage with its gates."""
    return deployer.stages.one(name)


@router.put("/{name}", responses={201: {"description": "It is new."}})
def put(
    name: Name,
    body: Annotated[StageInput, Body(examples=[_EXAMPLE])],
    response: Response,
    author: TheAuthor,
    deployer: TheDeployer,
) -> StageView:
    """Create a stage (201) or make it equal to this one (200). It stays where it is while deployments live there."""
    found = deployer.stages.put(name, body, author.act(body.why))
    response.status_code = 201 if found.created else 200
    return found.stage


@router.delete("/{name}", status_code=204)
def delete(name: Name, author: TheAuthor, deployer: TheDeployer, why: Why = "") -> None:
    """Take a stage away where nothing lives."""
    deployer.stages.delete(name, author.act(why))
