"""What the console's forms do. Every action names the state that it leaves, so that a second click finds nothing to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import httpx
from fastapi import APIRouter, Form, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from quarterdeck.errors import NotFound
from quarterdeck.schema import Name, Row
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.console import pages, trying
from quarterdeck_deployer.console.confirming import deletion
from quarterdeck_deployer.console.forms import Why
from quarterdeck_deployer.console.pages import Shell
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.console.trying import Doors, TryForm
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.revisions import ChallengerInput, Changed, RevisionView, RollbackInput, SwapInput

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
WAIT_SECONDS = 5.0
Leaving = Annotated[str, Form(pattern=r"^sha256:[0-9a-f]{64}$")]


@router.post("/deployments/{name}/swap")
async def swap(request: Request, name: Name, leaving: Leaving, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """Exchange main and challenger."""
    # The digest that is left makes the second click of two a wish that is fulfilled already.
    return await _do(request, deployer, why, deployer.deployments.swap, name, SwapInput(leaving=leaving, why=why))


@router.post("/deployments/{name}/rollback/{revision}")
async def rollback(
    request: Request,
    name: Name,
    revision: Annotated[int, Path(ge=1, le=2**31 - 1)],
    leaving: Leaving,
    deployer: TheDeployer,
    why: Why = "",
) -> RedirectResponse:
    """Restore the pair of an earlier revision."""
    wanted = RollbackInput(revision=revision, leaving=leaving, why=why)
    return await _do(request, deployer, why, deployer.deployments.rollback, name, wanted)


@router.post("/deployments/{name}/challenger")
async def set_challenger(
    request: Request,
    name: Name,
    deployer: TheDeployer,
    version: Annotated[int, Form(ge=1, le=2**31 - 1)],
    code: Annotated[bool, Form()] = False,
    why: Why = "",
) -> RedirectResponse:
    """Let a version of main's model answer in the background; where it does already, nothing happens."""
    choice = ChallengerInput(version=version, trust="code" if code else "data", why=why)
    return await _do(request, deployer, why, deployer.deployments.set_challenger, name, choice)


@router.post("/deployments/{name}/clear")
async def clear(request: Request, name: Name, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """Take the challenger away."""
    return await _do(request, deployer, why, deployer.deployments.clear_challenger, name)


@router.post("/deployments/{name}/run")
async def run(request: Request, name: Name, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """Let it answer requests."""
    return await _do(request, deployer, why, deployer.deployments.run, name)


@router.post("/deployments/{name}/stop")
async def stop(request: Request, name: Name, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """Let it answer no requests."""
    return await _do(request, deployer, why, deployer.deployments.stop, name)


@router.post("/deployments/{name}/delete")
def delete(request: Request, name: Name, deployer: TheDeployer, repeated: Annotated[str, Form()] = "", why: Why = "") -> Response:
    """Delete it, where the name was typed again."""
    if repeated.strip() != name:
        return deletion(deployer.deployments.current(name), "This is not its name.", why)
    # The second click of two finds nothing left to delete, which is what was wanted.
    with suppress(NotFound):
        deployer.deployments.delete(name, request.state.caller.act(why))
    return RedirectResponse("/deployments", status_code=303)


@router.post("/deployments/{name}/try")
async def try_it(request: Request, name: Name, deployer: TheDeployer) -> HTMLResponse:
    """Ask both roles one row."""
    typed = {key: value for key, value in (await request.form()).items() if isinstance(value, str)}
    # 422 tells programs and tests what the list on top tells people.
    form = await _asked(deployer, name, typed)
    return render("try.html", pages.TryPage(try_shell(name), name, form), 422 if form.problems else 200)


@router.post("/models/{model}/active")
def activate(
    request: Request, model: Name, version: Annotated[int, Form(ge=1, le=2**31 - 1)], deployer: TheDeployer
) -> RedirectResponse:
    """Make a version the active one; where it is already, nothing happens."""
    deployer.registry.activate(model, version, request.state.caller.act())
    return RedirectResponse(f"/models/{model}", status_code=303)


def try_shell(name: str) -> Shell:
    """What stands around the test form."""
    return Shell(f"Try {name}", "deployments", f"quarterdeck predict {name} --row JSON", f"/api/deployments/{name}")


def empty_form(deployer: Deployer, wish: RevisionView) -> TryForm:
    """The test form, filled with the first golden row of main."""
    manifest = deployer.registry.version(wish.main.model, wish.main.version).manifest
    fields = trying.fields_of(manifest.data_schema, manifest.golden[0].row)
    snippets = _snippets(deployer, wish, manifest.golden[0].row)
    return TryForm(fields=fields, snippets=snippets, target=manifest.data_schema.target, project=wish.project)


async def _asked(deployer: Deployer, name: str, typed: dict[str, str]) -> TryForm:
    wish = await run_in_threadpool(deployer.deployments.current, name)
    schema = (await run_in_threadpool(deployer.registry.version, wish.main.model, wish.main.version)).manifest.data_schema
    fields, row = trying.read(schema, typed)
    if any(one.problem for one in fields):
        return TryForm(fields=fields, target=schema.target, project=wish.project)
    # The deployer asks, not the browser: no key ever reaches the page, and no request leaves its origin.
    urls = deployer.urls(wish)
    doors = Doors(urls.main, urls.challenger, deployer.console_key, deployer.tokens.mirror)
    # Nodes are neighbours: a proxy of the surroundings must not come between.
    async with httpx.AsyncClient(trust_env=False) as client:
        asked = [trying.ask_main(client, doors, name, row)]
        # The scores are named by the challenger's own classes: their order may differ from main's.
        if wish.challenger is not None:
            theirs = await run_in_threadpool(deployer.registry.version, wish.challenger.model, wish.challenger.version)
            asked.append(trying.ask_challenger(client, doors, name, row, theirs.manifest.data_schema))
        answers = await asyncio.gather(*asked)
    snippets = _snippets(deployer, wish, row)
    return TryForm(fields=fields, answers=list(answers), snippets=snippets, target=schema.target, project=wish.project)


def _snippets(deployer: Deployer, wish: RevisionView, row: Row) -> trying.Snippets:
    url = f"{deployer.urls(wish).main}/deployments/{wish.deployment}/predict"
    return trying.snippets(url, wish.deployment, row, keyed=wish.access != "public")


async def _do(request: Request, deployer: Deployer, why: str, action: Callable[..., Changed], *given: object) -> RedirectResponse:
    """Take an action of the deployments, wait a little for the nodes, then show the deployment with a banner about it."""
    changed = await run_in_threadpool(action, *given, request.state.caller.act(why))
    # A step back to a loaded version is done in this time; what takes longer is told by the banner.
    await deployer.applied(changed.deployment, changed.revision, WAIT_SECONDS)
    return RedirectResponse(f"/deployments/{changed.deployment}?done={changed.revision}", status_code=303)
