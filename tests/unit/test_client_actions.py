"""The client's lists, conditions and keys of requests. The transport is a twin."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from quarterdeck.client import Client
from quarterdeck.errors import Malformed


class Pages:
    """A twin of a list: numbers from 0, so many a page, each page with a link to the next."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[httpx.URL] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """One page."""
        self.asked.append(request.url)
        given = dict(request.url.params)
        start, limit = int(given.get("after", 0)), int(given["limit"])
        end = min(start + limit, self.count)
        items = [{"number": number} for number in range(start, end)]
        link = {"link": f'<{request.url.path}?limit={limit}&state=failed&after={end}>; rel="next"'} if end < self.count else {}
        return httpx.Response(200, json=items, headers=link)

    def client(self) -> Client:
        """A client that speaks to it."""
        return Client("http://deployer", "token", transport=httpx.MockTransport(self))


@pytest.mark.parametrize(
    ("count", "limit", "pages"),
    [(0, None, 1), (3, None, 1), (1000, None, 1), (2500, None, 3), (2500, 7, 1), (2500, 1500, 2), (2, 5, 1)],
)
def test_a_list_is_read_to_its_end_or_to_the_limit(count: int, limit: int | None, pages: int) -> None:
    """Page after page by the links that the server gives, and no further than asked for."""
    twin = Pages(count)
    found = twin.client().actions(state="failed", limit=limit)
    assert [one["number"] for one in found] == list(range(count))[:limit]
    assert len(twin.asked) == pages
    assert all(url.params["state"] == "failed" for url in twin.asked)


def told(act: Callable[[Client], Any]) -> list[httpx.Request]:
    """What a client sends."""
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={"deployment": "late"})

    with Client("http://deployer", "token", transport=httpx.MockTransport(answer)) as client:
        act(client)
    return sent


def test_one_change_carries_its_key_and_what_it_believes() -> None:
    """And the client itself does not: the next change is another one."""

    def act(client: Client) -> None:
        client.acting(key="k", expected=4).swap("late")
        client.acting(expected=0).stop("late")
        client.swap("late")

    first, second, third = told(act)
    assert (first.headers["idempotency-key"], first.headers["if-match"]) == ("k", '"4"')
    assert ("idempotency-key" in second.headers, second.headers["if-match"]) == (False, '"0"')
    assert not {"idempotency-key", "if-match"} & set(third.headers)


CALLS: list[tuple[Callable[[Client], Any], str]] = [
    (lambda client: client.action("late-4"), "/api/actions/late-4"),
    (lambda client: client.verify_audit(), "/api/audit/verify"),
    (lambda client: client.verify_audit(4, "ab"), "/api/audit/verify?sequence=4&sha256=ab"),
    (lambda client: list(client.export_audit()), "/api/audit/export"),
]


@pytest.mark.parametrize(("act", "path"), CALLS)
def test_each_call_asks_its_path(act: Callable[[Client], Any], path: str) -> None:
    """With what was named, and nothing else."""
    [asked] = told(act)
    assert asked.url.raw_path.decode() == path


def test_an_export_comes_line_by_line() -> None:
    """Each line is an entry as it stands, with signs of every language."""
    lines = [json.dumps({"who": who}, ensure_ascii=False) for who in ("ana", "Jürgen \u2028 Weiß")]
    answer = httpx.Response(200, content=("\n".join(lines) + "\n").encode())
    with Client("http://deployer", transport=httpx.MockTransport(lambda _: answer)) as client:
        assert list(client.export_audit()) == lines


def test_a_list_that_is_none_is_said_so() -> None:
    """A sign-in page in between is no list."""
    answer = httpx.Response(200, content=b"<html>")
    with Client("http://deployer", transport=httpx.MockTransport(lambda _: answer)) as client, pytest.raises(Malformed):
        client.actions()
