"""The pages on stages: what lives where, and what a version must pass before it comes there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.console.forms import Problem, Sent, problems, sent
from quarterdeck_deployer.console.pages import Shell
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.deployments import DeploymentFilter
from quarterdeck_deployer.gates.kinds import GoldenGate, PackageGate, ReplayGate, ScenariosGate, SchemaGate
from quarterdeck_deployer.listing import Window
from quarterdeck_deployer.revisions import RevisionView
from quarterdeck_deployer.stages import StageInput, StageView

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
_KINDS = (PackageGate, GoldenGate, ScenariosGate, SchemaGate, ReplayGate)
_MOST = 1_000
_SHOWN = 100


@dataclass(frozen=True)
class GateLine:
    """One gate that a stage may have; `settings` are (name, what it means, value)."""

    name: str
    words: str
    asked: bool
    settings: list[tuple[str, str, str]]


@dataclass(frozen=True)
class StageRow:
    """One stage with its gates in words."""

    stage: StageView
    gates: list[GateLine]


@dataclass(frozen=True)
class StagesPage:
    """All stages in their order: what lives where, what stands before it?"""

    shell: Shell
    rows: list[StageRow]


@dataclass(frozen=True)
class StagePage:
    """One stage. `gates` are all that there are, those that it has as they are set; of the deployments the first hundred."""

    shell: Shell
    stage: StageView
    gates: list[GateLine]
    infrastructures: list[str]
    deployments: list[RevisionView]
    problems: tuple[Problem, ...] = ()


@router.get("/stages")
def stages(deployer: TheDeployer) -> HTMLResponse:
    """All stages with their gates, in their order."""
    found = deployer.stages.listed(Window(_MOST)).items
    rows = [StageRow(one, [line for line in _lines(one) if line.asked]) for one in found]
    return render("stages.html", StagesPage(Shell("Stages", "stages", "quarterdeck stage list", "/api/stages"), rows))


@router.get("/stages/{name}")
def stage(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """One stage: what lives there, and a form for its gates."""
    return render("stage.html", _stage_page(deployer, name))


@router.post("/stages/{name}")
async def change(request: Request, name: Name, deployer: TheDeployer) -> Response:
    """Change what a version must pass before it comes to a stage."""
    form = await sent(request)
    now = await run_in_threadpool(deployer.stages.one, name)
    given = {"position": now.position, "infrastructure": now.infrastructure, **form.given("position", "infrastructure", "why")}
    try:
        wanted = StageInput.model_validate({**given, "approval": "approval" in form.typed, "gates": _gates(form)})
    except ValidationError as error:
        page = await run_in_threadpool(_stage_page, deployer, name)
        return render("stage.html", replace(page, problems=tuple(problems(error))), 422)
    await run_in_threadpool(deployer.stages.put, name, wanted, request.state.caller.act(wanted.why))
    return RedirectResponse(f"/stages/{name}", status_code=303)


def _stage_page(deployer: Deployer, name: str) -> StagePage:
    found = deployer.stages.one(name)
    return StagePage(
        shell=Shell(name, "stages", f"quarterdeck stage show {name}", f"/api/stages/{name}"),
        stage=found,
        gates=_lines(found),
        infrastructures=sorted(deployer.infrastructures),
        deployments=[one.wish for one in deployer.deployments.listed(Window(_SHOWN), DeploymentFilter(stage=name)).items],
    )


def _lines(stage: StageView) -> list[GateLine]:
    """Every gate, in the order in which they are asked, as the stage has it or as it would be."""
    has = {gate.gate: gate for gate in stage.gates}
    return [_line(has.get(kind().gate, kind()), kind().gate in has) for kind in _KINDS]


def _line(gate: PackageGate | GoldenGate | ScenariosGate | SchemaGate | ReplayGate, asked: bool) -> GateLine:
    settings = [
        (name, (field.description or "").rstrip("."), f"{getattr(gate, name):g}")
        for name, field in type(gate).model_fields.items()
        if name != "gate"
    ]
    return GateLine(gate.gate, (type(gate).__doc__ or "").strip(), asked, settings)


def _gates(form: Sent) -> list[dict[str, Any]]:
    """The gates that were ticked, each with its numbers: fields are named `gate.setting`."""
    return [
        {"gate": name, **{key.partition(".")[2]: text for key, text in form.typed.items() if key.startswith(f"{name}.") and text}}
        for name in form.chosen.get("gates", [])
    ]
