"""When something goes wrong for a person: a page with what failed, what did not change, what to do, and the request's id."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeck_deployer.console.rendering import asset_url
from quarterdeck_deployer.sessions import COOKIE
from tests.api.test_console_pages import Document, text
from tests.console_world import NAME, Console, console
from tests.deployer_world import ADMIN

HTML, PROBLEM = "text/html; charset=utf-8", "application/problem+json"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Version 1 is main, 2 its challenger."""
    with console(tmp_path_factory.mktemp("shown")) as found:
        found.deploy()
        yield found


@pytest.fixture
def stranger(shown: Console) -> Iterator[httpx.Client]:
    """A browser without a session."""
    with httpx.Client(base_url=shown.base, headers=BROWSER) as client:
        yield client


WRONG = [
    ("GET", "/nothing", 404, "There is nothing at this path."),
    ("GET", "/nothing/at/all", 404, "There is nothing at this path."),
    ("GET", f"/deployments/{NAME}/nothing", 404, "There is nothing at this path."),
    ("GET", "/deployments/nope", 404, "There is no such deployment. There are: late."),
    ("GET", "/models/nope", 404, "There is no such model. There are: flights."),
    ("GET", "/keys/nope/revoke", 404, "There is no such key."),
    ("GET", "/deployments?page=none", 422, "query.page"),
    ("GET", f"/deployments/{NAME}/rollback/0", 422, "path.revision"),
    ("POST", f"/deployments/{NAME}/rollback/9999999999", 422, "path.revision"),
    ("GET", "/audit?before=99999999999999999999", 422, "query.before"),
    ("POST", f"/deployments/{NAME}/rollback/7", 422, "body.leaving"),
    ("POST", "/models/flights/active", 422, "body.version"),
    ("PUT", f"/deployments/{NAME}/swap", 405, "This path does not take that method."),
    ("POST", "/audit", 405, "This path does not take that method."),
]


@pytest.mark.parametrize("path", [f"/deployments/{NAME}/challenger", "/models/flights/active"])
def test_a_number_that_no_version_can_have_is_refused(shown: Console, path: str) -> None:
    """Whatever a form was made to say: what the database cannot keep does not come that far."""
    answer = shown.world.http.post(path, data={"version": str(2**70)}, headers=BROWSER)
    assert (answer.status_code, "body.version" in answer.text) == (422, True)


@pytest.mark.parametrize(("method", "path", "status", "words"), WRONG)
def test_every_error_is_a_whole_page(shown: Console, method: str, path: str, status: int, words: str) -> None:
    """Status, sentence, what did not change, the request's id and a way on; nothing that the policy forbids."""
    answer = shown.world.http.request(method, path, headers=BROWSER)
    assert (answer.status_code, answer.headers["content-type"]) == (status, HTML)
    page = Document(answer.text)
    assert len(page.all("h1")) == 1
    assert words in text(answer.text)
    assert "Nothing was changed" in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert {"href": "/deployments"} in page.all("a")
    assert page.all("style") == []
    # A browser that guesses methods learns them from the header, as programs do.
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(("method", "path", "status", "words"), WRONG)
def test_programs_get_the_same_as_problem_documents(shown: Console, method: str, path: str, status: int, words: str) -> None:
    """Who asks for JSON gets the code and the sentence, also at the console's addresses."""
    answer = shown.world.http.request(method, path, headers={"accept": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("accept", ["text/html", "*/*", "application/json"])
@pytest.mark.parametrize(
    "path", ["/api/nothing", "/api/deployments/nope", "/static/nothing", "/nodes/nope/report", "/plans/nope"]
)
def test_the_api_answers_problems_to_everybody(shown: Console, path: str, accept: str) -> None:
    """Whatever the caller would like: an address has one form of answer."""
    answer = shown.world.http.get(path, headers={"accept": accept})
    assert answer.status_code >= 400
    assert answer.headers["content-type"] == PROBLEM
    assert json.loads(answer.content)["status"] == answer.status_code


def test_what_nobody_foresaw_is_a_page_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """500 says nothing of the reason; the log has it under the same id. A look changed nothing, of a deed nobody knows."""
    with console(tmp_path) as found:
        found.deploy()
        with found.world.deployer.database.engine.begin() as connection:
            connection.exec_driver_sql('UPDATE deployments SET record = \'{"revision": "squeamish"}\'')
        look = found.world.http.get(f"/deployments/{NAME}", headers=BROWSER)
        deed = found.world.http.post(f"/deployments/{NAME}/stop", headers=BROWSER)
        program = found.world.http.get(f"/api/deployments/{NAME}")
    for answer in (look, deed):
        assert (answer.status_code, answer.headers["content-type"]) == (500, HTML)
        assert answer.headers["x-request-id"] in answer.text
        assert "squeamish" not in answer.text
        assert f"request {answer.headers['x-request-id']} failed" in caplog.text
    assert "Nothing was changed: this was only a look." in look.text
    assert "It is not known whether anything was changed: look before you send it again." in deed.text
    assert (program.status_code, program.headers["content-type"]) == (500, PROBLEM)


def test_a_busy_database_is_a_page_that_says_try_again(tmp_path: Path) -> None:
    """503 with Retry-After, and nothing was changed."""
    with console(tmp_path) as found:
        found.deploy()
        other = sqlite3.connect(tmp_path / "deployer.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = found.world.http.post("/deployments/late/stop", headers=BROWSER)
        other.close()
        assert (answer.status_code, answer.headers["content-type"], answer.headers["retry-after"]) == (503, HTML, "1")
        assert "The database is busy" in answer.text
        assert "Nothing was changed." in answer.text
        assert found.world.get()["wish"]["running"] is True


def test_the_log_names_a_failed_statement_and_none_of_its_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Reasons, labels and digests stay out of the log, whatever the database says no to."""
    with console(tmp_path) as found:
        found.deploy()
        with found.world.deployer.database.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TRIGGER t BEFORE INSERT ON revisions BEGIN SELECT RAISE(ABORT, 'no'); END")
        answer = found.world.http.post("/deployments/late/stop", data={"why": "squeamish ossifrage"}, headers=BROWSER)
        assert (answer.status_code, found.world.get()["wish"]["number"]) == (500, 1)
    assert "INSERT INTO revisions" in caplog.text
    assert "squeamish" not in caplog.text


SESSIONLESS = [("GET", 303), ("POST", 401)]


@pytest.mark.parametrize(("method", "status"), SESSIONLESS)
def test_a_session_that_is_over_leads_to_the_login(stranger: httpx.Client, method: str, status: int) -> None:
    """A page is asked for again after it; a form is not sent again by itself, so its refusal is a page."""
    answer = stranger.request(method, f"/deployments/{NAME}/stop")
    assert answer.status_code == status
    if method == "GET":
        assert answer.headers["location"] == "/login"
    else:
        assert "Nothing was changed." in answer.text
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_login_is_a_page_of_the_console(stranger: httpx.Client) -> None:
    """Its style and frame, one labelled field, no script; without the navigation that would only lead back here."""
    answer = stranger.get("/login")
    page = Document(answer.text)
    assert (answer.status_code, answer.headers["content-type"]) == (401, HTML)
    assert asset_url("console.css") in {link["href"] for link in page.all("link")}
    assert page.all("script") == []
    assert page.all("header")
    assert "/models" not in {link["href"] for link in page.all("a")}
    assert {label["for"] for label in page.all("label")} == {"token"}
    assert page.all("form") == [{"method": "post", "action": "/login", "class": "narrow"}]
    assert 'role="alert"' not in answer.text


TOKENS: list[tuple[dict[str, Any], int]] = [({"data": {"token": ADMIN}}, 303), ({"data": {"token": "w" * 40}}, 401), ({}, 401)]


@pytest.mark.parametrize(("form", "status"), TOKENS)
def test_the_login_form_keeps_the_token_out_of_addresses(stranger: httpx.Client, form: dict[str, Any], status: int) -> None:
    """Sent as a form; the right one makes a session, a wrong one is told and never repeated."""
    answer = stranger.post("/login", **form)
    assert answer.status_code == status
    assert (COOKIE in stranger.cookies) == (status == 303)
    assert "w" * 40 not in answer.text
    if status == 303:
        assert answer.headers["location"] == "/"
        assert stranger.get("/deployments").status_code == 200
    assert ("not the admin token" in answer.text) == bool(form and status == 401)


def test_the_login_form_of_another_site_logs_nobody_in(stranger: httpx.Client) -> None:
    """Nobody can be put into a session that somebody else has chosen."""
    answer = stranger.post("/login", data={"token": ADMIN}, headers={"origin": "http://evil.example"})
    assert (answer.status_code, COOKIE in stranger.cookies) == (403, False)


@pytest.mark.parametrize("path", ["/login", "/docs", "/deployments", f"/deployments/{NAME}/stop", "/api/models", "/nothing"])
def test_forms_may_name_their_origin(shown: Console, path: str) -> None:
    """Under `no-referrer` browsers send `Origin: null`; one header at the edge says it for every page."""
    answer = shown.world.http.get(path, headers=BROWSER)
    assert answer.headers["referrer-policy"] == "same-origin"
    assert '<meta name="referrer"' not in answer.text


def test_the_list_of_routes_is_a_page_of_the_console(shown: Console, stranger: httpx.Client) -> None:
    """In its style, for everybody; every parameter with what it means."""
    answer = stranger.get("/docs")
    page = Document(answer.text)
    assert answer.status_code == 200
    assert any((link["href"] or "").startswith("/static/console.css") for link in page.all("link"))
    assert len(page.all("h1")) == 1
    routes = re.findall(r"<h2><code>(\w+) ([^<]+)</code></h2>", answer.text)
    document = shown.world.http.get("/openapi.json").json()
    assert sorted(routes) == sorted((method.upper(), path) for path, methods in document["paths"].items() for method in methods)
    assert "Seconds to wait until nodes do what was asked." in answer.text
