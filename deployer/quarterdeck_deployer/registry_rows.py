"""The registry's rows: looked up with an answer for whoever mistypes, and turned into what the API shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from quarterdeck.errors import NotFound
from quarterdeck.manifest import Manifest
from quarterdeck_deployer.models import Model, RegistryLabel, Run, Version, VersionState
from quarterdeck_deployer.registry_views import Facts, ModelView, VersionView

_SHOWN = 10


def model_row(session: Session, name: str) -> Model:
    """One model; `NotFound` names those there are."""
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


def version_row(session: Session, model: str, version: int) -> Version:
    """One version, deleted or not; `NotFound` names those there are."""
    model_row(session, model)
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


def living_version(session: Session, model: str, version: int) -> tuple[Version, VersionState]:
    """One version whose files are there, and what may change about it.

    Raises:
        NotFound: no such version; ``version-deleted`` where it was deleted.
    """
    row = version_row(session, model, version)
    state = session.get_one(VersionState, (model, version))
    if state.deleted is not None:
        raise NotFound(
            f"{model} v{version} was deleted at {state.deleted:%Y-%m-%d %H:%M:%S} UTC; its files are gone.",
            code="version-deleted",
            kind="version",
            name=f"{model} v{version}",
            hint="Take another version, or build the package again and publish it.",
        )
    return row, state


def manifest_of(row: Version) -> Manifest:
    """Its manifest, checked at every reading: a damaged database file must not hand out another package."""
    return Manifest.parse(row.manifest.encode(), row.digest)


def facts_of(manifest: Manifest) -> Facts:
    """What lists show of it."""
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


# Joined and grouped, so that all models take one question; deleted versions are not counted.
COUNTED: Select[*tuple[Any, ...]] = (
    select(Model, func.count(VersionState.version), func.max(VersionState.version))
    .outerjoin(VersionState, (VersionState.model == Model.name) & VersionState.deleted.is_(None))
    .group_by(Model.name)
)


def model_view(session: Session, row: Model) -> ModelView:
    """One model as lists show it."""
    return model_views(session, [tuple(session.execute(COUNTED.where(Model.name == row.name)).one())])[0]


def model_views(session: Session, rows: Sequence[tuple[Model, int, int | None]]) -> list[ModelView]:
    """Models as lists show them, in one question for all."""
    query = select(RegistryLabel).where(RegistryLabel.version == 0, RegistryLabel.model.in_([row.name for row, _, _ in rows]))
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    for label in session.scalars(query.order_by(RegistryLabel.key)):
        labels[label.model][label.key] = label.value
    return [
        ModelView(
            name=row.name,
            description=row.description,
            labels=labels[row.name],
            active_version=row.active_version,
            versions=versions,
            newest=newest,
            created=row.created,
        )
        for row, versions, newest in rows
    ]


def version_view(session: Session, row: Version, state: VersionState) -> VersionView:
    """One version as lists show it."""
    run = session.get(Run, row.run) if row.run else None
    return version_views(session, row.model, [(row, state, run.name if run else None)])[0]


def version_views(session: Session, model: str, rows: Iterable[tuple[Version, VersionState, str | None]]) -> list[VersionView]:
    """Versions of one model as lists show them, in one question for all."""
    found = list(rows)
    active = session.get_one(Model, model).active_version
    query = select(RegistryLabel).where(
        RegistryLabel.model == model, RegistryLabel.version.in_([row.version for row, _, _ in found])
    )
    labels: dict[int, dict[str, str]] = defaultdict(dict)
    for label in session.scalars(query.order_by(RegistryLabel.key)):
        labels[label.version][label.key] = label.value
    return [
        VersionView(
            **row.facts,
            model=row.model,
            version=row.version,
            digest=row.digest,
            run=run,
            active=active == row.version,
            labels=labels[row.version],
            deprecated=state.deprecated,
            created=row.created,
        )
        for row, state, run in found
    ]
