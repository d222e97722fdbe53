"""The edge of the deployer: credentials on every route, hosts, origins, sizes, sessions, and what errors say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from quarterdeck.storage import open_storage
from quarterdeck_deployer.access import access_of
from quarterdeck_deployer.app import create_app
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.security import MAX_REPORT
from quarterdeck_deployer.sessions import COOKIE
from quarterdeck_deployer.settings import Settings
from tests.deployer_world import ADMIN, NODE, TOKENS, World, world

WRONG = "w" * 40


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A deployer with nothing in it."""
    with world(tmp_path) as found:
        yield found


@pytest.fixture
def anybody(here: World) -> Iterator[httpx.Client]:
    """A client without any credential."""
    with httpx.Client(base_url=here.http.base_url) as client:
        yield client


def routes(deployer: Deployer) -> list[tuple[str, str]]:
    """(method, path template) of every route of the application."""
    found: set[tuple[str, str]] = set()
    for context in iter_route_contexts(create_app(deployer).routes):
        found |= {(method, context.path or "") for method in context.methods or {"GET"} if method != "HEAD"}
    return sorted(found)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


def test_every_route_is_classified(here: World) -> None:
    """A new route fails here until access.RULES says which credential it needs."""
    found = routes(here.deployer)
    assert len(found) > 20
    assert [(method, path) for method, path in found if access_of(method, filled(path)) is None] == []


def filled(path: str) -> str:
    """The path with every parameter filled in."""
    return re.sub(r"\{[^}]*\}", "1", path)


def test_every_route_refuses_none_and_wrong_credentials(here: World, anybody: httpx.Client) -> None:
    """route × {none, wrong, the other's, good}: 401 for all but the good one; public routes ask for nothing."""
    for method, path in routes(here.deployer):
        access = access_of(method, filled(path))
        good, other = {"node": (NODE, ADMIN), "public": ("", "")}.get(access or "", (ADMIN, NODE))
        for token in ("", WRONG, other):
            answer = anybody.request(method, filled(path), headers=bearer(token))
            assert (answer.status_code == 401) == (access != "public" or path == "/login"), (
                method,
                path,
                token,
                answer.status_code,
            )
        assert anybody.request(method, filled(path), headers=bearer(good)).status_code != 401 or path == "/login", (method, path)


def test_path_that_no_rule_names_needs_the_admin(anybody: httpx.Client, here: World) -> None:
    """Deny by default: 401 without, 404 with the token."""
    assert anybody.get("/something/new").status_code == 401
    assert here.http.get("/something/new").status_code == 404


@pytest.mark.parametrize("host", ["evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", ""])
def test_foreign_host_names_are_refused(here: World, host: str) -> None:
    """Only 127.0.0.1 and localhost with the right port: a rebound name gets nothing, token or not."""
    port = here.deployer.settings.port
    answer = here.http.get("/api/models", headers={"host": host.format(port=port)})
    assert answer.status_code == 403 or (not host and answer.status_code == 400)
    assert here.http.get("/api/models", headers={"host": f"localhost:{port}"}).status_code == 200


CROSS = [
    ({"origin": "http://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"sec-fetch-site": "same-origin", "origin": "own"}, 404),
    ({}, 404),
]


@pytest.mark.parametrize(("headers", "status"), CROSS)
def test_other_sites_cannot_act(here: World, headers: dict[str, str], status: int) -> None:
    """Unsafe methods from elsewhere are refused before anything is looked at."""
    own = f"http://127.0.0.1:{here.deployer.settings.port}"
    given = {name: own if value == "own" else value for name, value in headers.items()}
    assert here.http.post("/api/deployments/none/stop", json={}, headers=given).status_code == status


def test_login_gives_a_session_that_scripts_cannot_read(here: World, anybody: httpx.Client) -> None:
    """Right token: cookie HttpOnly and SameSite=Strict, good by itself; the database knows its digest only."""
    assert anybody.get("/login", params={"token": WRONG}).status_code == 401
    answer = anybody.get("/login", params={"token": ADMIN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert anybody.get("/api/models").status_code == 200
    ident = anybody.cookies[COOKIE]
    raw = b"".join(path.read_bytes() for path in here.deployer.settings.data.glob("deployer.db*"))
    assert ident.encode() not in raw
    assert ADMIN.encode() not in raw


def test_made_up_session_is_nothing(anybody: httpx.Client) -> None:
    """A cookie of the right name with another value is 401, also where it is no cookie at all."""
    for value in ("x" * 43, "", "ü"):
        assert anybody.get("/api/models", headers=[(b"cookie", f"{COOKIE}={value}".encode())]).status_code == 401


def test_browser_without_session_is_sent_to_login(anybody: httpx.Client) -> None:
    """A page leads to /login, which says where the link is; the API answers problem+json instead."""
    answer = anybody.get("/deployments/late", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "quarterdeck up" in anybody.get("/login").text
    assert anybody.get("/api/models", headers={"accept": "text/html"}).headers["content-type"] == "application/problem+json"


SECRET = "squeamish-ossifrage"
BAD = [
    ("PUT", "/api/deployments/late", json.dumps({"main": {"model": SECRET, "version": SECRET}}), 422),
    ("PUT", "/api/deployments/late", json.dumps({"main": {"model": "m", "version": 1}, SECRET: 1}), 422),
    ("PUT", "/api/deployments/late", '{"main": "' + SECRET, 400),
    ("PUT", "/api/deployments/late", '{"main": "\\ud800"}', 422),
    ("PUT", "/api/deployments/UPPER_" + SECRET, "{}", 422),
    ("POST", "/api/deployments/late/rollback", json.dumps({"revision": SECRET}), 422),
    ("POST", "/api/deployments/late/stop?wait=" + SECRET, "{}", 422),
    ("POST", "/api/keys", json.dumps({"name": "", "scopes": [SECRET]}), 422),
    ("POST", "/api/models/m/versions", json.dumps({"version": 0, "digest": SECRET}), 422),
    ("GET", "/api/audit?limit=" + SECRET, "", 422),
    ("GET", "/api/models/m/versions/99999999999999999999999", "", 422),
    ("PATCH", "/api/models", "", 405),
    ("GET", "/api/nothing", "", 404),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD)
def test_errors_are_problems_that_repeat_nothing(here: World, method: str, path: str, body: str, status: int) -> None:
    """problem+json with code and detail; no value that was sent comes back."""
    answer = here.http.request(method, path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert problem["code"]
    assert problem["status"] == status
    assert SECRET not in answer.text.replace("UPPER_" + SECRET, "")


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "in chunks"])
def test_oversized_report_is_refused_before_it_is_parsed(anybody: httpx.Client, chunked: bool) -> None:
    """One byte over the limit is 413, whatever length was announced."""
    body = b" " * (MAX_REPORT + 1)
    content = iter([body]) if chunked else body
    answer = anybody.post("/nodes/main/report", content=content, headers=bearer(NODE))
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


REPORTS = [
    ("main", {"node": "challenger"}, 422),
    ("main", {"role": "challenger"}, 422),
    ("other", {"node": "other"}, 403),
    ("main", {"sequence": "x"}, 422),
]


@pytest.mark.parametrize(("node", "changes", "status"), REPORTS)
def test_reports_of_somebody_else_are_refused(anybody: httpx.Client, node: str, changes: dict[str, Any], status: int) -> None:
    """A node speaks for itself only."""
    report = {"node": "main", "boot": "b", "role": "main", "url": "u", "sequence": 0, "ready": True, **changes}
    assert anybody.post(f"/nodes/{node}/report", json=report, headers=bearer(NODE)).status_code == status


def test_documentation_needs_no_other_server(anybody: httpx.Client) -> None:
    """/docs lists every route of the OpenAPI document, under a policy that forbids foreign sources; bodies have examples."""
    document = anybody.get("/openapi.json").json()
    page = anybody.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert not re.search(r"(src|href)=\"https?:", page.text)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in page.text
            assert "HTTPValidationError" not in json.dumps(operation)
    registered = document["paths"]["/api/models/{model}/versions"]["post"]["requestBody"]["content"]["application/json"]
    assert registered["examples" if "examples" in registered else "schema"]


def test_metrics_tell_plan_and_reports(here: World, anybody: httpx.Client) -> None:
    """Prometheus text with the sequence of each node's plan."""
    here.until(lambda: here.main.sequence)
    text = anybody.get("/metrics").text
    assert 'quarterdeck_deployer_plan_sequence{node="main"} 1.0' in text
    assert 'quarterdeck_deployer_node_report_age_seconds{node="challenger"}' in text
    assert 'quarterdeck_deployer_reconcile_failures_total{infrastructure="local"} 0.0' in text


def test_application_starts_without_a_first_request(tmp_path: Path) -> None:
    """Building the application touches the data folder only."""
    settings = Settings(data=tmp_path, store=f"memory://{tmp_path}")
    create_app(Deployer(settings, TOKENS, open_storage(settings.store_url)))
    made = {"deployer.db", "deployer.db-wal", "deployer.db-shm"}
    assert {path.name for path in tmp_path.iterdir()} <= made
