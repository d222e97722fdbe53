"""The part of the Kubernetes API that the operator speaks: kinds and their paths, reading, writing, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from quarterdeck.errors import QuarterdeckError
from quarterdeck_operator.world import Object, ResourceKey

FIELD_MANAGER = "quarterdeck-operator"
GROUP = "quarterdeck.dev"
MANAGED_BY = "app.kubernetes.io/managed-by"
DEPLOYMENT_LABEL = "quarterdeck.dev/deployment"
SELECTOR = f"{MANAGED_BY}={FIELD_MANAGER}"
"""Label selector of everything that the operator owns."""

Patch = Literal["application/apply-patch+yaml", "application/merge-patch+json"]
APPLY: Patch = "application/apply-patch+yaml"
MERGE: Patch = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object: its `apiVersion` and how its collection is called in paths."""

    name: str
    api_version: str
    plural: str

    def path(self, namespace: str = "", name: str = "") -> str:
        """Path of one object, or of the collection: of a namespace, or of the whole cluster."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        inside = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{inside}/{self.plural}" + (f"/{name}" if name else "")


MODEL_DEPLOYMENT = Kind("ModelDeployment", f"{GROUP}/v1alpha1", "modeldeployments")
CONFIG_MAP = Kind("ConfigMap", "v1", "configmaps")
POD = Kind("Pod", "v1", "pods")
EVENT = Kind("Event", "events.k8s.io/v1", "events")
LEASE = Kind("Lease", "coordination.k8s.io/v1", "leases")
SECRET = Kind("Secret", "v1", "secrets")
TOKEN_REVIEW = Kind("TokenReview", "authentication.k8s.io/v1", "tokenreviews")
OWNED: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        CONFIG_MAP,
        Kind("Service", "v1", "services"),
        Kind("Deployment", "apps/v1", "deployments"),
        Kind("HorizontalPodAutoscaler", "autoscaling/v2", "horizontalpodautoscalers"),
        Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
        Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
    )
}
"""Kinds of objects that a deployment may own, by name."""


class ApiFailure(QuarterdeckError):
    """The API server refused, or did not answer.

    Attributes:
        http: the HTTP status; 0: no answer came.
    """

    default_code = "kubernetes-api"

    def __init__(self, detail: str, *, http: int) -> None:
        super().__init__(detail, kind="api", hint="It is tried again; `kubectl get events` and the API server's log say more.")
        self.http = http

    @property
    def conflict(self) -> bool:
        """Whether somebody else has changed or created the object meanwhile."""
        return self.http == 409


class Reads(Protocol):
    """Reading from the API server; blocks."""

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object | None:
        """One object or list; None where it does not exist.

        Raises:
            ApiFailure: any other refusal, or no answer.
        """
        ...


class Writes(Protocol):
    """Writing to the API server; blocks."""

    def create(self, path: str, body: Object) -> Object:
        """POST to a collection; gives back the object as it is now.

        Raises:
            ApiFailure: any refusal, or no answer; `conflict` where it exists already.
        """
        ...

    def replace(self, path: str, body: Object) -> Object:
        """PUT: compare and swap by the body's `metadata.resourceVersion`.

        Raises:
            ApiFailure: any refusal, or no answer; `conflict` where it has changed meanwhile.
        """
        ...

    def patch(self, path: str, body: Object, content_type: Patch, manager: str = FIELD_MANAGER, *, force: bool = True) -> Object:
        """PATCH: server-side apply, or a JSON merge.

        Raises:
            ApiFailure: any refusal, or no answer; `conflict` where a field is another manager's and `force` is not given.
        """
        ...

    def delete(self, path: str, uid: str) -> None:
        """Delete the object that has this uid, and no other of its name; one that is gone already is fine.

        Raises:
            ApiFailure: any other refusal, or no answer.
        """
        ...


def resource_key(resource: Object) -> ResourceKey:
    """Namespace and name of a ModelDeployment."""
    return ResourceKey(resource["metadata"]["namespace"], resource["metadata"]["name"])
