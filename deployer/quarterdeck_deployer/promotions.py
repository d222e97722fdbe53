"""Promotions: a version's way from one stage to the next, through gates, kept with who wanted it, why, and how it ended.

Everything that a promotion has come to is in its row. Whoever works on it (`Promoter`) reads the row, does the next thing and
writes it down; a crash in between costs that thing's repetition and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from quarterdeck.copying import Copied
from quarterdeck.errors import Conflict, Forbidden, InvalidInput, NotFound
from quarterdeck.manifest import Trust
from quarterdeck.plan import VersionRef
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer import audit, registry
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.deployments import find, of_service, place
from quarterdeck_deployer.gates.kinds import Gate, GateResult
from quarterdeck_deployer.idempotency import once
from quarterdeck_deployer.listing import Listed, Window, page, windowed
from quarterdeck_deployer.models import Deployment, Promotion, Revision
from quarterdeck_deployer.revisions import Content, RevisionView, Why, require_pair
from quarterdeck_deployer.stages import OPEN_STATES, gates_of, stage_row

State = Literal["checking", "waiting for approval", "refused", "done", "failed", "overtaken"]


class PromotionInput(Frozen):
    """Bring a version of this deployment to the same service's deployment in another stage."""

    to: Name = Field(description="The stage to come to.", examples=["staging"])
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        None, description="Of main's model; main itself where left out."
    )
    name: Name | None = Field(
        None,
        description="The deployment there; found by its service where left out, else made as <service>-<stage>.",
    )
    trust: Trust | None = Field(None, description="As a deployment names it; as main has it where left out.")
    why: Why = ""


class DecisionInput(Frozen):
    """A second person's word."""

    why: Why = ""


class CopiedView(Frozen):
    """What was copied to the target's store; nothing where it had all of it."""

    files: int
    bytes: int


class PromotionView(Frozen):
    """One promotion: what shall go where, what the gates have found, and how it ended."""

    id: int
    state: State
    source: Name
    source_revision: int
    source_stage: Name
    target: Name = Field(description="The deployment in the other stage; made at the end where it was not there.")
    target_stage: Name
    seen: int = Field(description="The target's newest revision when the promotion began; 0: there was none.")
    service: Name
    project: Name
    main: VersionRef
    gates: list[GateResult] = Field(description="What was found so far, in the order of the gates.")
    copied: CopiedView | None = Field(description="None: not yet.")
    code: str = Field(description="Stable code of a refusal or failure; empty otherwise.")
    reason: str = Field(description="Why it ended so, or what it waits for.")
    revision: int | None = Field(description="The target's revision that it made; None where none was needed.")
    who: str
    why: str
    created: datetime
    ended: datetime | None
    decided_by: str = Field(description="The second person; empty while nobody has decided.")
    decided_why: str
    decided: datetime | None


@dataclass(frozen=True, slots=True)
class PromotionFilter:
    """Which promotions a list holds; empty: whichever. `deployment` is source or target, `stage` the one to come to."""

    deployment: str = ""
    service: str = ""
    stage: str = ""
    project: str = ""
    state: State | None = None


class Promotions:
    """The service behind API, console and CLI.

    Args:
        database: keeps them.
        begun: called when there is something to work on.
        placed: called after a target has a new revision.
    """

    def __init__(self, database: Database, begun: Callable[[], None], placed: Callable[[], None]) -> None:
        self._sessions, self._writing, self._begun, self._placed = database.sessions, database.writing, begun, placed

    def ask(self, name: str, wanted: PromotionInput, act: Act) -> PromotionView:
        """Begin a promotion; gates are asked in the background.

        Raises:
            NotFound: no such deployment, stage or version.
            Conflict: ``same-stage``, ``target-ambiguous``, ``stage-fixed``; ``changed-meanwhile`` where `act.expected` is not
                the source's newest revision.
            PackageRefused: ``trust-required``.
        """
        with self._writing.begin() as session:
            found = once(session, act, PromotionView, lambda: _ask(session, name, wanted, act))
        self._begun()
        return found

    def listed(self, window: Window, wanted: PromotionFilter) -> Listed[PromotionView]:
        """The newest promotions first, page by page; the rows that gates list are left out."""
        query = windowed(select(Promotion), window, Promotion.id, descending=True)
        for column, value in (
            (Promotion.service, wanted.service),
            (Promotion.target_stage, wanted.stage),
            (Promotion.project, wanted.project),
            (Promotion.state, wanted.state),
        ):
            if value:
                query = query.where(column == value)
        if wanted.deployment:
            query = query.where((Promotion.source == wanted.deployment) | (Promotion.target == wanted.deployment))
        with self._sessions() as session:
            found = session.scalars(query).all()
        return page(found, window, lambda row: (row.id,)).of(_in_list)

    def one(self, ident: int) -> PromotionView:
        """One promotion.

        Raises:
            NotFound: there is none of that number.
        """
        with self._sessions() as session:
            return _view(_row(session, ident))

    def approve(self, ident: int, given: DecisionInput, act: Act) -> PromotionView:
        """A second person's yes: the target gets its revision at once.

        Raises:
            NotFound: there is none of that number.
            Conflict: ``not-waiting``.
            Forbidden: ``second-person-needed``.
        """

        def decide(session: Session) -> PromotionView:
            row = _waiting(session, ident, act)
            if _left(session, row):
                row.state, row.reason = "checking", "Its stage has got another gate, which is asked before anybody decides."
                return _view(row)
            _decide(session, row, "approve-promotion", given, act)
            _finish(session, row)
            return _view(row)

        with self._writing.begin() as session:
            found = once(session, act, PromotionView, lambda: decide(session))
        self._placed()
        self._begun()
        return found

    def reject(self, ident: int, given: DecisionInput, act: Act) -> PromotionView:
        """A second person's no. Raises as `approve` does."""

        def decide(session: Session) -> PromotionView:
            row = _waiting(session, ident, act)
            _decide(session, row, "reject-promotion", given, act)
            _end(row, "refused", "rejected", f"{act.who} has rejected it{f': {given.why}' if given.why else '.'}")
            return _view(row)

        with self._writing.begin() as session:
            return once(session, act, PromotionView, lambda: decide(session))

    def checking(self) -> list[int]:
        """Numbers of the promotions whose gates are being asked, the oldest first."""
        with self._sessions() as session:
            return list(session.scalars(select(Promotion.id).where(Promotion.state == "checking").order_by(Promotion.id)))

    def outrun(self) -> list[int]:
        """Numbers of those that wait for a person and whose target has changed since they began."""
        number = case((Deployment.deleted.is_(None), Deployment.revision), else_=0)
        query = select(Promotion.id).outerjoin(Deployment, Deployment.name == Promotion.target)
        query = query.where(Promotion.state == "waiting for approval", func.coalesce(number, 0) != Promotion.seen)
        with self._sessions() as session:
            return list(session.scalars(query))

    def still(self, ident: int) -> bool:
        """Whether a promotion is still open; one whose target has changed since it began is ended here."""
        with self._sessions() as session:
            row = _row(session, ident)
            if row.state not in OPEN_STATES:
                return False
            if _number(find(session, row.target)) == row.seen:
                return True
        with self._writing.begin() as session:
            row = _row(session, ident)
            current = find(session, row.target)
            if row.state in OPEN_STATES and _number(current) != row.seen:
                _overtake(row, current)
        return False

    def gates(self, ident: int) -> list[Gate]:
        """The gates that are still to be asked, in their order; those of the stage as it is now."""
        with self._sessions() as session:
            return _left(session, _row(session, ident))

    def note_copied(self, ident: int, copied: Copied) -> None:
        """Write down what was copied to the target's store."""
        with self._writing.begin() as session:
            row = _row(session, ident)
            # A copy that was interrupted is continued: what its first part has brought counts as well.
            before = row.copied or {"files": 0, "bytes": 0}
            row.copied = {"files": before["files"] + copied.files, "bytes": before["bytes"] + copied.size}

    def note(self, ident: int, result: GateResult) -> bool:
        """Write down what a gate has found, once; whether to go on. A refusal ends the promotion in the same moment."""
        with self._writing.begin() as session:
            row = _row(session, ident)
            if row.state != "checking":
                return False
            row.gates = [*row.gates, result.model_dump(mode="json")]
            if not result.passed:
                _end(row, "refused", result.code, f"Gate {result.gate}: {result.detail}")
            return result.passed

    def say(self, ident: int, reason: str) -> None:
        """Write down what an open promotion waits for."""
        with self._writing.begin() as session:
            row = _row(session, ident)
            if row.state == "checking":
                row.reason = reason

    def fail(self, ident: int, code: str, reason: str) -> None:
        """End a promotion that cannot be carried out."""
        with self._writing.begin() as session:
            row = _row(session, ident)
            if row.state == "checking":
                _end(row, "failed", code, reason)

    def finish(self, ident: int) -> None:
        """All gates have passed: the target gets its revision, or a second person is waited for."""
        with self._writing.begin() as session:
            row = _row(session, ident)
            # A gate that the stage has got meanwhile is asked at the next look.
            if row.state != "checking" or _left(session, row):
                return
            if stage_row(session, row.target_stage).approval:
                row.state, row.reason = "waiting for approval", f"Somebody else than {row.who} must approve it."
                return
            _finish(session, row)
        self._placed()

    def source(self, ident: int) -> RevisionView | None:
        """The deployment that it came from, as it is now; None where it was deleted."""
        with self._sessions() as session:
            return find(session, _row(session, ident).source)


def _ask(session: Session, name: str, wanted: PromotionInput, act: Act) -> PromotionView:
    source = find(session, name)
    if source is None:
        raise NotFound("There is no such deployment.", kind="deployment", name=name, hint="List them: `quarterdeck get`.")
    act.require_newest(name, source.number)
    stage_row(session, wanted.to)
    if wanted.to == source.stage:
        raise Conflict(
            f"Deployment {name} lives in stage {wanted.to} already.",
            code="same-stage",
            kind="deployment",
            name=name,
            hint="Name another stage, or change the deployment itself.",
        )
    main = source.main
    version, trust = wanted.version or main.version, wanted.trust or main.trust
    ref, _ = registry.resolve(session, main.model, version, trust, main.accelerator)
    service = source.service or name
    target, current = _target(session, service, wanted)
    act.require(source.project)
    act.require(current.project if current else source.project)
    row = Promotion(
        state="checking",
        source=name,
        source_revision=source.number,
        source_stage=source.stage,
        target=target,
        target_stage=wanted.to,
        seen=_number(current),
        service=service,
        project=source.project,
        main=ref.model_dump(mode="json"),
        gates=[],
        copied=None,
        code="",
        reason="",
        who=act.who,
        why=act.why,
        created=utc_now(),
        decided_by="",
        decided_why="",
    )
    session.add(row)
    session.flush()
    _tell(session, row, "ask-promotion", act)
    return _view(row)


def _target(session: Session, service: str, wanted: PromotionInput) -> tuple[str, RevisionView | None]:
    """The deployment to change, and its wish; None where it is still to be made."""
    if wanted.name is None:
        there = of_service(session, service, wanted.to)
        if len(there) > 1:
            raise Conflict(
                f"Stage {wanted.to} has several deployments of service {service}: {', '.join(one.deployment for one in there)}.",
                code="target-ambiguous",
                kind="service",
                name=service,
                hint="Name the one that is meant: --name.",
            )
        if there:
            return there[0].deployment, there[0]
    # A name may have 63 characters, and both parts may use them up.
    name = wanted.name or f"{service[: 62 - len(wanted.to)]}-{wanted.to}"[:63]
    current = find(session, name)
    if current is not None and (current.stage != wanted.to or (current.service or name) != service):
        raise Conflict(
            f"There is a deployment {name} already, of service {current.service or name} in stage {current.stage}.",
            code="stage-fixed" if current.stage != wanted.to else "target-ambiguous",
            kind="deployment",
            name=name,
            hint="Name the deployment that is meant, or one that is still to be made: --name.",
        )
    return name, current


def _left(session: Session, row: Promotion) -> list[Gate]:
    """The gates of the stage, as it is now, that this promotion has not passed."""
    passed = {result["gate"] for result in row.gates}
    return [gate for gate in gates_of(stage_row(session, row.target_stage)) if gate.gate not in passed]


def _waiting(session: Session, ident: int, act: Act) -> Promotion:
    """The row, where it waits for a word of this very person."""
    row = _row(session, ident)
    act.require(row.project)
    # What changes is the target, and that may be somebody else's.
    if (target := find(session, row.target)) is not None:
        act.require(target.project)
    if row.state != "waiting for approval":
        raise Conflict(
            f"Promotion {ident} waits for nobody: it is {row.state}.",
            code="not-waiting",
            kind="promotion",
            name=str(ident),
            hint=f"Look: `quarterdeck promotion show {ident}`.",
        )
    if _person(act.who) == _person(row.who):
        raise Forbidden(
            f"Promotion {ident} was asked for by {row.who}: another person must decide.",
            code="second-person-needed",
            kind="promotion",
            name=str(ident),
            hint="Ask somebody with the role approver.",
        )
    return row


def _decide(session: Session, row: Promotion, verb: str, given: DecisionInput, act: Act) -> None:
    """Write down the second person's word."""
    row.decided_by, row.decided_why, row.decided = act.who, given.why, utc_now()
    _tell(session, row, verb, act)


def _tell(session: Session, row: Promotion, verb: str, act: Act) -> None:
    told = {"promotion": row.id, "main": row.main, "target": row.target, "stage": row.target_stage}
    audit.write(session, act, Change(verb, f"deployment/{row.source}", None, told))


def _person(who: str) -> str:
    """Whoever sits at the console, or shows a token of their own, is the same person as at the command line."""
    return who.partition(" (")[0]


def _finish(session: Session, row: Promotion) -> None:
    """Give the target its revision and end the promotion: both or neither."""
    current = find(session, row.target)
    if _number(current) != row.seen:
        _overtake(row, current)
        return
    content, note = _content(session, row, current)
    how = f"promotion {row.id}" + (f", approved by {row.decided_by}" if row.decided_by else "")
    why = f"{row.why} ({how})" if row.why else how
    changed = place(session, row.target, content, Act(who=row.who, why=why, expected=row.seen))
    row.revision = changed.revision if changed.changed else None
    _end(row, "done", "", note if changed.changed else changed.note)


def _content(session: Session, row: Promotion, current: RevisionView | None) -> tuple[Content, str]:
    """What the target shall be: as it is or as the source was, with the promoted version; and what else that changes."""
    main = VersionRef.model_validate(row.main)
    if current is None:
        source = Content.model_validate(session.get_one(Revision, (row.source, row.source_revision)).content)
        fresh = {"stage": row.target_stage, "service": row.service, "main": main, "challenger": None, "running": True}
        return source.model_copy(update=fresh), ""
    content = current.content.model_copy(update={"main": main})
    if current.challenger is None:
        return content, ""
    if current.challenger.digest == main.digest:
        return content.model_copy(update={"challenger": None}), "The challenger has become main."
    try:
        # Only the schemas count here; what may be loaded was decided when each of them was chosen.
        pair = [registry.resolve(session, ref.model, ref.version, "code") for ref in (main, current.challenger)]
        require_pair(*pair)
    # Main comes first: a challenger that cannot be compared with it has no more to do here.
    except (InvalidInput, NotFound) as error:
        return content.model_copy(update={"challenger": None}), f"The challenger was cleared: {error.detail}"
    return content, ""


def _overtake(row: Promotion, current: RevisionView | None) -> None:
    if current is None:
        reason = f"Deployment {row.target} was deleted meanwhile."
    else:
        at = f"{current.created:%Y-%m-%d %H:%M:%S} UTC"
        reason = f"{current.who} was first: {row.target} is at revision {current.number} with {current.main} since {at}."
    _end(row, "overtaken", "changed-meanwhile", reason)


def _end(row: Promotion, state: State, code: str, reason: str) -> None:
    row.state, row.code, row.reason, row.ended = state, code, reason, utc_now()


def _number(current: RevisionView | None) -> int:
    return current.number if current else 0


def _row(session: Session, ident: int) -> Promotion:
    row = session.get(Promotion, ident)
    if row is None:
        raise NotFound(
            "There is no such promotion.", kind="promotion", name=str(ident), hint="List them: `quarterdeck promotion list`."
        )
    return row


def _in_list(row: Promotion) -> PromotionView:
    found = _view(row)
    # Hundreds of rows for each promotion would make a list of megabytes.
    return found.model_copy(update={"gates": [gate.model_copy(update={"listed": []}) for gate in found.gates]})


def _view(row: Promotion) -> PromotionView:
    document = {name: getattr(row, name) for name in PromotionView.model_fields}
    return PromotionView.model_validate(document)
