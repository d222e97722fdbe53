"""What each page shows: one frozen dataclass a page, built by pure functions from what the services say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from quarterdeck.plan import MirrorReport, VersionRef
from quarterdeck.rollout import Condition
from quarterdeck_deployer.console import words
from quarterdeck_deployer.console.trying import TryForm
from quarterdeck_deployer.console.words import Slice, Tag
from quarterdeck_deployer.observed import ObservedDeployment, Placed
from quarterdeck_deployer.performance import Performance
from quarterdeck_deployer.predictions import Ledger, PredictedRow
from quarterdeck_deployer.registry_views import ModelDetail, ModelView, VersionView
from quarterdeck_deployer.revisions import Content, RevisionView, way_back

FINE = {"Settled", "NoChallenger", "NothingBefore", "Never", "RejectedBefore", "Stopped"}
"""Reasons of conditions that are False and nobody's trouble."""


@dataclass(frozen=True)
class Shell:
    """What every page has around it: title, place in the navigation, the same thing in the CLI and as JSON."""

    title: str
    section: str
    cli: str
    twin: str


@dataclass(frozen=True)
class DeploymentRow:
    """One line of the list."""

    name: str
    observed: ObservedDeployment
    wish: RevisionView
    deployed: Tag
    running: Tag


@dataclass(frozen=True)
class DeploymentsPage:
    """All deployments; does each answer, with which version?"""

    shell: Shell
    rows: Slice[DeploymentRow]


@dataclass(frozen=True)
class Version:
    """A version in one role, and how it is there."""

    role: str
    ref: VersionRef
    state: Tag
    where: str
    answered: int
    errors: int


@dataclass(frozen=True)
class Status:
    """The part of a deployment's page that is refreshed: what is so now."""

    name: str
    observed: ObservedDeployment
    wish: RevisionView
    deployed: Tag
    running: Tag
    wish_differs: str
    versions: list[Version]
    mirror: MirrorReport
    troubles: list[Condition]


@dataclass(frozen=True)
class RevisionRow:
    """One line of the history; `can_return` is False where there is no way back to it, or no need for one."""

    revision: RevisionView
    state: Tag
    verb: str
    can_return: bool
    duration: str


@dataclass(frozen=True)
class History:
    """The revisions of a deployment, a part of them; refreshed like its status."""

    name: str
    project: str
    has_challenger: bool
    rows: Slice[RevisionRow]


@dataclass(frozen=True)
class Done:
    """An action that has just been taken, as the banner tells it."""

    sentence: str
    applied: bool


@dataclass(frozen=True)
class Measured:
    """What labels and records say; `problem` is set where the store could not be read."""

    performance: Performance | None = None
    ledger: Ledger | None = None
    predictions: list[PredictedRow] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class Addresses:
    """Where callers and people reach a deployment."""

    predict: str
    form: str
    docs: str


@dataclass(frozen=True)
class DeploymentPage:
    """One deployment: is it answering, with what, since when, who changed it, how good is it?"""

    shell: Shell
    status: Status
    history: History
    addresses: Addresses
    measured: Measured
    form: TryForm
    done: Done | None


@dataclass(frozen=True)
class ConfirmPage:
    """What an action will do, before it does it.

    Attributes:
        path: of the action, below the deployment's own.
        button: verb and object, as they stand on the button.
        now: the wish as it is.
        after: the wish as it will be; None where the deployment will be gone.
        sentence: what happens to those who call meanwhile, and what stays.
        duration: how long it takes until main answers; empty where main stays.
        restores: the revision whose pair comes back; None but for a rollback.
        leaving: main's digest as the page shows it, where the action must not be taken from another state.
        grave: whether callers get no answers afterwards; the button then looks like it.
        repeat: whether the name must be typed again.
    """

    shell: Shell
    name: str
    title: str
    path: str
    button: str
    now: RevisionView
    after: Content | None
    sentence: str
    duration: str = ""
    restores: int | None = None
    leaving: str = ""
    grave: bool = False
    repeat: bool = False
    problem: str = ""
    why: str = ""


@dataclass(frozen=True)
class ChallengerPage:
    """Which version shall answer in the background? `choices` are versions of main's model, newest first."""

    shell: Shell
    name: str
    now: RevisionView
    choices: list[VersionView]


@dataclass(frozen=True)
class TryPage:
    """The test form with both answers."""

    shell: Shell
    name: str
    form: TryForm


@dataclass(frozen=True)
class ModelsPage:
    """All models."""

    shell: Shell
    rows: Slice[ModelView]


@dataclass(frozen=True)
class VersionRow:
    """One version of a model, and the deployments that use it."""

    version: VersionView
    deployed_in: list[tuple[str, str]]


@dataclass(frozen=True)
class ModelPage:
    """One model: which version is active, where is each deployed?"""

    shell: Shell
    model: ModelDetail
    rows: Slice[VersionRow]
    metrics: list[str]


@dataclass(frozen=True)
class SurePage:
    """What an action will do that makes no revision, before it does it; the title is that of `shell`.

    Attributes:
        back: (path, name) of the page that it leads back to.
        action: path that the form is sent to.
        button: verb and object, as they stand on the button.
        sentences: what will be so afterwards, and what will not.
        reason: whether the form asks why.
        fields: hidden ones.
    """

    shell: Shell
    back: tuple[str, str]
    action: str
    button: str
    sentences: list[str]
    reason: bool = True
    grave: bool = True
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoginPage:
    """The way in; `refused` where a token was sent that is not the right one."""

    shell: Shell
    refused: bool
    provider: bool


@dataclass(frozen=True)
class SignedInPage:
    """The step between the provider of identities and the console."""

    shell: Shell
    name: str
    provider: bool = False


@dataclass(frozen=True)
class DocumentedRoute:
    """One route of the API; `parameters` are (name, where, description)."""

    method: str
    path: str
    description: str
    parameters: list[tuple[str, str, str]]
    takes_body: bool
    answers: str


@dataclass(frozen=True)
class DocsPage:
    """The API, route by route."""

    shell: Shell
    title: str
    routes: list[DocumentedRoute]


@dataclass(frozen=True)
class ErrorPage:
    """What failed, what did not change, what to do."""

    shell: Shell
    status: int
    detail: str
    hint: str
    code: str
    request_id: str
    changed: str


def deployment_row(wish: RevisionView, observed: ObservedDeployment) -> DeploymentRow:
    """One line of the list of deployments."""
    # Straight from what is observed, never from the wish.
    tags = words.DEPLOYED[observed.deployed.state], words.RUNNING[observed.running.state]
    return DeploymentRow(wish.deployment, observed, wish, *tags)


def status(wish: RevisionView, observed: ObservedDeployment) -> Status:
    """What is so now, and where that is not what is wished."""
    roles = (
        ("main", observed.main),
        ("next main", observed.target),
        ("challenger", observed.challenger),
        ("previous", observed.previous),
    )
    return Status(
        name=wish.deployment,
        observed=observed,
        wish=wish,
        deployed=words.DEPLOYED[observed.deployed.state],
        running=words.RUNNING[observed.running.state],
        wish_differs=_wish_differs(wish, observed),
        versions=[_version(role, placed) for role, placed in roles if placed],
        mirror=observed.mirror,
        troubles=[one for one in observed.conditions if is_trouble(one)],
    )


def history(revisions: Sequence[RevisionView], observed: ObservedDeployment, page: int) -> History:
    """One page of the revisions."""
    rows = words.slice_of(revision_rows(revisions, observed), page)
    return History(revisions[0].deployment, revisions[0].project, revisions[0].challenger is not None, rows)


def revision_rows(history: Sequence[RevisionView], observed: ObservedDeployment) -> list[RevisionRow]:
    """The history with the state of each revision, newest first as it came."""
    current, back = history[0], way_back(history)
    earlier = back.number if back else None
    rows = []
    for one in history:
        same = (one.main, one.challenger) == (current.main, current.challenger)
        rows.append(
            RevisionRow(
                revision=one,
                state=_revision_state(one, current, earlier, observed),
                verb=words.VERBS[one.kind],
                can_return=one is not current and not same and one.kind != "delete",
                duration=duration(one.main, observed),
            )
        )
    return rows


def duration(target: VersionRef, observed: ObservedDeployment) -> str:
    """How long it takes until `target` answers, from what is loaded where."""
    # A digest that a node has ready needs no load, whatever role it had.
    for placed in (observed.main, observed.previous, observed.target):
        if placed and placed.ref.digest == target.digest and placed.ready:
            return "loaded: takes less than 1 s"
    return "is loaded first; what serves now goes on until it is ready"


def done(number: int | None, history: Sequence[RevisionView], observed: ObservedDeployment) -> Done | None:
    """The banner about a revision that was just made; None where there is no such revision."""
    made = next((one for one in history if one.number == number), None)
    if made is None:
        return None
    what = f"Revision {made.number}: {words.VERBS[made.kind]} by {made.who} at {words.stamp(made.created)} UTC"
    why = f", because: {made.why}" if made.why else ""
    # The banner's address may be opened later: it then tells what came after.
    if made is not history[0]:
        return Done(f"{what}{why}. Revision {history[0].number} has taken its place.", applied=True)
    # Only what was observed is claimed.
    outcome = f" {made.main} answers." if observed.applied and made.running else ""
    outcome = outcome or ("" if observed.applied else f" Not done yet: {observed.waiting_for}.")
    return Done(f"{what}{why}.{outcome}", applied=observed.applied)


def metric_names(versions: Sequence[VersionView]) -> list[str]:
    """Names of the metrics that the versions have, the first five in the order of the alphabet."""
    return sorted({name for one in versions for name in one.metrics})[:5]


def deployed_in(digest: str, wishes: Sequence[RevisionView]) -> list[tuple[str, str]]:
    """(deployment, role) of every use of a version."""
    found = [(one.deployment, "main") for one in wishes if one.main.digest == digest]
    return found + [(one.deployment, "challenger") for one in wishes if one.challenger and one.challenger.digest == digest]


def _version(role: str, placed: Placed) -> Version:
    # Counted from live nodes alone: a silent one is neither ready nor failed.
    ready = sum(one.state == "ready" for one in placed.nodes)
    where = f"ready on {ready} of {len(placed.nodes)} nodes" if placed.nodes else "no live node has spoken of it"
    # A node that refused says more than any count.
    failed = next((one for one in placed.nodes if one.state == "failed"), None)
    if failed:
        where = f"{failed.node}: {failed.reason or failed.code}"
    return Version(role, placed.ref, _placed_state(placed), where, placed.answered, placed.errors)


def _placed_state(placed: Placed) -> Tag:
    states = {one.state for one in placed.nodes}
    # The worst of its parts: one node that failed is what must be seen.
    for state in ("failed", "fetching", "loading", "ready"):
        if state in states:
            return words.PLACED[state]
    return words.PLACED["unknown"]


def _wish_differs(wish: RevisionView, observed: ObservedDeployment) -> str:
    if observed.applied:
        return ""
    wanted = f"{wish.main} as main" if wish.running else "stopped"
    return f"Wished since {words.stamp(wish.created)} UTC (revision {wish.number}): {wanted}. Not so yet: {observed.waiting_for}."


def is_trouble(condition: Condition) -> bool:
    """Whether a condition is worth a line on the page."""
    if condition.reason in FINE:
        return False
    # Progressing and RolledBack are worth a word when they are true, the others when they are not.
    bad = "True" if condition.type in ("Progressing", "RolledBack") else "False"
    return condition.status in (bad, "Unknown") or condition.reason == "Held"


def _revision_state(one: RevisionView, current: RevisionView, earlier: int | None, observed: ObservedDeployment) -> Tag:
    if one is current:
        return words.REVISION["active" if observed.applied else "applying"]
    if one.main.digest in observed.rejected:
        return words.REVISION["rejected"]
    return words.REVISION["previous" if one.number == earlier else "superseded"]
