"""Nodes on other hosts: what lets them in, who has joined, and who was sent away again."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from quarterdeck.errors import Conflict, Forbidden, NotFound, Unauthenticated
from quarterdeck.plan import Role
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer import audit
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.idempotency import once
from quarterdeck_deployer.infrastructures.rows import infrastructure_row
from quarterdeck_deployer.models import JoinToken, NodeState
from quarterdeck_deployer.nodes import NODES
from quarterdeck_deployer.revisions import Why

MAX_MINUTES = 7 * 24 * 60


class JoinTokenInput(Frozen):
    """What a node that joins shall be."""

    infrastructure: Name = Field(description="A static one.")
    role: Role = Field("main", description="`main` answers callers, `challenger` answers mirrored rows.")
    minutes: Annotated[float, Field(gt=0, le=MAX_MINUTES)] = Field(60.0, description="Minutes until it opens nothing any more.")
    why: Why = ""


class NewJoinToken(Frozen):
    """The one answer that carries the token."""

    token: str = Field(repr=False, description="It is shown this once; where the same request is answered again, it is empty.")
    infrastructure: Name
    role: Role
    expires: datetime


class JoinInput(Frozen):
    """What a node says of itself when it joins."""

    token: Annotated[str, Field(repr=False, max_length=200, description="From `quarterdeck node token create`.")]
    url: Annotated[str, Field(max_length=500, description="Base URL that callers and other nodes reach it by.")]
    name: Name | None = Field(None, description="Its name, the only one in the instance; made up where left out.")

    @field_validator("url")
    @classmethod
    def _base_only(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc or url.query or url.fragment:
            raise ValueError("it is http(s)://host:port, with a path at most")
        return value.rstrip("/")


class Joined(Frozen):
    """What a node needs from now on: its name, its place, and a token of its own."""

    node: Name
    token: str = Field(repr=False, description="Opens this node's plan and takes its reports, and nothing else.")
    infrastructure: Name
    role: Role
    store: str = Field(description="Where its packages come from and its records go; its host has the credentials for it.")


class Revoked(Frozen):
    """A node that was sent away."""

    node: Name
    infrastructure: Name
    revoked: datetime


@dataclass(frozen=True, slots=True)
class _Known:
    node: str
    revoked: bool


class JoinedNodes:
    """Join tokens and the nodes that they let in; `check` reads nothing but memory.

    Args:
        database: keeps digests of the tokens.
        shared: token of the nodes beside the deployer.
        changed: called after every change of who belongs.
    """

    def __init__(self, database: Database, shared: str, changed: Callable[[], None]) -> None:
        self._sessions, self._writing, self._changed = database.sessions, database.writing, changed
        self._shared = _sha256(shared)
        self._refreshing = threading.Lock()
        self._known: Mapping[str, _Known] = {}
        self._refresh()

    def check(self, token: str, node: str) -> None:
        """Let the holder of a token act as a node, or not.

        Raises:
            Unauthenticated: the token is of no node; ``node-revoked`` where it was one's.
            Forbidden: ``other-node`` where it is another one's.
        """
        # Looked up by digest: how long that takes tells nothing of the token.
        digest = _sha256(token)
        known = self._known.get(digest)
        if known is not None and known.revoked:
            raise Unauthenticated(
                "This node was revoked: it belongs to the instance no more.",
                code="node-revoked",
                kind="node",
                name=known.node,
                hint="Let it join again with a new token: `quarterdeck node token create`.",
            )
        if known is None and not secrets.compare_digest(digest, self._shared):
            raise Unauthenticated("This is not the token of a node of this instance.", hint="Join with `quarterdeck node join`.")
        if node not in NODES if known is None else node != known.node:
            raise Forbidden("This token is of another node.", code="other-node", kind="node", hint="Each node has its own.")

    def token(self, given: JoinTokenInput, act: Act) -> NewJoinToken:
        """A token that lets one node join.

        Raises:
            NotFound: no such infrastructure.
            Conflict: ``infrastructure-not-static``.
        """

        def do() -> NewJoinToken:
            row, now = infrastructure_row(session, given.infrastructure), utc_now()
            if row.kind != "static":
                raise Conflict(
                    f"Nodes join static infrastructures, and {row.name} is of the kind {row.kind}.",
                    code="infrastructure-not-static",
                    kind="infrastructure",
                    name=row.name,
                    hint="Create one: `quarterdeck infrastructure put NAME --kind static`.",
                )
            # Old ones go when a new one comes: no job of its own is needed for a handful of rows.
            session.execute(delete(JoinToken).where(JoinToken.expires <= now))
            secret, expires = secrets.token_urlsafe(32), now + timedelta(minutes=given.minutes)
            values = {"infrastructure": row.name, "role": given.role, "created": now, "expires": expires}
            session.add(JoinToken(sha256=_sha256(secret), **values))
            told = {"infrastructure": row.name, "role": given.role, "expires": expires.isoformat()}
            audit.write(session, act, Change("create-token", f"infrastructure/{row.name}", None, told))
            return NewJoinToken(token=secret, infrastructure=row.name, role=given.role, expires=expires)

        with self._writing.begin() as session:
            return once(session, act, NewJoinToken, do, lambda made: made.model_copy(update={"token": ""}))

    def join(self, given: JoinInput) -> Joined:
        """Exchange a join token for a node's name and token; the join token opens nothing afterwards.

        Raises:
            Unauthenticated: ``join-token-refused``: there is no such token, or not any more.
            Conflict: ``node-exists`` where another node has the name.
        """
        with self._writing.begin() as session:
            found = session.get(JoinToken, _sha256(given.token))
            if found is None or found.expires <= utc_now():
                raise Unauthenticated(
                    "There is no such join token, or it was used, or its time is over.",
                    code="join-token-refused",
                    hint="Make a new one: `quarterdeck node token create`.",
                )
            row = _row(session, given.name or _free(session, found))
            secret = secrets.token_urlsafe(32)
            row.infrastructure, row.role, row.url = found.infrastructure, found.role, given.url
            row.token_sha256, row.joined, row.revoked = _sha256(secret), utc_now(), None
            # A node of that name before said nothing about this one.
            row.report, row.reported = None, None
            role: Role = "challenger" if found.role == "challenger" else "main"
            session.delete(found)
            act = Act(who=f"node {row.node}", why="joined with a token")
            audit.write(session, act, Change("join", f"node/{row.node}", None, _shown(row)))
            store = infrastructure_row(session, row.infrastructure).store
            joined = Joined(node=row.node, token=secret, infrastructure=row.infrastructure, role=role, store=store)
        self._refresh()
        return joined

    def revoke(self, node: str, act: Act) -> Revoked:
        """Send a node away: its token opens nothing any more, and a second time changes nothing.

        Raises:
            NotFound: no node of that name has joined.
        """

        def do() -> Revoked:
            row = session.get(NodeState, node)
            if row is None or row.joined is None:
                raise NotFound(
                    "No node of that name has joined.",
                    kind="node",
                    name=node,
                    hint="`quarterdeck node list` names those that have.",
                )
            if row.revoked is None:
                before = _shown(row)
                row.revoked = utc_now()
                audit.write(session, act, Change("revoke", f"node/{node}", before, _shown(row)))
            return Revoked(node=node, infrastructure=row.infrastructure, revoked=row.revoked)

        with self._writing.begin() as session:
            found = once(session, act, Revoked, do)
        self._refresh()
        return found

    def _refresh(self) -> None:
        # One after the other: an older look must not overwrite a newer one, in which somebody was revoked.
        with self._refreshing, self._sessions() as session:
            rows = session.scalars(select(NodeState).where(NodeState.token_sha256.is_not(None)))
            self._known = {str(row.token_sha256): _Known(row.node, row.revoked is not None) for row in rows}
        self._changed()


def _row(session: Session, name: str) -> NodeState:
    """The row that a node of this name may have."""
    row = session.get(NodeState, name)
    # Those beside the deployer keep theirs, whether they have ever been started or not.
    if name in NODES or (row is not None and row.revoked is None):
        raise Conflict(
            "There is a node of that name already.",
            code="node-exists",
            kind="node",
            name=name,
            hint="Choose another with --name, or revoke that one first: `quarterdeck node revoke`.",
        )
    if row is None:
        row = NodeState(node=name, sequence=0, plan="")
        session.add(row)
    return row


def _free(session: Session, token: JoinToken) -> str:
    """A name that no node has had: `edge-main-1`."""
    names = set(session.scalars(select(NodeState.node)))
    # Names have 63 characters at most.
    stem, number = f"{token.infrastructure[:40]}-{token.role}", 1
    while f"{stem}-{number}" in names:
        number += 1
    return f"{stem}-{number}"


def _shown(row: NodeState) -> dict[str, Any]:
    revoked = row.revoked.isoformat() if row.revoked else None
    return {"infrastructure": row.infrastructure, "role": row.role, "url": row.url, "revoked": revoked}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
