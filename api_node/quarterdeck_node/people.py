"""People's tokens: signed by the deployer, checked here by its public keys alone, without asking anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from quarterdeck.errors import Unauthenticated
from quarterdeck.plan import TokenIssuer
from quarterdeck_node.auth import Holder, Meter

ALGORITHM = "Ed25519"
MAX_VERIFIED = 1_024
MAX_TOKEN = 8_192
"""Characters of a token; ours have a few hundred."""
_HINT = "Make a new one: `quarterdeck token`."


class People:
    """Checks tokens. A token that was good is known by its digest from then on; whoever asks looks at its end.

    Args:
        issuers: of the plan.
    """

    def __init__(self, issuers: Sequence[TokenIssuer]) -> None:
        self._issuers = [(one, KeySet.import_key_set({"keys": [dict(key) for key in one.keys]})) for one in issuers]
        self._verified: dict[str, Holder] = {}

    def token(self, secret: str) -> bool:
        """Whether this has the form of a token, and not that of a key."""
        # A JSON object in base64 begins like this, and three parts make a signed token.
        return secret.startswith("eyJ") and secret.count(".") == 2

    def holder(self, token: str, digest: str) -> Holder:
        """The person behind a token, expired or not.

        Raises:
            Unauthenticated: nobody here has signed it, or it is for somebody else.
        """
        known = self._verified.get(digest)
        if known is not None:
            return known
        claims = next((found for issuer, keys in self._issuers if (found := _claims(token, issuer, keys))), None)
        if claims is None:
            raise Unauthenticated("The token is not signed by this instance.", hint=_HINT, kind="token")
        # Bounded, because people get new tokens every hour; those who ask again are checked again.
        if len(self._verified) >= MAX_VERIFIED:
            self._verified.clear()
        return self._verified.setdefault(digest, _holder(claims))


def _claims(token: str, issuer: TokenIssuer, keys: KeySet) -> Mapping[str, Any] | None:
    """What the token claims; None where this issuer has not signed it, or not for us."""
    if len(token) > MAX_TOKEN:
        return None
    try:
        # One algorithm only: a token must not choose how it is believed.
        claims = jwt.decode(token, keys, algorithms=[ALGORITHM]).claims
    # Its header is anybody's JSON, and the library takes some of it for lists.
    except (JoseError, ValueError, TypeError):
        return None
    ours = (claims.get("iss"), claims.get("aud")) == (issuer.issuer, issuer.audience)
    return claims if ours and isinstance(claims.get("exp"), int | float) else None


def _holder(claims: Mapping[str, Any]) -> Holder:
    role, projects = claims.get("role"), claims.get("projects")
    scopes = {"predict", "read"} if role == "viewer" else {"predict", "read", "feedback"}
    opened = None if projects == "*" else frozenset(projects if isinstance(projects, list) else ())
    return Holder(Meter(f"person:{claims.get('sub', '')}"), opened, frozenset(scopes), float(claims["exp"]))
