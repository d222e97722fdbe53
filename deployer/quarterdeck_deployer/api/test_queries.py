"""/api/deployments/…/test-queries: saved questions, and their answers by several versions side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response

from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheAuthor, TheDeployer
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.query_runs import RunInput, RunView
from quarterdeck_deployer.revisions import Why
from quarterdeck_deployer.test_queries import QueryInput, QueryView

router = APIRouter(prefix="/api/deployments/{name}/test-queries", tags=["test queries"], responses=ERRORS)
_EXAMPLE = {
    "description": "A flight that was late whenever we looked.",
    "rows": [{"month": 12, "carrier": "UA", "dep_hour": 18.5}],
    "expect": [{"prediction": "yes"}],
}


@router.get("")
def queries(name: Name, deployer: TheDeployer, page: ThePage) -> list[QueryView]:
    """The test queries of a deployment, by name."""
    return page.answer(deployer.queries.list(name, page.window))


@router.post("/run")
def run(
    name: Name,
    deployer: TheDeployer,
    body: Annotated[RunInput | None, Body(examples=[{"versions": [1, 2]}])] = None,
) -> RunView:
    """Ask versions all queries, or some: their answers, what is not as expected, and where they differ."""
    return deployer.query_runs.run(name, body or RunInput())


@router.get("/{query}")
def query(name: Name, query: Name, deployer: TheDeployer) -> QueryView:
    """One test query."""
    return deployer.queries.one(name, query)


@router.put("/{query}", responses={201: {"description": "It is new."}})
def put(
    name: Name,
    query: Name,
    body: Annotated[QueryInput, Body(examples=[_EXAMPLE])],
    response: Response,
    author: TheAuthor,
    deployer: TheDeployer,
) -> QueryView:
    """Save a query (201), or put another one in its place (200)."""
    saved = deployer.queries.put(name, query, body, author.act(body.why))
    response.status_code = 201 if saved.created else 200
    return saved.query


@router.delete("/{query}", status_code=204)
def delete(name: Name, query: Name, author: TheAuthor, deployer: TheDeployer, why: Why = "") -> None:
    """Forget a query."""
    deployer.queries.delete(name, query, author.act(why))
