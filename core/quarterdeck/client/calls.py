"""Calls of the deployer's API: what every area of the client builds on."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx

from quarterdeck.client.answers import Json, answer, exchange, parsed

__all__ = ["Calls", "Json", "as_list", "as_object", "part"]

MAX_PAGE = 1_000
"""Items of a list that one call can give."""
_SLOWEST = 2**20
"""Bytes a second that a connection must carry at least."""


class Calls:
    """One deployer. Safe to share between threads; close it, or use it in a `with` block.

    Args:
        url: base URL of the deployer, e.g. ``http://127.0.0.1:8400``.
        token: admin token; empty where nothing but open doors is used.
        timeout: seconds to wait for an answer; waits that a call asks for come on top.
        transport: a replacement of the network, for tests.
    """

    def __init__(self, url: str, token: str = "", *, timeout: float = 30.0, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._timeout = timeout
        # Reading the certificate authorities takes longer than a call; both clients share one reading.
        trusted = httpx.create_ssl_context()
        self._api = httpx.Client(headers=headers, timeout=timeout, transport=transport, verify=trusted, trust_env=False)
        # Doors get a client of their own: the admin token is nothing for nodes.
        self._doors = httpx.Client(timeout=timeout, transport=transport, verify=trusted, trust_env=False)
        self._addresses: dict[str, str] = {}
        self._headers: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._api.close()
        self._doors.close()

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """One call of the API; the parsed JSON answer, None where it is empty.

        Args:
            method: HTTP method.
            path: below the base URL, with its leading slash.
            body: anything that is JSON; None sends no body.
            query: query parameters; those that are None are left out.

        Raises:
            QuarterdeckError: the class and code that the server named; NotReady ``unreachable`` where nothing answers.
        """
        given = _given(query)
        timeout = self._timeout + float(given.get("wait", 0))
        return answer(self._api, method, self.url + path, body, given, self._headers, timeout)

    def acting(self, *, key: str = "", expected: int | None = None) -> Self:
        """This client for one change that may have to be sent again, over the same connections.

            key = str(uuid4())
            client.acting(key=key, expected=4).swap("late-flights")

        Args:
            key: Idempotency-Key: the same call under it is done once within 24 h, and answered again; empty: none.
            expected: the newest revision as the caller knows it; another one is a Conflict ``changed-meanwhile``.
        """
        headers = {"If-Match": f'"{expected}"'} if expected is not None else {}
        acting = copy(self)
        acting._headers = {**headers, **({"Idempotency-Key": key} if key else {})}
        return acting

    def send(self, path: str, file: Path) -> Any:
        """PUT a file as it is, read piece by piece; answer and errors as in `call`."""
        size = file.stat().st_size
        # The bytes of a large file may take longer than an answer should.
        timeout = self._timeout + size / _SLOWEST
        with file.open("rb") as source:
            headers = {"content-type": "application/octet-stream", "content-length": str(size)}
            return parsed(exchange(self._api, "PUT", self.url + path, source, {}, headers, timeout))

    def every(self, path: str, limit: int | None = None, **query: Any) -> list[Json]:
        """All items of a list, page after page, or the first `limit` of them. Query and errors as in `call`."""
        found: list[Json] = []
        url, given = self.url + path, _given({**query, "limit": min(limit, MAX_PAGE) if limit else MAX_PAGE})
        while True:
            response = exchange(self._api, "GET", url, None, given, {}, self._timeout)
            found += parsed(response)
            following = response.links.get("next", {}).get("url", "")
            if not following or (limit is not None and len(found) >= limit):
                return found[:limit]
            # The link carries the whole query, and is relative: the address that worked for this page counts for the next.
            url, given = str(response.url.join(following)), {}


def _given(query: Json) -> Json:
    """What is asked for, without what is left open."""
    return {name: value for name, value in query.items() if value is not None}


def part(name: object) -> str:
    """One segment of a path: a slash or question mark in a name must not lead to another resource."""
    return quote(str(name), safe="")


def as_object(found: Any) -> Json:
    """An answer that is an object."""
    return dict(found)


def as_list(found: Any) -> list[Json]:
    """An answer that is a list of objects."""
    return list(found)
