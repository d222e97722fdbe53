"""The pages on what was done: actions with how each ended, and the audit trail with its seals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.responses import HTMLResponse

from quarterdeck_deployer.actions import ActionFilter, ActionView, State
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.audit import AuditFilter, AuditView, Known, TrailVerdict
from quarterdeck_deployer.console.pages import Shell
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.console.words import ACTION, TRAIL, VERBS, Tag
from quarterdeck_deployer.listing import Window

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
Before = Annotated[int | None, Query(ge=1, le=2**63 - 1)]
Word = Annotated[str, Query(max_length=200)]
_ROWS = 50


@dataclass(frozen=True)
class ActionRow:
    """One action, and how it ended."""

    action: ActionView
    state: Tag
    verb: str


@dataclass(frozen=True)
class ActionsPage:
    """What became of each action; `older` is the address of the next page."""

    shell: Shell
    rows: list[ActionRow]
    states: tuple[str, ...]
    wanted: ActionFilter
    older: str


@dataclass(frozen=True)
class AuditPage:
    """Who did what; `older` is the address of the next page."""

    shell: Shell
    entries: list[AuditView]
    wanted: AuditFilter
    filtered: bool
    older: str


@dataclass(frozen=True)
class VerifyPage:
    """Is the trail what was written?"""

    shell: Shell
    verdict: TrailVerdict
    state: Tag
    known: Known


@router.get("/actions")
def actions(deployer: TheDeployer, deployment: Word = "", state: Word = "", before: Before = None) -> HTMLResponse:
    """The newest actions first: who wanted what, whether it was applied, and why not where it failed."""
    states = get_args(State)
    wanted = ActionFilter(deployment.strip(), next((one for one in states if one == state), None))
    found = deployer.actions.listed(Window(_ROWS, (before,) if before is not None else None), wanted)
    rows = [ActionRow(one, ACTION[one.state], VERBS[one.verb]) for one in found.items]
    older = _older("/actions", found.next, deployment=wanted.deployment, state=wanted.state or "")
    return render(
        "actions.html",
        ActionsPage(Shell("Actions", "audit", "quarterdeck actions list", "/api/actions"), rows, states, wanted, older),
    )


@router.get("/audit")
def audit(deployer: TheDeployer, object: Word = "", who: Word = "", verb: Word = "", before: Before = None) -> HTMLResponse:
    """Who did what and why, newest first; of one object, one person or one kind of action."""
    wanted = AuditFilter(object.strip(), who.strip(), verb.strip())
    found = deployer.audit.listed(Window(_ROWS, (before,) if before is not None else None), wanted)
    older = _older("/audit", found.next, object=wanted.object, who=wanted.who, verb=wanted.verb)
    shell = Shell("Audit", "audit", "quarterdeck audit list", "/api/audit")
    return render("audit.html", AuditPage(shell, found.items, wanted, wanted != AuditFilter(), older))


@router.get("/audit/verify")
def verify(
    deployer: TheDeployer,
    sequence: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    sha256: Annotated[str, Query(max_length=64)] = "",
) -> HTMLResponse:
    """Hold every entry of the trail against its seal, and against one that somebody has noted outside."""
    known = Known(sequence, sha256.strip())
    verdict = deployer.audit.verify(known if sequence else None)
    shell = Shell("Is the trail whole?", "audit", "quarterdeck audit verify", "/api/audit/verify")
    return render("verify.html", VerifyPage(shell, verdict, TRAIL["whole" if verdict.whole else "broken"], known))


def _older(path: str, place: tuple[str | int, ...] | None, **wanted: str) -> str:
    if place is None:
        return ""
    return f"{path}?{urlencode({**{name: text for name, text in wanted.items() if text}, 'before': place[0]})}"
