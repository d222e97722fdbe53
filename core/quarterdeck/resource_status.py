"""The status of a ModelDeployment in a cluster: what the operator sees, in words that a user can act on.

Only the operator writes it, and always whole. The schema bounds nothing but types and words: a status that the API server
refused for a long message would leave the last one standing, which is worse than a long message.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from quarterdeck.schema import Camel

Phase = Literal["Pending", "Progressing", "Ready", "Degraded", "Held", "RolledBack", "Failed", "Stopped"]
_PHASES = (
    "One word; conditions say why. Pending: nothing has answered yet. Progressing: a change is under way, what served serves on."
    " Ready: the wanted version answers on every node. Degraded: some node does not answer. Held: a change was stopped, what"
    " served serves on. RolledBack: a version was taken back. Failed: nothing answers, waiting will not help. Stopped: by wish."
)
Truth = Literal["True", "False", "Unknown"]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A moment as Kubernetes writes it: `2026-01-31T12:00:00Z`, UTC, whole seconds."""


class StatusVersion(Camel):
    """A version that plays a part."""

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version.")
    digest: str = Field("", description="Digest (sha256) of its manifest; empty while no node has told it.")


class ServingVersion(Camel):
    """A version that answers requests now, and on how many nodes."""

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version.")
    digest: str = Field(description="Digest (sha256) of its manifest.")
    nodes: int = Field(description="Main nodes that answer with it.")


class NodeCount(Camel):
    """How many main nodes there are."""

    ready: int = Field(0, description="Main nodes that answer requests.")
    wanted: int = Field(0, description="Main nodes that there should be.")


class LastFailure(Camel):
    """What went wrong last; it stays until something else goes wrong or a change of the spec succeeds."""

    node: str = Field("", description="Pod that it happened on; empty where it was no single one.")
    place: str = Field("", description="File, library, row or variable; empty where it does not apply.")
    code: str = Field(description="Error code; docs/reference/errors.md lists them.")
    reason: str = Field(description="What went wrong, and the next step.")
    time: Time = Field(description="When it was first seen.")


class StatusCondition(Camel):
    """One observed fact, in the form of all Kubernetes conditions."""

    type: str = Field(description="What is spoken of: Ready, Progressing, ModelLoaded, RollbackReady …")
    status: Truth = Field(description="Whether it is so.")
    reason: str = Field(description="Why, in one CamelCase word for programs.")
    message: str = Field(description="Why, in a sentence for people.")
    last_transition_time: Time = Field(description="When `status` changed last.")
    observed_generation: int = Field(description="Generation of the spec that was looked at.")


class DeploymentStatus(Camel):
    """What the operator saw last. `observedGeneration` below `metadata.generation`: it has not looked at the newest spec yet."""

    observed_generation: int = Field(0, description="Generation of the spec that this status speaks of.")
    phase: Phase = Field("Pending", description=_PHASES)
    revision: int = Field(0, description="Number that answers name; rises whenever another version begins to answer.")
    active: StatusVersion | None = Field(None, description="The version that answers.")
    previous: StatusVersion | None = Field(None, description="The version that a rollback would go to.")
    challenger: StatusVersion | None = Field(None, description="The version that gets copies of the traffic.")
    replicas: int = Field(0, description="Main pods that exist.")
    ready_replicas: int = Field(0, description="Main pods that are ready.")
    selector: str = Field("", description="Label selector of the main pods, for the HorizontalPodAutoscaler and kubectl.")
    nodes: NodeCount = Field(NodeCount(), description="How many main nodes there are.")
    versions: list[ServingVersion] = Field(
        default_factory=list, description="Which versions answer now; more than one only while nodes change over."
    )
    last_failure: LastFailure | None = Field(None, description="What went wrong last.")
    conditions: list[StatusCondition] = Field(
        default_factory=list,
        description="Observed facts; `kubectl describe` shows them.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )

    def document(self) -> dict[str, Any]:
        """The status as JSON data, for a server-side apply; what there is not is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
