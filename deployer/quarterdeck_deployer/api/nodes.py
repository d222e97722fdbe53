"""/api/nodes: the nodes of all infrastructures, what they use, and what lets others join; /nodes/join is the joining itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query

from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheAuthor, TheDeployer
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.infrastructures.joining import Joined, JoinInput, JoinTokenInput, NewJoinToken, Revoked
from quarterdeck_deployer.usage import NodeView, UsagePoint

router = APIRouter(tags=["nodes"], responses=ERRORS)
Infrastructure = Annotated[Name | None, Query(description="Only those of this one.")]


@router.get("/api/nodes")
def nodes(deployer: TheDeployer, page: ThePage, infrastructure: Infrastructure = None) -> list[NodeView]:
    """All nodes by infrastructure and name, with what they use; those that were revoked come last."""
    return page.answer(deployer.usage.page(page.window, infrastructure))


@router.get("/api/nodes/{name}")
def node(name: str, deployer: TheDeployer) -> NodeView:
    """One node."""
    return deployer.usage.node(name)


@router.get("/api/nodes/{name}/usage")
def usage(name: str, deployer: TheDeployer, page: ThePage) -> list[UsagePoint]:
    """What a node used in the last 24 hours, a sample every 15 seconds, the newest first; empty where it is not known."""
    return page.answer(deployer.usage.points(name, page.window))


@router.post("/api/nodes/tokens", status_code=201)
def token(
    body: Annotated[JoinTokenInput, Body(examples=[{"infrastructure": "edge", "role": "main", "minutes": 60}])],
    author: TheAuthor,
    deployer: TheDeployer,
) -> NewJoinToken:
    """Make a token that lets one node join; it is in this answer and nowhere else."""
    return deployer.joined.token(body, author.act(body.why))


@router.delete("/api/nodes/{name}")
def revoke(name: Name, author: TheAuthor, deployer: TheDeployer) -> Revoked:
    """Send a node away: it gets no more plans, and stops answering when it hears of that."""
    return deployer.joined.revoke(name, author.act())


@router.post("/nodes/join", status_code=201)
def join(
    body: Annotated[JoinInput, Body(examples=[{"token": "the join token", "url": "http://edge-1.example.org:8401"}])],
    deployer: TheDeployer,
) -> Joined:
    """Exchange a join token for a name and a token of the node's own; the join token opens nothing afterwards."""
    return deployer.joined.join(body)
