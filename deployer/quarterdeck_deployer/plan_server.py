"""What nodes talk to: plans by long poll, reports by POST. Nothing else is theirs to ask."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from starlette.concurrency import run_in_threadpool

from quarterdeck.plan import TELL, NodeReport, Plan
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.deployer import Deployer

MAX_WAIT_SECONDS = 60.0
router = APIRouter(tags=["nodes"], responses=ERRORS)
_REPORT = {
    "node": "main",
    "boot": "0190d8a3f1c57c0b8f5e2d4c6b7a8901",
    "role": "main",
    "url": "http://127.0.0.1:8401",
    "sequence": 12,
    "ready": True,
    "deployments": [],
}


@router.get("/plans/{node}", response_model=Plan, responses={204: {"description": "Nothing newer within the time."}})
async def plan(
    node: str,
    deployer: TheDeployer,
    after: Annotated[int, Query(description="The newest sequence that the node has.")] = 0,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for a newer one.")] = 0,
) -> Response:
    """The node's plan as soon as there is one with a sequence above `after`; 204 where none came in time."""
    found = await _newer(deployer, node, after, time.monotonic() + wait)
    if found is None:
        return Response(status_code=204)
    # Validated once when it was built; going through the response model again would cost time per node.
    return Response(found.model_dump_json(), media_type="application/json")


@router.post("/nodes/{node}/report", status_code=204)
async def report(
    node: str, body: Annotated[NodeReport, Body(examples=[_REPORT])], deployer: TheDeployer, response: Response
) -> None:
    """Take a node's snapshot of itself; it replaces the one before."""
    infrastructure = deployer.infrastructures.of_node(node)
    infrastructure.nodes.take(node, body)
    # Asked here, in memory: nearly every report repeats what the one before it told.
    uses = deployer.keys.fresh(body.keys)
    if uses:
        await run_in_threadpool(deployer.keys.used, uses)
    if node in infrastructure.reconciler.catch_up.asked:
        response.headers[TELL] = "plan"
    # A report may be the last acknowledgement that a rollout waits for.
    infrastructure.wake()


async def _newer(deployer: Deployer, node: str, after: int, deadline: float) -> Plan | None:
    while True:
        # Looked up each time: a node that waits may be revoked meanwhile.
        infrastructure = deployer.infrastructures.of_node(node)
        stepped = infrastructure.next_step
        found = infrastructure.plan(node, after)
        if found is not None:
            return found
        left = deadline - time.monotonic()
        if left <= 0 or deployer.closing:
            return None
        try:
            await asyncio.wait_for(stepped.wait(), left)
        except TimeoutError:
            return None
