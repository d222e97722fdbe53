"""What the operator sees and what it wants: plain data between observing, deciding and writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import Field

from quarterdeck.manifest import Digest
from quarterdeck.plan import Key, NodeReport, Plan, Role, TokenIssuer
from quarterdeck.rollout import Record
from quarterdeck.schema import Frozen

Object = dict[str, Any]
"""A Kubernetes object as JSON data."""


class ResourceKey(NamedTuple):
    """One ModelDeployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ObjectKey(NamedTuple):
    """One object of the resource's namespace."""

    kind: str
    name: str


class Template(Frozen):
    """A pod template as it was rendered when the spec last changed; a newer operator does not roll anybody's pods."""

    hash: str = Field(description="Ten hex digits of what was rendered; names the plan and labels the pods.")
    inputs: str = Field(description="Digest of the spec's fields that it was rendered from.")
    pod: Object = Field(description="The pod template, without the plan's name.")


class ClusterRecord(Frozen):
    """The durable memory of one deployment: the ConfigMap `<name>-record`, written by compare-and-swap before plans."""

    record: Record = Record()
    sequence: int = Field(0, description="Of the plans; rises whenever their content does.")
    content: str = Field("", description="Digest of the plans' content under this sequence.")
    pins: dict[str, Digest] = Field(default_factory=dict, description="`model/version` → the first digest that a node reported.")
    wish: str = Field("", description="Which version the spec last named, as text.")
    chosen: int = Field(0, description="Generation in which that changed last; a choice lifts a rejection.")
    templates: dict[Role, Template] = Field(default_factory=dict, description="Current pod template of each role.")


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that one decision looks at. Nothing else is read while deciding."""

    key: ResourceKey
    resource: Object | None
    """The ModelDeployment; None: it is gone."""
    record: ClusterRecord
    record_version: str
    """resourceVersion of the record's ConfigMap; empty: there is none yet."""
    owned: dict[ObjectKey, Object]
    """Objects that carry our label and this resource as controller."""
    pods: Sequence[Object]
    reports: Sequence[NodeReport]
    """Live ones, of this deployment's nodes."""
    keyring: Sequence[Key] = ()
    issuers: Sequence[TokenIssuer] = ()
    """Whose people's tokens open what keys open; from the same ConfigMap."""
    keyring_problem: str = ""
    """Why the keyring cannot be used, in words; empty: it can."""
    keyring_missing: str = ""
    """Name of the keyring's ConfigMap where there is none."""
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be written: record first, then plans, then objects, then deletions, status last."""

    record: ClusterRecord
    plans: Sequence[Plan]
    objects: Sequence[Object]
    """Whole objects for server-side apply, plan ConfigMaps first."""
    delete: Sequence[ObjectKey]
    status: Object
    events: Sequence[tuple[str, str, str]] = field(default=())
    """(type, reason, message) of Kubernetes events worth telling."""
