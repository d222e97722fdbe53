"""/api/actions: what became of each action."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from quarterdeck.schema import Name
from quarterdeck_deployer.actions import ActionFilter, ActionView, State
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS

router = APIRouter(prefix="/api/actions", tags=["actions"], responses=ERRORS)


@router.get("")
def actions(
    deployer: TheDeployer,
    page: ThePage,
    deployment: Annotated[Name | None, Query(description="Only of this deployment.", examples=["late-flights"])] = None,
    state: Annotated[State | None, Query(description="Only in this state.", examples=["failed"])] = None,
) -> list[ActionView]:
    """The newest actions first."""
    return page.answer(deployer.actions.listed(page.window, ActionFilter(deployment or "", state)))


@router.get("/{action}")
def action(
    action: Annotated[str, Path(max_length=200, description="Its id.", examples=["late-flights-4"])], deployer: TheDeployer
) -> ActionView:
    """One action: who wanted what, and how it ended."""
    return deployer.actions.one(action)
