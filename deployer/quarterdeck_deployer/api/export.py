"""GET /api/export: the YAML of what runs, to be kept in a repository or taken elsewhere."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from quarterdeck.resources import Spec
from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.exporting import exported
from quarterdeck_deployer.infrastructures.kubernetes_infrastructure import OnKubernetes
from quarterdeck_deployer.revisions import RevisionView

YAML = "application/yaml"
router = APIRouter(prefix="/api/export", tags=["deployments"], responses=ERRORS)
_EXAMPLE = """apiVersion: quarterdeck.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: late-flights
spec:
  model:
    name: late-flights
    version: 1
  stage: dev
"""


@router.get(
    "",
    response_class=Response,
    responses={200: {"description": "One document for each deployment.", "content": {YAML: {"example": _EXAMPLE}}}},
)
def export(
    deployer: TheDeployer,
    name: Annotated[Name | None, Query(description="Only this deployment.", examples=["late-flights"])] = None,
    stage: Annotated[Name | None, Query(description="Only those of this stage.", examples=["prod"])] = None,
) -> Response:
    """The ModelDeployments that make what runs: applied as they are, they change nothing."""
    found = [deployer.deployments.one(name)] if name else deployer.deployments.living()
    wishes = [one.wish for one in found if stage in (None, one.wish.stage)]
    # A name belongs to one deployment of the instance, and its stage says which cluster's resource is meant.
    placed = {wish.deployment: spec for wish in wishes if (spec := _spec(deployer, wish))}
    return Response(exported(wishes, placed), media_type=YAML)


def _spec(deployer: Deployer, wish: RevisionView) -> Spec | None:
    """Its spec in the cluster; None where it is in none, or is not there yet."""
    place = deployer.infrastructures.named(deployer.infrastructures.placed(wish.stage))
    return place.spec(wish.deployment) if isinstance(place, OnKubernetes) else None
