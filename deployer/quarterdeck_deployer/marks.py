"""Notes, labels and deprecation: what people say of a version, beside the row that never changes."""

from __future__ import annotations

from typing import Any, TypeVarTuple

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from quarterdeck.errors import InvalidInput
from quarterdeck.plan import VersionRef
from quarterdeck_deployer import audit
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.models import Model, RegistryLabel, Version, VersionState
from quarterdeck_deployer.registry_views import Marks, MarksInput

_MOST_LABELS = 100
Selected = TypeVarTuple("Selected")


def with_labels(
    query: Select[*Selected], model: InstrumentedAttribute[str], version: InstrumentedAttribute[int] | None, wanted: list[str]
) -> Select[*Selected]:
    """Only rows that have all of these labels, each ``key=value`` or ``key``.

    Args:
        query: of models or versions.
        model: its column of the model's name.
        version: its column of the version's number; None: labels of the models themselves.
        wanted: the labels.
    """
    for text in wanted:
        key, equals, value = text.partition("=")
        found = exists().where(RegistryLabel.model == model, RegistryLabel.key == key)
        found = found.where(RegistryLabel.version == (0 if version is None else version))
        query = query.where(found.where(RegistryLabel.value == value) if equals else found)
    return query


def mark_model(session: Session, row: Model, given: MarksInput, act: Act) -> Marks:
    """Notes and labels of a model."""
    if given.deprecated is not None:
        raise InvalidInput(
            "Versions are deprecated, not models.",
            kind="model",
            name=row.name,
            hint="Name a version: `quarterdeck model deprecate`.",
        )
    before = {"notes": row.notes, "labels": _labels(session, row.name, 0)}
    if given.notes is not None:
        row.notes = given.notes
    _merge(session, row.name, 0, given)
    labels = _labels(session, row.name, 0)
    _write(session, act, f"model/{row.name}", before, {"notes": row.notes, "labels": labels})
    return Marks(model=row.name, version=None, notes=row.notes, labels=labels)


def mark_version(session: Session, row: Version, state: VersionState, given: MarksInput, act: Act) -> Marks:
    """Notes, labels and deprecation of a version."""
    place = f"model/{row.model}"
    before = {"notes": state.notes, "labels": _labels(session, row.model, row.version)}
    if given.notes is not None:
        state.notes = given.notes
    _merge(session, row.model, row.version, given)
    labels = _labels(session, row.model, row.version)
    after = {"notes": state.notes, "labels": labels}
    _write(session, act, place, {"version": row.version, **before}, {"version": row.version, **after})
    if given.deprecated is not None and given.deprecated != (state.deprecated is not None):
        state.deprecated = utc_now() if given.deprecated else None
        state.deprecated_why = act.why if given.deprecated else ""
        verb = "deprecate" if given.deprecated else "undeprecate"
        audit.write(session, act, Change(verb, place, None, {"version": row.version}))
    return Marks(
        model=row.model,
        version=row.version,
        notes=state.notes,
        labels=labels,
        deprecated=state.deprecated,
        deprecated_why=state.deprecated_why,
    )


def warning(model: str, version: int, state: VersionState | None) -> str:
    """What whoever uses a version again should know of it; empty where there is nothing."""
    if state is None or state.deprecated is None:
        return ""
    why = f": {state.deprecated_why}" if state.deprecated_why else ""
    return f"{model} v{version} is deprecated since {state.deprecated:%Y-%m-%d}{why}."


def warnings(session: Session, used: list[VersionRef]) -> list[str]:
    """The warnings of some versions."""
    found = (warning(ref.model, ref.version, session.get(VersionState, (ref.model, ref.version))) for ref in used)
    return [sentence for sentence in found if sentence]


def _labels(session: Session, model: str, version: int) -> dict[str, str]:
    query = select(RegistryLabel).where(RegistryLabel.model == model, RegistryLabel.version == version)
    return {label.key: label.value for label in session.scalars(query.order_by(RegistryLabel.key))}


def _merge(session: Session, model: str, version: int, given: MarksInput) -> None:
    for key, value in given.labels.items():
        known = session.get(RegistryLabel, (model, version, key))
        if value is None:
            if known is not None:
                session.delete(known)
        elif known is None:
            session.add(RegistryLabel(model=model, version=version, key=key, value=value))
        else:
            known.value = value
    session.flush()
    if len(_labels(session, model, version)) > _MOST_LABELS:
        raise InvalidInput(f"More than {_MOST_LABELS} labels at one thing.", kind="label", hint="Take some away first.")


def _write(session: Session, act: Act, place: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    # Saying again what is said already is no act.
    if before != after:
        audit.write(session, act, Change("annotate", place, before, after))
