"""The rows of the infrastructures: what is written about each, and who may change what of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field
from sqlalchemy import delete, select
from sqlalchemy.orm import Session, sessionmaker

from quarterdeck.errors import Conflict, InvalidInput
from quarterdeck.schema import Frozen, Name
from quarterdeck.storage import S3Files, open_storage
from quarterdeck_deployer import audit
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.idempotency import done_once, once
from quarterdeck_deployer.infrastructures.base import LOCAL, Kind
from quarterdeck_deployer.infrastructures.kinds import checked
from quarterdeck_deployer.infrastructures.running import no_such_infrastructure
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import InfrastructureRow, JoinToken, NodeState, Stage
from quarterdeck_deployer.revisions import Why
from quarterdeck_deployer.settings import Settings


class InfrastructureInput(Frozen):
    """What an infrastructure shall be."""

    kind: Literal["static", "kubernetes"] = Field(description="What runs the models: nodes that join, or a cluster's operator.")
    store: str = Field(
        "",
        description="Store of the packages and records of what runs there: s3://bucket/prefix or the whole path of a folder; "
        "empty: the instance's own.",
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="Those of its kind.")
    why: Why = ""


class InfrastructureView(Frozen):
    """One infrastructure, and the stages that are on it."""

    name: Name
    kind: Kind
    store: str
    settings: dict[str, Any]
    stages: list[Name]
    created: datetime


class PutInfrastructure(Frozen):
    """An infrastructure as it is now, and whether it is new."""

    infrastructure: InfrastructureView
    created: bool


class InfrastructureRows:
    """Reading and changing them.

    Args:
        database: keeps them.
        changed: called after every change.
    """

    def __init__(self, database: Database, changed: Callable[[], None]) -> None:
        self._sessions, self._writing, self._changed = database.sessions, database.writing, changed

    def page(self, window: Window) -> Listed[InfrastructureView]:
        """One page of all, by name."""
        with self._sessions() as session:
            rows = list(session.scalars(windowed(select(InfrastructureRow), window, InfrastructureRow.name)))
            stages = _stages(session)
            return page(rows, window, lambda row: (row.name,)).of(lambda row: _view(row, stages))

    def one(self, name: str) -> InfrastructureView:
        """One of them.

        Raises:
            NotFound: no such infrastructure.
        """
        with self._sessions() as session:
            return _view(infrastructure_row(session, name), _stages(session))

    def put(self, name: str, wanted: InfrastructureInput, act: Act) -> PutInfrastructure:
        """Create an infrastructure, or make it equal to what is wanted.

        Raises:
            InvalidInput: a setting or the store cannot be used.
            StorageError, NotReady: the store does not answer, or lets the deployer not in.
            Conflict: ``infrastructure-fixed`` for the local one and for another kind, ``infrastructure-in-use`` where the store
                would change while a stage is on it.
        """
        if name == LOCAL:
            raise _fixed(name, "The local infrastructure is what the deployer's own settings say.", "Restart it with others.")
        settings = checked(wanted.kind, name, wanted.settings)
        store = self._store(wanted.store, settings)

        def do() -> PutInfrastructure:
            row, before = session.get(InfrastructureRow, name), None
            if row is None:
                row = InfrastructureRow(name=name, kind=wanted.kind, store=store, settings=settings, created=utc_now())
                session.add(row)
            else:
                before = _shown(row)
                _require_same(session, row, wanted.kind, store)
                row.store, row.settings = store, settings
            session.flush()
            if before != _shown(row):
                verb = "create" if before is None else "change"
                audit.write(session, act, Change(verb, f"infrastructure/{name}", before, _shown(row)))
            return PutInfrastructure(infrastructure=_view(row, _stages(session)), created=before is None)

        with self._writing.begin() as session:
            found = once(session, act, PutInfrastructure, do)
        self._changed()
        return found

    def delete(self, name: str, act: Act) -> None:
        """Take one away; what its nodes have shipped stays in its store.

        Raises:
            NotFound: no such infrastructure.
            Conflict: ``infrastructure-in-use`` while a stage is on it or a node has joined it, ``infrastructure-fixed`` for the
                local one.
        """

        def do() -> None:
            row = infrastructure_row(session, name)
            if name == LOCAL:
                raise _fixed(name, "Every instance has the local infrastructure.", "Move its stages elsewhere instead.")
            _require_unused(session, row)
            # Tokens that were made for it open nothing without it.
            session.execute(delete(JoinToken).where(JoinToken.infrastructure == name))
            audit.write(session, act, Change("delete", f"infrastructure/{name}", _shown(row), None))
            session.delete(row)

        with self._writing.begin() as session:
            done_once(session, act, do)
        self._changed()

    def _store(self, wanted: str, settings: dict[str, Any]) -> str:
        """The store's URL once it has been read from and written to."""
        with self._sessions() as session:
            own = session.get_one(InfrastructureRow, LOCAL).store
        # The instance's own is opened as the instance does it, and was when it started.
        if not wanted or (wanted == own and not settings.get("s3Folder")):
            return own
        if "://" not in wanted and not Path(wanted).is_absolute():
            raise InvalidInput(
                "A store that is a folder is named by its whole path.",
                code="store-refused",
                kind="store",
                hint="Nodes work in folders of their own: begin it with `/`, or give an s3:// URL.",
            )
        folder, authority = settings.get("s3Folder"), settings.get("s3Ca")
        files = S3Files(Path(folder) if folder else None, Path(authority) if authority else None)
        # Better refused now than found out by the first promotion.
        open_storage(wanted, files).check()
        return wanted


def write_local(writing: sessionmaker[Session], settings: Settings) -> None:
    """Write down the local infrastructure, whose store is the instance's own; at each start, for settings may have changed."""
    with writing.begin() as session:
        row = session.get(InfrastructureRow, LOCAL)
        if row is None:
            session.add(InfrastructureRow(name=LOCAL, kind="local", store=settings.store_url, settings={}, created=utc_now()))
        elif row.store != settings.store_url:
            row.store = settings.store_url


def infrastructure_row(session: Session, name: str) -> InfrastructureRow:
    """The row of an infrastructure.

    Raises:
        NotFound: no such infrastructure.
    """
    row = session.get(InfrastructureRow, name)
    if row is None:
        raise no_such_infrastructure(name, session.scalars(select(InfrastructureRow.name)))
    return row


def _require_same(session: Session, row: InfrastructureRow, kind: Kind, store: str) -> None:
    if row.kind != kind:
        raise _fixed(row.name, f"It is of the kind {row.kind}.", "Create one of the other kind under another name.")
    # Deployments there would find neither their packages nor their records again.
    if row.store != store:
        _require_unused(session, row)


def _require_unused(session: Session, row: InfrastructureRow) -> None:
    stages = _stages(session).get(row.name, [])
    if stages:
        raise _in_use(row.name, f"It is that of the stage {stages[0]}.", "Move the stage first: `quarterdeck stage put`.")
    joined = select(NodeState.node).where(NodeState.infrastructure == row.name, NodeState.revoked.is_(None))
    node = session.scalar(joined.order_by(NodeState.node).limit(1))
    if node is not None:
        raise _in_use(row.name, f"The node {node} has joined it.", "Revoke its nodes first: `quarterdeck node revoke`.")


def _in_use(name: str, detail: str, hint: str) -> Conflict:
    return Conflict(detail, code="infrastructure-in-use", kind="infrastructure", name=name, hint=hint)


def _fixed(name: str, detail: str, hint: str) -> Conflict:
    return Conflict(detail, code="infrastructure-fixed", kind="infrastructure", name=name, hint=hint)


def _stages(session: Session) -> dict[str, list[str]]:
    """Infrastructure → its stages, in their order."""
    found: dict[str, list[str]] = {}
    for row in session.scalars(select(Stage).order_by(Stage.position, Stage.name)):
        found.setdefault(row.infrastructure, []).append(row.name)
    return found


def _shown(row: InfrastructureRow) -> dict[str, Any]:
    return {"kind": row.kind, "store": row.store, "settings": row.settings}


def _view(row: InfrastructureRow, stages: dict[str, list[str]]) -> InfrastructureView:
    return InfrastructureView(
        name=row.name,
        kind=cast(Kind, row.kind),
        store=row.store,
        settings=row.settings,
        stages=stages.get(row.name, []),
        created=row.created,
    )
