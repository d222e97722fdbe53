"""What somebody wrote in a cluster becomes a revision here: shown with everything else, and never fought."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from quarterdeck.manifest import Digest, Trust, digest_of
from quarterdeck.plan import Accelerator, VersionName, VersionRef
from quarterdeck.rollout import Record
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import manifest_key
from quarterdeck_deployer import audit
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.infrastructures.kubernetes_resource import Resolve
from quarterdeck_deployer.models import Deployment, Revision, Version
from quarterdeck_deployer.projects import ensure_project
from quarterdeck_deployer.registry import Registry
from quarterdeck_deployer.registry_views import VersionInput
from quarterdeck_deployer.revision_rows import action_of
from quarterdeck_deployer.revisions import Content, RevisionView


def adopt(session: Session, name: str, current: RevisionView | None, content: Content, act: Act, above: int) -> int:
    """Write what runs as the newest revision; gives back its number.

    Args:
        session: writes.
        name: the deployment.
        current: its newest revision, which the caller has read in this session; None: it does not exist (any more).
        content: what the resource says.
        act: who said it, and in what circumstances.
        above: a number that the cluster has seen; the new one lies above it, so that none is ever given out twice.
    """
    # Whoever wrote the resource has named the project; a person must be able to be put into it.
    ensure_project(session, content.project)
    row = session.get(Deployment, name)
    if row is None:
        row = Deployment(name=name, revision=0, record=Record().model_dump(mode="json"), record_version=0, created=utc_now())
        session.add(row)
        session.flush()
    number = max(row.revision, above) + 1
    same = current is not None and current.main == content.main
    session.add(
        Revision(
            deployment=name,
            number=number,
            kind="adopt",
            content=content.model_dump(mode="json"),
            chosen=current.chosen if current is not None and same else number,
            leaving=current.leaving if current is not None and same else None,
            restored=None,
            who=act.who,
            why=act.why,
            created=utc_now(),
        )
    )
    session.add(action_of(name, number, "adopt", act))
    row.revision, row.deleted = number, None
    before = current.content.model_dump(mode="json") if current else None
    audit.write(session, act, Change("adopt", f"deployment/{name}", before, content.model_dump(mode="json")))
    return number


def numbers(session: Session, names: Collection[str]) -> dict[str, int]:
    """Newest revision of each of these deployments, whether they exist or were deleted; those that never were are left out."""
    query = select(Deployment.name, Deployment.revision).where(Deployment.name.in_(names))
    return dict(session.execute(query).all())


def living_names(session: Session, names: Collection[str]) -> set[str]:
    """Which of these deployments exist, on whatever infrastructure."""
    return set(session.scalars(select(Deployment.name).where(Deployment.name.in_(names), Deployment.deleted.is_(None))))


def learn(registry: Registry, storage: Storage, version: VersionName, act: Act) -> None:
    """Register a version that lies in the instance's own store.

    Raises:
        QuarterdeckError: it does not, or it cannot be registered.
    """
    digest = digest_of(storage.get(manifest_key(version.model, version.version)))
    registry.register(version.model, VersionInput(version=version.version, digest=digest), act)


def resolver(session: Session) -> Resolve:
    """Looks versions up in the registry."""

    def resolve(
        model: str, version: int | None, digest: Digest | None, trust: Trust, accelerator: Accelerator
    ) -> VersionRef | None:
        query = select(Version).where(Version.model == model)
        if version is not None:
            query = query.where(Version.version == version)
        if digest is not None:
            query = query.where(Version.digest == digest)
        row = session.scalar(query)
        if row is None:
            return None
        # Trust that the package does not need is not given, as everywhere: equal bytes have one reference.
        needed: Trust = "code" if trust == "code" and row.facts.get("trust") == "code" else "data"
        return VersionRef(model=model, version=row.version, digest=row.digest, trust=needed, accelerator=accelerator)

    return resolve
