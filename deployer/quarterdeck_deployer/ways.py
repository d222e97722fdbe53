"""What one promotion is about: from which store to which, and what the version is held against there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from quarterdeck.errors import NotFound
from quarterdeck.storage import Storage
from quarterdeck_deployer import test_queries
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.deployments import Deployments
from quarterdeck_deployer.gates.facts import Subject, Traffic
from quarterdeck_deployer.infrastructures.running import Infrastructures
from quarterdeck_deployer.models import ApiKey
from quarterdeck_deployer.promotions import PromotionView
from quarterdeck_deployer.registry import Registry


class Way(NamedTuple):
    """The store that a version comes from, what it is judged by where it goes, and a folder for what is on its way."""

    source: Storage
    subject: Subject
    spare: Path


class Ways:
    """Looks up what promotions need to know of the rest of the instance."""

    def __init__(
        self, database: Database, infrastructures: Infrastructures, deployments: Deployments, registry: Registry, spare: Path
    ) -> None:
        self._sessions, self._infrastructures = database.sessions, infrastructures
        self._deployments, self._registry, self._spare = deployments, registry, spare

    def of(self, promotion: PromotionView) -> Way:
        """The way of one promotion.

        Raises:
            InvalidInput, StorageError: a store cannot be used.
        """
        traffic = [found for name in (promotion.target, promotion.source) if (found := self._traffic(name))]
        with self._sessions() as session:
            keys = dict(session.execute(select(ApiKey.id, ApiKey.name)).all())
            # The target's own queries first: what its callers rely on may be more than what the source was tried with.
            queries = test_queries.of(session, promotion.target) or test_queries.of(session, promotion.source)
        subject = Subject(
            ref=promotion.main,
            storage=self._infrastructures.storage_of(promotion.target_stage),
            traffic=traffic,
            queries=queries,
            keys=keys,
            schema_of=self._registry.schema,
        )
        # Another version than main may be promoted, which the source's stage has never had.
        return Way(self._infrastructures.storage_with(promotion.source_stage, promotion.main), subject, self._spare)

    def _traffic(self, name: str) -> Traffic | None:
        try:
            records = self._infrastructures.records(self._deployments.one(name))
        except NotFound:
            return None
        return Traffic(name, records.storage, records.dataset)
