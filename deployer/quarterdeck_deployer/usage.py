"""What nodes use: their memory and processors, sampled from what they say of themselves and kept for a day."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from pydantic import Field
from sqlalchemy import delete, func, select

from quarterdeck.errors import NotFound
from quarterdeck.plan import Role
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.infrastructures.base import Infrastructure, Reading
from quarterdeck_deployer.listing import Listed, Window, page, sliced, windowed
from quarterdeck_deployer.models import NodeState, NodeUsage
from quarterdeck_deployer.threads import to_its_end

SAMPLE_SECONDS = 15
KEPT_SECONDS = 24 * 3600
SPELL_SECONDS = 300
"""What curves show as one point."""
log = logging.getLogger(__name__)


class UsagePoint(Frozen):
    """What one node used at one moment."""

    at: datetime
    rss_bytes: int = Field(description="Memory of its processes, models among them.")
    cpu_cores: float | None = Field(description="Processors kept busy since the sample before; None: its first one.")


class RoleUsage(Frozen):
    """What all nodes of one role used together, on average over five minutes."""

    at: datetime = Field(description="When the five minutes began.")
    role: Role
    nodes: int = Field(description="So many of them were heard of.")
    rss_bytes: int
    cpu_cores: float | None = Field(description="None: nobody knows yet.")


class NodeView(Frozen):
    """One node: what it is, whether it lives, and what it uses."""

    node: Name
    infrastructure: Name
    role: Role
    url: str
    live: bool
    ready: bool
    age_seconds: float | None = Field(description="Since it was heard of; None: never.")
    sequence: int = Field(description="The plan that it has taken over.")
    rss_bytes: int
    cpu_cores: float | None = Field(description="Processors that it kept busy between the last two samples.")
    joined: datetime | None = Field(None, description="When it joined; None: it is beside the deployer, or in a cluster.")
    revoked: datetime | None = None


class Usage:
    """Samples every infrastructure's nodes, and tells what was kept.

    Args:
        database: keeps the samples.
        infrastructures: all that run.
        clock: Unix seconds.
    """

    def __init__(
        self, database: Database, infrastructures: Mapping[str, Infrastructure], clock: Callable[[], float] = time.time
    ) -> None:
        self._sessions, self._writing, self._infrastructures = database.sessions, database.writing, infrastructures
        self._clock = clock
        # Processor time counts from a boot's beginning; what matters is how much came since the sample before.
        self._before: dict[str, tuple[str, float, float]] = {}
        self._cores: dict[str, float | None] = {}

    async def run(self) -> None:
        """Sample every 15 seconds; until cancelled."""
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            try:
                await to_its_end(self.sample)
            except Exception:
                # A gap in a curve is no reason to end anything.
                log.exception("nodes' usage could not be kept; trying again in %s s", SAMPLE_SECONDS)

    def sample(self) -> None:
        """Keep what every live node uses now; throw away what is older than a day."""
        now = self._clock()
        found = [
            (place.name, reading, self._busy(reading, now))
            for place in list(self._infrastructures.values())
            for reading in place.readings()
            if reading.live
        ]
        self._cores = {reading.node: cores for _, reading, cores in found}
        with self._writing.begin() as session:
            session.execute(delete(NodeUsage).where(NodeUsage.at < now - KEPT_SECONDS))
            for place, reading, cores in found:
                key = {"node": reading.node, "at": int(now), "infrastructure": place, "role": reading.role}
                # Merged: a clock that was set back may come by the same second again.
                session.merge(NodeUsage(**key, rss_bytes=reading.rss_bytes, cpu_cores=cores))

    def nodes(self) -> list[NodeView]:
        """All nodes, by infrastructure and name; those that were revoked last."""
        with self._sessions() as session:
            joined = {row.node: row for row in session.scalars(select(NodeState).where(NodeState.joined.is_not(None)))}
        present = [
            self._view(place.name, reading, joined.get(reading.node))
            for place in list(self._infrastructures.values())
            for reading in place.readings()
        ]
        gone = [_gone(row) for row in joined.values() if row.revoked is not None]
        return sorted(present + gone, key=_place)

    def page(self, window: Window, infrastructure: str | None = None) -> Listed[NodeView]:
        """One page of the nodes, of all infrastructures or of one.

        Raises:
            InvalidInput: ``cursor-invalid``.
        """
        found = [one for one in self.nodes() if infrastructure in (None, one.infrastructure)]
        return sliced(found, window, _place)

    def node(self, name: str) -> NodeView:
        """One node.

        Raises:
            NotFound: no such node.
        """
        nodes = self.nodes()
        found = next((one for one in nodes if one.node == name), None)
        if found is None:
            known = ", ".join(one.node for one in nodes[:10])
            raise NotFound(f"There is no such node. There are: {known}.", kind="node", name=name, hint="`quarterdeck node list`.")
        return found

    def points(self, node: str, window: Window) -> Listed[UsagePoint]:
        """One page of what a node used in the last day, the newest first."""
        query = select(NodeUsage).where(NodeUsage.node == node)
        with self._sessions() as session:
            rows = list(session.scalars(windowed(query, window, NodeUsage.at, descending=True)))
        return page(rows, window, lambda row: (row.at,)).of(
            lambda row: UsagePoint(at=datetime.fromtimestamp(row.at, UTC), rss_bytes=row.rss_bytes, cpu_cores=row.cpu_cores)
        )

    def roles(self, infrastructure: str, node: str = "") -> list[RoleUsage]:
        """What the roles of an infrastructure, or one node of it, used in the last day, the oldest first."""
        spell = (NodeUsage.at - NodeUsage.at % SPELL_SECONDS).label("spell")
        averages = func.avg(NodeUsage.rss_bytes).label("rss"), func.avg(NodeUsage.cpu_cores).label("cpu")
        each = select(NodeUsage.role, spell, *averages)
        each = each.where(NodeUsage.infrastructure == infrastructure, NodeUsage.at >= int(self._clock()) - KEPT_SECONDS)
        if node:
            each = each.where(NodeUsage.node == node)
        # A node's average first, then the sum of the nodes: whoever lived for half of it counts whole, and only once.
        one = each.group_by(NodeUsage.node, NodeUsage.role, spell).subquery()
        query = select(one.c.spell, one.c.role, func.count(), func.sum(one.c.rss), func.sum(one.c.cpu))
        query = query.group_by(one.c.spell, one.c.role).order_by(one.c.spell, one.c.role)
        with self._sessions() as session:
            rows = session.execute(query).all()
        return [
            RoleUsage(at=datetime.fromtimestamp(at, UTC), role=role, nodes=nodes, rss_bytes=round(rss), cpu_cores=cpu)
            for at, role, nodes, rss, cpu in rows
        ]

    def _busy(self, reading: Reading, now: float) -> float | None:
        """Processors kept busy since the last sample of the same boot."""
        before = self._before.get(reading.node)
        self._before[reading.node] = (reading.boot, now, reading.cpu_seconds)
        if before is None or before[0] != reading.boot or now <= before[1]:
            return None
        # A model process that ended takes its time with it: never less than nothing.
        return round(max(0.0, reading.cpu_seconds - before[2]) / (now - before[1]), 4)

    def _view(self, place: str, reading: Reading, row: NodeState | None) -> NodeView:
        return NodeView(
            node=reading.node,
            infrastructure=place,
            role=reading.role,
            url=reading.url,
            live=reading.live,
            ready=reading.ready,
            age_seconds=reading.age,
            sequence=reading.sequence,
            rss_bytes=reading.rss_bytes if reading.live else 0,
            cpu_cores=self._cores.get(reading.node) if reading.live else None,
            joined=row.joined if row else None,
        )


def _place(one: NodeView) -> tuple[int, str, str]:
    return (int(one.revoked is not None), one.infrastructure, one.node)


def _gone(row: NodeState) -> NodeView:
    return NodeView(
        node=row.node,
        infrastructure=row.infrastructure,
        role="challenger" if row.role == "challenger" else "main",
        url=row.url,
        live=False,
        ready=False,
        age_seconds=None,
        sequence=row.sequence,
        rss_bytes=0,
        cpu_cores=None,
        joined=row.joined,
        revoked=row.revoked,
    )
