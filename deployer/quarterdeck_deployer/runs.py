"""Training runs: what groups the versions that came of one training."""

from __future__ import annotations

import uuid
from collections import defaultdict

from sqlalchemy import select
from sqlalchemy.orm import Session

from quarterdeck.errors import NotFound
from quarterdeck.manifest import Manifest
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import Model, Run, Version, VersionState
from quarterdeck_deployer.registry_rows import manifest_of
from quarterdeck_deployer.registry_views import Candidate, RunDetail, RunInput, RunView

_NAME = 200


def of_version(session: Session, manifest: Manifest, given: RunInput | None) -> str | None:
    """The id of the run that a new version belongs to, made where nobody has named it before; None where it has none."""
    # A package that names its run brings the run along, with the package's metrics.
    run = given or (RunInput(name=manifest.run[:_NAME], metrics=manifest.metrics) if manifest.run else None)
    if run is None:
        return None
    known = session.scalar(select(Run).where(Run.model == manifest.model, Run.name == run.name))
    if known is None:
        known = Run(id=uuid.uuid4().hex, name=run.name, model=manifest.model, metrics={}, parameters={}, created=utc_now())
        session.add(known)
    elif given is None:
        # Figures of a second package are its own, not the run's.
        return known.id
    # What was said first stays: a figure that changes under somebody's eyes would be worth nothing.
    known.metrics, known.parameters = {**run.metrics, **known.metrics}, {**run.parameters, **known.parameters}
    session.flush()
    return known.id


def of_model(session: Session, model: str, window: Window) -> Listed[RunView]:
    """The runs of a model, by name, each with the numbers of its versions."""
    rows = list(session.scalars(windowed(select(Run).where(Run.model == model), window, Run.name)))
    listed = page(rows, window, lambda row: (row.name,))
    numbers: dict[str, list[int]] = defaultdict(list)
    query = select(Version.run, Version.version).where(Version.model == model, Version.run.in_([row.id for row in listed.items]))
    for run, version in session.execute(query.order_by(Version.version)):
        numbers[str(run)].append(version)
    return listed.of(lambda row: _view(row, numbers[row.id]))


def one(session: Session, model: Model, name: str) -> RunDetail:
    """One run with its candidates; `NotFound` where the model has none of that name."""
    run = session.scalar(select(Run).where(Run.model == model.name, Run.name == name))
    if run is None:
        raise NotFound(
            f"Model {model.name} has no such run.",
            kind="run",
            name=model.name,
            hint=f"List them: `quarterdeck model runs {model.name}`.",
        )
    query = (
        select(Version, VersionState)
        .join(VersionState, (VersionState.model == Version.model) & (VersionState.version == Version.version))
        .where(Version.model == model.name, Version.run == run.id, VersionState.deleted.is_(None))
        .order_by(Version.version.desc())
    )
    candidates = [_candidate(version, state, model.active_version) for version, state in session.execute(query)]
    numbers = sorted(candidate.version for candidate in candidates)
    return RunDetail(**_view(run, numbers).model_dump(), candidates=candidates)


def _view(row: Run, versions: list[int]) -> RunView:
    return RunView(
        id=row.id, name=row.name, metrics=row.metrics, parameters=row.parameters, versions=versions, created=row.created
    )


def _candidate(version: Version, state: VersionState, active: int | None) -> Candidate:
    manifest = manifest_of(version)
    return Candidate(
        version=version.version,
        active=version.version == active,
        deprecated=state.deprecated,
        metrics=manifest.metrics,
        hyperparameters=manifest.hyperparameters,
    )
