"""Errors on the wire: problem+json (RFC 9457) for everything that goes wrong, without a word of what was sent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from quarterdeck.errors import InvalidInput, Malformed, NotFound, Overloaded, QuarterdeckError, StorageError

Answer = Callable[[Scope, QuarterdeckError], Response]
"""Turns an error into the answer to a request."""
MEDIA_TYPE = "application/problem+json"
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError, NoConnection)
"""Busy, no connection free, the server away, or become a copy that only reads: later it will be otherwise."""
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


class NotAllowed(QuarterdeckError):
    """The path is there, but not for this method."""

    status = 405
    default_code = "not-allowed"


def problem_response(error: QuarterdeckError) -> JSONResponse:
    """The answer that carries an error."""
    headers = {"retry-after": "1"} if error.status == 503 else None
    if error.status == 401:
        headers = {"www-authenticate": "Bearer"}
    return JSONResponse(error.problem(), status_code=error.status, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI, answer: Answer) -> None:
    """Let every error of an app leave as `answer` gives it."""

    async def handle(request: Request, error: Exception) -> Response:
        response = answer(request.scope, _known(request, error))
        # The methods that are allowed, for example, stand in a header.
        response.headers.update(getattr(error, "headers", None) or {})
        return response

    # No connection free is the same to the caller as a database that is busy: nothing was done, later it will be.
    for kind in (QuarterdeckError, RequestValidationError, HTTPException, DataError, *DATABASE_AWAY):
        app.add_exception_handler(kind, handle)


def _known(request: Request, error: Exception) -> QuarterdeckError:
    """The error as one of ours; what only operators should know goes to the log."""
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        return _http(error)
    if isinstance(error, StorageError):
        log.warning("request %s: the store: %s", request.state.request_id, error.detail)
    if isinstance(error, QuarterdeckError):
        return error
    if isinstance(error, DataError):
        # PostgreSQL keeps no NUL in a text and no number beyond its columns' types; what is meant well has neither.
        return InvalidInput(
            "A text or a number of the request is none that the database can keep.",
            code="unstorable",
            hint="Leave out control characters, and numbers beyond two billion.",
        )
    return database_away(request.state.request_id, error)


def database_away(request_id: str, error: Exception) -> QuarterdeckError:
    """What a caller is told where the database could not be used; the reason goes to the log."""
    log.warning("request %s: the database: %s", request_id, error)
    return Overloaded("The database is busy or cannot be written.", code="database-busy", hint="Try again; nothing was changed.")


def _invalid(error: RequestValidationError) -> QuarterdeckError:
    found = error.errors()
    # Bytes that are no JSON are another mistake than JSON that says something impossible.
    if any(one["type"] == "json_invalid" for one in found):
        return Malformed("The body is not JSON.", hint="Send a JSON object with content-type application/json.")
    # Only where and which rule: pydantic's own answer would repeat the input.
    errors = [_place(one) for one in found[:20]]
    first = errors[0]
    return InvalidInput(
        f"{first['place']}: {first['message']}.", hint="See /docs for what this route takes.", extra={"errors": errors}
    )


def _place(error: dict[str, Any]) -> dict[str, str]:
    place = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        # The name of an unknown member is the sender's own word.
        return {"place": ".".join(place[:-1]), "message": "It holds a member that is not known here"}
    return {"place": ".".join(place), "message": str(error["msg"]).removesuffix(".")}


def _http(error: HTTPException) -> QuarterdeckError:
    # Starlette's own answers are plain text, which neither programs nor people can do anything with.
    if error.status_code == 404:
        return NotFound("There is nothing at this path.", hint="See /docs for the routes there are.")
    if error.status_code == 405:
        return NotAllowed("This path does not take that method.", hint="See /docs for the routes there are.")
    return Malformed(str(error.detail))
