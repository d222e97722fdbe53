"""/api/promotions: the way of versions from stage to stage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query
from starlette.concurrency import run_in_threadpool

from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheAuthor, TheDeployer, TheReviser, Wait
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.promotions import DecisionInput, PromotionFilter, PromotionInput, PromotionView, State

router = APIRouter(prefix="/api", tags=["promotions"], responses=ERRORS)
_EXAMPLE = {"to": "staging", "why": "better on the holdout of November"}
Ident = Annotated[int, Path(ge=1, le=2**31 - 1, description="Its number.", examples=[17])]


@router.post("/deployments/{name}/promote", status_code=202)
async def promote(
    name: Name,
    body: Annotated[PromotionInput, Body(examples=[_EXAMPLE])],
    author: TheReviser,
    deployer: TheDeployer,
    wait: Wait = 0,
) -> PromotionView:
    """Bring a version of this deployment to another stage. Its gates are asked in the background: look at `state`."""
    asked = await run_in_threadpool(deployer.promotions.ask, name, body, author.act(body.why))
    return await deployer.promoter.ended(asked.id, wait)


@router.get("/promotions")
def promotions(
    deployer: TheDeployer,
    page: ThePage,
    deployment: Annotated[Name | None, Query(description="Only from or to this deployment.")] = None,
    service: Annotated[Name | None, Query(description="Only of this service.")] = None,
    stage: Annotated[Name | None, Query(description="Only to this stage.", examples=["prod"])] = None,
    project: Annotated[Name | None, Query(description="Only of this project.")] = None,
    state: Annotated[State | None, Query(description="Only in this state.", examples=["waiting for approval"])] = None,
) -> list[PromotionView]:
    """Who wanted to move what where, when and why, and what came of it; the newest first."""
    wanted = PromotionFilter(deployment or "", service or "", stage or "", project or "", state)
    return page.answer(deployer.promotions.listed(page.window, wanted))


@router.get("/promotions/{promotion}")
async def promotion(promotion: Ident, deployer: TheDeployer, wait: Wait = 0) -> PromotionView:
    """One promotion with what its gates have found; with `wait`, as soon as it has ended or waits for a person."""
    return await deployer.promoter.ended(promotion, wait)


@router.post("/promotions/{promotion}/approve")
def approve(promotion: Ident, author: TheAuthor, deployer: TheDeployer, body: DecisionInput | None = None) -> PromotionView:
    """A second person's yes: the target changes at once."""
    given = body or DecisionInput()
    return deployer.promotions.approve(promotion, given, author.act(given.why))


@router.post("/promotions/{promotion}/reject")
def reject(promotion: Ident, author: TheAuthor, deployer: TheDeployer, body: DecisionInput | None = None) -> PromotionView:
    """A second person's no: the target stays as it is."""
    given = body or DecisionInput()
    return deployer.promotions.reject(promotion, given, author.act(given.why))
