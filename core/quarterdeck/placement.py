"""The part of a ModelDeployment that only a cluster needs: how many nodes, on which machines, with which store.

A laptop takes the same file and leaves these aside. Numbers are whole numbers and quantities are text: a resource that holds
no floats is compared by every tool alike.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from quarterdeck.schema import Frozen, Name

Quantity = Annotated[
    str | Annotated[int, Field(ge=0, strict=True)],
    Field(description="A Kubernetes quantity: `500m`, `2`, `1Gi`.", json_schema_extra={"x-kubernetes-int-or-string": True}),
]
ObjectName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", description="Name of an object in the same namespace.")
]


class Camel(Frozen):
    """Base of resource parts: written in camelCase, read in Python's names too."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class Autoscaling(Camel):
    """The number of main nodes follows their processor time."""

    min_replicas: Annotated[int, Field(ge=1, le=1_000)] = Field(1, description="Never fewer nodes.")
    max_replicas: Annotated[int, Field(ge=1, le=1_000)] = Field(description="Never more nodes.")
    cpu_percent: Annotated[int, Field(ge=1, le=1_000)] = Field(
        70, description="Processor time per node that is aimed at, in percent of what it requests."
    )


class Resources(Camel):
    """What one node asks of its machine, and what it may take at most; a GPU is `limits: {nvidia.com/gpu: 1}`."""

    requests: dict[str, Quantity] = Field(default_factory=dict, description="What a node is given for sure.")
    limits: dict[str, Quantity] = Field(default_factory=dict, description="What it may take at most.")


class Toleration(Camel):
    """A taint that nodes put up with."""

    key: str = Field("", description="Key of the taint; empty with `Exists`: every taint.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="Whether the taint's value counts.")
    value: str = Field("", description="Value of the taint.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field("", description="Effect of the taint; empty: all.")
    toleration_seconds: Annotated[int, Field(ge=0)] | None = Field(None, description="How long `NoExecute` is put up with.")


class Nodes(Camel):
    """How many nodes there are and where they run. A change here, other than of their number, starts new pods."""

    replicas: Annotated[int, Field(ge=0, le=1_000)] = Field(1, description="Main nodes; not together with `autoscaling`.")
    autoscaling: Autoscaling | None = Field(None, description="Lets the number of main nodes follow the load.")
    challenger_replicas: Annotated[int, Field(ge=1, le=1_000)] = Field(1, description="Challenger nodes, while there is one.")
    image: str = Field("", max_length=512, description="Image of the nodes; empty: the operator's default when it was deployed.")
    template_revision: Annotated[int, Field(ge=0)] = Field(
        0, description="Raise it to take over a newer default image and pod template: the condition TemplateOutdated says when."
    )
    resources: Resources = Field(Resources(), description="Processor, memory, GPUs of one node's serving container.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels of the machines that may be used.")
    tolerations: list[Toleration] = Field(default_factory=list, max_length=32, description="Taints that are put up with.")
    image_pull_secrets: list[ObjectName] = Field(default_factory=list, max_length=8, description="Secrets for the registry.")
    service_account: ObjectName | None = Field(None, description="Service account of the pods, for cloud identities.")
    grpc: bool = Field(False, description="Whether the gRPC door is open, on port 8081 of the Service.")
    env: dict[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")], str] = Field(
        default_factory=dict, description="Variables of the serving container: what the package needs, and QUARTERDECK_ limits."
    )


class Store(Camel):
    """Where packages lie and records go. Secret and ConfigMap are mounted as files, so new content needs no restart."""

    url: Annotated[str, Field(pattern=r"^s3://", max_length=1_024)] = Field(
        description="`s3://BUCKET/PREFIX`, with `?endpoint=…&region=…` for servers other than AWS."
    )
    secret: ObjectName | None = Field(
        None, description="Secret with `access-key-id`, `secret-access-key` and, if there is one, `session-token`."
    )
    ca_config_map: ObjectName | None = Field(None, description="ConfigMap whose `ca.crt` signed the server's certificate.")


class Rollback(Camel):
    """When a new version is taken back without asking. The spec is never written; the version stays rejected."""

    automatic: bool = Field(True, description="Whether a version that fails is taken back by itself.")
    min_requests: Annotated[int, Field(ge=1)] = Field(50, description="Requests to the new version before its errors count.")
    margin_percent: Annotated[int, Field(ge=0, le=100)] = Field(
        5, description="Percentage points by which its rate of server errors may lie above the previous version's."
    )
    window_seconds: Annotated[int, Field(ge=10, le=86_400)] = Field(600, description="How long after the swap it is watched.")


class Pin(Camel):
    """Overrides `model` while it is there: a rollback of a resource whose file others own."""

    version: Annotated[int, Field(ge=1, strict=True)] = Field(description="Number of the version that answers meanwhile.")
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(None, description="Its digest, where known.")
    reason: str = Field("", max_length=1_024, description="Why; shown in the status.")


KEYRING: Name = "quarterdeck-keyring"
"""The ConfigMap of a namespace that holds its keys' digests, unless the deployment names another."""
