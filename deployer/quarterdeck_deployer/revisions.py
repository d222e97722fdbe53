"""What a revision holds, and the pure rules about it: what differs, which pair a rollback restores, what may be a pair."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from quarterdeck.errors import Conflict, InvalidInput, NotFound
from quarterdeck.manifest import Digest, Manifest, Trust
from quarterdeck.placement import Rollback
from quarterdeck.plan import Accelerator, AccessMode, RecordMode, VersionRef
from quarterdeck.rollout import Spec
from quarterdeck.schema import Frozen, Name, Schema
from quarterdeck_deployer.labels import label_text

Kind = Literal[
    "create", "change", "retry", "challenger", "clear", "swap", "rollback", "promote", "run", "stop", "delete", "adopt",
]  # fmt: skip
Why = Annotated[str, Field(max_length=2_000, description="Why, for the people who read the history.")]


class VersionChoice(Frozen):
    """A version as people name it."""

    model: Name
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    trust: Trust = Field("data", description="`code` allows this version to run code from its package when it is loaded.")
    accelerator: Accelerator = Field("none", description="`cuda` scores on an NVIDIA GPU, where the package was built for it.")


class DeploymentInput(Frozen):
    """The whole wish for one deployment; what is left out takes its default."""

    description: Annotated[str, Field(max_length=2_000)] = ""
    project: Name = "default"
    stage: Name = Field("dev", description="Where it lives, for good; a version reaches the next stage by promotion.")
    service: Name | None = Field(
        None, description="What callers know it as together with others, over all stages; its own name where left out."
    )
    main: VersionChoice
    challenger: VersionChoice | None = None
    access: AccessMode = "instance"
    records: RecordMode = "spooled"
    running: bool = True
    rollback: Rollback = Field(Rollback(), description="When a new version is taken back without asking.")
    progress_seconds: Annotated[int, Field(ge=10, le=86_400)] = Field(600, description="How long a version may take to be ready.")
    why: Why = ""


class ChallengerInput(Frozen):
    """The version that shall answer in the background."""

    model: Name | None = Field(None, description="Its model; main's own where left out.")
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    trust: Trust = "data"
    accelerator: Accelerator = "none"
    why: Why = ""


class SwapInput(Frozen):
    """Exchange main and challenger."""

    leaving: Digest | None = Field(None, description="Main's digest as the caller sees it; a second click then changes nothing.")
    why: Why = ""


class RollbackInput(Frozen):
    """Go back to the pair of an earlier revision."""

    revision: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        None, description="Its number; the last one with another main where left out."
    )
    leaving: Digest | None = Field(None, description="Main's digest as the caller sees it; a second click then changes nothing.")
    why: Why = ""


class Content(Frozen):
    """What is wanted of a deployment; two revisions with equal content want the same."""

    description: str
    project: Name
    stage: Name = "dev"
    service: Name | None = None
    main: VersionRef
    challenger: VersionRef | None
    access: AccessMode
    records: RecordMode
    running: bool
    rollback: Rollback = Rollback()
    progress_seconds: int = 600


class RevisionView(Content):
    """One numbered, immutable revision."""

    deployment: Name
    number: int
    kind: Kind
    chosen: int = Field(description="The revision in which main was last chosen.")
    leaving: Digest | None = Field(description="What the rollback left that chose main; None where main was chosen otherwise.")
    restored: int | None = Field(description="Rollbacks only: the revision whose pair was restored.")
    who: str
    why: str
    created: datetime

    @property
    def content(self) -> Content:
        """The wish alone."""
        return Content(**{name: getattr(self, name) for name in Content.model_fields})

    def spec(self) -> Spec:
        """The wish as the rollout decision takes it."""
        return Spec(
            deployment=self.deployment,
            generation=self.number,
            main=self.main,
            challenger=self.challenger,
            running=self.running,
            chosen=self.chosen,
            leaving=self.leaving,
            rollback=self.rollback,
            progress_seconds=float(self.progress_seconds),
        )


class Changed(Frozen):
    """The outcome of an action: the newest revision, and whether this action made it."""

    deployment: Name
    revision: int
    changed: bool
    created: bool = False
    note: str = Field("", description="Why nothing changed, in a sentence.")
    warnings: list[str] = Field(default_factory=list, description="What whoever did it should know, in sentences.")

    @property
    def action(self) -> str:
        """Id of the action that made the newest revision."""
        return action_id(self.deployment, self.revision)


def action_id(deployment: str, revision: int) -> str:
    """The id of the action that made a revision: each revision has exactly one."""
    return f"{deployment}-{revision}"


def rollback_target(history: Sequence[RevisionView], wanted: RollbackInput) -> RevisionView | None:
    """The revision whose pair shall come back; None where the caller's wish is fulfilled already.

    Args:
        history: all revisions, newest first.
        wanted: which one, and which version the caller means to leave.

    Raises:
        NotFound: no such revision.
        Conflict: there is nothing to go back to.
    """
    # The newest revision is the wish, whether nodes have followed it yet or not.
    current = history[0]
    if wanted.leaving is not None and wanted.leaving != current.main.digest:
        return None
    if wanted.revision is None:
        # Without a number and without a version to leave, a second click cannot be told from a second wish.
        if wanted.leaving is None and current.kind == "rollback":
            return None
        return _way_back_or_conflict(history)
    target = next((revision for revision in history if revision.number == wanted.revision), None)
    if target is None:
        raise NotFound(
            f"Deployment {current.deployment} has no such revision; its newest is {current.number}.",
            kind="revision",
            name=current.deployment,
            hint="Take a number from its list of revisions.",
        )
    return None if pair(target) == pair(current) else target


def pair(content: Content) -> tuple[VersionRef, VersionRef | None]:
    """Main and challenger."""
    return content.main, content.challenger


def require_pair(main: tuple[VersionRef, Manifest], challenger: tuple[VersionRef, Manifest]) -> None:
    """Main and challenger get the same rows, so they must take the same features and speak of the same task.

    Raises:
        InvalidInput: ``schema-mismatch``, naming the first difference.
    """
    difference = schema_difference(main[1].data_schema, challenger[1].data_schema)
    if difference:
        raise InvalidInput(
            f"{challenger[0]} cannot be the challenger of {main[0]}: {difference}.",
            code="schema-mismatch",
            kind="version",
            name=str(challenger[0]),
            hint="Choose a version that takes the same features.",
        )


def schema_difference(main: Schema, challenger: Schema) -> str:
    """The first difference in words; empty where rows of one are rows of the other and answers can be compared."""
    if main.task != challenger.task:
        return f"the task is {challenger.task}, main's is {main.task}"
    # Scores of different labels cannot be held against each other, though every row would bind.
    if {label_text(label) for label in main.classes} != {label_text(label) for label in challenger.classes}:
        return "the class labels differ from main's"
    ours, theirs = ({feature.name: feature.type for feature in schema.features} for schema in (main, challenger))
    for name in ours:
        if name not in theirs:
            return f"it does not take feature {name}"
        if ours[name] != theirs[name]:
            return f"feature {name} is {theirs[name]}, main's is {ours[name]}"
    extra = [name for name in theirs if name not in ours]
    return f"it takes feature {extra[0]}, which main does not" if extra else ""


def way_back(history: Sequence[RevisionView]) -> RevisionView | None:
    """Where a rollback without a number leads: the newest revision with another main that nobody has rolled back from.

    Args:
        history: all revisions, newest first.
    """
    current, left = history[0], set()
    for revision in history:
        # What was before a deletion was another life of this name; only an explicit number leads there.
        if revision.kind == "delete":
            break
        # What a rollback has left is no way back, unless somebody chose it by name since: then that comes first here.
        if revision.main.digest != current.main.digest and revision.main.digest not in left:
            return revision
        left.add(revision.leaving)
    return None


def _way_back_or_conflict(history: Sequence[RevisionView]) -> RevisionView:
    found = way_back(history)
    if found is not None:
        return found
    name = history[0].deployment
    raise Conflict(
        f"Deployment {name} has no other main before it that was not rolled back from: there is nothing to go back to yet.",
        code="nothing-to-go-back-to",
        kind="deployment",
        name=name,
        hint="Deploy another version first, or name the revision to restore.",
    )
