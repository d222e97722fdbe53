"""The registry: models, their immutable versions, the runs that made them, and which version is active."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer

from quarterdeck.errors import Conflict, InvalidInput, NotFound, PackageRefused, StorageError
from quarterdeck.manifest import Digest, Form, Manifest, Proof, Trust
from quarterdeck.plan import Accelerator, VersionRef
from quarterdeck.schema import Frozen, Name, Task
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import manifest_key
from quarterdeck_deployer import audit
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.models import Model, Run, Version

_SHOWN = 10


class RunInput(Frozen):
    """The training run behind a version; runs of one model are told apart by name."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    metrics: dict[str, float] = Field(default_factory=dict)


class VersionInput(Frozen):
    """A package that lies in the store under ``models/<model>/<version>/``."""

    version: Annotated[int, Field(ge=1)]
    digest: Digest
    run: RunInput | None = None


class RunView(Frozen):
    """A training run."""

    id: str
    name: str
    metrics: dict[str, float]
    created: datetime


class Facts(Frozen):
    """What lists show of a manifest."""

    form: Form
    trust: Trust
    task: Task
    size_bytes: int
    metrics: dict[str, float]
    description: str
    parent: Digest | None
    golden_rows: int = Field(description="Rows whose answers every node checks before it serves this version.")
    proof: Proof | None = Field(description="How the packaged form was held against the original; None: it was not.")


class VersionView(Facts):
    """One version with the facts that lists show; `manifest` holds everything else."""

    model: Name
    version: int
    digest: Digest
    run: str | None = Field(description="Name of the run that made it.")
    active: bool
    created: datetime


class ModelView(Frozen):
    """A model and how many versions it has."""

    name: Name
    description: str
    active_version: int | None
    versions: int
    newest: int | None
    created: datetime


class ModelDetail(ModelView):
    """A model with all its versions (newest first) and runs."""

    items: list[VersionView]
    runs: list[RunView]


class VersionDetail(VersionView):
    """A version with its manifest, golden rows included."""

    manifest: Manifest


class Registered(Frozen):
    """The outcome of a registration; `created` is False where it had been registered before."""

    version: VersionView
    created: bool


class Registry:
    """Models and versions; everything about a package is read from its own manifest."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._sessions, self._writing, self._storage = database.sessions, database.writing, storage

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
            known = session.get(Version, (model, given.version))
            if known is not None and known.digest == given.digest:
                return Registered(version=_version(known, session), created=False)
            _refuse_twins(session, model, given, known)
            version = _add(session, manifest, given)
            audit.write(
                session, act, Change("register", f"model/{model}", None, {"version": given.version, "digest": given.digest})
            )
            return Registered(version=_version(version, session), created=True)

    def activate(self, model: str, version: int, act: Act) -> ModelView:
        """Make one version the model's active one; no change and no audit row where it is already.

        Raises:
            NotFound: no such model or version.
        """
        with self._writing.begin() as session:
            row, _ = _model_row(session, model), _version_row(session, model, version)
            if row.active_version != version:
                before, row.active_version = row.active_version, version
                audit.write(session, act, Change("activate", f"model/{model}", {"version": before}, {"version": version}))
            return _model(row, session)

    def models(self) -> list[ModelView]:
        """All models, by name."""
        with self._sessions() as session:
            # One question for all models: a question each would make long lists slow.
            return [_view(*found) for found in session.execute(_COUNTED.order_by(Model.name))]

    def model(self, name: str) -> ModelDetail:
        """One model with versions and runs.

        Raises:
            NotFound: no such model.
        """
        with self._sessions() as session:
            row = _model_row(session, name)
            # Everything but the manifests: lists live on facts.
            query = select(Version, Run.name).outerjoin(Run, Version.run == Run.id).where(Version.model == name)
            versions = session.execute(query.order_by(Version.version.desc()).options(defer(Version.manifest, raiseload=True)))
            runs = session.scalars(select(Run).where(Run.model == name).order_by(Run.created.desc()))
            return ModelDetail(
                **_model(row, session).model_dump(),
                items=[_listed(version, run, row.active_version) for version, run in versions],
                runs=[RunView(id=run.id, name=run.name, metrics=run.metrics, created=run.created) for run in runs],
            )

    def version(self, model: str, version: int) -> VersionDetail:
        """One version with its manifest.

        Raises:
            NotFound: no such model or version.
        """
        with self._sessions() as session:
            row = _version_row(session, model, version)
            return VersionDetail(**_version(row, session).model_dump(), manifest=_manifest(row))

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
        NotFound: no such model or version.
        PackageRefused: ``trust-required`` where the package runs code when loaded and the deployment does not allow it,
            ``accelerator-unsupported`` where it was not built for what shall score.
    """
    row = _version_row(session, model, version)
    manifest = _manifest(row)
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
        raise Conflict(
            f"This package is registered as {model} v{twin.version} already.",
            kind="version",
            name=f"{model} v{twin.version}",
            hint=f"Use v{twin.version}: it has the same bytes.",
            extra={"version": twin.version},
        )


def _add(session: Session, manifest: Manifest, given: VersionInput) -> Version:
    model = session.get(Model, manifest.model)
    if model is None:
        model = Model(name=manifest.model, description=manifest.description, created=utc_now())
        session.add(model)
        session.flush()
    # Somebody with one version should not have to say which one they mean.
    if model.active_version is None:
        model.active_version = given.version
    # A package that names its run brings the run along, with the package's metrics.
    run = given.run or (RunInput(name=manifest.run[:200], metrics=manifest.metrics) if manifest.run else None)
    version = Version(
        model=manifest.model,
        version=given.version,
        digest=given.digest,
        manifest=manifest.canonical().decode(),
        facts=_facts(manifest).model_dump(mode="json"),
        run=_run(session, manifest.model, run) if run else None,
        created=utc_now(),
    )
    session.add(version)
    session.flush()
    return version


def _run(session: Session, model: str, given: RunInput) -> str:
    known = session.scalar(select(Run).where(Run.model == model, Run.name == given.name))
    if known is not None:
        return known.id
    run = Run(id=uuid.uuid4().hex, name=given.name, model=model, metrics=given.metrics, created=utc_now())
    session.add(run)
    session.flush()
    return run.id


def _model_row(session: Session, name: str) -> Model:
    row = session.get(Model, name)
    if row is None:
        # A short list of what there is helps with typing errors; a long one would bury the message.
        known = list(session.scalars(select(Model.name).order_by(Model.name).limit(_SHOWN)))
        there = f"There are: {', '.join(known)}." if known else "No model is registered yet."
        raise NotFound(
            f"There is no such model. {there}",
            kind="model",
            name=name,
            hint="Publish a package of it: `quarterdeck package push FOLDER`.",
        )
    return row


def _version_row(session: Session, model: str, version: int) -> Version:
    _model_row(session, model)
    row = session.get(Version, (model, version))
    if row is None:
        query = select(Version.version).where(Version.model == model).order_by(Version.version.desc()).limit(_SHOWN)
        known = ", ".join(str(number) for number in session.scalars(query))
        raise NotFound(
            f"Model {model} has no such version. Newest: {known or 'none'}.",
            kind="version",
            name=model,
            hint="List them: `quarterdeck model show " + model + "`.",
        )
    return row


def _manifest(row: Version) -> Manifest:
    # Checked at every reading: a damaged database file must not hand out another package.
    return Manifest.parse(row.manifest.encode(), row.digest)


_COUNTED = select(Model, func.count(Version.version), func.max(Version.version)).outerjoin(Version).group_by(Model.name)


def _model(row: Model, session: Session) -> ModelView:
    return _view(*session.execute(_COUNTED.where(Model.name == row.name)).one())


def _view(row: Model, versions: int, newest: int | None) -> ModelView:
    return ModelView(
        name=row.name,
        description=row.description,
        active_version=row.active_version,
        versions=versions,
        newest=newest,
        created=row.created,
    )


def _facts(manifest: Manifest) -> Facts:
    return Facts(
        form=manifest.form,
        trust=manifest.trust,
        task=manifest.data_schema.task,
        size_bytes=manifest.size,
        metrics=manifest.metrics,
        description=manifest.description,
        parent=manifest.parent,
        golden_rows=len(manifest.golden),
        proof=manifest.proof,
    )


def _version(row: Version, session: Session) -> VersionView:
    run = session.get(Run, row.run) if row.run else None
    return _listed(row, run.name if run else None, session.get_one(Model, row.model).active_version)


def _listed(row: Version, run: str | None, active: int | None) -> VersionView:
    return VersionView(
        **row.facts,
        model=row.model,
        version=row.version,
        digest=row.digest,
        run=run,
        created=row.created,
        active=active == row.version,
    )
