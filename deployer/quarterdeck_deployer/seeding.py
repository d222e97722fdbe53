"""A deployment's first test queries: the golden rows of the version that it begins with."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from quarterdeck.manifest import Manifest
from quarterdeck.plan import VersionRef
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.models import SavedQuery, Version

_MOST = 10


def seed(session: Session, deployment: str, main: VersionRef, who: str) -> None:
    """Save a query for each of the first golden rows, where the deployment has no query yet.

    They expect an answer, not a certain one: the next version is trained to answer better. Whoever wants a certain answer
    writes it down.
    """
    # A name that comes back has kept its queries.
    if session.scalar(select(SavedQuery.name).where(SavedQuery.deployment == deployment).limit(1)) is not None:
        return
    row = session.get(Version, (main.model, main.version))
    # What a cluster brings along may be a version that nobody has registered here.
    if row is None:
        return
    for number, golden in enumerate(Manifest.parse(row.manifest.encode(), row.digest).golden[:_MOST], start=1):
        session.add(
            SavedQuery(
                deployment=deployment,
                name=f"golden-{number}",
                description=f"Golden row {number} of {main}.",
                rows=[golden.row],
                expect=[],
                tolerance=1e-9,
                seeded=True,
                who=who,
                changed=utc_now(),
            )
        )
