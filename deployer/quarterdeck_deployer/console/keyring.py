"""The pages on keys: who can call, a new key, a new secret in place of an old one, and taking one back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse

from quarterdeck.errors import Conflict, NotFound
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.console.forms import NOTHING, Problem, Sent, TheTickets, problems, sent
from quarterdeck_deployer.console.pages import Shell, SurePage
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.console.words import KEY, Slice, Tag, slice_of
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.keys import KeyInput, KeyView, NewKey, RotateInput
from quarterdeck_deployer.listing import Window

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
_MOST = 10_000


@dataclass(frozen=True)
class KeyRow:
    """One key without its secret; `newer` is the one that has taken its place."""

    key: KeyView
    state: Tag
    newer: str


@dataclass(frozen=True)
class KeysPage:
    """Who can call? `made` is set in the one answer that shows a new key."""

    shell: Shell
    rows: Slice[KeyRow]
    ticket: str
    projects: list[str]
    sent: Sent = NOTHING
    problems: tuple[Problem, ...] = ()
    made: NewKey | None = None


@dataclass(frozen=True)
class RotatePage:
    """A new secret in place of a key's present one; `made` only in the answer that shows it."""

    shell: Shell
    row: KeyRow
    ticket: str
    problems: tuple[Problem, ...] = ()
    made: NewKey | None = None


@router.get("/keys")
def keys(deployer: TheDeployer, tickets: TheTickets, page: Annotated[int, Query(ge=1)] = 1) -> HTMLResponse:
    """All keys, and a form for a new one."""
    return render("keys.html", _keys_page(deployer, tickets.new(), page))


@router.post("/keys")
async def create(request: Request, deployer: TheDeployer, tickets: TheTickets) -> HTMLResponse:
    """Create a key; this answer is the only one that shows its secret."""
    form = await sent(request)
    given = {"project": "*", **form.given("name", "project", "days", "rate", "burst"), "scopes": form.chosen.get("scopes", [])}
    try:
        wanted = KeyInput.model_validate(given)
    except ValidationError as error:
        page = await run_in_threadpool(_keys_page, deployer, tickets.new())
        return render("keys.html", replace(page, sent=form, problems=tuple(problems(error))), 422)
    # Only a form that is right uses its ticket up: a mistake may be corrected and sent again.
    _use(tickets.use(form.typed.get("ticket", "")))
    made = await run_in_threadpool(deployer.keys.create, wanted, request.state.caller.act())
    page = await run_in_threadpool(_keys_page, deployer, tickets.new())
    return render("keys.html", replace(page, made=made), 201)


@router.get("/keys/{key}/rotate")
def rotating(key: str, deployer: TheDeployer, tickets: TheTickets) -> HTMLResponse:
    """What rotating a key will do, and for how long the old secret goes on."""
    page = _rotate_page(deployer, key, tickets.new())
    if page.row.state.word != "valid" or page.row.newer:
        raise Conflict("This key opens nothing any more, or another one has taken its place.", hint="See the list of keys.")
    return render("rotate.html", page)


@router.post("/keys/{key}/rotate")
async def rotate(request: Request, key: str, deployer: TheDeployer, tickets: TheTickets) -> HTMLResponse:
    """Make a new key in place of this one; this answer is the only one that shows its secret."""
    form = await sent(request)
    try:
        wanted = RotateInput.model_validate(form.given("overlap_hours", "why"))
    except ValidationError as error:
        page = await run_in_threadpool(_rotate_page, deployer, key, tickets.new())
        return render("rotate.html", replace(page, problems=tuple(problems(error))), 422)
    _use(tickets.use(form.typed.get("ticket", "")))
    made = await run_in_threadpool(deployer.keys.rotate, key, wanted, request.state.caller.act(wanted.why))
    page = await run_in_threadpool(_rotate_page, deployer, key, "")
    return render("rotate.html", replace(page, made=made), 201)


@router.get("/keys/{key}/revoke")
def revoking(key: str, deployer: TheDeployer) -> HTMLResponse:
    """What revoking a key will do."""
    found = _row(deployer, key).key
    page = SurePage(
        Shell(f"Revoke key {found.name}", "keys", f"quarterdeck keys revoke {key}", "/api/keys"),
        back=("/keys", "Keys"),
        action=f"/keys/{key}/revoke",
        button=f"Revoke key {found.name}",
        sentences=[
            f"Whoever calls with qdk_{key}… is refused as soon as the nodes have the next plan, within a few seconds.",
            "It cannot be taken back; a new key can be made at any time.",
        ],
        reason=False,
    )
    return render("sure.html", page)


@router.post("/keys/{key}/revoke")
def revoke(request: Request, key: str, deployer: TheDeployer) -> RedirectResponse:
    """Take a key back; a second time changes nothing."""
    deployer.keys.revoke(key, request.state.caller.act())
    return RedirectResponse("/keys", status_code=303)


def _use(first: bool) -> None:
    if not first:
        raise Conflict(
            "This form was sent before, and the key that it made exists; its secret was in the first answer only.",
            hint="If that answer is lost, revoke the key and create another one.",
        )


def _rows(deployer: Deployer) -> list[KeyRow]:
    found, now = deployer.keys.all(), datetime.now(UTC)
    newer = {one.replaces: one.id for one in found if one.replaces and one.revoked is None}
    return [KeyRow(one, _state(one, now), newer.get(one.id, "")) for one in found]


def _row(deployer: Deployer, key: str) -> KeyRow:
    # Keys are few, and a lookup by id would be one more method for two pages.
    found = next((one for one in _rows(deployer) if one.key.id == key), None)
    if found is None:
        raise NotFound("There is no such key.", kind="key", hint="See the list of keys.")
    return found


def _state(key: KeyView, now: datetime) -> Tag:
    # Revoked wins over expired: somebody did it, and the page should say so.
    expired = key.expires is not None and key.expires <= now
    return KEY["revoked" if key.revoked else "expired" if expired else "valid"]


def _keys_page(deployer: Deployer, ticket: str, page: int = 1) -> KeysPage:
    projects = [one.name for one in deployer.projects.all(Window(_MOST)).items]
    shell = Shell("Keys", "keys", "quarterdeck keys list", "/api/keys")
    return KeysPage(shell, slice_of(_rows(deployer), page), ticket, projects)


def _rotate_page(deployer: Deployer, key: str, ticket: str) -> RotatePage:
    row = _row(deployer, key)
    return RotatePage(Shell(f"Rotate key {row.key.name}", "keys", f"quarterdeck keys rotate {key}", "/api/keys"), row, ticket)
