"""/api/deployments: wishes, what is observed of them, and the actions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer.api.common import ActionAnswer, TheDeployer, TheReviser, Wait, answer
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.deployments import DeploymentFilter, Living
from quarterdeck_deployer.observed import ObservedDeployment
from quarterdeck_deployer.revisions import ChallengerInput, DeploymentInput, RevisionView, RollbackInput, SwapInput, Why

router = APIRouter(prefix="/api/deployments", tags=["deployments"], responses=ERRORS)
_DEPLOYMENT = {
    "description": "Will this flight arrive more than 15 minutes late?",
    "main": {"model": "late-flights", "version": 1},
    "challenger": {"model": "late-flights", "version": 2},
    "why": "first deployment",
}


class WhyInput(Frozen):
    """Why an action is taken."""

    why: Why = ""


class Urls(Frozen):
    """Where callers reach a deployment."""

    predict: str = Field(examples=["http://127.0.0.1:8401/deployments/late-flights/predict"])
    form: str = Field(examples=["http://127.0.0.1:8401/deployments/late-flights/form"])
    docs: str = Field(examples=["http://127.0.0.1:8401/docs"])


class DeploymentView(Frozen):
    """The wish (newest revision), what is observed, and the addresses."""

    name: Name
    wish: RevisionView
    observed: ObservedDeployment
    urls: Urls


@router.get("")
def deployments(
    deployer: TheDeployer,
    page: ThePage,
    project: Annotated[Name | None, Query(description="Only of this project.", examples=["default"])] = None,
    stage: Annotated[Name | None, Query(description="Only in this stage.", examples=["prod"])] = None,
    service: Annotated[Name | None, Query(description="Only of this service.", examples=["late-flights"])] = None,
    model: Annotated[Name | None, Query(description="Only where a version of this model is main.", examples=["flights"])] = None,
) -> list[DeploymentView]:
    """Deployments, by name."""
    # Read at one moment: what is deleted meanwhile must not fail the whole list.
    wanted = DeploymentFilter(project or "", stage or "", service or "", model or "")
    return page.answer(deployer.deployments.listed(page.window, wanted).of(lambda one: _view(deployer, one)))


@router.get("/{name}")
def deployment(name: Name, deployer: TheDeployer, response: Response) -> DeploymentView:
    """One deployment: what is wished, what is observed, where it is. Its ETag is the newest revision, for If-Match."""
    one = deployer.deployments.one(name)
    response.headers["etag"] = f'"{one.wish.number}"'
    return _view(deployer, one)


@router.put("/{name}")
async def put(
    name: Name,
    body: Annotated[DeploymentInput, Body(examples=[_DEPLOYMENT])],
    response: Response,
    author: TheReviser,
    deployer: TheDeployer,
    wait: Wait = 0,
) -> ActionAnswer:
    """Create a deployment (201) or make its wish equal to this one (200); an equal wish makes no revision.

    In a stage with a store of its own, versions that are not there yet are copied first.
    """
    changed = await run_in_threadpool(deployer.deployments.put, name, body, author.act(body.why))
    response.status_code = 201 if changed.created else 200
    return await answer(deployer, changed, wait)


@router.delete("/{name}")
async def delete(name: Name, author: TheReviser, deployer: TheDeployer, wait: Wait = 0, why: Why = "") -> ActionAnswer:
    """Take a deployment away from all nodes; its history is kept."""
    changed = await run_in_threadpool(deployer.deployments.delete, name, author.act(why))
    return await answer(deployer, changed, wait)


@router.post("/{name}/challenger")
async def set_challenger(
    name: Name,
    body: Annotated[ChallengerInput, Body(examples=[{"version": 2, "why": "trained on autumn"}])],
    author: TheReviser,
    deployer: TheDeployer,
    wait: Wait = 0,
) -> ActionAnswer:
    """Let a version answer in the background; it is copied first where the stage's store does not have it."""
    changed = await run_in_threadpool(deployer.deployments.set_challenger, name, body, author.act(body.why))
    return await answer(deployer, changed, wait)


@router.delete("/{name}/challenger")
async def clear_challenger(name: Name, author: TheReviser, deployer: TheDeployer, wait: Wait = 0, why: Why = "") -> ActionAnswer:
    """Stop mirroring."""
    changed = await run_in_threadpool(deployer.deployments.clear_challenger, name, author.act(why))
    return await answer(deployer, changed, wait)


@router.post("/{name}/swap")
async def swap(
    name: Name, author: TheReviser, deployer: TheDeployer, body: SwapInput | None = None, wait: Wait = 0
) -> ActionAnswer:
    """Exchange main and challenger."""
    wanted = body or SwapInput()
    changed = await run_in_threadpool(deployer.deployments.swap, name, wanted, author.act(wanted.why))
    return await answer(deployer, changed, wait)


@router.post("/{name}/rollback")
async def rollback(
    name: Name, author: TheReviser, deployer: TheDeployer, body: RollbackInput | None = None, wait: Wait = 0
) -> ActionAnswer:
    """Restore the pair of an earlier revision as a new one; a second time changes nothing."""
    wanted = body or RollbackInput()
    changed = await run_in_threadpool(deployer.deployments.rollback, name, wanted, author.act(wanted.why))
    return await answer(deployer, changed, wait)


@router.get("/{name}/revisions")
def revisions(name: Name, deployer: TheDeployer, page: ThePage) -> list[RevisionView]:
    """The newest revisions first."""
    return page.answer(deployer.deployments.revisions(name, page.window))


@router.post("/{name}/run")
async def run(
    name: Name, author: TheReviser, deployer: TheDeployer, body: WhyInput | None = None, wait: Wait = 0
) -> ActionAnswer:
    """Let it answer requests."""
    changed = await run_in_threadpool(deployer.deployments.run, name, author.act(body.why if body else ""))
    return await answer(deployer, changed, wait)


@router.post("/{name}/stop")
async def stop(
    name: Name, author: TheReviser, deployer: TheDeployer, body: WhyInput | None = None, wait: Wait = 0
) -> ActionAnswer:
    """Let it answer no requests; everything else stays."""
    changed = await run_in_threadpool(deployer.deployments.stop, name, author.act(body.why if body else ""))
    return await answer(deployer, changed, wait)


def _view(deployer: Deployer, one: Living) -> DeploymentView:
    name = one.wish.deployment
    base = deployer.urls(one.wish).main
    urls = Urls(predict=f"{base}/deployments/{name}/predict", form=f"{base}/deployments/{name}/form", docs=f"{base}/docs")
    return DeploymentView(name=name, wish=one.wish, observed=deployer.observe(one), urls=urls)
