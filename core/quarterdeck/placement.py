"""The part of a ModelDeployment that only a cluster needs: how many nodes, on which machines, with which store.

A laptop takes the same file and leaves these aside. Numbers are whole numbers and quantities are text: a resource that holds
no floats is compared by every tool alike.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, WithJsonSchema, model_validator

from quarterdeck.rules import Rule, extension
from quarterdeck.schema import Camel, Name

_QUANTITY = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"


def _quantity(value: object) -> object:
    # Whole numbers are what people write for processors; a fraction without quotes would be a float.
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and len(value) <= 32 and re.fullmatch(_QUANTITY, value):
        return value
    raise ValueError('is not a quantity: write `2`, `500m`, `1Gi`, or "0.5" in quotes')


Quantity = Annotated[
    str | int,
    BeforeValidator(_quantity),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": _QUANTITY,
            "minimum": 0,
            "maxLength": 32,
            "description": "A Kubernetes quantity: `500m`, `2`, `1Gi`.",
        }
    ),
]
ObjectName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", max_length=253, description="Name of an object in the same namespace."
    ),
]
OWN_VARIABLES = (
    "QUARTERDECK_NODE",
    "QUARTERDECK_PLAN",
    "QUARTERDECK_ROLE",
    "QUARTERDECK_HOST",
    "QUARTERDECK_PORT",
    "QUARTERDECK_GRPC_PORT",
    "QUARTERDECK_FOLDER",
    "QUARTERDECK_PLAN_SERVER",
    "QUARTERDECK_PLAN_FOLDER",
    "QUARTERDECK_NODE_TOKEN_FILE",
    "QUARTERDECK_DRAIN_SECONDS",
    "QUARTERDECK_LEAVE_SECONDS",
)
"""Variables of the serving container that the operator sets, and that nobody else may."""
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"

_IN_ORDER = Rule(
    "self.minReplicas <= self.maxReplicas", "`minReplicas` is larger than `maxReplicas`: raise the one or lower the other"
)
_EXISTS = Rule(
    "self.operator == 'Exists' ? !has(self.value) || self.value == '' : has(self.key) && self.key != ''",
    "`operator: Exists` takes no `value`, and `Equal` needs a `key`",
)
_ONLY_NO_EXECUTE = Rule(
    "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
    "`tolerationSeconds` has a meaning with `effect: NoExecute` only: add that or leave it out",
)
# The API server writes the default 1 into every resource, so 1 cannot be told from nothing; more is a wish that would be lost.
_ONE_OWNER = Rule(
    "!has(self.autoscaling) || self.replicas == 1",
    "`autoscaling` decides the number of nodes: set `replicas: 1` or leave it out, and wish for more by `minReplicas`",
)
_VARIABLE_NAMES = Rule(
    f"!has(self.env) || self.env.all(name, name.matches('{_VARIABLE}'))",
    "names in `env` are letters, digits and underscores, and do not begin with a digit",
)
_OWN = Rule(
    f"!has(self.env) || !self.env.exists(name, name in [{', '.join(map(repr, OWN_VARIABLES))}])",
    "the operator sets these variables itself, leave them out of `env`: " + ", ".join(OWN_VARIABLES),
)


class Autoscaling(Camel):
    """The number of main nodes follows their processor time."""

    model_config = ConfigDict(json_schema_extra=extension(_IN_ORDER))

    min_replicas: Annotated[int, Field(strict=True, ge=1, le=1_000)] = Field(1, description="Never fewer nodes.")
    max_replicas: Annotated[int, Field(strict=True, ge=1, le=1_000)] = Field(description="Never more nodes.")
    cpu_percent: Annotated[int, Field(strict=True, ge=1, le=1_000)] = Field(
        70, description="Processor time per node that is aimed at, in percent of `resources.requests.cpu`."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Autoscaling:
        _IN_ORDER.require(self.min_replicas <= self.max_replicas)
        return self


class Resources(Camel):
    """What one node asks of its machine, and what it may take at most; a GPU is `limits: {nvidia.com/gpu: 1}`."""

    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=16, description="What a node is given for sure.")
    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=16, description="What it may take at most.")


class Toleration(Camel):
    """A taint that nodes put up with."""

    model_config = ConfigDict(json_schema_extra=extension(_EXISTS, _ONLY_NO_EXECUTE))

    key: str = Field("", max_length=316, description="Key of the taint; empty with `Exists`: every taint.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="Whether the taint's value counts.")
    value: str = Field("", max_length=63, description="Value of the taint.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field("", description="Effect of the taint; empty: all.")
    toleration_seconds: Annotated[int, Field(strict=True, ge=0)] | None = Field(
        None, description="How long `NoExecute` is put up with."
    )

    @model_validator(mode="after")
    def _meant(self) -> Toleration:
        _EXISTS.require(not self.value if self.operator == "Exists" else self.key)
        _ONLY_NO_EXECUTE.require(self.toleration_seconds is None or self.effect == "NoExecute")
        return self


class Nodes(Camel):
    """How many nodes there are and where they run. A change here, other than of their number, starts new pods."""

    model_config = ConfigDict(json_schema_extra=extension(_ONE_OWNER, _VARIABLE_NAMES, _OWN))

    replicas: Annotated[int, Field(strict=True, ge=0, le=1_000)] = Field(
        1, description="Main nodes; not together with `autoscaling`."
    )
    autoscaling: Autoscaling | None = Field(None, description="Lets the number of main nodes follow the load.")
    challenger_replicas: Annotated[int, Field(strict=True, ge=1, le=1_000)] = Field(
        1, description="Challenger nodes, while there is one."
    )
    image: str = Field("", max_length=512, description="Image of the nodes; empty: the operator's default when it was deployed.")
    template_revision: Annotated[int, Field(strict=True, ge=0)] = Field(
        0, description="Raise it to take over a newer default image and pod template: the condition TemplateOutdated says when."
    )
    resources: Resources = Field(Resources(), description="Processor, memory, GPUs of one node's serving container.")
    node_selector: dict[str, str] = Field(
        default_factory=dict, max_length=32, description="Labels of the machines that may be used."
    )
    tolerations: list[Toleration] = Field(default_factory=list, max_length=32, description="Taints that are put up with.")
    image_pull_secrets: list[ObjectName] = Field(default_factory=list, max_length=8, description="Secrets for the registry.")
    service_account: ObjectName | None = Field(None, description="Service account of the pods, for cloud identities.")
    grpc: StrictBool = Field(False, description="Whether the gRPC door is open, on port 8081 of the Service.")
    env: dict[str, str] = Field(
        default_factory=dict,
        max_length=64,
        description="Variables of the serving container: what the package needs, and QUARTERDECK_ limits.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Nodes:
        _ONE_OWNER.require(self.autoscaling is None or self.replicas == 1)
        _VARIABLE_NAMES.require(all(re.fullmatch(_VARIABLE, name) for name in self.env))
        _OWN.require(not set(self.env) & set(OWN_VARIABLES))
        return self


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

    automatic: StrictBool = Field(True, description="Whether a version that fails is taken back by itself.")
    min_requests: Annotated[int, Field(strict=True, ge=1)] = Field(
        50, description="Requests to the new version before its errors count."
    )
    margin_percent: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        5, description="Percentage points by which its rate of server errors may lie above the previous version's."
    )
    window_seconds: Annotated[int, Field(strict=True, ge=10, le=86_400)] = Field(
        600, description="How long after the swap it is watched."
    )


class Pin(Camel):
    """Overrides `model` while it is there: a rollback of a resource whose file others own."""

    version: Annotated[int, Field(strict=True, ge=1)] = Field(description="Number of the version that answers meanwhile.")
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(None, description="Its digest, where known.")
    reason: str = Field(min_length=1, max_length=1_024, description="Why, for the people who will wonder; shown in the status.")


KEYRING: Name = "quarterdeck-keyring"
KEY_USES: Name = "quarterdeck-key-uses"
"""The ConfigMap in which the operator notes when keys of a namespace were used last."""
KEY_USES_ENTRY = "uses.json"
"""The ConfigMap of a namespace that holds its keys' digests, unless the deployment names another."""
