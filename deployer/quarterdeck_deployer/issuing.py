"""Tokens of people: short-lived, signed here, checked by nodes and by the deployer itself without asking anybody."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OKPKey
from pydantic import Field
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from quarterdeck.plan import TokenIssuer
from quarterdeck.schema import Frozen
from quarterdeck_deployer.access import Caller
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.models import SigningKey

MAX_MINUTES = 24 * 60
AUDIENCE = "quarterdeck"
ADMIN = "admin"
"""The subject of tokens that the instance's own admin token has asked for."""
_ALGORITHM = "Ed25519"
_KEPT = 2
_NEWEST = select(SigningKey.name).order_by(SigningKey.number.desc()).limit(_KEPT)


class TokenInput(Frozen):
    """How long a new token shall be good."""

    minutes: Annotated[int, Field(ge=1, le=MAX_MINUTES)] = 60
    person: Annotated[str, Field(pattern=r"^[a-z0-9]{1,40}$")] | None = Field(
        None, description="For whom; admins only. The caller where left out."
    )


class NewToken(Frozen):
    """A token, shown once and kept nowhere."""

    token: str = Field(repr=False, description="Where the same request is answered again, it is empty.")
    subject: str
    expires: datetime


class Issuer:
    """Signs and checks. The newest of its keys signs; the one before still counts, so that a rotation ends nobody's token.

    The database holds the keys' names and nothing more: each key follows from its name and the admin token. So no backup has
    one, every process with this database and this token signs with the same, and another admin token ends all tokens.

    Args:
        database: of the names; the first one is made where there is none.
        secret: the instance's admin token.
        instance: name of the instance: the issuer of its tokens.
        clock: Unix seconds.
    """

    def __init__(self, database: Database, secret: str, instance: str, clock: Callable[[], float] = time.time) -> None:
        self._sessions, self._secret, self._clock = database.sessions, secret, clock
        self._issuer = f"urn:quarterdeck:{instance}"
        # Of several processes that start at once one makes it, and the others find it.
        with database.writing.begin() as session:
            if session.scalar(_NEWEST) is None:
                session.add(_new())

    def issue(self, caller: Caller, minutes: int) -> NewToken:
        """A token that says who the caller is, which role and which projects they have now, until it expires."""
        now = int(self._clock())
        subject, key = caller.person or ADMIN, self._keys()[0]
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "role": caller.role,
            "projects": "*" if caller.projects is None else sorted(caller.projects),
            "iat": now,
            "exp": now + minutes * 60,
            # Two tokens of one second are two tokens.
            "jti": secrets.token_urlsafe(8),
        }
        token = jwt.encode({"alg": _ALGORITHM, "kid": str(key.kid)}, claims, key, algorithms=[_ALGORITHM])
        return NewToken(token=token, subject=subject, expires=datetime.fromtimestamp(claims["exp"], UTC))

    def subject(self, token: str) -> str | None:
        """Whom a token is of; None where it is none of ours, or not any more."""
        # Most of what stands in this place has not even the form of one: that needs no look at the database.
        if token.count(".") != 2:
            return None
        try:
            claims = jwt.decode(token, KeySet([*self._keys()]), algorithms=[_ALGORITHM]).claims
        # Its header is anybody's JSON, and the library takes some of it for lists.
        except (JoseError, ValueError, TypeError):
            return None
        ours = (claims.get("iss"), claims.get("aud")) == (self._issuer, AUDIENCE)
        expires = claims.get("exp")
        if not ours or not isinstance(expires, int | float) or expires <= self._clock():
            return None
        return str(claims.get("sub", "")) or None

    def public(self) -> TokenIssuer:
        """What nodes check tokens by."""
        return self._shown(self._keys())

    def rotate(self, session: Session) -> TokenIssuer:
        """Sign with a new key once this transaction is over; of the old ones the newest counts until the next rotation."""
        session.add(_new())
        session.flush()
        kept = session.scalars(_NEWEST).all()
        session.execute(delete(SigningKey).where(SigningKey.name.not_in(kept)))
        return self._shown([self._key(name) for name in kept])

    def _keys(self) -> list[OKPKey]:
        """Those that count, the newest first; read each time, for another process may have rotated them."""
        with self._sessions() as session:
            return [self._key(name) for name in session.scalars(_NEWEST)]

    def _key(self, name: str) -> OKPKey:
        # HKDF with SHA-256; both options are said, so that no other default of the library ends tokens.
        follows: dict[str, Any] = {"salt": b"quarterdeck signing key", "info": name.encode()}
        return OKPKey.derive_key(self._secret, "Ed25519", {"kid": name, "alg": _ALGORITHM, "use": "sig"}, kdf_options=follows)

    def _shown(self, keys: Sequence[OKPKey]) -> TokenIssuer:
        shown = [{name: str(value) for name, value in key.as_dict(private=False).items()} for key in keys]
        return TokenIssuer(issuer=self._issuer, audience=AUDIENCE, keys=shown)


def _new() -> SigningKey:
    return SigningKey(name=secrets.token_hex(8), created=utc_now())
