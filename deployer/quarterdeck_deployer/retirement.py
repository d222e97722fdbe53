"""Deleting versions: refused while anybody needs them; then the number stays taken and the files go, copies too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, sessionmaker

from quarterdeck import package_files
from quarterdeck.errors import Conflict
from quarterdeck.manifest import Manifest
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import blob_key
from quarterdeck_deployer import audit
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.models import Deployment, Model, Promotion, Revision, Version, VersionFile, VersionState
from quarterdeck_deployer.registry_views import Deleted, Use
from quarterdeck_deployer.revision_rows import histories
from quarterdeck_deployer.revisions import pair, way_back

ROLLBACK_REVISIONS = 10
"""So many revisions of each deployment can always be returned to."""
_HELD = ("active", "previous", "left", "target", "challenger")


def uses(session: Session, row: Version) -> list[Use]:
    """What a version is still needed for."""
    place = f"{row.model} v{row.version}"
    found = []
    if session.get_one(Model, row.model).active_version == row.version:
        found.append(Use(kind="active", name=row.model, words=f"{place} is the active version of {row.model}"))
    recent = (
        select(Deployment, Revision)
        .join(Revision, Revision.deployment == Deployment.name)
        .where(Deployment.deleted.is_(None), Revision.number > Deployment.revision - ROLLBACK_REVISIONS)
        .order_by(Deployment.name, Revision.number.desc())
    )
    for deployment, revision in session.execute(recent):
        found += _uses_of(deployment, revision, row.digest)
    found += _ways_back(session, row.digest)
    promotions = select(Promotion.id, Promotion.target, Promotion.main).where(Promotion.ended.is_(None))
    for number, target, main in session.execute(promotions):
        if _digest(main) == row.digest:
            found.append(Use(kind="promotion", name=str(number), words=f"promotion {number} to {target} is under way"))
    return found


def _ways_back(session: Session, digest: str) -> Iterator[Use]:
    """Deployments that a rollback without a number leads back to a version, from however long ago."""
    named = [Revision.content[(role, "digest")].as_string() == digest for role in ("main", "challenger")]
    older = select(Deployment).where(
        Deployment.deleted.is_(None),
        Deployment.name.in_(
            select(Revision.deployment).where(Revision.number <= Deployment.revision - ROLLBACK_REVISIONS, or_(*named))
        ),
    )
    found = session.scalars(older.order_by(Deployment.name)).all()
    revisions = histories(session, [deployment.name for deployment in found])
    for deployment in found:
        back = way_back(revisions[deployment.name])
        # Newer ones are told already.
        if back is None or back.number > deployment.revision - ROLLBACK_REVISIONS:
            continue
        if digest in [ref.digest for ref in pair(back) if ref]:
            words = f"a rollback of deployment {deployment.name} leads to its revision {back.number}"
            yield Use(kind="rollback", name=deployment.name, words=words)


def bury(session: Session, row: Version, act: Act) -> None:
    """Mark a version as deleted; where it is, nothing changes.

    Raises:
        Conflict: ``version-in-use``.
    """
    state = session.get_one(VersionState, (row.model, row.version))
    if state.deleted is not None:
        return
    found = uses(session, row)
    if found:
        others = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise Conflict(
            f"{row.model} v{row.version} is still needed: {found[0].words}{others}.",
            code="version-in-use",
            kind="version",
            name=f"{row.model} v{row.version}",
            hint=_WAYS[found[0].kind].format(model=row.model, name=found[0].name),
            extra={"uses": [use.model_dump() for use in found]},
        )
    state.deleted = utc_now()
    audit.write(session, act, Change("delete", f"model/{row.model}", {"version": row.version, "digest": row.digest}, None))


def remove(
    sessions: sessionmaker[Session], storage: Storage, copies: Callable[[], Iterable[Storage]], manifest: Manifest, version: int
) -> Deleted:
    """Take the files of a deleted version from the stores, but those that another version needs.

    Args:
        sessions: read which files those are.
        storage: where it was published.
        copies: the other stores, each of which may have a copy.
        manifest: the version's.
        version: its number.
    """
    with sessions() as session:
        needed = set(session.scalars(_needed(manifest)))
        registered = {(model, number) for model, number in session.execute(select(Version.model, Version.version))}
    removed, freed = _remove(storage, manifest, version, needed, registered)
    for other in copies():
        # Under the same number there may be somebody else's package: registered versions are no guide to what lies there.
        if package_files.copied(other, manifest, version):
            more, size = _remove(other, manifest, version, needed, ())
            removed, freed = removed | more, freed + size
    return Deleted(model=manifest.model, version=version, digest=manifest.digest, removed=sorted(removed), freed_bytes=freed)


def _remove(
    storage: Storage, manifest: Manifest, version: int, needed: set[str], known: Collection[tuple[str, int]]
) -> tuple[set[str], int]:
    """The files that were taken from one store, and their bytes; `needed` are those of the versions that are `known`."""
    # First the number: whoever publishes from now on does not take these files for those of a version that is there.
    package_files.retire(storage, manifest, version)
    # Versions that lie in the store without being registered: somebody pushes right now, or never told this registry.
    needed = needed | {entry.sha256 for other in package_files.strangers(storage, known) for entry in other.files}
    sizes = {entry.sha256: entry.size for entry in manifest.files if entry.sha256 not in needed}
    # Those that an interrupted deletion has removed already are not told again.
    gone = {sha256 for sha256 in sizes if storage.size(blob_key(sha256)) is not None}
    for sha256 in gone:
        storage.delete(blob_key(sha256))
    return gone, sum(sizes[sha256] for sha256 in gone)


_WAYS = {
    "active": "Choose another one first: `quarterdeck model activate {model} VERSION`.",
    "main": "Deploy another version there first, and let {name} make ten more revisions or delete it.",
    "challenger": "Clear it first: `quarterdeck challenger clear {name}`.",
    "held": "It can be stepped back to; deploy another version there, or delete {name}.",
    "rollback": "The last ten revisions and the main before this one can be returned to; wait for newer ones, or delete {name}.",
    "promotion": "Wait until it is over: `quarterdeck promotions show {name}`.",
}


def _uses_of(deployment: Deployment, revision: Revision, digest: str) -> Iterator[Use]:
    name, current = deployment.name, revision.number == deployment.revision
    for role in ("main", "challenger"):
        if _digest(revision.content.get(role)) == digest:
            if current:
                yield Use(kind=role, name=name, words=f"deployment {name} has it as {role}")
            else:
                yield Use(kind="rollback", name=name, words=f"revision {revision.number} of deployment {name} can be returned to")
    # The record once, and not with each revision.
    if current and any(_digest(deployment.record.get(role)) == digest for role in _HELD):
        yield Use(kind="held", name=name, words=f"nodes of deployment {name} hold it")


def _digest(ref: Any) -> str | None:
    return ref["digest"] if isinstance(ref, dict) else None


def _needed(manifest: Manifest) -> Any:
    """Blobs of a manifest that versions with files still need."""
    joined = (VersionState.model == VersionFile.model) & (VersionState.version == VersionFile.version)
    return (
        select(VersionFile.sha256)
        .join(VersionState, joined)
        .where(VersionState.deleted.is_(None), VersionFile.sha256.in_([entry.sha256 for entry in manifest.files]))
        .distinct()
    )
