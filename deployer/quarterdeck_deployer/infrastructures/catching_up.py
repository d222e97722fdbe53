"""Before anything is published: whether nodes know more than the database, and what to do then. See `adopting`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy.orm import Session

from quarterdeck.plan import NodeReport
from quarterdeck.rollout import Record
from quarterdeck_deployer.adopting import WHY, Served, ahead, content, record, served, untold
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.deployments import find
from quarterdeck_deployer.infrastructures.base import LOCAL
from quarterdeck_deployer.infrastructures.kubernetes_adoption import adopt, numbers
from quarterdeck_deployer.infrastructures.scope import infrastructure_of, stages_on
from quarterdeck_deployer.models import Deployment
from quarterdeck_deployer.nodes import LIVE_SECONDS, Nodes
from quarterdeck_deployer.revisions import RevisionView

_WHO = "quarterdeck"
log = logging.getLogger(__name__)


class CatchUp:
    """Adopts what nodes of one infrastructure serve and the database does not know; belongs to that infrastructure's loop.

    Args:
        infrastructure: its name.
        clock: Unix seconds.

    Attributes:
        asked: nodes that shall say what they were told.
    """

    def __init__(self, database: Database, nodes: Nodes, infrastructure: str, clock: Callable[[], float]) -> None:
        self._database, self._nodes, self._infrastructure, self._clock = database, nodes, infrastructure, clock
        self._since: float | None = None
        self.asked: frozenset[str] = frozenset()

    def needed(self, session: Session, known: Mapping[str, int]) -> set[str]:
        """The deployments of which nodes have seen newer revisions; nearly always none.

        Args:
            session: reads.
            known: newest revisions of the deployments that are on this infrastructure, by name.
        """
        reports = self._nodes.live()
        found = ahead(known, reports)
        # Asked only now: what was deleted, or lives elsewhere, is not in `known` and has its numbers too.
        names = ahead({**known, **numbers(session, found)}, reports) if found else set()
        if not names:
            self._since, self.asked = None, frozenset()
        return names

    def step(self, names: set[str]) -> bool:
        """Adopt, or wait for what is missing; gives back whether nothing may be published before the next step."""
        now, reports = self._clock(), self._nodes.live()
        if self._since is None:
            self._since = now
            log.warning("nodes have seen newer revisions than the database has: %s", ", ".join(sorted(names)))
        self.asked = frozenset(untold(names, reports))
        # Another node may have seen still newer ones; who has not come in so long is not waited for.
        patient = abs(now - self._since) <= LIVE_SECONDS
        if patient and (self.asked or not self._all_heard()):
            return True
        with self._database.writing.begin() as session:
            adopted = [self._adopt(session, name, reports, now) for name in sorted(names)]
        return any(adopted)

    def _all_heard(self) -> bool:
        return all((heard := self._nodes.heard(node)) and heard.present for node in self._nodes.members)

    def _adopt(self, session: Session, name: str, reports: Sequence[NodeReport], now: float) -> bool:
        current, found = find(session, name), served(name, reports)
        # The write lock is held: somebody who acted since the nodes were looked at went first.
        if found is None or found.generation <= numbers(session, [name]).get(name, 0):
            return False
        stage = self._stage(session, found, current)
        wanted = content(found, current, stage) if stage else None
        if wanted is None:
            log.warning("nothing of %s can be adopted: nothing of it runs, or no stage is here", name)
            return False
        number = adopt(session, name, current, wanted, Act(who=_WHO, why=WHY), found.generation)
        row = session.get_one(Deployment, name)
        row.record = record(found, Record.model_validate(row.record), now).model_dump(mode="json")
        row.record_version += 1
        log.warning("adopted what serves of %s as revision %s: %s", name, number, WHY)
        return True

    def _stage(self, session: Session, found: Served, current: RevisionView | None) -> str | None:
        """Where it lives: as before, where that is here; a deployment that was forgotten, where it says or can be."""
        placed = infrastructure_of(session)
        if current is not None:
            return current.stage if placed.get(current.stage, LOCAL) == self._infrastructure else None
        if placed.get(found.told.stage, LOCAL) == self._infrastructure:
            return found.told.stage
        return next(iter(stages_on(session, self._infrastructure)), None)
