"""The registry: models, their immutable versions, the runs that made them, and which version is active."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, defer

from quarterdeck.compare import Comparison, compare
from quarterdeck.errors import Conflict, InvalidInput, NotFound, PackageRefused, StorageError
from quarterdeck.manifest import Manifest, Trust
from quarterdeck.plan import Accelerator, VersionRef
from quarterdeck.schema import Schema
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import manifest_key
from quarterdeck_deployer import audit, lineage, marks, retirement, runs
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.idempotency import done_once, once
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import Model, Run, Version, VersionFile, VersionState
from quarterdeck_deployer.registry_rows import (
    COUNTED,
    facts_of,
    living_version,
    manifest_of,
    model_row,
    model_view,
    model_views,
    version_row,
    version_view,
    version_views,
)
from quarterdeck_deployer.registry_views import (
    Activated,
    Deleted,
    Lineage,
    Marks,
    MarksInput,
    ModelDetail,
    ModelView,
    Registered,
    RunDetail,
    RunView,
    Use,
    VersionDetail,
    VersionInput,
    VersionView,
)


class Registry:
    """Models and versions; everything about a package is read from its own manifest.

    Every method that names a model, version or run raises `NotFound` where there is none.

    Args:
        database: keeps them.
        storage: the store that versions are registered from.
        copies: the other stores, to which versions may have been copied.
    """

    def __init__(self, database: Database, storage: Storage, copies: Callable[[], Iterable[Storage]] = tuple) -> None:
        self._sessions, self._writing, self._storage, self._copies = database.sessions, database.writing, storage, copies

    def register(self, model: str, given: VersionInput, act: Act) -> Registered:
        """Take a package of the store into the registry; the first version of a model becomes its active one.

        Raises:
            NotFound: the store has no such manifest.
            PackageRefused: it does not have the digest, or is no manifest.
            InvalidInput: it belongs to another model.
            Conflict: the number or the digest is registered with another partner.
            StorageError: the store cannot be read.
        """
        # The store is read before the write lock is taken: a slow store must not hold up others.
        manifest = self._fetch(model, given)
        with self._writing.begin() as session:
            return once(session, act, Registered, lambda: _register(session, manifest, given, act))

    def activate(self, model: str, version: int, act: Act) -> Activated:
        """Make one version the model's active one; no change and no audit row where it is already."""
        with self._writing.begin() as session:
            return once(session, act, Activated, lambda: _activate(session, model, version, act))

    def names(self) -> list[str]:
        """The names of all models, sorted."""
        with self._sessions() as session:
            return list(session.scalars(select(Model.name).order_by(Model.name)))

    def models(self, window: Window | None = None, labels: list[str] | None = None) -> Listed[ModelView]:
        """Models by name.

        Args:
            window: which page; the first 100 where left out.
            labels: ``key=value`` or ``key``; only models that have all of these.
        """
        wanted = window or Window()
        query = windowed(marks.with_labels(COUNTED, Model.name, None, labels or []), wanted, Model.name)
        with self._sessions() as session:
            found: list[tuple[Any, ...]] = [tuple(row) for row in session.execute(query)]
            listed = page(found, wanted, lambda row: (row[0].name,))
            return Listed(model_views(session, listed.items), listed.next)

    def model(self, name: str) -> ModelDetail:
        """One model with versions and runs."""
        with self._sessions() as session:
            row = model_row(session, name)
            versions = session.execute(_VERSIONS.where(Version.model == name).order_by(Version.version.desc()))
            return ModelDetail(
                **model_view(session, row).model_dump(),
                notes=row.notes,
                items=version_views(session, name, (tuple(found) for found in versions)),
                runs=runs.of_model(session, name, Window(1_000)).items,
            )

    def active(self, model: str) -> int | None:
        """The number of a model's active version; None where it has none."""
        with self._sessions() as session:
            return model_row(session, model).active_version

    def versions(
        self, model: str, window: Window, labels: list[str] | None = None, deprecated: bool | None = None
    ) -> Listed[VersionView]:
        """The versions of a model, newest first.

        Args:
            model: its name.
            window: which page.
            labels: ``key=value`` or ``key``; only versions that have all of these.
            deprecated: only those that are, or are not.
        """
        query = marks.with_labels(_VERSIONS.where(Version.model == model), Version.model, Version.version, labels or [])
        if deprecated is not None:
            query = query.where(VersionState.deprecated.is_not(None) if deprecated else VersionState.deprecated.is_(None))
        with self._sessions() as session:
            model_row(session, model)
            rows = [tuple(row) for row in session.execute(windowed(query, window, Version.version, descending=True))]
            listed = page(rows, window, lambda row: (row[0].version,))
            return Listed(version_views(session, model, listed.items), listed.next)

    def version(self, model: str, version: int) -> VersionDetail:
        """One version with its manifest; a deleted one too, for its manifest stays."""
        with self._sessions() as session:
            row = version_row(session, model, version)
            state = session.get_one(VersionState, (model, version))
            return VersionDetail(
                **version_view(session, row, state).model_dump(),
                notes=state.notes,
                deprecated_why=state.deprecated_why,
                deleted=state.deleted,
                manifest=manifest_of(row),
            )

    def schema(self, model: str, version: int, digest: str) -> Schema | None:
        """The schema of a version; None where it is not known, or has another digest: records may outlive a registry."""
        try:
            found = self.version(model, version)
        except NotFound:
            return None
        return found.manifest.data_schema if found.digest == digest else None

    def runs(self, model: str, window: Window) -> Listed[RunView]:
        """The runs of a model, newest first."""
        with self._sessions() as session:
            model_row(session, model)
            return runs.of_model(session, model, window)

    def run(self, model: str, name: str) -> RunDetail:
        """One run with its candidates: their metrics and hyperparameters side by side."""
        with self._sessions() as session:
            return runs.one(session, model_row(session, model), name)

    def lineage(self, model: str, version: int) -> Lineage:
        """Where a version comes from, and what was made from it."""
        with self._sessions() as session:
            return lineage.of(session, version_row(session, model, version))

    def compare(self, model: str, first: int, second: int) -> Comparison:
        """What differs between two versions of a model."""
        with self._sessions() as session:
            return compare(*(manifest_of(version_row(session, model, number)) for number in (first, second)))

    def mark(self, model: str, version: int | None, given: MarksInput, act: Act) -> Marks:
        """Notes, labels and deprecation of a version, or of the model itself (None); what is so already leaves no trace.

        Raises:
            InvalidInput: a model cannot be deprecated.
        """

        def do() -> Marks:
            if version is None:
                return marks.mark_model(session, model_row(session, model), given, act)
            return marks.mark_version(session, *living_version(session, model, version), given, act)

        with self._writing.begin() as session:
            return once(session, act, Marks, do)

    def uses(self, model: str, version: int) -> list[Use]:
        """What a version is still needed for; only one without uses can be deleted."""
        with self._sessions() as session:
            return retirement.uses(session, version_row(session, model, version))

    def delete(self, model: str, version: int, act: Act) -> Deleted:
        """Delete the files of a version that nobody needs, and their copies in the stores of stages.

        Its manifest stays here, and its number is never given again. Deleting it again removes what an interrupted deletion
        has left.

        Raises:
            Conflict: ``version-in-use``; `extra` lists the uses.
            InvalidInput, StorageError: one of the stores cannot be changed.
        """
        with self._writing.begin() as session:
            row = version_row(session, model, version)
            done_once(session, act, lambda: retirement.bury(session, row, act))
            manifest = manifest_of(row)
        # After the commit: from then on nobody can deploy it, so nobody can miss its files.
        return retirement.remove(self._sessions, self._storage, self._copies, manifest, version)

    def known(self, model: str, digest: str) -> VersionView | None:
        """The version that has these very bytes; None where none has, or where it was deleted."""
        with self._sessions() as session:
            query = _VERSIONS.where(Version.model == model, Version.digest == digest)
            found = session.execute(query).one_or_none()
            return version_views(session, model, [tuple(found)])[0] if found else None

    def _fetch(self, model: str, given: VersionInput) -> Manifest:
        place = f"{model} v{given.version}"
        try:
            raw = self._storage.get(manifest_key(model, given.version))
        except StorageError as error:
            if error.code != "not-found":
                raise
            raise NotFound(
                f"The store has no package {place}.",
                kind="package",
                name=place,
                hint="Publish it first: `quarterdeck package push FOLDER`.",
            ) from None
        manifest = Manifest.parse(raw, given.digest)
        if manifest.model != model:
            raise InvalidInput(
                f"The package {place} says that it belongs to model {manifest.model}.",
                kind="package",
                name=place,
                hint="Register it under its own model.",
            )
        return manifest


def resolve(
    session: Session, model: str, version: int, trust: Trust, accelerator: Accelerator = "none"
) -> tuple[VersionRef, Manifest]:
    """The reference of a registered version, with the trust that the deployment gives it and the package needs.

    Raises:
        NotFound: no such model or version; ``version-deleted``.
        PackageRefused: ``trust-required`` where the package runs code when loaded and the deployment does not allow it,
            ``accelerator-unsupported`` where it was not built for what shall score.
    """
    row, _ = living_version(session, model, version)
    manifest = manifest_of(row)
    if manifest.trust == "code" and trust != "code":
        place = f"{model} v{version}"
        raise PackageRefused(
            f"{place} runs code from its package when it is loaded, and the deployment does not allow that.",
            code="trust-required",
            kind="package",
            name=place,
            hint="Set trust: code beside this version if you trust whoever made it.",
        )
    if accelerator != "none" and manifest.accelerated is None:
        raise PackageRefused(
            f"{model} v{version} was not built for {accelerator}.",
            code="accelerator-unsupported",
            kind="package",
            name=f"{model} v{version}",
            hint="Build it with --accelerated, or leave `accelerator` out.",
        )
    # Trust that the package does not need is not given: equal bytes then have one reference.
    found = VersionRef(model=model, version=version, digest=row.digest, trust=manifest.trust, accelerator=accelerator)
    return found, manifest


def require_files(session: Session, ref: VersionRef) -> None:
    """Refuse a version that was deployed once and has been deleted since.

    Raises:
        NotFound: ``version-deleted``.
    """
    living_version(session, ref.model, ref.version)


# Everything but the manifests: lists live on facts.
_VERSIONS: Select[*tuple[Any, ...]] = (
    select(Version, VersionState, Run.name)
    .join(VersionState, (VersionState.model == Version.model) & (VersionState.version == Version.version))
    .outerjoin(Run, Version.run == Run.id)
    .where(VersionState.deleted.is_(None))
    .options(defer(Version.manifest, raiseload=True))
)


def _register(session: Session, manifest: Manifest, given: VersionInput, act: Act) -> Registered:
    model = manifest.model
    known = session.get(Version, (model, given.version))
    if known is not None and known.digest == given.digest:
        state = living_version(session, model, given.version)[1]
        return Registered(version=version_view(session, known, state), created=False)
    _refuse_twins(session, model, given, known)
    version = _add(session, manifest, given)
    audit.write(session, act, Change("register", f"model/{model}", None, {"version": given.version, "digest": given.digest}))
    return Registered(version=version_view(session, *version), created=True)


def _activate(session: Session, model: str, version: int, act: Act) -> Activated:
    row, state = model_row(session, model), living_version(session, model, version)[1]
    before = row.active_version if row.active_version != version else None
    if row.active_version != version:
        audit.write(session, act, Change("activate", f"model/{model}", {"version": row.active_version}, {"version": version}))
        row.active_version = version
        session.flush()
    note = marks.warning(model, version, state)
    return Activated(**model_view(session, row).model_dump(), before=before, note=note)


def _refuse_twins(session: Session, model: str, given: VersionInput, known: Version | None) -> None:
    if known is not None:
        raise Conflict(
            f"{model} v{given.version} is registered with another digest.",
            kind="version",
            name=f"{model} v{given.version}",
            hint="A published version never changes: publish the package under the next number.",
        )
    # Equal bytes under two numbers would make every comparison of digests ambiguous.
    twin = session.scalar(select(Version).where(Version.model == model, Version.digest == given.digest))
    if twin is not None:
        deleted = session.get_one(VersionState, (model, twin.version)).deleted is not None
        raise Conflict(
            f"This package is registered as {model} v{twin.version} already{', which was deleted' if deleted else ''}.",
            kind="version",
            name=f"{model} v{twin.version}",
            hint="Build it again with another description: a deleted version does not come back."
            if deleted
            else f"Use v{twin.version}: it has the same bytes.",
            extra={"version": twin.version},
        )


def _add(session: Session, manifest: Manifest, given: VersionInput) -> tuple[Version, VersionState]:
    model = session.get(Model, manifest.model)
    if model is None:
        model = Model(name=manifest.model, description=manifest.description, created=utc_now())
        session.add(model)
        session.flush()
    # Somebody with one version should not have to say which one they mean.
    if model.active_version is None:
        model.active_version = given.version
    version = Version(
        model=manifest.model,
        version=given.version,
        digest=given.digest,
        manifest=manifest.canonical().decode(),
        facts=facts_of(manifest).model_dump(mode="json"),
        run=runs.of_version(session, manifest, given.run),
        created=utc_now(),
    )
    session.add(version)
    session.flush()
    state = VersionState(model=manifest.model, version=given.version, parent=manifest.parent)
    session.add(state)
    # A set: two paths may have the same bytes.
    blobs = {entry.sha256 for entry in manifest.files}
    session.add_all(VersionFile(model=manifest.model, version=given.version, sha256=sha256) for sha256 in sorted(blobs))
    session.flush()
    return version, state
