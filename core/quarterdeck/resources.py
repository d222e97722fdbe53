"""The YAML of a deployment, `quarterdeck.dev/v1alpha1`: the same file for a laptop and for a cluster.

apiVersion: quarterdeck.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: late-flights
spec:
  model: {name: late-flights, version: 1}
  challenger: {version: 2}
  access: public
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import ConfigDict, Field, StrictBool, ValidationError, model_validator
from pydantic_core import ErrorDetails

from quarterdeck.errors import InvalidInput
from quarterdeck.manifest import Digest, Trust
from quarterdeck.placement import KEYRING, Nodes, ObjectName, Pin, Rollback, Store
from quarterdeck.plan import Accelerator, AccessMode, RecordMode
from quarterdeck.rules import Rule, extension
from quarterdeck.schema import Camel, Frozen, Name

API_VERSION: Literal["quarterdeck.dev/v1alpha1"] = "quarterdeck.dev/v1alpha1"
KIND: Literal["ModelDeployment"] = "ModelDeployment"
# Strict: YAML reads `yes` as true, and pydantic would take that for version 1.
_VERSION = Annotated[int, Field(ge=1, strict=True, description="Number of the version.")]
_NAMED = Rule(
    "has(self.version) || has(self.digest)", "needs a version or a digest: add `version: 1`, or the digest that is meant"
)
_TRUST_WORDS = "`code` lets the package run code when it is loaded."
_ACCELERATOR_WORDS = "`cuda` scores on an NVIDIA GPU; the package must have been built for it, and the node must have one."

_READ_AS = {
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:timestamp": "a date",
}

Place = tuple[str | int, ...]


class _Dumper(yaml.SafeDumper):
    """Quotes text that any reader of YAML takes for a number or a yes: `1e3` and `y` are to kubectl's, not to Python's."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    odd = re.match(r"[-+.]?[0-9]", text) or text.lower() in ("y", "n")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if odd else None)


_Dumper.add_representer(str, _represent_text)


class MainRef(Frozen):
    """Which version answers: by number, by digest, or by both, which then must agree."""

    model_config = ConfigDict(json_schema_extra=extension(_NAMED))

    name: Name = Field(description="Name of the model.")
    version: _VERSION | None = Field(None, description="Number of the version.")
    digest: Digest | None = Field(None, description="Digest (sha256) of the version's manifest.")
    trust: Trust = Field("data", description=_TRUST_WORDS)
    accelerator: Accelerator = Field("none", description=_ACCELERATOR_WORDS)

    @model_validator(mode="after")
    def _named(self) -> MainRef:
        _NAMED.require(self.version or self.digest)
        return self


class ChallengerRef(Frozen):
    """Which version gets copies of the traffic."""

    model: Name | None = Field(None, description="Name of the model; that of main where it is left out.")
    version: _VERSION
    trust: Trust = Field("data", description=_TRUST_WORDS)
    accelerator: Accelerator = Field("none", description=_ACCELERATOR_WORDS)


class Spec(Camel):
    """What is wanted of one deployment."""

    model: MainRef = Field(description="The version that answers: by number, by digest, or by both, which then must agree.")
    challenger: ChallengerRef | None = Field(None, description="Which version gets copies of the traffic, in nodes of its own.")
    project: Name = Field("default", description="Project that it belongs to; `project` keys open what is in theirs.")
    stage: Name | None = Field(None, description="Stage that it lives in, for good; the deployer's choice where it is left out.")
    service: Name | None = Field(
        None, description="What callers know it as together with others, over all stages; its own name where left out."
    )
    description: str = Field("", max_length=2_000, description="What it is for, in a sentence.")
    access: AccessMode = Field("instance", description="Who may predict: `public`, or holders of an `instance` or `project` key.")
    records: RecordMode = Field("spooled", description="Whether rows and answers are written down; `off`: they are not.")
    running: StrictBool = Field(True, description="`false` stops all nodes and keeps everything else.")
    pin: Pin | None = Field(None, description="Overrides `model` while it is set, for rollbacks of files that others own.")
    attempt: Annotated[int, Field(strict=True, ge=0)] = Field(
        0, description="Raise it to try again what nodes have refused, or what was taken back by itself."
    )
    rollback: Rollback = Field(Rollback(), description="When a new version is taken back without asking.")
    progress_seconds: Annotated[int, Field(strict=True, ge=10, le=86_400)] = Field(
        600, description="How long a version may take to be ready."
    )
    keyring: ObjectName = Field(KEYRING, description="ConfigMap with the keys of `instance` and `project` access.")
    store: Store | None = Field(None, description="Packages and records; the operator's default where it is left out.")
    nodes: Nodes = Field(Nodes(), description="How many nodes there are, where they run and what they may take.")

    def for_clusters(self) -> list[str]:
        """Names of the fields that say something here, and that mean nothing without a cluster."""
        changed = self.model_dump(exclude_defaults=True)
        return [field for field in ("nodes", "store", "keyring") if field in changed]


class Metadata(Frozen):
    """How the deployment is called."""

    name: Name


class ModelDeployment(Frozen):
    """One YAML document."""

    api_version: Literal["quarterdeck.dev/v1alpha1"] = Field(API_VERSION, alias="apiVersion")
    kind: Literal["ModelDeployment"] = KIND
    metadata: Metadata
    spec: Spec

    def document(self) -> dict[str, Any]:
        """The document as plain data, defaults left out."""
        # Defaults are left out, so that a file written today follows a default that changes tomorrow, as a hand-written one does.
        lean = self.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        return {"apiVersion": self.api_version, "kind": self.kind, **lean}

    def to_yaml(self) -> str:
        """The document as YAML, in the order that people write it."""
        return yaml.dump(self.document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def spec_of(resource: Mapping[str, Any], program: str) -> Spec:
    """What a resource of a cluster wants.

    Args:
        resource: as the API server gives it, whose schema says the same as ours unless it is of another version.
        program: that reads it, for the hint.

    Raises:
        InvalidInput: ``spec-unreadable``: it has fields or values that this program does not know.
    """
    try:
        return Spec.model_validate(resource["spec"], by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, ("spec", *first["loc"])))
        raise InvalidInput(
            f"{field}: {first['msg']}.",
            code="spec-unreadable",
            kind="field",
            name=field,
            hint=f"Correct it, or install the CRDs and the {program} of the same version.",
        ) from None


def read_file(path: Path) -> list[ModelDeployment]:
    """All documents of a YAML file.

    Raises:
        InvalidInput: naming the file, the line, the field and the next step.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidInput(f"{path} cannot be read: {reason}.", kind="file", name=path.name, hint="Check the path.") from None
    return read(text, str(path))


def read(text: str, source: str = "input") -> list[ModelDeployment]:
    """All documents of a YAML text; `source` is how messages call it.

    Raises:
        InvalidInput: naming the source, the line, the field and the next step.
    """
    try:
        # Read twice: the nodes know the lines, the data has the types.
        nodes = yaml.compose_all(text, Loader=yaml.SafeLoader)
        # An empty document is read as None, and is nothing.
        found = [(document, node) for document, node in zip(yaml.safe_load_all(text), nodes, strict=True) if document is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        problem = getattr(error, "problem", None) or "not YAML"
        raise InvalidInput(
            f"{where}: {problem}.",
            code="malformed",
            kind="file",
            name=source,
            hint="Indent with spaces, and quote values that hold a colon.",
        ) from None
    except ValueError:
        # YAML makes moments and numbers of what only looks like them, and fails on the thirteenth month.
        raise InvalidInput(
            f"{source}: a value looks like a date or a number but is none.",
            code="malformed",
            kind="file",
            name=source,
            hint="Quote values that are text.",
        ) from None
    if not found:
        raise InvalidInput(
            f"{source} holds no document.", kind="file", name=source, hint=f"Begin it with `apiVersion: {API_VERSION}`."
        )
    return [_validated(document, node, source) for document, node in found]


def _validated(document: Any, node: yaml.Node, source: str) -> ModelDeployment:
    _check_unique(node, source)
    try:
        # By alias only: an API server knows no other names, and the file is the same.
        return ModelDeployment.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        # An unknown field comes first: it is most often the reason why a required one is missing.
        errors = error.errors(include_url=False, include_input=False)
        raise _refusal(min(errors, key=lambda each: each["type"] != "extra_forbidden"), node, source) from None


def _check_unique(node: yaml.Node, source: str) -> None:
    """Refuse a field that is there twice: YAML's reader would silently take the last one."""
    if isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, value in node.value:
            if key.value in seen:
                raise InvalidInput(
                    f"{source}:{key.start_mark.line + 1}: {key.value}: is there twice.",
                    kind="field",
                    name=str(key.value),
                    hint="Leave one of them.",
                )
            # Keys that are no scalars are refused with the field's name later; as lists they have no hash.
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
            _check_unique(value, source)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_unique(value, source)


def _refusal(found: ErrorDetails, root: yaml.Node, source: str) -> InvalidInput:
    place = found["loc"]
    field = ".".join(map(str, place)) or "document"
    hint = "See docs/reference/resources.md for what a ModelDeployment holds."
    said = found["msg"].removeprefix("Value error, ")
    line, node = _found(root, place)
    if found["type"] == "extra_forbidden":
        said, hint = "is not a field", _instead(place)
    elif found["type"] == "missing":
        said, hint = "is missing", f"Add `{field}`."
    elif place == ("apiVersion",):
        hint = f"This version of Quarterdeck reads {API_VERSION}."
    elif found["type"] in ("string_type", "literal_error") and node.tag in _READ_AS:
        hint = f"YAML reads this as {_READ_AS[node.tag]}; quote it to make it text."
    return InvalidInput(f"{source}:{line}: {field}: {said}.", kind="field", name=field, hint=hint)


def _found(node: yaml.Node, place: Place) -> tuple[int, yaml.Node]:
    """The deepest part of `place` that the text has, and its line (from 1)."""
    line = node.start_mark.line + 1
    for part in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            line, node = node.value[part].start_mark.line + 1, node.value[part]
            continue
        pairs: Iterable[tuple[yaml.Node, yaml.Node]] = node.value if isinstance(node, yaml.MappingNode) else ()
        match = next(((key, value) for key, value in pairs if key.value == part), None)
        if match is None:
            break
        line, node = match[0].start_mark.line + 1, match[1]
    return line, node


def _instead(place: Place) -> str:
    """What may have been meant by a field that is none."""
    parent: Any = ModelDeployment
    for part in place[:-1]:
        parent = _below(parent, part)
    name, known = str(place[-1]), _fields(parent)
    owner = next((field for field in known if name in _fields(_below(parent, field))), None)
    if owner:
        return f"It belongs under `{owner}`."
    close = difflib.get_close_matches(name, known, 1)
    return f"Did you mean `{close[0]}`?" if close else f"Fields here are {', '.join(known)}."


def _fields(model: Any) -> list[str]:
    """Names of a model's fields as they are written; none where it is no model."""
    return [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]


def _below(model: Any, part: str | int) -> Any:
    """The type of a field of a model, or of a member of a list; for `X | None` it is X."""
    if isinstance(part, int):
        return get_args(model)[0]
    field = next(field for name, field in model.model_fields.items() if part == (field.alias or name))
    wanted = [one for one in get_args(field.annotation) if one is not type(None)]
    return wanted[0] if type(None) in get_args(field.annotation) else field.annotation
