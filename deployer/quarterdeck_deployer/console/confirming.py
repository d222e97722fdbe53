"""The pages before an action: what is so now, what will be afterwards, and one button that repeats verb and object."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import HTMLResponse

from quarterdeck.errors import Conflict
from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.console import pages
from quarterdeck_deployer.console.pages import ChallengerPage, ConfirmPage, Shell
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.console.words import PAGE_ROWS
from quarterdeck_deployer.revisions import RevisionView, RollbackInput, rollback_target

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
_NO_LOSS = "No request is lost: what serves goes on until every node has proven the other. Keys, records and feedback stay."


@router.get("/deployments/{name}/swap")
def swap(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """What a swap will do."""
    now, observed = deployer.seen(name)
    # No page for what cannot be done: the sentence names the way to it.
    if now.challenger is None:
        raise Conflict(f"Deployment {name} has no challenger to swap with.", hint="Set a challenger first.")
    return _page(
        f"quarterdeck challenger swap {name}",
        title=f"Swap main and challenger of {name}",
        path="swap",
        button=f"Swap to {now.challenger}",
        now=now,
        after=now.content.model_copy(update={"main": now.challenger, "challenger": now.main}),
        sentence=_NO_LOSS,
        duration=pages.duration(now.challenger, observed),
        leaving=now.main.digest,
    )


@router.get("/deployments/{name}/rollback/{revision}")
def rollback(name: Name, revision: Annotated[int, Path(ge=1, le=2**31 - 1)], deployer: TheDeployer) -> HTMLResponse:
    """What a rollback will do."""
    history, observed = deployer.deployments.history(name), deployer.observed(name)
    now = history[0]
    # The same rule as the action itself, so that page and deed cannot disagree.
    target = rollback_target(history, RollbackInput(revision=revision))
    if target is None:
        raise Conflict(f"Revision {revision} has the pair that is wished already: {now.main} is main.", hint="Nothing to do.")
    rejects = f" {now.main} is rejected as main until somebody deploys it by name; it may still be a challenger."
    return _page(
        f"quarterdeck rollback {name} --to {revision}",
        title=f"Roll back {name}",
        path=f"rollback/{revision}",
        button=f"Roll back to {target.main}",
        now=now,
        after=now.content.model_copy(update={"main": target.main, "challenger": target.challenger}),
        sentence=_NO_LOSS + (rejects if target.main.digest != now.main.digest else ""),
        duration=pages.duration(target.main, observed),
        restores=target.number,
        leaving=now.main.digest,
    )


@router.get("/deployments/{name}/challenger")
def challenger(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """Which version shall answer in the background."""
    now = deployer.deployments.current(name)
    versions = deployer.registry.model(now.main.model).items
    # Main beside itself would compare nothing, and the present challenger is no change.
    used = {now.main.digest, now.challenger.digest if now.challenger else ""}
    choices = [one for one in versions if one.digest not in used][:PAGE_ROWS]
    shell = Shell(f"Challenger of {name}", "deployments", f"quarterdeck challenger set {name} …", f"/api/deployments/{name}")
    return render("challenger.html", ChallengerPage(shell, name, now, choices))


@router.get("/deployments/{name}/clear")
def clear(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """What taking the challenger away will do."""
    now = deployer.deployments.current(name)
    if now.challenger is None:
        raise Conflict(f"Deployment {name} has no challenger.", hint="Nothing to do.")
    return _page(
        f"quarterdeck challenger clear {name}",
        title=f"Clear the challenger of {name}",
        path="clear",
        button=f"Clear challenger {now.challenger}",
        now=now,
        after=now.content.model_copy(update={"challenger": None}),
        sentence="Rows are not copied any more; main's answers do not change. What the challenger has answered stays recorded.",
    )


@router.get("/deployments/{name}/run")
def run(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """What running will do."""
    now = deployer.deployments.current(name)
    if now.running:
        raise Conflict(f"Deployment {name} is to run already.", hint="Nothing to do.")
    return _page(
        f"quarterdeck run {name}",
        title=f"Run {name}",
        path="run",
        button=f"Run {name}",
        now=now,
        after=now.content.model_copy(update={"running": True}),
        sentence="The nodes load both versions again; callers get answers once main is proven.",
    )


@router.get("/deployments/{name}/stop")
def stop(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """What stopping will do."""
    now = deployer.deployments.current(name)
    if not now.running:
        raise Conflict(f"Deployment {name} is to be stopped already.", hint="Nothing to do.")
    return _page(
        f"quarterdeck stop {name}",
        title=f"Stop {name}",
        path="stop",
        button=f"Stop {name}",
        now=now,
        after=now.content.model_copy(update={"running": False}),
        sentence="Callers get errors instead of answers until somebody runs it again. Everything else stays.",
        grave=True,
    )


@router.get("/deployments/{name}/delete")
def delete(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """What deleting will do."""
    return deletion(deployer.deployments.current(name))


def deletion(now: RevisionView, problem: str = "", why: str = "") -> HTMLResponse:
    """The page before a deletion; with a problem it is shown again, and keeps the reason that was typed."""
    return _page(
        f"quarterdeck delete {now.deployment}",
        422 if problem else 200,
        title=f"Delete {now.deployment}",
        path="delete",
        button=f"Delete {now.deployment}",
        now=now,
        after=None,
        sentence="Callers get errors instead of answers. Its history, records and feedback stay, and the name goes on counting.",
        grave=True,
        repeat=True,
        problem=problem,
        why=why,
    )


def _page(cli: str, status: int = 200, **page: Any) -> HTMLResponse:
    name = page["now"].deployment
    shell = Shell(page["title"], "deployments", cli, f"/api/deployments/{name}")
    return render("confirm.html", ConfirmPage(shell=shell, name=name, **page), status)
