"""What belongs to an infrastructure, as the database says: its deployments and its nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from quarterdeck_deployer.deployments import Living, living
from quarterdeck_deployer.infrastructures.base import LOCAL
from quarterdeck_deployer.models import NodeState, Stage
from quarterdeck_deployer.nodes import BESIDE, Member


def infrastructure_of(session: Session) -> dict[str, str]:
    """Stage → the name of its infrastructure; stages that are not named run on the local one."""
    return {stage.name: stage.infrastructure for stage in session.scalars(select(Stage))}


def stages_on(session: Session, infrastructure: str) -> list[str]:
    """The stages that are on an infrastructure, in their order."""
    query = select(Stage.name).where(Stage.infrastructure == infrastructure)
    return list(session.scalars(query.order_by(Stage.position, Stage.name)))


def beside(_: Session) -> Mapping[str, Member]:
    """The nodes beside the deployer, wherever they listen."""
    return BESIDE


def joined(infrastructure: str, session: Session) -> Mapping[str, Member]:
    """The nodes that have joined an infrastructure and were not revoked, by name."""
    found = select(NodeState).where(NodeState.infrastructure == infrastructure, NodeState.revoked.is_(None))
    rows = session.scalars(found.where(NodeState.joined.is_not(None)).order_by(NodeState.node))
    return {row.node: Member("challenger" if row.role == "challenger" else "main", row.url) for row in rows}


@dataclass(frozen=True, slots=True)
class Scope:
    """One infrastructure's part of the world; `members` tells which nodes it has now."""

    infrastructure: str = LOCAL
    members: Callable[[Session], Mapping[str, Member]] = beside

    def deployments(self, session: Session) -> list[Living]:
        """Those that exist and whose stage is on this infrastructure, by name."""
        placed = infrastructure_of(session)
        return [one for one in living(session) if placed.get(one.wish.stage, LOCAL) == self.infrastructure]
