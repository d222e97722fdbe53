"""Rows of revisions and of the actions that make them: how they are read, and how an action begins."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from sqlalchemy import Text, cast, select
from sqlalchemy.orm import Session

from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.models import Action, Revision
from quarterdeck_deployer.revisions import Kind, RevisionView, action_id


def history(session: Session, name: str) -> list[RevisionView]:
    """All revisions of a deployment, newest first; also those from before a deletion."""
    return histories(session, [name])[name]


def histories(session: Session, names: Collection[str]) -> dict[str, list[RevisionView]]:
    """The same of several deployments, in one question."""
    found: dict[str, list[RevisionView]] = {name: [] for name in names}
    query = select(Revision).where(Revision.deployment.in_(names)).order_by(Revision.number.desc())
    for row in session.scalars(query):
        found[row.deployment].append(view(row))
    return found


def view(row: Revision) -> RevisionView:
    """The stored revision as everybody else sees it."""
    return RevisionView(**row.content, **{name: getattr(row, name) for name in _BESIDE})


@lru_cache(maxsize=2_000)
def viewed(content: str, *beside: Any) -> RevisionView:
    """The same from `VIEWED`. Loops and lists ask for the same few again and again, and what was stored never changes."""
    return RevisionView(**json.loads(content), **dict(zip(_BESIDE, beside, strict=True)))


_BESIDE = ("deployment", "number", "kind", "chosen", "leaving", "restored", "who", "why", "created")
VIEWED: tuple[Any, ...] = (cast(Revision.content, Text), *(getattr(Revision, name) for name in _BESIDE))
"""The columns that `viewed` takes."""


def action_of(deployment: str, number: int, kind: Kind, act: Act) -> Action:
    """The row of the action that has made a revision, from which it is told how that has ended."""
    return Action(
        id=action_id(deployment, number),
        deployment=deployment,
        revision=number,
        verb=kind,
        who=act.who,
        why=act.why,
        state="accepted",
        reason="",
        created=utc_now(),
    )
