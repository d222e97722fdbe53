"""The wire: bodies that end early, sessions and their token, names and addresses of the host, and polls that are woken."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlalchemy.exc import TimeoutError as NoConnection

from quarterdeck.errors import InvalidInput
from quarterdeck.storage import open_storage
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.models import LoginSession
from quarterdeck_deployer.security import MAX_REPORT
from quarterdeck_deployer.sessions import COOKIE, Sessions
from quarterdeck_deployer.settings import Settings
from tests.deployer_world import ADMIN, NODE, TOKENS, World, world


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A deployer with two versions and one deployment."""
    with world(tmp_path) as found:
        found.register(1)
        found.register(2)
        found.put()
        yield found


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Deployer]:
    """A deployer that nobody serves."""
    settings = Settings(data=tmp_path, store=f"memory://{tmp_path}")
    found = Deployer(settings, TOKENS, open_storage(settings.store_url))
    yield found
    found.database.close()


def cut(here: World, path: str, kind: str, body: bytes, announced: int) -> None:
    """Send a POST whose body ends before its announced length, and close; returns once the server has closed as well."""
    port = here.deployer.settings.port
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {ADMIN}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {announced}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


FORM = "application/x-www-form-urlencoded"
CUT = [
    ("/api/keys", "application/json", b'{"name": "booking"}'),
    ("/api/deployments/late/stop", "application/json", b'{"why": "half a sen'),
    ("/api/deployments/late/stop", "application/json", b"{}"),
    ("/deployments/late/stop", FORM, b"why=half+a+sen"),
    ("/deployments/late/delete", FORM, b"repeated=late"),
]


@pytest.mark.parametrize(("path", "kind", "body"), CUT)
def test_a_body_that_ends_early_does_nothing(here: World, path: str, kind: str, body: bytes) -> None:
    """What has come may look whole: half a request is no request, and no half reason stands in the history."""
    cut(here, path, kind, body, len(body) + 10)
    assert here.http.get("/api/keys").json() == []
    assert here.get()["wish"]["number"] == 1


def test_strangers_may_send_little(here: World) -> None:
    """The login takes a token, so its body has the small limit; the admin's routes take more."""
    big = b"token=" + b"x" * MAX_REPORT
    with httpx.Client(base_url=here.http.base_url) as stranger:
        assert stranger.post("/login", content=big, headers={"content-type": FORM}).status_code == 413
    assert here.http.post("/api/keys", content=big, headers={"content-type": "application/json"}).status_code == 400


def test_a_new_admin_token_ends_every_session(quiet: Deployer) -> None:
    """Whoever changes the token after a leak wants everybody out."""
    ident = Sessions(quiet.database, quiet.people, ADMIN).open()
    assert Sessions(quiet.database, quiet.people, ADMIN).caller(ident, moved=True) is not None
    assert Sessions(quiet.database, quiet.people, "b" * 40).caller(ident, moved=True) is None


@pytest.mark.parametrize(("left", "valid"), [(timedelta(seconds=60), True), (timedelta(seconds=-1), False)])
def test_a_session_ends_with_its_time(quiet: Deployer, left: timedelta, valid: bool) -> None:
    """And is gone from the database with the next login."""
    ident = quiet.logins.open()
    with quiet.writing.begin() as session:
        session.execute(update(LoginSession).values(expires=utc_now() + left))
    assert (quiet.logins.caller(ident, moved=True) is not None) == valid
    quiet.logins.open()
    with quiet.sessions() as session:
        assert session.query(LoginSession).count() == 1 + valid


def test_every_login_makes_a_session_of_its_own(here: World) -> None:
    """Nobody can plant one beforehand: what the browser sent is not taken over."""
    with httpx.Client(base_url=here.http.base_url, cookies={COOKIE: "planted"}) as browser:
        given = {browser.get("/login", params={"token": ADMIN}).headers["set-cookie"].split(";")[0] for _ in range(3)}
    assert len(given) == 3
    assert f"{COOKIE}=planted" not in given


HOSTS = [
    ("127.0.0.1", "http://127.0.0.1:8400", {"127.0.0.1:8400", "localhost:8400"}),
    ("::1", "http://[::1]:8400", {"127.0.0.1:8400", "localhost:8400", "[::1]:8400"}),
    ("deployer.example", "http://deployer.example:8400", {"127.0.0.1:8400", "localhost:8400", "deployer.example:8400"}),
]


@pytest.mark.parametrize(("host", "url", "allowed"), HOSTS)
def test_the_host_is_known_as_browsers_write_it(host: str, url: str, allowed: set[str]) -> None:
    """An IPv6 address stands in brackets, or its colons would be the port's."""
    settings = Settings(host=host)
    assert (settings.url, set(settings.allowed_hosts)) == (url, allowed)


def test_further_addresses_are_answered_and_the_first_is_shown() -> None:
    """Behind an ingress the Host header has no port, and the browser's Origin has https."""
    settings = Settings(host="0.0.0.0", urls="https://models.example.org, http://quarterdeck-deployer.models.svc:8400")
    assert settings.url == "https://models.example.org"
    assert {"models.example.org", "quarterdeck-deployer.models.svc:8400", "127.0.0.1:8400"} <= settings.allowed_hosts
    assert "https://models.example.org" in settings.origins
    assert "http://models.example.org" not in settings.origins


@pytest.mark.parametrize("url", ["models.example.org", "ftp://models.example.org", "https://a@b", "https://b/path", "https://"])
def test_an_address_is_an_origin_and_nothing_more(url: str) -> None:
    """What no browser sends as Origin would never be equal to one."""
    with pytest.raises(InvalidInput, match="QUARTERDECK_URLS"):
        Settings.from_environment({"QUARTERDECK_URLS": url})


def test_no_connection_left_is_a_503(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a busy database is: nothing was done, and Retry-After says to come again."""

    def none_left(*_: Any) -> Any:
        raise NoConnection("all connections are in use")

    monkeypatch.setattr(here.deployer.keys, "listed", none_left)
    answer = here.http.get("/api/keys")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "database-busy", "1")


def test_a_session_that_cannot_be_looked_up_is_an_answer_too(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure at the edge itself is a problem document with the request's id, not a broken connection."""

    def broken(ident: str, *, moved: bool) -> bool:
        raise RuntimeError("squeamish")

    monkeypatch.setattr(here.deployer.logins, "caller", broken)
    with httpx.Client(base_url=here.http.base_url, cookies={COOKIE: "x"}) as browser:
        answer = browser.get("/api/models")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.headers["x-request-id"]
    assert "squeamish" not in answer.text


WAKES: list[tuple[str, Callable[[World], Any]]] = [
    ("a key", lambda here: here.http.post("/api/keys", json={"name": "booking"})),
    ("a stop", lambda here: here.http.post("/api/deployments/late/stop", json={})),
    ("a deployment", lambda here: here.put("other", main=2)),
    ("a deletion", lambda here: here.http.delete("/api/deployments/late")),
]


@pytest.mark.parametrize(("name", "act"), WAKES, ids=[name for name, _ in WAKES])
def test_what_is_done_wakes_the_nodes(here: World, name: str, act: Callable[[World], Any]) -> None:
    """A poll that waits is answered with the newer plan, on both nodes, well before its time is over."""
    here.settled()
    answers: dict[str, httpx.Response] = {}

    def poll(node: str, after: int) -> None:
        answers[node] = httpx.get(
            f"{here.http.base_url}/plans/{node}",
            params={"after": after, "wait": 50},
            headers={"authorization": f"Bearer {NODE}"},
            timeout=60,
        )

    threads = [threading.Thread(target=poll, args=(node.node, node.sequence)) for node in (here.main, here.challenger)]
    for thread in threads:
        thread.start()
    act(here)
    for thread in threads:
        thread.join(40)
    for node in (here.main, here.challenger):
        assert answers[node.node].status_code == 200
        assert answers[node.node].json()["sequence"] > node.sequence


@pytest.mark.parametrize(("after", "status"), [(-1, 200), (0, 200), (10**9, 204)])
def test_a_poll_that_need_not_wait_does_not(here: World, after: int, status: int) -> None:
    """Nothing newer is 204; a plan that is there already is given at once."""
    here.settled()
    answer = here.http.get("/plans/main", params={"after": after}, headers={"authorization": f"Bearer {NODE}"})
    assert answer.status_code == status


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "x"])
def test_nobody_waits_for_ever(here: World, wait: str) -> None:
    """Waits have a limit, and numbers that are none are refused."""
    for path in ("/plans/main", "/api/deployments/late/stop"):
        method, value = ("GET", wait) if path.startswith("/plans") else ("POST", "601" if wait == "61" else wait)
        headers = {"authorization": f"Bearer {NODE if method == 'GET' else ADMIN}"}
        assert here.http.request(method, path, params={"wait": value}, headers=headers).status_code == 422
    assert here.get()["wish"]["running"] is True


def test_instance_and_plans_name_no_secret(here: World) -> None:
    """What is shown of the instance, its plans' digests and its database holds none of the three tokens."""
    here.settled()
    shown = "".join(here.http.get(path).text for path in ("/api/instance", "/api/audit", "/openapi.json", "/docs", "/metrics"))
    raw = b"".join(path.read_bytes() for path in here.deployer.settings.data.glob("deployer.db*"))
    for token in (TOKENS.admin, TOKENS.node, TOKENS.mirror, here.deployer.console_key):
        assert token not in shown
        assert token.encode() not in raw
    assert all(token not in repr(TOKENS) for token in (TOKENS.admin, TOKENS.node, TOKENS.mirror))
