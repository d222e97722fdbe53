"""API keys: made here, shown once, known to everybody else by their SHA-256."""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import secrets
import string
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from quarterdeck.api_keys import format_key
from quarterdeck.errors import Conflict, NotFound
from quarterdeck.plan import Key, KeyUse
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer import audit
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.idempotency import once
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import ApiKey
from quarterdeck_deployer.projects import require_projects

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
    rate: Annotated[float, Field(gt=0, le=1_000_000)] | None = Field(
        None, description="Requests per second that each node lets in; no limit where left out."
    )
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Requests that may come at once before the rate counts; those of a second where left out."
    )
    why: Annotated[str, Field(max_length=2_000)] = ""


class RotateInput(Frozen):
    """A new secret in place of a key's present one."""

    overlap_hours: Annotated[float, Field(ge=0, le=8_760)] = Field(
        24.0, description="For so long the old key opens what it did; 0: it ends now."
    )
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
    rate: float | None
    burst: int | None
    last_used: datetime | None = Field(
        description="What nodes told last: within half a minute, those of a cluster within three. None: they told nothing."
    )
    replaces: str | None = Field(description="The key that this one was made in place of.")


class NewKey(KeyView):
    """The one answer that carries the secret."""

    secret: str = Field(
        repr=False,
        description="The whole key. It is shown this once and cannot be shown again: where the same request is answered a second "
        "time, it is empty.",
    )
    note: str = Field("", description="Why there is no secret; empty where there is one.")


class Keys:
    """The service behind API, console and CLI."""

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        self._sessions, self._writing, self._wake = database.sessions, database.writing, wake
        # Nodes repeat what they told: only what is new is worth a transaction.
        self._told: dict[str, float] = {}

    def create(self, given: KeyInput, act: Act) -> NewKey:
        """A new key with 256 bits of randomness.

        Raises:
            NotFound: no such project.
        """

        def do() -> NewKey:
            if given.project != "*":
                require_projects(session, [given.project])
            return _made(session, given, act)

        with self._writing.begin() as session:
            made = once(session, act, NewKey, do, _without_secret)
        self._wake()
        return made

    def rotate(self, ident: str, given: RotateInput, act: Act) -> NewKey:
        """A new key that opens the same for as long as the old one did from its making; the old one ends after the overlap.

        Raises:
            NotFound: no such key.
            Conflict: ``key-ended`` where it opens nothing any more, ``key-rotated`` where another one has taken its place.
        """

        def do() -> NewKey:
            old = _key(session, ident)
            _require_rotatable(session, old)
            whole = _uncut(session, old)
            days = (whole.expires - whole.created) / timedelta(days=1) if whole.expires else None
            same = KeyInput(
                name=old.name, project=old.project, scopes=_view(old).scopes, days=days, rate=old.rate, burst=old.burst
            )
            made = _made(session, same, act, replaces=ident)
            before, ends = _view(old), utc_now() + timedelta(hours=given.overlap_hours)
            old.expires = min(old.expires or ends, ends)
            audit.write(session, act, _change("rotate", ident, before, _view(old)))
            return made

        with self._writing.begin() as session:
            made = once(session, act, NewKey, do, _without_secret)
        self._wake()
        return made

    def revoke(self, ident: str, act: Act) -> KeyView:
        """Take a key back; it leaves every keyring with the next plan. A second time changes nothing.

        Raises:
            NotFound: no such key.
        """

        def do() -> KeyView:
            row = _key(session, ident)
            # The first revocation is the one that counts; a repeated one must not move its time.
            if row.revoked is None:
                before = _view(row)
                row.revoked = utc_now()
                audit.write(session, act, _change("revoke", ident, before, _view(row)))
            return _view(row)

        with self._writing.begin() as session:
            shown = once(session, act, KeyView, do)
        self._wake()
        return shown

    def all(self) -> list[KeyView]:
        """All keys, revoked ones too, newest first."""
        with self._sessions() as session:
            return [_view(row) for row in session.scalars(select(ApiKey).order_by(ApiKey.created.desc(), ApiKey.id))]

    def listed(self, window: Window, project: str = "") -> Listed[KeyView]:
        """One page of the keys, by id; of one project where it is named."""
        query = windowed(select(ApiKey), window, ApiKey.id)
        if project:
            query = query.where(ApiKey.project == project)
        with self._sessions() as session:
            found = session.scalars(query).all()
        return page(found, window, lambda row: (row.id,)).of(_view)

    def fresh(self, told: Sequence[KeyUse]) -> list[KeyUse]:
        """Of what a node tells, what nobody has told yet."""
        return [use for use in told if use.last > self._told.get(use.id, 0.0)]

    def told(self, uses: Sequence[KeyUse]) -> None:
        """Keep of this what nobody has told yet."""
        fresh = self.fresh(uses)
        if fresh:
            self.used(fresh)

    def used(self, told: Sequence[KeyUse]) -> None:
        """Keep when keys were used last."""
        # A node whose clock runs ahead must not make a key look used tomorrow.
        now = utc_now()
        last = {use.id: min(datetime.fromtimestamp(use.last, UTC), now) for use in told}
        with self._writing.begin() as session:
            for row in session.scalars(select(ApiKey).where(ApiKey.id.in_(last))):
                row.last_used = max(row.last_used or last[row.id], last[row.id])
        self._told |= {use.id: use.last for use in told}


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
            rate=row.rate,
            burst=row.burst or 1,
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


def mirror_entry(token: str, node: str = "") -> Key:
    """The challenger nodes' entry for a mirroring token: the instance's, or the one of a single main node."""
    return Key(id=f"{_MIRROR}-{node}" if node else _MIRROR, sha256=_sha256(token), project="*", scopes=["mirror"])


def mirror_token(instance: str, node: str) -> str:
    """The mirroring token of one main node, made from the instance's: stored nowhere, and of no use for any other node."""
    raw = hmac.new(instance.encode(), f"quarterdeck mirror token of {node}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _made(session: Session, given: KeyInput, act: Act, replaces: str | None = None) -> NewKey:
    created = utc_now()
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
        rate=given.rate,
        burst=(given.burst or max(1, math.ceil(given.rate))) if given.rate else None,
        last_used=None,
        replaces=replaces,
    )
    session.add(row)
    shown = _view(row)
    audit.write(session, act, _change("create", ident, None, shown))
    return NewKey(**shown.model_dump(), secret=secret)


def _without_secret(made: NewKey) -> NewKey:
    note = "This was answered before, with the secret. Where that answer was lost, revoke this key and create another one."
    return made.model_copy(update={"secret": "", "note": note})


def _change(verb: str, ident: str, before: KeyView | None, after: KeyView) -> Change:
    return Change(verb, f"key/{ident}", before.model_dump(mode="json") if before else None, after.model_dump(mode="json"))


def _key(session: Session, ident: str) -> ApiKey:
    row = session.get(ApiKey, ident)
    if row is None:
        raise NotFound("There is no such key.", kind="key", name=ident, hint="List them: `quarterdeck keys list`.")
    return row


def _require_rotatable(session: Session, old: ApiKey) -> None:
    if old.revoked is not None or (old.expires is not None and old.expires <= utc_now()):
        raise Conflict("The key opens nothing any more.", code="key-ended", kind="key", name=old.id, hint="Create a new key.")
    newer = session.scalar(select(ApiKey.id).where(ApiKey.replaces == old.id, ApiKey.revoked.is_(None)))
    if newer is not None:
        raise Conflict(
            f"Key {newer} has taken its place already.",
            code="key-rotated",
            kind="key",
            name=old.id,
            hint=f"Rotate that one: `quarterdeck keys rotate {newer}`, or revoke it to make another.",
        )


def _uncut(session: Session, key: ApiKey) -> ApiKey:
    """The key that shows how long this one was made for: a rotation has ended it sooner, and its successor has the whole time."""
    newer = session.scalar(select(ApiKey).where(ApiKey.replaces == key.id).order_by(ApiKey.created.desc()).limit(1))
    return key if newer is None else _uncut(session, newer)


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
        rate=row.rate,
        burst=row.burst,
        last_used=row.last_used,
        replaces=row.replaces,
    )
