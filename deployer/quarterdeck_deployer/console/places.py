"""The pages on infrastructures and their nodes: does each live, what does it hold, what does it use, who joins and who goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse

from quarterdeck.errors import Conflict, NotFound
from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.console import charts
from quarterdeck_deployer.console.charts import Day
from quarterdeck_deployer.console.forms import NOTHING, Problem, Sent, TheTickets, Why, problems, sent
from quarterdeck_deployer.console.pages import Shell, SurePage
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.console.words import NODE, PLACED, Slice, Tag, slice_of
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.infrastructures.joining import JoinTokenInput, NewJoinToken
from quarterdeck_deployer.infrastructures.kubernetes_infrastructure import OnKubernetes
from quarterdeck_deployer.infrastructures.rows import InfrastructureView
from quarterdeck_deployer.listing import Window
from quarterdeck_deployer.observed import ObservedDeployment
from quarterdeck_deployer.usage import NodeView

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
NodeName = Annotated[str, Path(max_length=253)]
PageNumber = Annotated[int, Query(ge=1)]
_MOST = 10_000


@dataclass(frozen=True)
class PlaceRow:
    """One infrastructure and what its nodes are at."""

    place: InfrastructureView
    nodes: int
    live: int
    rss_bytes: int
    cpu_cores: float | None


@dataclass(frozen=True)
class PlacesPage:
    """All infrastructures: where do deployments run, and does it live?"""

    shell: Shell
    rows: Slice[PlaceRow]


@dataclass(frozen=True)
class NodeRow:
    """One node and its state."""

    node: NodeView
    state: Tag


@dataclass(frozen=True)
class PlacePage:
    """One infrastructure; `made` only in the answer that shows a new join token."""

    shell: Shell
    place: InfrastructureView
    nodes: Slice[NodeRow]
    day: Day | None
    strangers: list[tuple[str, str]]
    ticket: str
    address: str
    sent: Sent = NOTHING
    problems: tuple[Problem, ...] = ()
    made: NewJoinToken | None = None


@dataclass(frozen=True)
class Held:
    """A version that a node holds for a deployment."""

    deployment: str
    role: str
    version: str
    state: Tag
    words: str


@dataclass(frozen=True)
class NodePage:
    """One node: does it live, what does it hold, what does it use?"""

    shell: Shell
    row: NodeRow
    held: list[Held]
    day: Day | None


@router.get("/infrastructures")
def infrastructures(deployer: TheDeployer, page: PageNumber = 1) -> HTMLResponse:
    """All infrastructures, with how many nodes live and what they use."""
    nodes = [one for one in deployer.usage.nodes() if one.revoked is None]
    part = slice_of(deployer.infrastructure_rows.page(Window(_MOST)).items, page)
    rows = [_place_row(one, [node for node in nodes if node.infrastructure == one.name]) for one in part.items]
    shell = Shell("Infrastructures", "infrastructures", "quarterdeck infrastructure list", "/api/infrastructures")
    return render("infrastructures.html", PlacesPage(shell, part.holding(rows)))


@router.get("/infrastructures/{name}")
def infrastructure(
    request: Request, name: Name, deployer: TheDeployer, tickets: TheTickets, page: PageNumber = 1
) -> HTMLResponse:
    """One infrastructure: its nodes, their memory and processors of the last 24 hours, and the form that lets a node join."""
    return render("infrastructure.html", _place_page(request, deployer, name, tickets.new(), page))


@router.post("/infrastructures/{name}/tokens")
async def token(request: Request, name: Name, deployer: TheDeployer, tickets: TheTickets) -> HTMLResponse:
    """Make a join token; this answer is the only one that shows it."""
    form = await sent(request)
    try:
        given = JoinTokenInput.model_validate({"infrastructure": name, **form.given("role", "minutes", "why")})
    except ValidationError as error:
        page = await run_in_threadpool(_place_page, request, deployer, name, tickets.new())
        return render("infrastructure.html", replace(page, sent=form, problems=tuple(problems(error))), 422)
    if not tickets.use(form.typed.get("ticket", "")):
        raise Conflict(
            "This form was sent before, and the token that it made was in the first answer only.",
            hint="If that answer is lost, make another one: the first opens nothing once its time is over.",
        )
    made = await run_in_threadpool(deployer.joined.token, given, request.state.caller.act(given.why))
    page = await run_in_threadpool(_place_page, request, deployer, name, tickets.new())
    return render("infrastructure.html", replace(page, made=made), 201)


@router.get("/infrastructures/{name}/nodes/{node}")
def node(name: Name, node: NodeName, deployer: TheDeployer) -> HTMLResponse:
    """One node: what it holds, and its memory and processors of the last 24 hours."""
    found = _node(deployer, name, node)
    held = [one for seen in _living(deployer, name) for one in _held(seen, node)]
    day = charts.day(deployer.usage.roles(name, node), datetime.now(UTC))
    shell = Shell(node, "infrastructures", f"quarterdeck node show {node}", f"/api/nodes/{node}")
    return render("node.html", NodePage(shell, NodeRow(found, _state(found)), held, day))


@router.get("/infrastructures/{name}/nodes/{node}/revoke")
def revoking(name: Name, node: NodeName, deployer: TheDeployer) -> HTMLResponse:
    """What revoking a node will do."""
    found = _node(deployer, name, node)
    if found.joined is None or found.revoked is not None:
        raise Conflict("Only a node that has joined, and is still in, can be revoked.", hint="Nothing to do.")
    path = f"/infrastructures/{name}/nodes/{node}"
    page = SurePage(
        Shell(f"Revoke node {node}", "infrastructures", f"quarterdeck node revoke {node}", f"/api/nodes/{node}"),
        back=(path, node),
        action=f"{path}/revoke",
        button=f"Revoke node {node}",
        sentences=[
            "It gets no more plans, and stops answering when it hears of that, within seconds.",
            "It cannot be taken back; the same host can join again with a new token.",
        ],
    )
    return render("sure.html", page)


@router.post("/infrastructures/{name}/nodes/{node}/revoke")
def revoke(request: Request, name: Name, node: NodeName, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """Send a node away; a second time changes nothing."""
    _node(deployer, name, node)
    deployer.joined.revoke(node, request.state.caller.act(why))
    return RedirectResponse(f"/infrastructures/{name}", status_code=303)


def _place_page(request: Request, deployer: Deployer, name: str, ticket: str, page: int = 1) -> PlacePage:
    found = deployer.infrastructure_rows.one(name)
    nodes = [NodeRow(one, _state(one)) for one in deployer.usage.nodes() if one.infrastructure == name]
    place = deployer.infrastructures.named(name)
    return PlacePage(
        shell=Shell(name, "infrastructures", f"quarterdeck infrastructure show {name}", f"/api/infrastructures/{name}"),
        place=found,
        nodes=slice_of(nodes, page),
        day=charts.day(deployer.usage.roles(name), datetime.now(UTC)),
        strangers=sorted(place.strangers.items()) if isinstance(place, OnKubernetes) else [],
        ticket=ticket,
        address=str(request.base_url).rstrip("/"),
    )


def _place_row(place: InfrastructureView, nodes: list[NodeView]) -> PlaceRow:
    live = [one for one in nodes if one.live]
    cores = [one.cpu_cores for one in live if one.cpu_cores is not None]
    return PlaceRow(place, len(nodes), len(live), sum(one.rss_bytes for one in live), sum(cores) if cores else None)


def _state(node: NodeView) -> Tag:
    if node.revoked is not None:
        return NODE["revoked"]
    # Silence is not known to be anything: never the last state in green.
    return NODE["unknown" if not node.live else "ready" if node.ready else "starting"]


def _node(deployer: Deployer, place: str, name: str) -> NodeView:
    found = deployer.usage.node(name)
    if found.infrastructure != place:
        raise NotFound(f"Node {name} is one of {found.infrastructure}.", kind="node", name=name, hint="Look there.")
    return found


def _living(deployer: Deployer, place: str) -> list[ObservedDeployment]:
    """What is observed of every deployment of an infrastructure."""
    living = deployer.deployments.living()
    return [deployer.observe(one) for one in living if deployer.infrastructures.placed(one.wish.stage) == place]


def _held(seen: ObservedDeployment, node: str) -> list[Held]:
    roles = (("main", seen.main), ("next main", seen.target), ("challenger", seen.challenger), ("previous", seen.previous))
    return [
        Held(seen.name, role, str(placed.ref), PLACED[one.state], one.reason or one.code)
        for role, placed in roles
        if placed is not None
        for one in placed.nodes
        if one.node == node and one.state in PLACED
    ]
