"""Tokens of people: short-lived, signed here, checked by nodes and by the deployer itself without asking anybody."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OKPKey
from pydantic import Field

from quarterdeck.errors import Conflict, InvalidInput
from quarterdeck.plan import TokenIssuer
from quarterdeck.schema import Frozen
from quarterdeck_deployer.access import Caller

MAX_MINUTES = 24 * 60
AUDIENCE = "quarterdeck"
ADMIN = "admin"
"""The subject of tokens that the instance's own admin token has asked for."""
_ALGORITHM = "Ed25519"
_KEPT = 2


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

    Args:
        path: JSON file of the private keys, made where there is none.
        instance: name of the instance: the issuer of its tokens.
        clock: Unix seconds.
    """

    def __init__(self, path: Path, instance: str, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock, self._lock = path, clock, threading.Lock()
        self._issuer = f"urn:quarterdeck:{instance}"
        self._keys = _read(path) if path.exists() else self._write([_new()])

    def issue(self, caller: Caller, minutes: int) -> NewToken:
        """A token that says who the caller is, which role and which projects they have now, until it expires."""
        now = int(self._clock())
        subject, key = caller.person or ADMIN, self._keys[0]
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
        try:
            claims = jwt.decode(token, KeySet([*self._keys]), algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError):
            return None
        ours = (claims.get("iss"), claims.get("aud")) == (self._issuer, AUDIENCE)
        expires = claims.get("exp")
        if not ours or not isinstance(expires, int | float) or expires <= self._clock():
            return None
        return str(claims.get("sub", "")) or None

    def public(self) -> TokenIssuer:
        """What nodes check tokens by."""
        keys = [{name: str(value) for name, value in key.as_dict(private=False).items()} for key in self._keys]
        return TokenIssuer(issuer=self._issuer, audience=AUDIENCE, keys=keys)

    def rotate(self) -> TokenIssuer:
        """Sign with a new key from now on; of the old ones the newest counts until the next rotation.

        Raises:
            Conflict: ``issuer-read-only`` where the file of the keys cannot be written.
        """
        with self._lock:
            self._keys = self._write([_new(), *self._keys][:_KEPT])
        return self.public()

    def _write(self, keys: list[OKPKey]) -> list[OKPKey]:
        """Replace the file, whole or not at all; gives back the keys."""
        part = self._path.with_suffix(".part")
        text = json.dumps({"keys": [key.as_dict(private=True) for key in keys]})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Whoever reads it can be anybody: the owner only, from the first byte on.
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            raise Conflict(
                f"The file of the signing keys cannot be written: {error.strerror}.",
                code="issuer-read-only",
                kind="file",
                name=self._path.name,
                hint="Rotate where the file comes from, then start the deployer again.",
            ) from None
        return keys


def _new() -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": secrets.token_hex(8), "alg": _ALGORITHM, "use": "sig"}, private=True)


def _read(path: Path) -> list[OKPKey]:
    try:
        keys = [OKPKey.import_key(key) for key in json.loads(path.read_text())["keys"]]
    except (OSError, ValueError, KeyError, TypeError, JoseError):
        keys = []
    if not keys:
        raise InvalidInput(
            "The file of the signing keys cannot be read.",
            code="token-unreadable",
            kind="file",
            name=path.name,
            hint="Restore it, or take it away: a new one is made, and people need new tokens.",
        )
    return keys
