"""Projects: what deployments, keys and people are grouped by. `default` is always there."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated

from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from quarterdeck.errors import Conflict, NotFound
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer import audit
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.idempotency import done_once, once
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import ApiKey, Deployment, Membership, Project, Revision

DEFAULT = "default"
_SHOWN = 10


class ProjectInput(Frozen):
    """A new project."""

    name: Name
    description: Annotated[str, Field(max_length=2_000)] = ""
    why: Annotated[str, Field(max_length=2_000)] = ""


class ProjectView(Frozen):
    """A project, and how many people may change what is in it."""

    name: Name
    description: str
    created: datetime
    people: int


class Projects:
    """The service behind API, console and CLI."""

    def __init__(self, database: Database) -> None:
        self._sessions, self._writing = database.sessions, database.writing

    def create(self, given: ProjectInput, act: Act) -> ProjectView:
        """A new project with nobody in it.

        Raises:
            Conflict: ``project-exists``.
        """

        def do() -> ProjectView:
            if session.get(Project, given.name) is not None:
                raise Conflict("There is such a project already.", code="project-exists", kind="project", name=given.name)
            row = Project(name=given.name, description=given.description, created=utc_now())
            session.add(row)
            shown = _view(row, 0)
            audit.write(session, act, Change("create", f"project/{given.name}", None, shown.model_dump(mode="json")))
            return shown

        with self._writing.begin() as session:
            return once(session, act, ProjectView, do)

    def delete(self, name: str, act: Act) -> None:
        """Take a project away that nothing is in.

        Raises:
            NotFound: no such project.
            Conflict: ``project-in-use``; the detail names what is in it.
        """

        def do() -> None:
            row = _project(session, name)
            people = session.scalar(select(func.count()).where(Membership.project == name)) or 0
            used = [*_deployments(session, name), *_keys(session, name), *([f"{people} people"] if people else [])]
            if name == DEFAULT or used:
                holding = f"It holds {', '.join(used[:_SHOWN])}." if used else "It is where everything begins."
                raise Conflict(
                    f"Project {name} cannot be deleted. {holding}",
                    code="project-in-use",
                    kind="project",
                    name=name,
                    hint="Move or remove what it holds first.",
                )
            audit.write(session, act, Change("delete", f"project/{name}", _view(row, 0).model_dump(mode="json"), None))
            session.delete(row)

        with self._writing.begin() as session:
            done_once(session, act, do)

    def all(self, window: Window) -> Listed[ProjectView]:
        """One page of all projects, by name."""
        members = select(func.count()).where(Membership.project == Project.name).scalar_subquery()
        with self._sessions() as session:
            found = session.execute(windowed(select(Project, members), window, Project.name)).all()
        return page(found, window, lambda one: (one[0].name,)).of(lambda one: _view(one[0], one[1]))

    def one(self, name: str) -> ProjectView:
        """One project; raises NotFound."""
        with self._sessions() as session:
            people = session.scalar(select(func.count()).where(Membership.project == name)) or 0
            return _view(_project(session, name), people)

    def of_deployment(self, name: str) -> str | None:
        """The project of a deployment that exists; None where there is none of this name."""
        query = (
            select(Revision.content)
            .join(Deployment, (Revision.deployment == Deployment.name) & (Revision.number == Deployment.revision))
            .where(Deployment.name == name, Deployment.deleted.is_(None))
        )
        with self._sessions() as session:
            content = session.scalar(query)
        return str(content["project"]) if content is not None else None


def require_projects(session: Session, names: Collection[str]) -> None:
    """Refuse projects that do not exist.

    Raises:
        NotFound: naming the first of them.
    """
    known = set(session.scalars(select(Project.name).where(Project.name.in_(names))))
    for name in names:
        if name not in known:
            raise NotFound(
                "There is no such project.", kind="project", name=name, hint=f"Create it: `quarterdeck project create {name}`."
            )


def ensure_project(session: Session, name: str) -> None:
    """Create a project that something names already: what was made elsewhere is shown, not refused."""
    if session.get(Project, name) is None:
        session.add(Project(name=name, description="", created=utc_now()))


def _project(session: Session, name: str) -> Project:
    row = session.get(Project, name)
    if row is None:
        raise NotFound("There is no such project.", kind="project", name=name, hint="List them: `quarterdeck project list`.")
    return row


def _deployments(session: Session, project: str) -> list[str]:
    rows = session.execute(
        select(Deployment.name, Revision.content)
        .join(Revision, (Revision.deployment == Deployment.name) & (Revision.number == Deployment.revision))
        .where(Deployment.deleted.is_(None))
        .order_by(Deployment.name)
    )
    return [f"deployment {name}" for name, content in rows if content["project"] == project]


def _keys(session: Session, project: str) -> list[str]:
    found = session.scalars(select(ApiKey.id).where(ApiKey.project == project, ApiKey.revoked.is_(None)).order_by(ApiKey.id))
    return [f"key {ident}" for ident in found]


def _view(row: Project, people: int) -> ProjectView:
    return ProjectView(name=row.name, description=row.description, created=row.created, people=people)
