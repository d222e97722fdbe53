"""GET /api/audit: who did what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.audit import AuditView

router = APIRouter(prefix="/api/audit", tags=["audit"], responses=ERRORS)


@router.get("")
def entries(
    deployer: TheDeployer,
    object: Annotated[str, Query(max_length=200, description="Only of this object.", examples=["deployment/late-flights"])] = "",
    before: Annotated[int | None, Query(description="Only entries older than this sequence number.")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000, description="At most so many.")] = 100,
) -> list[AuditView]:
    """The newest entries first."""
    return deployer.audit.entries(object, before, limit)
