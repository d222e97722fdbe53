"""Lists over HTTP: `limit` and an opaque `after` go in, a plain JSON list and a Link header to the next page come out."""

from __future__ import annotations

import base64
import json
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request, Response

from quarterdeck.errors import InvalidInput
from quarterdeck_deployer.listing import Listed, Place, Window

DEFAULT, MAX = 100, 1_000
MAX_CURSOR = 2_000
MAX_NUMBER = 2**63
Item = TypeVar("Item")


class Page:
    """Which page of a list is asked for; `window` goes to the service, and `answer` turns what it gives into the answer."""

    def __init__(
        self,
        request: Request,
        response: Response,
        limit: Annotated[int, Query(ge=1, le=MAX, description="At most so many.")] = DEFAULT,
        after: Annotated[
            str, Query(max_length=MAX_CURSOR, description="Where the page before ended, as its Link header says.")
        ] = "",
    ) -> None:
        self.window = Window(limit, _place(after) if after else None)
        self._url, self._response = request.url, response

    def answer(self, listed: Listed[Item]) -> list[Item]:
        """The items; where more follow, the response gets a Link header to them."""
        if listed.next is not None:
            url = self._url.include_query_params(after=_cursor(listed.next))
            # Relative: behind a proxy nobody here knows under which name the caller reached us.
            self._response.headers["link"] = f'<{url.path}?{url.query}>; rel="next"'
        return listed.items


ThePage = Annotated[Page, Depends()]
"""The page that a caller asks for; every list route takes one."""


def _cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _place(cursor: str) -> Place:
    try:
        place = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    # A cursor is the caller's text: nesting, odd bytes and words for numbers are all the same here.
    except (ValueError, RecursionError):
        raise _invalid() from None
    if not isinstance(place, list) or not all(_plain(value) for value in place):
        raise _invalid()
    return tuple(place)


def _plain(value: object) -> bool:
    # What a database's columns can be compared with; a zero byte or half a character ends a statement on PostgreSQL.
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)
    return type(value) is int and -MAX_NUMBER <= value < MAX_NUMBER


def _invalid() -> InvalidInput:
    return InvalidInput(
        "This is no cursor of this list.",
        code="cursor-invalid",
        kind="parameter",
        name="after",
        hint="Take it from the Link header of the page before, or leave it out.",
    )
