"""Signing in with a real provider of identities: code, PKCE, state and nonce; who becomes whom, and what is refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from quarterdeck.storage import open_storage
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.oidc import SIGN_IN_SECONDS, Provider
from quarterdeck_deployer.sessions import COOKIE
from quarterdeck_deployer.settings import Settings
from tests import identity
from tests.deployer_world import ADMIN, TOKENS, served

SIGN_IN = "quarterdeck_signin"


@dataclass
class Home:
    """A deployer that sends people to a provider."""

    deployer: Deployer
    base: str

    def browser(self) -> httpx.Client:
        """One that nobody has signed in with."""
        return httpx.Client(base_url=self.base, headers={"accept": "text/html"}, trust_env=False)

    def people(self) -> list[dict[str, Any]]:
        """Who is known."""
        answer = httpx.get(f"{self.base}/api/people", headers={"authorization": f"Bearer {ADMIN}"}, trust_env=False)
        found: list[dict[str, Any]] = answer.json()
        return found

    def change(self, person: str, **given: Any) -> None:
        """Change somebody, as the admin."""
        headers = {"authorization": f"Bearer {ADMIN}"}
        assert httpx.patch(f"{self.base}/api/people/{person}", json=given, headers=headers, trust_env=False).is_success


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The deployer and the provider, both real."""
    folder = tmp_path_factory.mktemp("sign-in")
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with identity.running(folder / "provider", f"{base}/login/callback") as provider:
        settings = Settings(
            data=folder / "data",
            port=listener.getsockname()[1],
            store=f"memory://{folder}",
            oidc_issuer=provider.issuer,
            oidc_client_id=identity.CLIENT,
            oidc_client_secret_file=provider.secret_file,
            oidc_role_claim="email",
            oidc_roles="somebody.else@example.org=admin",
        )
        deployer = Deployer(settings, TOKENS, open_storage(settings.store_url))
        with served(deployer, listener):
            yield Home(deployer, base)


def returned(browser: httpx.Client) -> str:
    """Begin, give the password at the provider, and come back to the point where the callback's address is known."""
    begun = browser.get("/login/start")
    assert begun.status_code == 303
    with httpx.Client(trust_env=False) as elsewhere:
        return str(identity.give_password(elsewhere, begun.headers["location"]).headers["location"])


def test_the_first_sign_in_makes_a_viewer(home: Home) -> None:
    """The name and the verified address are the provider's; a second time it is the same person, in a session of its own."""
    with home.browser() as browser:
        assert "/login/start" in browser.get("/login").text
        page = browser.get(returned(browser))
        assert (page.status_code, 'content="0; url=/"' in page.text) == (200, True)
        first = browser.cookies[COOKIE]
        assert "Log out" in browser.get("/deployments").text
        assert browser.post("/api/keys", json={"name": "k"}).status_code == 403
    [anna] = home.people()
    assert (anna["email"], anna["role"], anna["projects"]) == (identity.EMAIL, "viewer", ["default"])
    home.change(anna["id"], role="developer")
    with home.browser() as browser:
        browser.get(returned(browser))
        assert browser.cookies[COOKIE] != first
    [again] = home.people()
    assert (again["id"], again["role"]) == (anna["id"], "developer")


def test_cookies_of_the_sign_in_are_kept_from_scripts_and_other_sites(home: Home) -> None:
    """The session's is strict; the one of the way there is lax, short-lived and gone when the way is done."""
    with home.browser() as browser:
        begun = browser.get("/login/start").headers["set-cookie"].lower()
        assert ("httponly" in begun, "samesite=lax" in begun, f"max-age={SIGN_IN_SECONDS}" in begun) == (True, True, True)
        ended = browser.get(returned(browser)).headers.get_list("set-cookie")
    session = next(one for one in ended if one.startswith(COOKIE)).lower()
    assert ("httponly" in session, "samesite=strict" in session) == (True, True)
    assert any(one.startswith(SIGN_IN) and "max-age=0" in one.lower() for one in ended)


def test_the_provider_is_asked_by_the_book(home: Home) -> None:
    """Code flow with S256 and state and nonce that are new each time; the verifier is nowhere in the address."""
    with home.browser() as browser:
        asked = [parse_qs(urlsplit(browser.get("/login/start").headers["location"]).query) for _ in range(2)]
    for one in asked:
        assert (one["response_type"], one["code_challenge_method"]) == (["code"], ["S256"])
        assert one["redirect_uri"] == [f"{home.base}/login/callback"]
        assert "code_verifier" not in one
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name]
        assert len(asked[0][name][0]) >= 43


def test_a_way_back_that_this_browser_did_not_begin_is_refused(home: Home) -> None:
    """Another browser's address, another state, a cookie that was changed, no cookie: no session, and no person."""
    with home.browser() as browser, home.browser() as stranger:
        address = urlsplit(returned(browser))
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        stranger.get("/login/start")
        sealed = browser.cookies[SIGN_IN]
        attempts = [
            stranger.get(address.geturl()),
            browser.get("/login/callback", params={**query, "state": "x" * 43}),
            httpx.get(address.geturl(), headers={"cookie": f"{SIGN_IN}=x{sealed}"}, trust_env=False),
            httpx.get(address.geturl(), trust_env=False),
        ]
        assert [one.status_code for one in attempts] == [400] * 4
        assert all(COOKIE not in one.headers.get("set-cookie", "") for one in attempts)
        # A code is good once, and only with the verifier of the browser that began.
        assert browser.get(address.geturl()).status_code == 200
        browser.cookies.set(SIGN_IN, sealed)
        assert browser.get(address.geturl()).status_code == 403


@pytest.mark.parametrize(
    "query", [{"error": "access_denied"}, {"code": "made-up"}, {"code": "made-up", "iss": "https://evil.example"}]
)
def test_what_the_provider_does_not_vouch_for_opens_nothing(home: Home, query: dict[str, str]) -> None:
    """A refusal, a code that is none, an answer of another issuer: 403, and none of their words on the page."""
    with home.browser() as browser:
        state = parse_qs(urlsplit(browser.get("/login/start").headers["location"]).query)["state"][0]
        answer = browser.get("/login/callback?" + urlencode({**query, "state": state, "error_description": "squeamish"}))
        assert (answer.status_code, "sign-in-refused" in answer.text, "squeamish" in answer.text) == (403, True, False)
        assert COOKIE not in browser.cookies


def test_a_wrong_password_stays_at_the_provider(home: Home) -> None:
    """Nobody comes back."""
    with home.browser() as browser, httpx.Client(trust_env=False) as elsewhere:
        begun = browser.get("/login/start")
        answer = identity.give_password(elsewhere, begun.headers["location"], password="wrong")
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"groups": ["ml", "ops"]}, "developer"),
        ({"groups": ["ml", "ml-admins"]}, "admin"),
        ({"groups": "ml-admins"}, "admin"),
        ({"groups": []}, None),
        ({}, None),
    ],
)
def test_roles_follow_from_a_claim(claims: dict[str, Any], role: str | None) -> None:
    """The highest of what the claim gives; where it gives nothing, the person's own role stays."""
    settings = Settings(
        oidc_issuer="https://id.example.org", oidc_client_id="q", oidc_roles="ml=developer, ml-admins=admin, ops=viewer"
    )
    told = {"iss": "https://id.example.org", "sub": "1", "email": "a@b.c", "email_verified": False, **claims}
    found = Provider(settings, ADMIN)._identity(told)
    assert (found.role, found.email) == (role, "")


@pytest.mark.parametrize(
    ("email", "verified", "counts"),
    [
        ("a@b.c", True, True),
        ("a@b.c", "true", False),
        ("a@b.c", None, False),
        ("admin", True, False),
        ("admin (console)", True, False),
        ("a@b.c\nadmin", True, False),
    ],
)
def test_only_a_verified_address_tells_who_somebody_is(email: str, verified: object, counts: bool) -> None:
    """And only one that has the form of an address: nobody comes to be called as the instance's own admin."""
    settings = Settings(oidc_issuer="https://id.example.org", oidc_client_id="q")
    told = {"iss": "https://id.example.org", "sub": "1", "email": email, "email_verified": verified}
    assert Provider(settings, ADMIN)._identity(told).email == (email if counts else "")


def test_a_provider_that_is_away_is_said_so(tmp_path: Path) -> None:
    """503 with a hint, and the token still opens the door."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    # Nothing listens on the discard port.
    settings = Settings(
        data=tmp_path, port=port, store=f"memory://{tmp_path}", oidc_issuer="http://127.0.0.1:9/dex", oidc_client_id="q"
    )
    deployer = Deployer(settings, TOKENS, open_storage(settings.store_url))
    with served(deployer, listener), httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as browser:
        answer = browser.get("/login/start")
        assert (answer.status_code, "provider-unreachable" in answer.text) == (503, True)
        assert browser.get("/login", params={"token": ADMIN}).status_code == 303


def test_behind_https_cookies_are_bound_to_the_host(tmp_path: Path) -> None:
    """By the name that browsers understand; under the address of this machine the same server sets the plain one."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = Settings(data=tmp_path, port=port, store=f"memory://{tmp_path}", urls="https://models.example.org")
    deployer = Deployer(settings, TOKENS, open_storage(settings.store_url))
    outside = {"host": "models.example.org"}
    with served(deployer, listener), httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as browser:
        cookie = browser.get("/login", params={"token": ADMIN}, headers=outside).headers["set-cookie"]
        assert cookie.startswith(f"__Host-{COOKIE}=")
        assert {"secure", "path=/", "httponly", "samesite=strict"} <= {part.strip().lower() for part in cookie.split(";")}
        ident = cookie.partition("=")[2].partition(";")[0]
        browser.cookies.clear()
        for name, status in ((f"__Host-{COOKIE}", 200), (COOKIE, 401)):
            given = {**outside, "cookie": f"{name}={ident}"}
            assert browser.get("/api/models", headers=given).status_code == status
        assert browser.get("/login", params={"token": ADMIN}).headers["set-cookie"].startswith(f"{COOKIE}=")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"oidc_issuer": "http://id.example.org", "oidc_client_id": "q"}, "https://"),
        ({"oidc_issuer": "https://id.example.org", "oidc_client_id": ""}, "goes together"),
        ({"oidc_client_id": "q"}, "goes together"),
        ({"oidc_roles": "ml=king"}, "VALUE=ROLE"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(given: dict[str, str], told: str) -> None:
    """By name of the variable, before anything listens."""
    with pytest.raises(ValueError, match=told):
        Settings(**given)
