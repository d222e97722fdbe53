"""Stages: the steps on the way of a version, each on an infrastructure and behind its own gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

from pydantic import Field, field_validator
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from quarterdeck.errors import Conflict, NotFound
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer import audit
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.gates.kinds import GATES, Gate, GoldenGate, PackageGate, ReplayGate, ScenariosGate, SchemaGate, ordered
from quarterdeck_deployer.idempotency import done_once, once
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import Deployment, InfrastructureRow, Promotion, Revision, Stage
from quarterdeck_deployer.revisions import Why

DEFAULT_STAGE = "dev"
"""Where a deployment lives whose first revisions were written before there were stages."""
OPEN_STATES = ("checking", "waiting for approval")
"""States of promotions that have not ended."""
_LOCAL = "local"
_DEFAULTS: dict[str, list[Gate]] = {
    DEFAULT_STAGE: [],
    "staging": [PackageGate(), GoldenGate()],
    "prod": [PackageGate(), GoldenGate(), ScenariosGate(), SchemaGate(), ReplayGate()],
}


class StageInput(Frozen):
    """What a stage shall be; what is left out takes its default."""

    position: Annotated[int, Field(ge=0, le=1_000, description="Its place in lists; smaller ones come first.")] = 0
    infrastructure: Name = Field(_LOCAL, description="Where its deployments run.")
    gates: list[Gate] = Field(default_factory=list, description="What must be so before a version comes here.")
    approval: bool = Field(False, description="Whether a second person must approve, once the gates have passed.")
    why: Why = ""

    @field_validator("gates")
    @classmethod
    def _once_each(cls, value: list[Gate]) -> list[Gate]:
        if len({gate.gate for gate in value}) < len(value):
            raise ValueError("each gate may be named once")
        return ordered(value)


class StageView(Frozen):
    """One stage, and how many deployments live there."""

    name: Name
    position: int
    infrastructure: Name
    gates: list[Gate]
    approval: bool
    deployments: int
    created: datetime


class SavedStage(Frozen):
    """A stage as it is now, and whether it is new."""

    stage: StageView
    created: bool


class Stages:
    """The list of stages; any number, under any names.

    Args:
        database: keeps them.
        changed: called after every change.
    """

    def __init__(self, database: Database, changed: Callable[[], None]) -> None:
        self._sessions, self._writing, self._changed = database.sessions, database.writing, changed

    def ensure(self, infrastructure: str = _LOCAL) -> None:
        """Write the default stages where there is none at all, on an infrastructure that must be there already."""
        with self._writing.begin() as session:
            if session.scalar(select(func.count()).select_from(Stage)):
                return
            for position, (name, gates) in enumerate(_DEFAULTS.items()):
                session.add(_row(name, StageInput(position=position, infrastructure=infrastructure, gates=gates)))

    def listed(self, window: Window) -> Listed[StageView]:
        """Stages in their order, page by page."""
        with self._sessions() as session:
            living = _living_by_stage(session)
            rows = session.scalars(windowed(select(Stage), window, Stage.position, Stage.name)).all()
        return page(rows, window, lambda row: (row.position, row.name)).of(lambda row: _view(row, living[row.name]))

    def one(self, name: str) -> StageView:
        """One stage.

        Raises:
            NotFound: there is none of that name.
        """
        with self._sessions() as session:
            return _view(stage_row(session, name), _living_by_stage(session)[name])

    def put(self, name: str, wanted: StageInput, act: Act) -> SavedStage:
        """Create a stage, or make it equal to what is wanted.

        Raises:
            NotFound: no such infrastructure.
            Conflict: ``stage-in-use`` where it would move to another infrastructure while deployments live there.
        """
        with self._writing.begin() as session:
            found = once(session, act, SavedStage, lambda: _put(session, name, wanted, act))
        self._changed()
        return found

    def delete(self, name: str, act: Act) -> None:
        """Take a stage away.

        Raises:
            NotFound: there is none of that name.
            Conflict: ``stage-in-use`` while deployments live there or promotions lead there.
        """

        def do() -> None:
            row = stage_row(session, name)
            _require_empty(session, name, "be deleted")
            audit.write(session, act, Change("delete", f"stage/{name}", _shown(row), None))
            session.delete(row)

        with self._writing.begin() as session:
            done_once(session, act, do)
        self._changed()


def stage_row(session: Session, name: str) -> Stage:
    """The row of a stage.

    Raises:
        NotFound: there is none of that name.
    """
    row = session.get(Stage, name)
    if row is None:
        known = ", ".join(session.scalars(select(Stage.name).order_by(Stage.position, Stage.name)))
        raise NotFound(
            f"There is no such stage. There are: {known}.",
            kind="stage",
            name=name,
            hint="Create it: `quarterdeck stage put NAME`.",
        )
    return row


def gates_of(row: Stage) -> Sequence[Gate]:
    """The gates of a stage, in their order."""
    return GATES.validate_python(row.gates)


def _put(session: Session, name: str, wanted: StageInput, act: Act) -> SavedStage:
    _require_infrastructure(session, wanted.infrastructure)
    row, before = session.get(Stage, name), None
    if row is not None:
        before = _shown(row)
        if row.infrastructure != wanted.infrastructure:
            _require_empty(session, name, "move to another infrastructure")
        row.position, row.infrastructure, row.approval = wanted.position, wanted.infrastructure, wanted.approval
        row.gates = GATES.dump_python(wanted.gates, mode="json")
    else:
        row = _row(name, wanted)
        session.add(row)
    session.flush()
    after = _shown(row)
    if before != after:
        audit.write(session, act, Change("change" if before else "create", f"stage/{name}", before, after))
    return SavedStage(stage=_view(row, _living_by_stage(session)[name]), created=before is None)


def _row(name: str, wanted: StageInput) -> Stage:
    return Stage(
        name=name,
        position=wanted.position,
        infrastructure=wanted.infrastructure,
        gates=GATES.dump_python(wanted.gates, mode="json"),
        approval=wanted.approval,
        created=utc_now(),
    )


def _living_by_stage(session: Session) -> Counter[str]:
    """How many deployments live in each stage, by one question."""
    newest = (Revision.deployment == Deployment.name) & (Revision.number == Deployment.revision)
    query = select(Revision.content["stage"].as_string()).select_from(Deployment).join(Revision, newest)
    return Counter(stage or DEFAULT_STAGE for stage in session.scalars(query.where(Deployment.deleted.is_(None))))


def _require_empty(session: Session, name: str, what: str) -> None:
    living = _living_by_stage(session)[name]
    leading = select(func.count()).select_from(Promotion)
    leading = leading.where(Promotion.target_stage == name, Promotion.state.in_(OPEN_STATES))
    on_the_way = session.scalar(leading) or 0
    if living or on_the_way:
        raise Conflict(
            f"Stage {name} cannot {what}: {living} deployments live there and {on_the_way} promotions lead there.",
            code="stage-in-use",
            kind="stage",
            name=name,
            hint=f"Look with `quarterdeck get --stage {name}`; delete or promote them elsewhere first.",
        )


def _require_infrastructure(session: Session, name: str) -> None:
    if session.get(InfrastructureRow, name) is None:
        known = ", ".join(session.scalars(select(InfrastructureRow.name).order_by(InfrastructureRow.name)))
        raise NotFound(
            f"There is no such infrastructure. There are: {known}.",
            kind="infrastructure",
            name=name,
            hint="List them: `quarterdeck infrastructure list`.",
        )


def _shown(row: Stage) -> dict[str, object]:
    return {"position": row.position, "infrastructure": row.infrastructure, "gates": row.gates, "approval": row.approval}


def _view(row: Stage, deployments: int) -> StageView:
    return StageView(
        name=row.name,
        position=row.position,
        infrastructure=row.infrastructure,
        gates=list(gates_of(row)),
        approval=row.approval,
        deployments=deployments,
        created=row.created,
    )
