"""Signing in with a provider of identities: OpenID Connect's authorization code flow with PKCE, state and nonce.

The protocol's own parts are Authlib's and joserfc's. The provider's tokens never leave this module, and none of them is kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from quarterdeck.errors import Forbidden, Malformed, NotReady
from quarterdeck_deployer.access import ROLES, Role
from quarterdeck_deployer.people import ADDRESS, Identity
from quarterdeck_deployer.settings import Settings

SIGN_IN_SECONDS = 600
_TIMEOUT = 10.0
_LEEWAY = 60
# Signatures only, and no shared secrets: the provider's public keys must not double as one.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"]
_AGAIN = "Begin again at /login."


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that was begun: where the browser goes, and the cookie that it brings back."""

    url: str
    cookie: str


class Provider:
    """One provider, by its settings.

    Args:
        settings: with an `oidc_issuer`.
        seal: secret that the cookies of sign-ins are sealed with.
        clock: Unix seconds.
    """

    def __init__(self, settings: Settings, seal: str, clock: Callable[[], float] = time.time) -> None:
        self._settings, self._clock = settings, clock
        self._seal = hmac.new(seal.encode(), b"quarterdeck sign-in", hashlib.sha256).digest()
        self._redirect = f"{settings.url}/login/callback"

    async def begin(self) -> Begun:
        """The provider's page to go to, and what must come back with whoever returns from it.

        Raises:
            NotReady: ``provider-unreachable``.
        """
        kept = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
        async with self._client() as client:
            found = await self._discovered(client)
        url = prepare_grant_uri(
            found["authorization_endpoint"],
            self._settings.oidc_client_id,
            "code",
            redirect_uri=self._redirect,
            scope=f"openid email profile {self._settings.oidc_scopes}".strip(),
            state=kept["state"],
            nonce=kept["nonce"],
            code_challenge=create_s256_code_challenge(kept["verifier"]),
            code_challenge_method="S256",
        )
        # With the browser, not with us: strangers who only begin sign-ins fill no table here.
        return Begun(str(url), self._sealed({**kept, "until": self._clock() + SIGN_IN_SECONDS}))

    async def finish(self, cookie: str, query: Mapping[str, str]) -> Identity:
        """Whom the provider has sent back.

        Args:
            cookie: of the browser that began.
            query: parameters of the address that it came back to.

        Raises:
            Malformed: ``sign-in-broken``: this browser has not begun this sign-in, or too long ago.
            Forbidden: ``sign-in-refused``: the provider has refused, or what it sent is not believed.
            NotReady: ``provider-unreachable``.
        """
        kept = self._opened(cookie)
        if not hmac.compare_digest(str(kept["state"]).encode(), query.get("state", "").encode()):
            raise _broken()
        # Which provider answered is told by newer ones: another one than ours is a mix-up.
        if query.get("iss", self._settings.oidc_issuer) != self._settings.oidc_issuer or "code" not in query:
            raise _refused()
        async with self._client() as client:
            found = await self._discovered(client)
            claims = await self._claims(client, found, query["code"], kept)
        return self._identity(claims)

    async def _discovered(self, client: httpx.AsyncClient) -> Mapping[str, Any]:
        issuer = self._settings.oidc_issuer
        found = await _get(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer or not {"authorization_endpoint", "token_endpoint", "jwks_uri"} <= found.keys():
            raise _unreachable("its configuration is not that of the issuer in the settings")
        return found

    async def _claims(
        self, client: httpx.AsyncClient, found: Mapping[str, Any], code: str, kept: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        tokens = await self._tokens(client, found["token_endpoint"], code, str(kept["verifier"]))
        # Asked for at each sign-in: those are rare, and a provider may have new keys any day.
        keys = await _get(client, found["jwks_uri"])
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=_LEEWAY,
            iss={"essential": True, "value": self._settings.oidc_issuer},
            aud={"essential": True, "value": self._settings.oidc_client_id},
            nonce={"essential": True, "value": kept["nonce"]},
            sub={"essential": True},
            exp={"essential": True},
        )
        try:
            token = jwt.decode(str(tokens.get("id_token", "")), KeySet.import_key_set(_key_set(keys)), algorithms=_ALGORITHMS)
            registry.validate(token.claims)
        except (JoseError, ValueError):
            raise _refused() from None
        return token.claims

    async def _tokens(self, client: httpx.AsyncClient, url: str, code: str, verifier: str) -> Mapping[str, Any]:
        settings, auth = self._settings, httpx.Auth()
        extra = {"redirect_uri": self._redirect, "code": code, "code_verifier": verifier}
        if settings.oidc_client_secret_file:
            secret = _secret(settings.oidc_client_secret_file)
            auth = httpx.BasicAuth(quote(settings.oidc_client_id, safe=""), quote(secret, safe=""))
        else:
            # A public client, which PKCE alone vouches for.
            extra["client_id"] = settings.oidc_client_id
        # The code is worth nothing without the verifier, and that has never left this server and its browser.
        body = prepare_token_request("authorization_code", **extra)
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        answer = await _ask(client.post(url, content=body, headers=headers, auth=auth))
        if answer.status_code != 200:
            raise _refused()
        return _document(answer)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        # Only a verified address may lead to a person that an admin has entered by that address.
        email = str(claims.get("email", "")) if claims.get("email_verified") is True else ""
        # People are told apart by it, also from the instance's own admin: what has not its form is none.
        email = email if re.fullmatch(ADDRESS, email) else ""
        name = str(claims.get("name") or claims.get("preferred_username") or email or claims["sub"])
        return Identity(f"{claims['iss']} {claims['sub']}", name[:200], email[:320], self._role(claims))

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        """The highest role that the claim gives; None where it gives none."""
        value: Any = claims
        for part in self._settings.oidc_role_claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        held = {str(one) for one in (value if isinstance(value, list) else [value])}
        given = {role for name, role in self._settings.roles_by_claim.items() if name in held}
        return next((role for role in reversed(ROLES) if role in given), None)

    def _client(self) -> httpx.AsyncClient:
        ca = self._settings.oidc_ca
        try:
            trusted = ssl.create_default_context(cafile=ca)
        except OSError:
            raise _unreachable("the file of its authority cannot be read") from None
        return httpx.AsyncClient(timeout=_TIMEOUT, verify=trusted)

    def _sealed(self, kept: Mapping[str, Any]) -> str:
        text = base64.urlsafe_b64encode(json.dumps(kept).encode()).decode()
        return f"{text}.{self._seal_of(text)}"

    def _opened(self, cookie: str) -> Mapping[str, Any]:
        text, _, seal = cookie.rpartition(".")
        if not hmac.compare_digest(seal.encode(), self._seal_of(text).encode()):
            raise _broken()
        kept: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(text))
        if kept["until"] < self._clock():
            raise _broken()
        return kept

    def _seal_of(self, text: str) -> str:
        return hmac.new(self._seal, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def _secret(path: Path) -> str:
    try:
        # Read anew each time: secrets are rotated without a restart.
        return path.read_text().strip()
    except (OSError, ValueError):
        raise _unreachable("the file of the client's secret cannot be read") from None


async def _get(client: httpx.AsyncClient, url: str) -> Mapping[str, Any]:
    answer = await _ask(client.get(url))
    if answer.status_code != 200:
        raise _unreachable(f"it answered {answer.status_code}")
    return _document(answer)


async def _ask(request: Awaitable[httpx.Response]) -> httpx.Response:
    try:
        return await request
    except (httpx.HTTPError, httpx.InvalidURL):
        raise _unreachable("it did not answer") from None


def _document(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _unreachable("it answered something else than its protocol says")
    return found


def _key_set(found: Mapping[str, Any]) -> Any:
    # Keys of kinds that nobody here knows must not keep the known ones from being used.
    return {"keys": [key for key in found.get("keys", []) if key.get("kty") in ("RSA", "EC", "OKP")]}


def _broken() -> Malformed:
    return Malformed(
        "This browser has not begun this sign-in, or too long ago.", code="sign-in-broken", kind="sign-in", hint=_AGAIN
    )


def _refused() -> Forbidden:
    # The provider's own words may hold anything; its log has them.
    return Forbidden("The provider of identities has not signed you in.", code="sign-in-refused", kind="sign-in", hint=_AGAIN)


def _unreachable(why: str) -> NotReady:
    return NotReady(
        f"The provider of identities cannot be used: {why}.",
        code="provider-unreachable",
        kind="provider",
        hint="Try again; if it stays so, check QUARTERDECK_OIDC_ISSUER and whether this host reaches it.",
    )
