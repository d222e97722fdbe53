"""API keys: made here, shown once, known to everybody else by their SHA-256."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import string
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from quarterdeck.api_keys import format_key
from quarterdeck.errors import NotFound
from quarterdeck.plan import Key
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer import audit
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.models import ApiKey

Scope = Literal["predict", "feedback", "read"]
_ALPHABET = string.ascii_lowercase + string.digits
_CONSOLE = "console0"
_MIRROR = "mirror"


class KeyInput(Frozen):
    """What a new key opens, and for how long."""

    name: Annotated[str, Field(min_length=1, max_length=200, description="Who will use it.")]
    project: Name | Literal["*"] = Field("*", description="The project it opens; `*`: every project of the instance.")
    scopes: Annotated[list[Scope], Field(min_length=1)] = Field(default_factory=lambda: _all_scopes())
    days: Annotated[float, Field(gt=0, le=3650)] | None = Field(None, description="Days until it expires; never where left out.")
    why: Annotated[str, Field(max_length=2_000)] = ""


class KeyView(Frozen):
    """A key without its secret."""

    id: str
    name: str
    project: str
    scopes: list[Scope]
    created: datetime
    expires: datetime | None
    revoked: datetime | None


class NewKey(KeyView):
    """The one answer that carries the secret."""

    secret: str = Field(repr=False, description="The whole key. It is shown this once and cannot be shown again.")


class Keys:
    """The service behind API, console and CLI."""

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        self._sessions, self._writing, self._wake = database.sessions, database.writing, wake

    def create(self, given: KeyInput, act: Act) -> NewKey:
        """A new key with 256 bits of randomness."""
        created = utc_now()
        with self._writing.begin() as session:
            # The id is public (plans, lists, logs); only the part after it is secret.
            ident = _free_id(session)
            secret = format_key(ident, secrets.token_urlsafe(32))
            row = ApiKey(
                id=ident,
                name=given.name,
                project=given.project,
                sha256=_sha256(secret),
                scopes=sorted(set(given.scopes)),
                created=created,
                revoked=None,
                expires=created + timedelta(days=given.days) if given.days else None,
            )
            session.add(row)
            shown = _view(row)
            audit.write(session, act, Change("create", f"key/{ident}", None, shown.model_dump(mode="json")))
        self._wake()
        return NewKey(**shown.model_dump(), secret=secret)

    def revoke(self, ident: str, act: Act) -> KeyView:
        """Take a key back; it leaves every keyring with the next plan. A second time changes nothing.

        Raises:
            NotFound: no such key.
        """
        with self._writing.begin() as session:
            row = session.get(ApiKey, ident)
            if row is None:
                raise NotFound("There is no such key.", kind="key", name=ident, hint="List them: `quarterdeck keys list`.")
            # The first revocation is the one that counts; a repeated one must not move its time.
            if row.revoked is None:
                before = _view(row).model_dump(mode="json")
                row.revoked = utc_now()
                audit.write(session, act, Change("revoke", f"key/{ident}", before, _view(row).model_dump(mode="json")))
            shown = _view(row)
        self._wake()
        return shown

    def all(self) -> list[KeyView]:
        """All keys, revoked ones too, newest first."""
        with self._sessions() as session:
            return [_view(row) for row in session.scalars(select(ApiKey).order_by(ApiKey.created.desc(), ApiKey.id))]


def keyring(session: Session) -> list[Key]:
    """The keys that open something now, by id, as plans carry them."""
    # Expired keys leave the keyring with the loop's next tick; nodes check the time themselves until then.
    usable = select(ApiKey).where(ApiKey.revoked.is_(None), or_(ApiKey.expires.is_(None), ApiKey.expires > utc_now()))
    return [
        Key(
            id=row.id,
            sha256=row.sha256,
            project=row.project,
            scopes=_scopes(row),
            expires=row.expires.timestamp() if row.expires else None,
        )
        for row in session.scalars(usable.order_by(ApiKey.id))
    ]


def console_key(admin_token: str) -> str:
    """The console's own key for predicting: made from the admin token, so it is stored nowhere and survives restarts."""
    raw = hmac.new(admin_token.encode(), b"quarterdeck console key", hashlib.sha256).digest()
    return format_key(_CONSOLE, base64.urlsafe_b64encode(raw).decode().rstrip("="))


def console_entry(admin_token: str) -> Key:
    """The keyring's entry for the console's key."""
    return Key(id=_CONSOLE, sha256=_sha256(console_key(admin_token)), project="*", scopes=["predict", "read"])


def mirror_entry(mirror_token: str) -> Key:
    """The challenger node's entry for the main node's mirroring token."""
    return Key(id=_MIRROR, sha256=_sha256(mirror_token), project="*", scopes=["mirror"])


def _free_id(session: Session) -> str:
    while True:
        ident = "".join(secrets.choice(_ALPHABET) for _ in range(8))
        if session.get(ApiKey, ident) is None and ident != _CONSOLE:
            return ident


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _all_scopes() -> list[Scope]:
    return ["predict", "feedback", "read"]


def _scopes(row: ApiKey) -> list[Literal["predict", "feedback", "read", "mirror"]]:
    known: tuple[Scope, ...] = ("predict", "feedback", "read")
    return [scope for scope in known if scope in row.scopes]


def _view(row: ApiKey) -> KeyView:
    return KeyView(
        id=row.id,
        name=row.name,
        project=row.project,
        scopes=[scope for scope in _all_scopes() if scope in row.scopes],
        created=row.created,
        expires=row.expires,
        revoked=row.revoked,
    )
