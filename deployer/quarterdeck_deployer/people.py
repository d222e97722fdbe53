"""People: who may sign in, with which role, in which projects."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from quarterdeck.errors import Conflict, Forbidden, NotFound
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer import audit
from quarterdeck_deployer.access import Caller, Kind, Role
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.idempotency import done_once, once
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import LoginSession, Membership, Person
from quarterdeck_deployer.projects import DEFAULT, require_projects

ADDRESS = r"[^@\s]+@[^@\s]+"
Email = Annotated[
    str,
    Field(
        min_length=3,
        max_length=320,
        pattern=f"^{ADDRESS}$",
        description="History and audit trail show it once they have done something.",
    ),
]
PersonName = Annotated[str, Field(min_length=1, max_length=200)]
PersonId = Annotated[str, Field(pattern=r"^[a-z0-9]{1,40}$")]
_ALPHABET = string.ascii_lowercase + string.digits


class PersonInput(Frozen):
    """Somebody new; their first sign-in with this address makes it theirs."""

    name: PersonName
    email: Email
    role: Role = "viewer"
    projects: list[Name] = Field(default_factory=lambda: [DEFAULT], description="Whose deployments they may change.")
    why: Annotated[str, Field(max_length=2_000)] = ""


class PersonChange(Frozen):
    """What shall be otherwise; the rest stays."""

    name: PersonName | None = None
    role: Role | None = None
    projects: list[Name] | None = None
    why: Annotated[str, Field(max_length=2_000)] = ""


class PersonView(Frozen):
    """One person."""

    id: str
    name: str
    email: str
    role: Role
    projects: list[str]
    created: datetime
    seen: datetime | None = Field(description="Their last sign-in; None: never yet.")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the provider of identities names.

    Attributes:
        subject: issuer and subject together: unique over all providers.
        email: empty where the provider has not verified it: then it says nothing about who somebody is.
        role: what the provider's claims give; None: they say nothing about it.
    """

    subject: str
    name: str
    email: str
    role: Role | None = None


class People:
    """The service behind API, console and CLI, and behind every sign-in."""

    def __init__(self, database: Database) -> None:
        self._sessions, self._writing = database.sessions, database.writing

    def create(self, given: PersonInput, act: Act) -> PersonView:
        """Somebody who may sign in.

        Raises:
            Conflict: ``person-exists`` where somebody has that address.
            NotFound: no such project.
        """

        def do() -> PersonView:
            if _by_email(session, given.email) is not None:
                raise Conflict("Somebody has this address already.", code="person-exists", kind="person")
            row = _new(session, given.name, given.email, given.role)
            _join(session, row.id, given.projects)
            shown = _view(row, given.projects)
            audit.write(session, act, Change("create", f"person/{row.id}", None, _told(shown)))
            return shown

        with self._writing.begin() as session:
            return once(session, act, PersonView, do)

    def change(self, ident: str, wanted: PersonChange, act: Act) -> PersonView:
        """Change name, role or projects; it counts from the person's next request on.

        Raises:
            NotFound: no such person or project.
        """

        def do() -> PersonView:
            row = _person(session, ident)
            before = _view(row, _projects(session, ident))
            row.name, row.role = wanted.name or row.name, wanted.role or row.role
            if wanted.projects is not None:
                session.execute(delete(Membership).where(Membership.person == ident))
                _join(session, ident, wanted.projects)
            after = _view(row, before.projects if wanted.projects is None else wanted.projects)
            if after != before:
                told = Change("change", f"person/{ident}", _told(before), _told(after))
                audit.write(session, act, told)
            return after

        with self._writing.begin() as session:
            return once(session, act, PersonView, do)

    def delete(self, ident: str, act: Act) -> None:
        """Take somebody away: their sessions end with this; tokens that they hold open nodes until they expire.

        Raises:
            NotFound: no such person.
        """

        def do() -> None:
            row = _person(session, ident)
            before = _told(_view(row, _projects(session, ident)))
            for table in (LoginSession, Membership):
                session.execute(delete(table).where(table.person == ident))
            session.delete(row)
            audit.write(session, act, Change("delete", f"person/{ident}", before, None))

        with self._writing.begin() as session:
            done_once(session, act, do)

    def all(self, window: Window, project: str = "") -> Listed[PersonView]:
        """One page of all people, or of those in one project, by id."""
        query = windowed(select(Person), window, Person.id)
        if project:
            query = query.where(Person.id.in_(select(Membership.person).where(Membership.project == project)))
        with self._sessions() as session:
            found = session.scalars(query).all()
            listed = page(found, window, lambda one: (one.id,))
            projects = _projects_of(session, [one.id for one in listed.items])
        return listed.of(lambda one: _view(one, projects[one.id]))

    def one(self, ident: str) -> PersonView:
        """One person; raises NotFound."""
        with self._sessions() as session:
            return _view(_person(session, ident), _projects(session, ident))

    def caller(self, ident: str, kind: Kind) -> Caller | None:
        """The person as the sender of a request, with the role and the projects of this moment; None: gone."""
        with self._sessions() as session:
            row = session.get(Person, ident)
            return _caller(session, row, kind) if row is not None else None

    def signed_in(self, identity: Identity) -> PersonView:
        """Whoever the provider names; a viewer of that name is made of somebody new.

        Raises:
            Forbidden: ``address-unverified`` where nobody is known by the subject, and the provider vouches for no address.
        """
        with self._writing.begin() as session:
            row = session.scalar(select(Person).where(Person.subject == identity.subject))
            row = row or self._first(session, identity)
            row.subject, row.seen = identity.subject, utc_now()
            before = _view(row, _projects(session, row.id))
            # What the provider says about the role counts at every sign-in; where it says nothing, ours does.
            row.role = identity.role or row.role
            after = _view(row, before.projects)
            if after != before:
                told = Change("change", f"person/{row.id}", _told(before), _told(after))
                audit.write(session, Act(who=row.email, why="the role that the provider of identities gives"), told)
            return after

    def _first(self, session: Session, identity: Identity) -> Person:
        if not identity.email:
            raise Forbidden(
                "The provider of identities has not verified your address.",
                code="address-unverified",
                kind="person",
                hint="Verify it there, then sign in again.",
            )
        row = _by_email(session, identity.email)
        # An address that belongs to another subject is that person's, whatever this provider says today.
        if row is not None and row.subject is not None:
            raise Conflict("Somebody else has this address.", code="person-exists", kind="person", hint="Ask an admin.")
        if row is None:
            row = _new(session, identity.name, identity.email, identity.role or "viewer")
            _join(session, row.id, [DEFAULT])
            shown = _told(_view(row, [DEFAULT]))
            audit.write(session, Act(who=row.email, why="first sign-in"), Change("create", f"person/{row.id}", None, shown))
        return row


def _caller(session: Session, row: Person, kind: Kind) -> Caller:
    view = _view(row, _projects(session, row.id))
    # Admins answer for the whole instance; everybody else for the projects that they are in.
    projects = None if view.role == "admin" else frozenset(view.projects)
    # By address, not by name: anybody may be called admin.
    return Caller(view.email, view.role, kind, projects, view.id)


def _new(session: Session, name: str, email: str, role: Role) -> Person:
    ident = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    row = Person(id=ident, name=name, email=email.lower(), subject=None, role=role, created=utc_now(), seen=None)
    session.add(row)
    session.flush()
    return row


def _join(session: Session, ident: str, projects: Sequence[str]) -> None:
    names = list(dict.fromkeys(projects))
    require_projects(session, names)
    session.add_all(Membership(person=ident, project=name) for name in names)


def _person(session: Session, ident: str) -> Person:
    row = session.get(Person, ident)
    if row is None:
        raise NotFound("There is no such person.", kind="person", name=ident, hint="List them: `quarterdeck people list`.")
    return row


def _by_email(session: Session, email: str) -> Person | None:
    return session.scalar(select(Person).where(Person.email == email.lower()))


def _projects(session: Session, ident: str) -> list[str]:
    return _projects_of(session, [ident])[ident]


def _projects_of(session: Session, idents: Sequence[str]) -> Mapping[str, list[str]]:
    """The projects of each person, in one question however many they are."""
    found: dict[str, list[str]] = {ident: [] for ident in idents}
    rows = select(Membership).where(Membership.person.in_(idents)).order_by(Membership.project)
    for row in session.scalars(rows):
        found[row.person].append(row.project)
    return found


def _view(row: Person, projects: Sequence[str]) -> PersonView:
    return PersonView.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "email": row.email,
            "role": row.role,
            "projects": sorted(set(projects)),
            "created": row.created,
            "seen": row.seen,
        }
    )


def _told(person: PersonView) -> dict[str, Any]:
    """What the audit trail tells of somebody: everybody reads it, for ever, and name and address are for admins alone."""
    return person.model_dump(mode="json", exclude={"name", "email"})
