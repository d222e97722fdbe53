"""The console's pages. Each asks the services, builds its dataclass and renders it.

Beside this, `confirming` shows what an action will do, and `actions` does it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import HTMLResponse, RedirectResponse, Response

from quarterdeck.errors import NotFound, QuarterdeckError
from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.performance import performance_of
from quarterdeck_deployer.api.predictions import TheIndex
from quarterdeck_deployer.console import (
    account,
    actions,
    acts,
    comparing,
    confirming,
    grouping,
    keyring,
    pages,
    people,
    places,
    promoting,
    querying,
    staging,
    versions,
)
from quarterdeck_deployer.console.pages import Shell
from quarterdeck_deployer.console.rendering import ASSETS, media_type, render
from quarterdeck_deployer.console.words import PAGE_ROWS, slice_of
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.listing import Window
from quarterdeck_deployer.predictions import PredictionIndex
from quarterdeck_deployer.revisions import RevisionView

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
PageNumber = Annotated[int, Query(ge=1, description="Page of a long list.")]
_NEWEST = 20


@router.get("/")
def home() -> RedirectResponse:
    """The list of deployments is where everybody starts."""
    return RedirectResponse("/deployments", status_code=303)


@router.get("/static/{name}")
def static(name: str) -> Response:
    """A style sheet, a script or a picture of the console."""
    # A dictionary, not a folder: there is no path to walk out of.
    if name not in ASSETS:
        raise NotFound("There is no such file.", kind="file")
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(ASSETS[name], media_type=media_type(name), headers=headers)


@router.get("/deployments")
def deployments(deployer: TheDeployer, page: PageNumber = 1) -> HTMLResponse:
    """All deployments, with what is wished and what is observed of each."""
    # Those of one service stand together, in whichever stages they live.
    wishes = sorted(deployer.deployments.living(), key=lambda one: (one.wish.service or one.wish.deployment, one.wish.deployment))
    found = slice_of(wishes, page)
    # Only the rows of this page are observed: a long list costs no more than a short one.
    rows = [pages.deployment_row(one.wish, deployer.observe(one)) for one in found.items]
    shell = Shell("Deployments", "deployments", "quarterdeck get", "/api/deployments")
    shown = pages.DeploymentsPage(shell, found.holding(rows))
    return render("deployments.html", shown)


@router.get("/deployments/{name}")
def deployment(
    name: Name, deployer: TheDeployer, index: TheIndex, page: PageNumber = 1, done: Annotated[int | None, Query()] = None
) -> HTMLResponse:
    """One deployment: states, versions, addresses, revisions, performance, newest predictions, and a form to try it."""
    history, observed = deployer.deployments.history(name), deployer.observed(name)
    shown = pages.DeploymentPage(
        shell=Shell(name, "deployments", f"quarterdeck status {name}", f"/api/deployments/{name}"),
        status=pages.status(history[0], observed),
        history=pages.history(history, observed, page),
        addresses=_addresses(deployer, history[0]),
        measured=_measured(deployer, index, name),
        form=actions.empty_form(deployer, history[0]),
        done=pages.done(done, history, observed),
    )
    return render("deployment.html", shown)


@router.get("/deployments/{name}/status")
def status(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """The part of a deployment's page that is refreshed every few seconds."""
    return render("_status.html", pages.status(*deployer.seen(name)))


@router.get("/deployments/{name}/revisions")
def revisions(name: Name, deployer: TheDeployer, page: PageNumber = 1) -> HTMLResponse:
    """The part of a deployment's page with its history, refreshed likewise."""
    return render("_revisions.html", pages.history(deployer.deployments.history(name), deployer.observed(name), page))


@router.get("/deployments/{name}/try")
def try_it(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """The test form by itself."""
    form = actions.empty_form(deployer, deployer.deployments.current(name))
    return render("try.html", pages.TryPage(actions.try_shell(name), name, form))


@router.get("/models")
def models(deployer: TheDeployer, page: PageNumber = 1) -> HTMLResponse:
    """All models, with their active and newest versions."""
    names = deployer.registry.names()
    part = slice_of(names, page)
    # Only the rows of this page are read: a long list costs no more than a short one.
    before = names[part.first - 2 : part.first - 1]
    rows = deployer.registry.models(Window(PAGE_ROWS, tuple(before) or None)).items
    shell = Shell("Models", "models", "quarterdeck model list", "/api/models")
    return render("models.html", pages.ModelsPage(shell, part.holding(rows)))


@router.get("/models/{model}")
def model(model: Name, deployer: TheDeployer, page: PageNumber = 1) -> HTMLResponse:
    """One model: its versions with metrics and where they are deployed, its runs, notes and labels."""
    found = deployer.registry.model(model)
    part = slice_of(found.items, page)
    wishes = [one.wish for one in deployer.deployments.living()]
    rows = [pages.VersionRow(one, pages.deployed_in(one.digest, wishes)) for one in part.items]
    shell = Shell(model, "models", f"quarterdeck model show {model}", f"/api/models/{model}")
    return render("model.html", pages.ModelPage(shell, found, part.holding(rows), pages.metric_names(part.items)))


def _addresses(deployer: Deployer, wish: RevisionView) -> pages.Addresses:
    base, name = deployer.urls(wish).main, wish.deployment
    return pages.Addresses(f"{base}/deployments/{name}/predict", f"{base}/deployments/{name}/form", f"{base}/docs")


def _measured(deployer: Deployer, index: PredictionIndex, name: str) -> pages.Measured:
    """What the store says; without it the rest of the page stands all the same."""
    try:
        return pages.Measured(
            performance=performance_of(deployer.registry, index, name),
            ledger=index.ledger(name),
            predictions=index.newest(name, _NEWEST),
        )
    except QuarterdeckError as error:
        return pages.Measured(problem=str(error))


for _part in (
    comparing,
    versions,
    confirming,
    querying,
    promoting,
    staging,
    places,
    keyring,
    grouping,
    people,
    acts,
    account,
    actions,
):
    router.include_router(_part.router)
