"""/api/deployments/…/feedback: the truth about predicted rows."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.predictions import TheIndex
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.feedback import FeedbackInput, FeedbackResult, take

router = APIRouter(prefix="/api/deployments", tags=["predictions"], responses=ERRORS)
_EXAMPLE = {
    "labels": [
        {"row_id": "0190d8a3f1c57c0b8f5e2d4c6b7a8901-0", "value": "yes"},
        {"caller_id": "order-4711", "row": 0, "value": "no", "observed_at": "2026-11-21T06:00:00Z"},
    ]
}


@router.post("/{name}/feedback")
def feedback(
    name: Name, body: Annotated[FeedbackInput, Body(examples=[_EXAMPLE])], deployer: TheDeployer, index: TheIndex
) -> FeedbackResult:
    """Say what turned out to be true of predicted rows. A correction replaces; one bad label refuses the whole call."""
    # Challengers have the same classes (see require_pair), so main's schema judges for both.
    main = deployer.deployments.current(name).main
    schema = deployer.registry.version(main.model, main.version).manifest.data_schema
    return take(name, body, schema, index, deployer.writing)
