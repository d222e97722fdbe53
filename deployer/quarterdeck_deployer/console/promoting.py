"""The console's pages on promotions: who moved what where, what the gates have found, and a second person's decision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse

from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.console.forms import Why
from quarterdeck_deployer.console.pages import Shell
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.console.words import GATE, PROMOTION, Tag
from quarterdeck_deployer.gates.kinds import GateResult
from quarterdeck_deployer.listing import Window
from quarterdeck_deployer.promotions import DecisionInput, PromotionFilter, PromotionInput, PromotionView
from quarterdeck_deployer.registry_views import VersionView
from quarterdeck_deployer.revisions import RevisionView
from quarterdeck_deployer.stages import StageView

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
Ident = Annotated[int, Path(ge=1, le=2**31 - 1)]
_ROWS = 50
_LISTED = 20
_MOST = 1_000


@dataclass(frozen=True)
class PromotionRow:
    """One line of the list."""

    promotion: PromotionView
    state: Tag


@dataclass(frozen=True)
class PromotionsPage:
    """Who moved what where, when and why; `older` is where the next page starts."""

    shell: Shell
    rows: list[PromotionRow]
    older: int | None


@dataclass(frozen=True)
class GateRow:
    """What one gate has found; `columns` are those of the rows that it lists, of which `hidden` are not shown."""

    result: GateResult
    state: Tag
    columns: list[str]
    hidden: int


@dataclass(frozen=True)
class PromotionPage:
    """One promotion: what goes where, is it allowed to, and who decides?"""

    shell: Shell
    promotion: PromotionView
    state: Tag
    gates: list[GateRow]
    waits: bool
    listed: int = _LISTED


@dataclass(frozen=True)
class PromotePage:
    """Which version goes to which stage? `following` is the stage after the deployment's own."""

    shell: Shell
    wish: RevisionView
    stages: list[StageView]
    following: str
    versions: list[VersionView]


@router.get("/promotions")
def promotions(deployer: TheDeployer, before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None) -> HTMLResponse:
    """The newest promotions first."""
    found = deployer.promotions.listed(Window(_ROWS, (before,) if before is not None else None), PromotionFilter())
    rows = [PromotionRow(one, PROMOTION[one.state]) for one in found.items]
    older = found.items[-1].id if found.next is not None else None
    shell = Shell("Promotions", "promotions", "quarterdeck promotion list", "/api/promotions")
    return render("promotions.html", PromotionsPage(shell, rows, older))


@router.get("/deployments/{name}/promote")
def promoting(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """Where a version of a deployment may go next, and through which gates."""
    wish = deployer.deployments.current(name)
    every = deployer.stages.listed(Window(_MOST)).items
    stages = [one for one in every if one.name != wish.stage]
    here = next((one.position for one in every if one.name == wish.stage), -1)
    # The next one on the way is what most people want.
    following = next((one.name for one in stages if one.position > here), "")
    versions = deployer.registry.versions(wish.main.model, Window(_ROWS)).items
    shell = Shell(f"Promote {name}", "promotions", f"quarterdeck promote {name} --to STAGE", f"/api/deployments/{name}")
    return render("promote.html", PromotePage(shell, wish, stages, following, versions))


@router.post("/deployments/{name}/promote")
def promote(
    request: Request,
    name: Name,
    deployer: TheDeployer,
    to: Annotated[Name, Form()],
    version: Annotated[int, Form(ge=1, le=2**31 - 1)],
    seen: Annotated[int, Form(ge=1)],
    why: Why = "",
) -> RedirectResponse:
    """Begin a promotion; its page tells how it goes on."""
    act = replace(request.state.caller.act(why), expected=seen)
    found = deployer.promotions.ask(name, PromotionInput(to=to, version=version, why=why), act)
    return RedirectResponse(f"/promotions/{found.id}", status_code=303)


@router.get("/promotions/{promotion}")
def promotion(promotion: Ident, deployer: TheDeployer) -> HTMLResponse:
    """One promotion with what its gates have found."""
    found = deployer.promotions.one(promotion)
    shell = Shell(
        f"Promotion {promotion}", "promotions", f"quarterdeck promotion show {promotion}", f"/api/promotions/{promotion}"
    )
    waits = found.state == "waiting for approval"
    page = PromotionPage(shell, found, PROMOTION[found.state], [_gate(one) for one in found.gates], waits)
    return render("promotion.html", page)


@router.post("/promotions/{promotion}/approve")
def approve(request: Request, promotion: Ident, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """A second person's yes."""
    deployer.promotions.approve(promotion, DecisionInput(why=why), request.state.caller.act(why))
    return RedirectResponse(f"/promotions/{promotion}", status_code=303)


@router.post("/promotions/{promotion}/reject")
def reject(request: Request, promotion: Ident, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """A second person's no."""
    deployer.promotions.reject(promotion, DecisionInput(why=why), request.state.caller.act(why))
    return RedirectResponse(f"/promotions/{promotion}", status_code=303)


def _gate(result: GateResult) -> GateRow:
    state = GATE["passed" if result.passed else "refused"]
    return GateRow(result, state, list(result.listed[0]) if result.listed else [], max(0, len(result.listed) - _LISTED))
