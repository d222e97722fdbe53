"""What the registry takes and gives: versions, runs, marks and lineage as they cross the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from quarterdeck.manifest import DataSummary, Digest, Environment, Form, Manifest, Proof, Trust
from quarterdeck.schema import Frozen, Name, Scalar, Task

LabelKey = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$")]
LabelValue = Annotated[str, Field(max_length=200)]
Labels = dict[LabelKey, LabelValue]
Reason = Annotated[str, Field(max_length=2_000, description="Why, for the people who read the audit log.")]
Notes = Annotated[str, Field(max_length=20_000, description="Markdown; the whole text, empty to take it away.")]


class RunInput(Frozen):
    """The training run behind a version; runs of one model are told apart by name."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    metrics: dict[str, float] = Field(default_factory=dict)
    parameters: dict[str, Scalar] = Field(default_factory=dict, description="What all versions of the run were made with.")


class VersionInput(Frozen):
    """A package that lies in the store under ``models/<model>/<version>/``."""

    version: Annotated[int, Field(ge=1)]
    digest: Digest
    run: RunInput | None = None


class MarksInput(Frozen):
    """What people say of a model or a version; members that are left out stay as they are."""

    notes: Notes | None = None
    labels: dict[LabelKey, LabelValue | None] = Field(
        default_factory=dict, max_length=100, description="Merged with those there are; null takes one away."
    )
    deprecated: bool | None = Field(None, description="Versions only: not to be deployed again; who does it is warned.")
    why: Reason = ""


class Marks(Frozen):
    """What people have said of a model or a version."""

    model: Name
    version: int | None = Field(description="None: of the model itself.")
    notes: str
    labels: Labels
    deprecated: datetime | None = None
    deprecated_why: str = ""


class RunView(Frozen):
    """A training run and the versions that came of it."""

    id: str
    name: str
    metrics: dict[str, float]
    parameters: dict[str, Scalar]
    versions: list[int] = Field(description="Candidates that it produced, oldest first.")
    created: datetime


class Facts(Frozen):
    """What lists show of a manifest."""

    form: Form
    trust: Trust
    task: Task
    size_bytes: int
    metrics: dict[str, float]
    description: str
    parent: Digest | None
    golden_rows: int = Field(description="Rows whose answers every node checks before it serves this version.")
    proof: Proof | None = Field(description="How the packaged form was held against the original; None: it was not.")


class VersionView(Facts):
    """One version with the facts that lists show; `manifest` holds everything else."""

    model: Name
    version: int
    digest: Digest
    run: str | None = Field(description="Name of the run that made it.")
    active: bool
    labels: Labels = Field(default_factory=dict)
    deprecated: datetime | None = Field(None, description="Since when it should not be deployed again.")
    created: datetime


class ModelView(Frozen):
    """A model and how many versions it has."""

    name: Name
    description: str
    labels: Labels = Field(default_factory=dict)
    active_version: int | None
    versions: int
    newest: int | None
    created: datetime


class Activated(ModelView):
    """A model whose active version was chosen, and the one before."""

    before: int | None = Field(description="Active until then; None where it was this version already.")
    note: str = Field("", description="What whoever chose it should know.")


class ModelDetail(ModelView):
    """A model with all its versions (newest first) and runs."""

    notes: str
    items: list[VersionView]
    runs: list[RunView]


class VersionDetail(VersionView):
    """A version with its manifest, golden rows included."""

    notes: str
    deprecated_why: str
    deleted: datetime | None = Field(description="Since when its files are gone; the manifest stays.")
    manifest: Manifest


class Registered(Frozen):
    """The outcome of a registration; `created` is False where it had been registered before."""

    version: VersionView
    created: bool


class Candidate(Frozen):
    """A version of a run beside its siblings."""

    version: int
    active: bool
    deprecated: datetime | None
    metrics: dict[str, float]
    hyperparameters: dict[str, object]


class RunDetail(RunView):
    """A run with its candidates, newest first; deleted ones are left out."""

    candidates: list[Candidate]


class Relative(Frozen):
    """A version in the family of another one."""

    model: Name
    version: int
    digest: Digest
    steps: int = Field(description="Generations away.")
    metrics: dict[str, float]
    deleted: bool


class Lineage(Frozen):
    """Where a version comes from, and what was made from it; all of it from manifests."""

    model: Name
    version: int
    digest: Digest
    run: str | None
    commit: str
    producer: str
    recipe: str
    environment: Environment
    training: DataSummary | None
    validation: DataSummary | None
    card: str
    parents: list[Relative] = Field(description="The version that this one was made from, then that one's, and so on.")
    unknown_parent: Digest | None = Field(description="The oldest parent that is named and not registered here.")
    children: list[Relative] = Field(description="Versions made from this one, then those made from them; at most 1,000.")


class Use(Frozen):
    """What a version is still needed for."""

    kind: str = Field(description="`active`, `main`, `challenger`, `held`, `rollback` or `promotion`.")
    name: str = Field(description="Of the model, deployment or promotion.")
    words: str


class Deleted(Frozen):
    """A version whose files are gone."""

    model: Name
    version: int
    digest: Digest
    removed: list[str] = Field(description="Files that were taken from the stores now, by SHA-256; others need the rest.")
    freed_bytes: int = Field(description="In all stores together.")
