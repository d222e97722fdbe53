"""Where a version comes from and what became of it: parents up and children down, by the digests that manifests name."""

from __future__ import annotations

from sqlalchemy import CTE, literal, select
from sqlalchemy.orm import Session

from quarterdeck_deployer.models import Run, Version, VersionState
from quarterdeck_deployer.registry_rows import manifest_of
from quarterdeck_deployer.registry_views import Lineage, Relative

_MOST = 1_000
"""Generations up, and relatives down."""


def of(session: Session, row: Version) -> Lineage:
    """The whole family of one version, in one question for each direction."""
    manifest = manifest_of(row)
    run = session.get(Run, row.run) if row.run else None
    parents = _relatives(session, _ancestors(manifest.parent)) if manifest.parent else []
    # The line may begin elsewhere: its oldest name is then one that nobody here knows.
    oldest = _parent(session, parents[-1]) if parents else manifest.parent
    return Lineage(
        model=row.model,
        version=row.version,
        digest=row.digest,
        run=run.name if run else None,
        commit=manifest.commit,
        producer=manifest.producer,
        recipe=manifest.recipe or "",
        environment=manifest.environment,
        training=manifest.training,
        validation=manifest.validation,
        card=manifest.card,
        parents=parents,
        unknown_parent=oldest,
        children=_relatives(session, _descendants(row.digest)),
    )


_JOINED = (VersionState.model == Version.model) & (VersionState.version == Version.version)


def _ancestors(parent: str) -> CTE:
    first = select(Version.digest, VersionState.parent, literal(1).label("steps")).join(VersionState, _JOINED)
    found = first.where(Version.digest == parent).cte("ancestors", recursive=True)
    # No ring can form, for a digest depends on its parent's; the bound is for chains that never seem to end.
    further = select(Version.digest, VersionState.parent, found.c.steps + 1).join(VersionState, _JOINED)
    return found.union_all(further.where(Version.digest == found.c.parent, found.c.steps < _MOST))


def _descendants(digest: str) -> CTE:
    first = select(Version.digest, literal(1).label("steps")).join(VersionState, _JOINED)
    found = first.where(VersionState.parent == digest).cte("descendants", recursive=True)
    further = select(Version.digest, found.c.steps + 1).join(VersionState, _JOINED)
    return found.union_all(further.where(VersionState.parent == found.c.digest, found.c.steps < _MOST))


def _relatives(session: Session, family: CTE) -> list[Relative]:
    query = (
        select(Version.model, Version.version, Version.digest, family.c.steps, Version.facts, VersionState.deleted)
        .join(family, family.c.digest == Version.digest)
        .join(VersionState, _JOINED)
        .order_by(family.c.steps, Version.model, Version.version)
        .limit(_MOST)
    )
    return [
        Relative(model=model, version=version, digest=digest, steps=steps, metrics=facts["metrics"], deleted=deleted is not None)
        for model, version, digest, steps, facts, deleted in session.execute(query)
    ]


def _parent(session: Session, relative: Relative) -> str | None:
    return session.get_one(VersionState, (relative.model, relative.version)).parent
