"""Saved, named test queries of deployments: a few rows each, maybe with the answers that are expected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import Field, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from quarterdeck.errors import NotFound
from quarterdeck.schema import Frozen, Name, Prediction, Row
from quarterdeck_deployer import audit
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.deployments import Deployments
from quarterdeck_deployer.idempotency import done_once, once
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import SavedQuery
from quarterdeck_deployer.revisions import Why


class QueryInput(Frozen):
    """A test query as people write it."""

    description: Annotated[str, Field(max_length=2_000)] = ""
    rows: Annotated[list[Row], Field(min_length=1, max_length=100)]
    expect: list[Prediction] = Field(
        default_factory=list,
        description="The answer to each row; without scores only the label counts. Empty: any answer will do.",
    )
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False, description="What numbers may differ by.")] = 1e-9
    why: Why = ""

    @model_validator(mode="after")
    def _one_for_each(self) -> QueryInput:
        if self.expect and len(self.expect) != len(self.rows):
            raise ValueError("expect has one answer for each row, or none at all")
        return self


class QueryView(Frozen):
    """One test query; a seeded one came from the golden rows of the deployment's first version."""

    deployment: Name
    name: Name
    description: str
    rows: list[Row]
    expect: list[Prediction]
    tolerance: float
    seeded: bool
    who: str
    changed: datetime


class SavedView(Frozen):
    """A query as it is now, and whether it is new."""

    query: QueryView
    created: bool


class Queries:
    """The test queries of all deployments."""

    def __init__(self, database: Database, deployments: Deployments) -> None:
        self._sessions, self._writing, self._deployments = database.sessions, database.writing, deployments

    def list(self, deployment: str, window: Window) -> Listed[QueryView]:
        """Those of one deployment, by name.

        Raises:
            NotFound: no such deployment.
        """
        self._deployments.current(deployment)
        query = select(SavedQuery).where(SavedQuery.deployment == deployment)
        with self._sessions() as session:
            found = session.scalars(windowed(query, window, SavedQuery.name)).all()
        return page([view(row) for row in found], window, lambda one: (one.name,))

    def one(self, deployment: str, name: str) -> QueryView:
        """One of them. Raises NotFound where the deployment or the query is not there."""
        self._deployments.current(deployment)
        with self._sessions() as session:
            return view(_row(session, deployment, name))

    def put(self, deployment: str, name: str, given: QueryInput, act: Act) -> SavedView:
        """Save a query under a name, in place of what was there. Raises as `one` does; Forbidden ``other-project``."""

        def do() -> SavedView:
            # The write lock is held: nobody moves it to another project now.
            act.require(self._deployments.current(deployment).project)
            return _put(session, deployment, name, given, act)

        with self._writing.begin() as session:
            return once(session, act, SavedView, do)

    def delete(self, deployment: str, name: str, act: Act) -> None:
        """Forget a query. Raises as `put` does."""

        def do() -> None:
            act.require(self._deployments.current(deployment).project)
            session.delete(_row(session, deployment, name))
            audit.write(session, act, Change("test-query", f"deployment/{deployment}", {"query": name}, None))

        with self._writing.begin() as session:
            done_once(session, act, do)


def of(session: Session, deployment: str) -> Sequence[QueryView]:
    """All of one deployment, by name, in somebody's session."""
    query = select(SavedQuery).where(SavedQuery.deployment == deployment).order_by(SavedQuery.name)
    return [view(row) for row in session.scalars(query)]


def view(row: SavedQuery) -> QueryView:
    """The stored query as everybody else sees it."""
    return QueryView(
        deployment=row.deployment,
        name=row.name,
        description=row.description,
        rows=row.rows,
        expect=[Prediction.model_validate(one) for one in row.expect],
        tolerance=row.tolerance,
        seeded=row.seeded,
        who=row.who,
        changed=row.changed,
    )


def _put(session: Session, deployment: str, name: str, given: QueryInput, act: Act) -> SavedView:
    row = session.get(SavedQuery, (deployment, name))
    new = row is None
    if row is None:
        row = SavedQuery(deployment=deployment, name=name)
        session.add(row)
    document = given.model_dump(mode="json")
    row.description, row.rows, row.expect = given.description, document["rows"], document["expect"]
    row.tolerance, row.seeded, row.who, row.changed = given.tolerance, False, act.who, utc_now()
    # The rows may be somebody's data: the trail tells how many there are.
    after = {"query": name, "rows": len(given.rows), "expect": len(given.expect)}
    audit.write(session, act, Change("test-query", f"deployment/{deployment}", None, after))
    return SavedView(query=view(row), created=new)


def _row(session: Session, deployment: str, name: str) -> SavedQuery:
    row = session.get(SavedQuery, (deployment, name))
    if row is None:
        known = session.scalars(
            select(SavedQuery.name).where(SavedQuery.deployment == deployment).order_by(SavedQuery.name).limit(10)
        )
        raise NotFound(
            f"Deployment {deployment} has no such test query. There are: {', '.join(known) or 'none'}.",
            kind="test-query",
            name=name,
            hint=f"Save it: `quarterdeck scenario put {deployment} NAME -f FILE`.",
        )
    return row
