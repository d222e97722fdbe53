"""The pages on test queries: saved questions of a deployment, and what several versions answer to them side by side."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from quarterdeck.errors import NotFound
from quarterdeck.schema import Frozen, Name, Prediction, Schema
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.console import trying
from quarterdeck_deployer.console.forms import NOTHING, Problem, Sent, Why, problems, sent
from quarterdeck_deployer.console.pages import Shell, SurePage
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.console.trying import TryForm
from quarterdeck_deployer.console.words import ANSWER, PAGE_ROWS, Tag
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.listing import Window
from quarterdeck_deployer.query_runs import MAX_VERSIONS, RowAnswer, RunInput, RunView
from quarterdeck_deployer.registry_views import VersionView
from quarterdeck_deployer.revisions import RevisionView
from quarterdeck_deployer.test_queries import QueryInput, QueryView

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
_MOST = 500
_PATH = "/deployments/{name}/queries"


@dataclass(frozen=True)
class AskedRow:
    """One row of one query: what is expected, and each version's answer with its tag."""

    query: str
    number: int
    expected: str
    answers: list[tuple[RowAnswer, Tag | None]]


@dataclass(frozen=True)
class Ran:
    """All queries, asked of some versions; `failed` counts queries, in the order of the versions."""

    versions: list[int]
    failed: list[int]
    rows: list[AskedRow]


@dataclass(frozen=True)
class QueriesPage:
    """What is a deployment asked before a version comes to it, and who answers how? `choices` are versions of main's model."""

    shell: Shell
    name: str
    wish: RevisionView
    queries: list[QueryView]
    choices: list[VersionView]
    chosen: list[int]
    schema: Schema
    form: TryForm
    most: int = MAX_VERSIONS
    ran: Ran | None = None
    sent: Sent = NOTHING
    problems: tuple[Problem, ...] = ()


@router.get(_PATH)
def queries(name: Name, deployer: TheDeployer) -> HTMLResponse:
    """The test queries of a deployment, and the form that asks versions all of them."""
    return render("queries.html", _page(deployer, name))


@router.post(_PATH + "/run")
async def run(request: Request, name: Name, deployer: TheDeployer) -> HTMLResponse:
    """Ask some versions all queries; their answers side by side."""
    form = await sent(request)
    trust = "code" if "code" in form.typed else "data"
    page = await run_in_threadpool(_page, deployer, name)
    try:
        wanted = RunInput.model_validate({"versions": form.chosen.get("versions", []), "trust": trust})
    except ValidationError as error:
        return render("queries.html", replace(page, problems=tuple(problems(error))), 422)
    found = await run_in_threadpool(deployer.query_runs.run, name, wanted)
    return render("queries.html", replace(page, chosen=found.versions, ran=_ran(found)))


@router.post(_PATH)
async def save(request: Request, name: Name, deployer: TheDeployer) -> Response:
    """Save one row under a name, maybe with the answer that is expected."""
    form = await sent(request)
    page = await run_in_threadpool(_page, deployer, name)
    fields, row = trying.read(page.schema, form.typed)
    wrong = [Problem(one.name, one.problem) for one in fields if one.problem]
    try:
        query = _Named(query=form.typed.get("query", "").strip()).query
        given = {**form.given("description", "why"), "rows": [row], "expect": _expected(form, page.schema)}
        wanted = QueryInput.model_validate(given)
    except ValidationError as error:
        wrong += problems(error)
    if wrong:
        return render("queries.html", replace(page, sent=form, form=TryForm(fields=fields), problems=tuple(wrong)), 422)
    await run_in_threadpool(deployer.queries.put, name, query, wanted, request.state.caller.act(wanted.why))
    return RedirectResponse(f"/deployments/{name}/queries", status_code=303)


@router.get(_PATH + "/{query}/delete")
def deleting(name: Name, query: Name, deployer: TheDeployer) -> HTMLResponse:
    """What forgetting a test query will do."""
    found = deployer.queries.one(name, query)
    back = f"/deployments/{name}/queries"
    page = SurePage(
        Shell(
            f"Delete test query {query}",
            "deployments",
            f"quarterdeck scenario delete {name} {query}",
            f"/api/deployments/{name}/test-queries/{query}",
        ),
        back=(back, f"Test queries of {name}"),
        action=f"{back}/{query}/delete",
        button=f"Delete test query {query}",
        sentences=[f"Its {len(found.rows)} rows and what was expected are gone; gates do not ask it any more."],
    )
    return render("sure.html", page)


@router.post(_PATH + "/{query}/delete")
def delete(request: Request, name: Name, query: Name, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """Forget a test query; a second time changes nothing."""
    with suppress(NotFound):
        deployer.queries.delete(name, query, request.state.caller.act(why))
    return RedirectResponse(f"/deployments/{name}/queries", status_code=303)


class _Named(Frozen):
    """The name that a query is saved under."""

    query: Name


def _page(deployer: Deployer, name: str) -> QueriesPage:
    wish = deployer.deployments.current(name)
    main = deployer.registry.version(wish.main.model, wish.main.version).manifest
    return QueriesPage(
        shell=Shell(
            f"Test queries of {name}", "deployments", f"quarterdeck scenario list {name}", f"/api/deployments/{name}/test-queries"
        ),
        name=name,
        wish=wish,
        queries=deployer.queries.list(name, Window(_MOST)).items,
        choices=deployer.registry.versions(wish.main.model, Window(PAGE_ROWS)).items,
        # Whoever opens the page wants to know whether the two that answer agree.
        chosen=[one.version for one in (wish.main, wish.challenger) if one and one.model == wish.main.model],
        schema=main.data_schema,
        form=TryForm(fields=trying.fields_of(main.data_schema, main.golden[0].row)),
    )


def _expected(form: Sent, schema: Schema) -> list[dict[str, Any]]:
    text = form.typed.get("expected", "").strip()
    if not text:
        return []
    # A class may be a number or a truth value; forms know text only.
    return [{"prediction": next((one for one in schema.classes if str(one) == text), text)}]


def _ran(found: RunView) -> Ran:
    rows = [
        AskedRow(
            query.query,
            row.row,
            "" if row.expected is None else str(row.expected.prediction),
            [(one, _tag(one, row.expected)) for one in row.answers],
        )
        for query in found.queries
        for row in query.rows
    ]
    return Ran(found.versions, found.failed, rows)


def _tag(answer: RowAnswer, expected: Prediction | None) -> Tag | None:
    if answer.problem:
        return ANSWER["not as expected"]
    if answer.differs:
        return ANSWER["differs"]
    return ANSWER["as expected"] if expected is not None else None
