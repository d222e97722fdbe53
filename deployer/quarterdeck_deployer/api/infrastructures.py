"""/api/infrastructures: where deployments run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import Field

from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer.api.common import TheAuthor, TheDeployer
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.infrastructures.kubernetes_infrastructure import OnKubernetes
from quarterdeck_deployer.infrastructures.rows import InfrastructureInput, InfrastructureView
from quarterdeck_deployer.listing import sliced
from quarterdeck_deployer.usage import RoleUsage

router = APIRouter(prefix="/api/infrastructures", tags=["infrastructures"], responses=ERRORS)
_EXAMPLES = [
    {"kind": "static", "store": "s3://models-edge/quarterdeck", "settings": {"s3Folder": "/etc/quarterdeck/s3-edge"}},
    {"kind": "kubernetes", "store": "s3://models-prod/quarterdeck", "settings": {"namespace": "models"}},
]


class StrangerView(Frozen):
    """A resource of a cluster that is no deployment here."""

    name: str = Field(examples=["late-flights"])
    reason: str = Field(description="Why it was not adopted, and the next step.")


@router.get("")
def infrastructures(deployer: TheDeployer, page: ThePage) -> list[InfrastructureView]:
    """All infrastructures, by name."""
    return page.answer(deployer.infrastructure_rows.page(page.window))


@router.get("/{name}")
def infrastructure(name: Name, deployer: TheDeployer) -> InfrastructureView:
    """One infrastructure."""
    return deployer.infrastructure_rows.one(name)


@router.get("/{name}/strangers")
def strangers(name: Name, deployer: TheDeployer, page: ThePage) -> list[StrangerView]:
    """Resources of a cluster that could not be adopted, each with the reason and the next step; none elsewhere."""
    place = deployer.infrastructures.named(name)
    found = sorted(place.strangers.items()) if isinstance(place, OnKubernetes) else []
    listed = sliced(found, page.window, lambda one: (one[0],))
    return page.answer(listed.of(lambda one: StrangerView(name=one[0], reason=one[1])))


@router.get("/{name}/usage")
def usage(name: Name, deployer: TheDeployer, page: ThePage) -> list[RoleUsage]:
    """What its nodes used together in the last 24 hours, by role, in steps of five minutes, the oldest first."""
    found = deployer.usage.roles(deployer.infrastructures.named(name).name)
    return page.answer(sliced(found, page.window, lambda one: (int(one.at.timestamp()), one.role)))


@router.put("/{name}", responses={201: {"description": "It is new."}})
def put(
    name: Name,
    body: Annotated[InfrastructureInput, Body(examples=_EXAMPLES)],
    author: TheAuthor,
    deployer: TheDeployer,
    response: Response,
) -> InfrastructureView:
    """Create an infrastructure, or make it equal to this one; its store is looked at first."""
    found = deployer.infrastructure_rows.put(name, body, author.act(body.why))
    response.status_code = 201 if found.created else 200
    return found.infrastructure


@router.delete("/{name}", status_code=204)
def delete(name: Name, author: TheAuthor, deployer: TheDeployer) -> None:
    """Take an infrastructure away; refused while a stage is on it or a node has joined it."""
    deployer.infrastructure_rows.delete(name, author.act())
