"""What nodes talk to: plans by long poll, reports by POST. Nothing else is theirs to ask."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Query, Response

from quarterdeck.plan import NodeReport, Plan
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.nodes import require_node

MAX_WAIT_SECONDS = 60.0
router = APIRouter(tags=["nodes"], responses=ERRORS)


@router.get("/plans/{node}", response_model=Plan, responses={204: {"description": "Nothing newer within the time."}})
async def plan(
    node: str,
    deployer: TheDeployer,
    after: Annotated[int, Query(description="The newest sequence that the node has.")] = 0,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for a newer one.")] = 0,
) -> Response:
    """The node's plan as soon as there is one with a sequence above `after`; 204 where none came in time."""
    require_node(node)
    found = await _newer(deployer, node, after, time.monotonic() + wait)
    if found is None:
        return Response(status_code=204)
    # Validated once when it was built; going through the response model again would cost time per node.
    return Response(found.model_dump_json(), media_type="application/json")


@router.post("/nodes/{node}/report", status_code=204)
async def report(node: str, body: NodeReport, deployer: TheDeployer) -> None:
    """Take a node's snapshot of itself; it replaces the one before."""
    deployer.nodes.take(node, body)
    # A report may be the last acknowledgement that a rollout waits for.
    deployer.wake()


async def _newer(deployer: Deployer, node: str, after: int, deadline: float) -> Plan | None:
    while True:
        stepped = deployer.reconciler.next_step
        found = deployer.reconciler.plans.get(node)
        if found is not None and found.sequence > after:
            return found
        left = deadline - time.monotonic()
        if left <= 0 or deployer.closing:
            return None
        try:
            await asyncio.wait_for(stepped.wait(), left)
        except TimeoutError:
            return None
