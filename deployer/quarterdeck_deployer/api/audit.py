"""/api/audit: who did what, and whether that is still what was written."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.audit import AuditFilter, AuditView, Known, TrailVerdict

router = APIRouter(prefix="/api/audit", tags=["audit"], responses=ERRORS)
LINES = "application/x-ndjson"


@router.get("")
def entries(
    deployer: TheDeployer,
    page: ThePage,
    object: Annotated[str, Query(max_length=200, description="Only of this object.", examples=["deployment/late-flights"])] = "",
    who: Annotated[str, Query(max_length=200, description="Only what this caller did.", examples=["admin"])] = "",
    verb: Annotated[str, Query(max_length=200, description="Only actions of this kind.", examples=["rollback"])] = "",
    since: Annotated[datetime | None, Query(description="Only from this time on.", examples=["2026-11-21T00:00:00Z"])] = None,
    until: Annotated[datetime | None, Query(description="Only before this time.", examples=["2026-11-22T00:00:00Z"])] = None,
) -> list[AuditView]:
    """The newest entries first."""
    return page.answer(deployer.audit.listed(page.window, AuditFilter(object, who, verb, since, until)))


@router.get("/verify")
def verify(
    deployer: TheDeployer,
    sequence: Annotated[int, Query(ge=0, description="An entry that you have noted; 0: none.", examples=[120])] = 0,
    sha256: Annotated[str, Query(max_length=64, description="The seal that it had.")] = "",
) -> TrailVerdict:
    """Hold every entry against its seal; the first that is not what was written is named."""
    return deployer.audit.verify(Known(sequence, sha256) if sequence else None)


@router.get("/export", response_class=StreamingResponse, responses={200: {"content": {LINES: {"schema": {"type": "string"}}}}})
def export(deployer: TheDeployer) -> StreamingResponse:
    """The whole trail with its seals, oldest first: one JSON object a line, for `quarterdeck audit verify FILE` anywhere."""
    lines = (entry.model_dump_json() + "\n" for entry in deployer.audit.oldest_first())
    return StreamingResponse(lines, media_type=LINES)
