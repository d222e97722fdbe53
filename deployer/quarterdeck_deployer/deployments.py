"""Actions on deployments: each is one transaction that writes an immutable revision and its audit row, or nothing at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import Text, cast, func, select
from sqlalchemy.orm import Session

from quarterdeck.errors import Conflict, NotFound
from quarterdeck.manifest import Manifest
from quarterdeck.plan import VersionRef
from quarterdeck.rollout import Record
from quarterdeck_deployer import audit, marks, registry
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.idempotency import once
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import Deployment, Revision
from quarterdeck_deployer.projects import require_projects
from quarterdeck_deployer.revision_rows import VIEWED, action_of, history, view, viewed
from quarterdeck_deployer.revisions import (
    ChallengerInput,
    Changed,
    Content,
    DeploymentInput,
    Kind,
    RevisionView,
    RollbackInput,
    SwapInput,
    VersionChoice,
    pair,
    require_pair,
    rollback_target,
)
from quarterdeck_deployer.seeding import seed
from quarterdeck_deployer.stages import stage_row
from quarterdeck_deployer.supply import Require, Supply, none_needed

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Living:
    """A deployment that exists, as of one moment: its wish, its decision record, and the version of that record."""

    wish: RevisionView
    record: Record
    record_version: int


@dataclass(frozen=True, slots=True)
class DeploymentFilter:
    """Which deployments a list holds; empty: whichever. `model` is main's."""

    project: str = ""
    stage: str = ""
    service: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class _Edit:
    """What an action wants: the new content, or why nothing is to be done; and what a rollback remembers."""

    kind: Kind
    content: Content | None
    note: str = ""
    marks: dict[str, Any] = field(default_factory=dict)


class Deployments:
    """The service behind API, console and CLI. Every action may raise:

    NotFound: no such deployment, version or revision; Conflict: ``changed-meanwhile`` where `act.expected` is not the newest
    revision; InvalidInput: ``schema-mismatch``; PackageRefused: ``trust-required``. Where a version is new to a stage with a
    store of its own, it is copied there first: see `Supply.before` for what that may raise.
    """

    def __init__(self, database: Database, supply: Supply, wake: Callable[[], None], refused: Callable[[str], bool]) -> None:
        self._sessions, self._writing, self._supply = database.sessions, database.writing, supply
        self._wake, self._refused = wake, refused

    def put(self, name: str, wish: DeploymentInput, act: Act) -> Changed:
        """Create the deployment, or make its wish equal to this one; the same wish twice is one revision.

        Where a node has refused main or challenger, the same wish again is a new attempt.
        """

        def edit(session: Session, current: RevisionView | None) -> _Edit:
            content = _resolved(session, wish)
            if current is None:
                stage_row(session, content.stage)
                return _Edit("create", content)
            _require_stage(current, content.stage)
            # Somebody repaired the node or the store and applies the same file again.
            again = content == current.content and (_holds(session, current) or self._refused(name))
            return _Edit("retry" if again else "change", content)

        return self._act(name, act, edit)

    def set_challenger(self, name: str, choice: ChallengerInput, act: Act) -> Changed:
        """Let a version answer in the background, in place of the present challenger if there is one."""

        def edit(session: Session, current: RevisionView) -> _Edit:
            # Main is resolved again only for its schema: its reference stays as it is.
            main = registry.resolve(session, current.main.model, current.main.version, current.main.trust)
            model = choice.model or current.main.model
            challenger = registry.resolve(session, model, choice.version, choice.trust, choice.accelerator)
            require_pair(main, challenger)
            return _Edit("challenger", _with(current, challenger=challenger[0]))

        return self._change(name, act, edit)

    def clear_challenger(self, name: str, act: Act) -> Changed:
        """Stop mirroring; without a challenger nothing changes."""
        return self._change(name, act, lambda _, current: _Edit("clear", _with(current, challenger=None)))

    def swap(self, name: str, wanted: SwapInput, act: Act) -> Changed:
        """Exchange main and challenger.

        Raises:
            Conflict: ``no-challenger``.
        """

        def edit(_: Session, current: RevisionView) -> _Edit:
            # The page was older than the last change: what it wanted to leave has been left already.
            if wanted.leaving is not None and wanted.leaving != current.main.digest:
                return _Edit("swap", None, _already(current))
            if current.challenger is None:
                raise Conflict(
                    f"Deployment {name} has no challenger to swap with.",
                    code="no-challenger",
                    kind="deployment",
                    name=name,
                    hint="Set one first: `quarterdeck challenger set`.",
                )
            return _Edit("swap", _with(current, main=current.challenger, challenger=current.main))

        return self._change(name, act, edit)

    def rollback(self, name: str, wanted: RollbackInput, act: Act) -> Changed:
        """Restore the pair of an earlier revision as a new one; the version left is rejected as main.

        Already there (a double click): nothing changes.

        Raises:
            Conflict: ``nothing-to-go-back-to``.
        """

        def edit(session: Session, current: RevisionView) -> _Edit:
            target = rollback_target(history(session, name), wanted)
            if target is None:
                return _Edit("rollback", None, _already(current))
            # The pair is taken as it was, trust included: those versions were allowed then by a person, by name.
            for ref in filter(None, pair(target)):
                registry.require_files(session, ref)
            content = _with(current, main=target.main, challenger=target.challenger)
            return _Edit("rollback", content, marks={"leaving": current.main.digest, "restored": target.number})

        return self._change(name, act, edit)

    def run(self, name: str, act: Act) -> Changed:
        """Let it answer requests."""
        return self._change(name, act, lambda _, current: _Edit("run", _with(current, running=True)))

    def stop(self, name: str, act: Act) -> Changed:
        """Let it answer no requests; everything else stays as it is."""
        return self._change(name, act, lambda _, current: _Edit("stop", _with(current, running=False)))

    def delete(self, name: str, act: Act) -> Changed:
        """Take it away from all nodes; its history stays, and the same name later goes on counting."""
        with self._writing.begin() as session:
            changed = once(session, act, Changed, lambda: _delete(session, name, act))
        self._wake()
        return changed

    def living(self) -> list[Living]:
        """All deployments that exist, by name, at one moment."""
        with self._sessions() as session:
            return living(session)

    def listed(self, window: Window, wanted: DeploymentFilter) -> Listed[Living]:
        """Deployments that exist, by name, page by page."""
        query = windowed(_LIVING, window, Deployment.name)
        for path, value in (
            (("project",), wanted.project),
            (("stage",), wanted.stage),
            (("main", "model"), wanted.model),
        ):
            if value:
                query = query.where(Revision.content[path].as_string() == value)
        if wanted.service:
            # A deployment that names no service is one of its own.
            service = Revision.content["service"].as_string()
            query = query.where(func.coalesce(service, Deployment.name) == wanted.service)
        with self._sessions() as session:
            found = [_one(*row) for row in session.execute(query)]
        return page(found, window, lambda one: (one.wish.deployment,))

    def one(self, name: str) -> Living:
        """One deployment that exists, wish and record of the same moment."""
        with self._sessions() as session:
            found = living(session, [name])
            if not found:
                raise _unknown(session, name)
            return found[0]

    def current(self, name: str) -> RevisionView:
        """The newest revision: the wish."""
        with self._sessions() as session:
            return _current(session, _living(session, name))

    def history(self, name: str) -> list[RevisionView]:
        """All revisions, newest first; also those from before a deletion."""
        with self._sessions() as session:
            _living(session, name)
            return history(session, name)

    def revisions(self, name: str, window: Window) -> Listed[RevisionView]:
        """The same history page by page."""
        query = windowed(select(Revision).where(Revision.deployment == name), window, Revision.number, descending=True)
        with self._sessions() as session:
            _living(session, name)
            found = session.scalars(query).all()
        return page(found, window, lambda row: (row.number,)).of(view)

    def _change(self, name: str, act: Act, edit: Callable[[Session, RevisionView], _Edit]) -> Changed:
        def existing(session: Session, current: RevisionView | None) -> _Edit:
            if current is None:
                raise _unknown(session, name)
            return edit(session, current)

        return self._act(name, act, existing)

    def _act(self, name: str, act: Act, edit: Callable[[Session, RevisionView | None], _Edit]) -> Changed:
        def change(require: Require) -> Changed:
            with self._writing.begin() as session:
                return once(session, act, Changed, lambda: _write(session, name, act, edit, require))

        changed = self._supply.before(change)
        # Only what is committed may be acted upon.
        self._wake()
        return changed


def _write(
    session: Session, name: str, act: Act, edit: Callable[[Session, RevisionView | None], _Edit], require: Require = none_needed
) -> Changed:
    row = session.get(Deployment, name)
    # The write lock is held: what is read here, number, content and audit row belong to one moment.
    current = _current(session, row) if row is not None and row.deleted is None else None
    if current is not None:
        act.require(current.project)
    act.require_newest(name, current.number if current else 0)
    wanted = edit(session, current)
    if wanted.content is not None:
        _require_project(session, wanted.content.project, current, act)
    same = current is not None and wanted.content == current.content and wanted.kind != "retry"
    if current is not None and (wanted.content is None or same):
        return Changed(deployment=name, revision=current.number, changed=False, note=wanted.note or "It is so already.")
    if wanted.content is not None:
        require(wanted.content.stage, _to_bring(current, wanted))
    row = row or _new_row(session, name)
    number = _add(session, row, wanted, act, current)
    if current is None and wanted.content is not None:
        seed(session, name, wanted.content.main, act.who)
    # A name that was deleted comes back with its history and goes on counting.
    row.deleted = None
    before = _shown(current.content) if current else None
    audit.write(session, act, Change(wanted.kind, f"deployment/{name}", before, _shown(wanted.content)))
    warnings = marks.warnings(session, _chosen(current, wanted))
    return Changed(deployment=name, revision=number, changed=True, created=current is None, warnings=warnings)


def place(session: Session, name: str, content: Content, act: Act) -> Changed:
    """Make this the wish of a deployment within somebody else's transaction, who wakes whoever acts upon it afterwards.

    Raises:
        Conflict: ``changed-meanwhile`` where `act.expected` is not the newest revision, 0 for a deployment that is not there.
    """
    return _write(session, name, act, lambda _, current: _Edit("promote", content))


def find(session: Session, name: str) -> RevisionView | None:
    """The wish of a deployment; None where there is no such one."""
    row = session.get(Deployment, name)
    return _current(session, row) if row is not None and row.deleted is None else None


def of_service(session: Session, service: str, stage: str) -> list[RevisionView]:
    """The wishes of the deployments of one service in one stage, by name."""
    named = func.coalesce(Revision.content["service"].as_string(), Deployment.name)
    query = _LIVING.where(Revision.content["stage"].as_string() == stage, named == service)
    return [_one(*row).wish for row in session.execute(query.order_by(Deployment.name))]


def _delete(session: Session, name: str, act: Act) -> Changed:
    row = _living(session, name)
    current = _current(session, row)
    act.require(current.project)
    act.require_newest(name, current.number)
    number = _add(session, row, _Edit("delete", _with(current, running=False)), act)
    # The revision above is the deletion's own place in history; earlier ones stay readable.
    row.deleted = utc_now()
    # A deployment that comes back under this name starts afresh, but never below a number that a node has seen.
    kept = Record.model_validate(row.record)
    row.record = Record(revision=kept.revision, generation=number).model_dump(mode="json")
    # A reconcile step that has read the old record must not write it back.
    row.record_version += 1
    audit.write(session, act, Change("delete", f"deployment/{name}", _shown(current.content), None))
    return Changed(deployment=name, revision=number, changed=True)


def living(session: Session, names: Collection[str] | None = None) -> list[Living]:
    """All deployments that exist, or those of them that `names` holds, by name.

    One question, so that a change in between cannot show half of two states.
    """
    query = _LIVING if names is None else _LIVING.where(Deployment.name.in_(names))
    return [_one(*row) for row in session.execute(query.order_by(Deployment.name))]


_LIVING = (
    select(Deployment.record_version, cast(Deployment.record, Text), *VIEWED)
    .join(Revision, (Revision.deployment == Deployment.name) & (Revision.number == Deployment.revision))
    .where(Deployment.deleted.is_(None))
)


def _one(version: int, record: str, *columns: Any) -> Living:
    return Living(viewed(*columns), _record(record), version)


@lru_cache(maxsize=2_000)
def _record(text: str) -> Record:
    # Of nearly all deployments it is the one that the loop read a second ago.
    return Record.model_validate(json.loads(text))


def _chosen(current: RevisionView | None, wanted: _Edit) -> list[VersionRef]:
    """The versions that an edit brings in; those that were there before are no news."""
    before = pair(current) if current else ()
    return [ref for ref in pair(wanted.content) if ref and ref not in before] if wanted.content else []


def _to_bring(current: RevisionView | None, wanted: _Edit) -> list[VersionRef]:
    """The versions that must lie in the stage's store by now."""
    # Those of earlier revisions do, and a store that is away must not hold up the way back to them.
    if wanted.kind == "rollback":
        return []
    return [ref for ref in pair(wanted.content) if ref] if wanted.kind == "retry" and wanted.content else _chosen(current, wanted)


def _new_row(session: Session, name: str) -> Deployment:
    row = Deployment(name=name, revision=0, record=Record().model_dump(mode="json"), record_version=0, created=utc_now())
    session.add(row)
    session.flush()
    return row


def _add(session: Session, row: Deployment, edit: _Edit, act: Act, current: RevisionView | None = None) -> int:
    """Write the next revision with its action, and point the deployment at it."""
    if edit.content is None:
        raise ValueError("an edit without content makes no revision")
    # Gapless, because only committed rows have moved `row.revision`.
    number = row.revision + 1
    # A person chooses main by naming another one, by rolling back, or by trying the same again after a refusal.
    chooses = current is None or edit.kind == "retry" or current.main.digest != edit.content.main.digest
    session.add(
        Revision(
            deployment=row.name,
            number=number,
            kind=edit.kind,
            content=edit.content.model_dump(mode="json"),
            chosen=number if chooses or current is None else current.chosen,
            leaving=edit.marks.get("leaving") if chooses or current is None else current.leaving,
            restored=edit.marks.get("restored"),
            who=act.who,
            why=act.why,
            created=utc_now(),
        )
    )
    row.revision = number
    session.add(action_of(row.name, number, edit.kind, act))
    return number


def _choice(session: Session, choice: VersionChoice) -> tuple[VersionRef, Manifest]:
    return registry.resolve(session, choice.model, choice.version, choice.trust, choice.accelerator)


def _resolved(session: Session, wish: DeploymentInput) -> Content:
    main = _choice(session, wish.main)
    challenger = None
    if wish.challenger is not None:
        challenger = _choice(session, wish.challenger)
        require_pair(main, challenger)
    return Content(
        description=wish.description,
        project=wish.project,
        stage=wish.stage,
        service=wish.service,
        main=main[0],
        challenger=challenger[0] if challenger else None,
        access=wish.access,
        records=wish.records,
        running=wish.running,
        rollback=wish.rollback,
        progress_seconds=wish.progress_seconds,
    )


def _holds(session: Session, current: RevisionView) -> bool:
    row = session.get_one(Deployment, current.deployment)
    hold = Record.model_validate(row.record).hold
    return hold is not None and hold.generation == current.number


def _living(session: Session, name: str) -> Deployment:
    row = session.get(Deployment, name)
    if row is None or row.deleted is not None:
        raise _unknown(session, name)
    return row


def _unknown(session: Session, name: str) -> NotFound:
    query = select(Deployment.name).where(Deployment.deleted.is_(None)).order_by(Deployment.name).limit(_SHOWN)
    known = ", ".join(session.scalars(query))
    return NotFound(
        f"There is no such deployment. There are: {known}." if known else "There is no deployment yet.",
        kind="deployment",
        name=name,
        hint="Create it: `quarterdeck apply -f FILE`.",
    )


def _current(session: Session, row: Deployment) -> RevisionView:
    return view(session.get_one(Revision, (row.name, row.revision)))


def _require_stage(current: RevisionView, stage: str) -> None:
    if stage != current.stage:
        raise Conflict(
            f"Deployment {current.deployment} lives in stage {current.stage} for good.",
            code="stage-fixed",
            kind="deployment",
            name=current.deployment,
            hint=f"Bring its version to the other stage: `quarterdeck promote {current.deployment} --to {stage}`.",
        )


def _require_project(session: Session, project: str, current: RevisionView | None, act: Act) -> None:
    """Refuse what goes into a project that does not exist, or that is not the author's."""
    if current is None or project != current.project:
        require_projects(session, [project])
        act.require(project)


def _with(current: RevisionView, **changes: Any) -> Content:
    return current.content.model_copy(update=changes)


def _already(current: RevisionView) -> str:
    return f"Already on {pair(current)[0]} since {current.created:%Y-%m-%d %H:%M:%S} UTC (revision {current.number})."


def _shown(content: Content | None) -> dict[str, Any] | None:
    return content.model_dump(mode="json") if content else None
