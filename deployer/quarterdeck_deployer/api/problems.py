"""Errors on the wire: problem+json (RFC 9457) for everything that goes wrong, without a word of what was sent."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from quarterdeck.errors import InvalidInput, Malformed, NotFound, Overloaded, QuarterdeckError, StorageError

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger(__name__)


class Problem(BaseModel):
    """What an error answer holds; further members may name row, column or place."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:quarterdeck:not-found"])
    title: str = Field(examples=["not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no such deployment. There are: late-flights."])
    code: str = Field(examples=["not-found"])
    hint: str = Field("", description="The next step.", examples=["Create it: `quarterdeck apply -f FILE`."])


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "What was asked for is impossible; nothing was changed."},
    "5XX": {"model": Problem, "description": "It could not be done now; nothing was changed."},
}
"""The `responses` of every router."""


class Failed(QuarterdeckError):
    """Something that no rule foresaw; the log has the story under the request's id."""


def problem_response(error: QuarterdeckError) -> JSONResponse:
    """The answer that carries an error."""
    headers = {"retry-after": "1"} if error.status == 503 else None
    if error.status == 401:
        headers = {"www-authenticate": "Bearer"}
    return JSONResponse(error.problem(), status_code=error.status, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Let every error of an app leave as problem+json."""
    app.add_exception_handler(QuarterdeckError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OperationalError, _database)


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, QuarterdeckError)
    if isinstance(error, StorageError):
        log.warning("request %s: the store: %s", request.state.request_id, error.detail)
    return problem_response(error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    # Bytes that are no JSON are another mistake than JSON that says something impossible.
    if any(one["type"] == "json_invalid" for one in found):
        return problem_response(Malformed("The body is not JSON.", hint="Send a JSON object with content-type application/json."))
    # Only where and which rule: pydantic's own answer would repeat the input.
    errors = [_place(one) for one in found[:20]]
    first = errors[0]
    return problem_response(
        InvalidInput(
            f"{first['place']}: {first['message']}.", hint="See /docs for what this route takes.", extra={"errors": errors}
        )
    )


def _place(error: dict[str, Any]) -> dict[str, str]:
    place = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        # The name of an unknown member is the sender's own word.
        return {"place": ".".join(place[:-1]), "message": "It holds a member that is not known here"}
    return {"place": ".".join(place), "message": str(error["msg"]).removesuffix(".")}


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # Starlette's own answers are plain text; programs read problem+json everywhere.
    if error.status_code == 404:
        return problem_response(NotFound("There is nothing at this path.", hint="See /docs for the routes there are."))
    answer = Malformed(str(error.detail), code="not-allowed" if error.status_code == 405 else "malformed").problem()
    return JSONResponse(
        {**answer, "status": error.status_code}, status_code=error.status_code, media_type=MEDIA_TYPE, headers=error.headers
    )


async def _database(request: Request, error: Exception) -> Response:
    log.warning("request %s: the database: %s", request.state.request_id, error)
    return problem_response(
        Overloaded("The database is busy or cannot be written.", code="database-busy", hint="Try again; nothing was changed.")
    )
