"""The manifest of a package: what is in it, what it takes and gives, what it needs. Its sha256 is the version's digest."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator

from quarterdeck.errors import PackageRefused
from quarterdeck.schema import Frozen, Name, Prediction, Row, Schema

MANIFEST = "manifest.json"
MANIFEST_SCHEMA: Literal[1] = 1
Form = Literal["compiled", "skops", "joblib", "python"]
"""How the model is stored and served. `compiled` needs no Python environment; the others need theirs exactly."""
Trust = Literal["data", "code"]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]

_SAFE_PATH = re.compile(r"[a-z0-9_][a-z0-9._-]*(/[a-z0-9_][a-z0-9._-]*)*")

_AGAIN = "Publish the package again from its source."


class FileEntry(Frozen):
    """One file of the package. `path` is its name inside the package; its bytes live as a blob under its digest."""

    # Narrower than a file system demands: the same on every system, no two that differ in case only, nothing hidden.
    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @field_validator("path")
    @classmethod
    def _relative(cls, value: str) -> str:
        # fullmatch: `$` would let a line feed pass at the end, and files of two names would look like one.
        if not _SAFE_PATH.fullmatch(value) or ".." in value:
            raise ValueError("a package path is lower-case, relative and has no '..'")
        return value


class Environment(Frozen):
    """What the model was made with, and what it needs to be loaded again."""

    python: str = Field(description="Interpreter version, e.g. 3.11.7.")
    libraries: dict[str, str] = Field(default_factory=dict, description="Distribution name → version, as installed when built.")
    variables: list[str] = Field(
        default_factory=list, description="Names of environment variables the model needs; never values."
    )


class GoldenRow(Frozen):
    """A stored input with the answer that must come out again before the version may serve."""

    row: Row
    expected: Prediction


class Scenario(Frozen):
    """A named test: rows in, expectations out; run by `quarterdeck package test`."""

    name: str
    description: str = ""
    rows: list[Row]
    expect: list[Prediction] = Field(default_factory=list, description="Expected answers by row; empty: must merely answer.")
    tolerance: float = 1e-9


class DataSummary(Frozen):
    """Training or validation data: its digest and shape; the rows themselves only where the builder asked for it."""

    rows: int
    digest: Digest
    columns: list[str]
    source: str = ""


class Proof(Frozen):
    """What was compared when the served form was made from the original model, and the largest difference seen."""

    rows: int
    labels_different: int
    largest_difference: float
    tolerance: float
    edges: int = Field(0, description="Edge cases besides, each answered alike or refused alike.")


class Manifest(Frozen):
    """Everything about a version. Serialised canonically, so that the same input gives the same digest."""

    manifest: Literal[1] = Field(MANIFEST_SCHEMA, description="Schema number of this document.")
    model: Name
    form: Form
    trust: Trust = Field(
        "data", description="`code` means that loading runs code from the package; a deployment must allow it by name."
    )
    # `schema` is a method of pydantic's BaseModel already, so the member has another name in Python than in the file.
    data_schema: Schema = Field(alias="schema")
    files: list[FileEntry]
    environment: Environment
    golden: Annotated[list[GoldenRow], Field(min_length=1)]
    golden_tolerance: float = 1e-9
    scenarios: list[Scenario] = Field(default_factory=list)
    metrics: dict[str, float] = Field(default_factory=dict)
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    search_space: dict[str, Any] = Field(default_factory=dict)
    training: DataSummary | None = None
    validation: DataSummary | None = None
    proof: Proof | None = None
    fallback: str = Field("", description="Why the model was not compiled; empty where it was.")
    accelerated: Proof | None = Field(None, description="Proof of the graph for GPUs, where there is one: its own tolerance.")
    card: str = Field("", description="Model card, Markdown.")
    description: str = ""
    run: str = Field("", description="The training run that this version is a candidate of.")
    parent: Digest | None = Field(None, description="The version that this one was made from.")
    commit: str = Field("", description="Of the code that trained it.")
    recipe: str | None = Field(None, description="What trained it from the data: a program or a recipe, by name or digest.")
    producer: str = Field("", description="Who or what built it.")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def canonical(self) -> bytes:
        """The document's bytes: sorted keys, no spaces, UTF-8; these are stored and these are digested."""
        # None is left out, so that a member which a later release adds does not change the digests of today's packages.
        document = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

    @property
    def digest(self) -> str:
        """``sha256:…`` of the canonical bytes."""
        return digest_of(self.canonical())

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    def file(self, path: str) -> FileEntry:
        """The entry of one file.

        Raises:
            PackageRefused: ``file-missing`` where the manifest does not list it.
        """
        for entry in self.files:
            if entry.path == path:
                return entry
        raise PackageRefused(
            f"The package does not list {path}.",
            code="file-missing",
            kind="package",
            name=self.model,
            hint=_AGAIN,
            extra={"place": path},
        )

    @classmethod
    def parse(cls, raw: bytes, expected: str | None = None) -> Manifest:
        """Read a manifest from stored bytes.

        Args:
            raw: the stored bytes.
            expected: digest that the bytes must have, where the caller knows it.

        Raises:
            PackageRefused: ``digest-mismatch`` or ``manifest-invalid``.
        """
        # The digest before the content: bytes of a stranger are not even parsed.
        if expected is not None and digest_of(raw) != expected:
            raise PackageRefused(
                "manifest.json does not have the digest that was asked for.",
                code="digest-mismatch",
                kind="package",
                name=MANIFEST,
                hint="Correct the digest, or publish the package again from its source.",
                extra={"place": MANIFEST},
            )
        try:
            found = cls.model_validate_json(raw)
        except ValidationError as error:
            # One place is enough to mend, and the input stays out of the message: it may be long, and it is not ours.
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise PackageRefused(
                f"manifest.json is not a manifest: {place}: {first['msg']}.",
                code="manifest-invalid",
                kind="package",
                name=MANIFEST,
                hint=_AGAIN,
                extra={"place": MANIFEST},
            ) from None
        # Otherwise two byte strings, and so two digests, could stand for one version.
        if not found._is(raw):
            raise PackageRefused(
                "manifest.json is not in canonical form.",
                code="manifest-invalid",
                kind="package",
                name=MANIFEST,
                hint=_AGAIN,
                extra={"place": MANIFEST},
            )
        return found

    def _is(self, raw: bytes) -> bool:
        try:
            return self.canonical() == raw
        except ValueError:
            # JSON's readers take NaN and numbers of any length, its writer does not: then it cannot be what we wrote.
            return False


def digest_of(data: bytes) -> str:
    """``sha256:`` + hex digest of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
