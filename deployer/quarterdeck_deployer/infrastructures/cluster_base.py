"""What the deployer needs of a cluster: reading and writing ModelDeployments of one namespace, and the ConfigMap of its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from quarterdeck.errors import QuarterdeckError
from quarterdeck_deployer.infrastructures.kubernetes_fields import Object

_HINTS = {
    0: "Check that the deployer reaches the API server; what runs goes on, and it is tried again.",
    401: "Renew the credentials that the infrastructure's kubeconfig or service account holds.",
    403: "Give the deployer's account the rights of the chart's Role: modeldeployments, and the keyring's ConfigMap.",
    404: "Create the namespace, and install the CRDs: `kubectl apply -f crds/`, or the chart.",
    409: "Somebody changed it at the same moment; it is looked at again.",
    422: "Change what the API server names, here or in the resource.",
}


class ClusterFailure(QuarterdeckError):
    """The API server refused, or did not answer.

    Attributes:
        http: the HTTP status; 0: no answer came.
    """

    status = 502
    default_code = "cluster-failed"

    def __init__(self, detail: str, *, http: int, name: str = "") -> None:
        hint = _HINTS.get(http, "It is tried again; the API server's log says more.")
        super().__init__(detail, kind="cluster", name=name, hint=hint)
        self.http = http


@dataclass(frozen=True, slots=True)
class Place:
    """Where the resources are.

    Attributes:
        kubeconfig: path on the deployer's host; empty: as the pod's service account says, or KUBECONFIG.
        context: of the kubeconfig; empty: its current one.
        seconds: how long one call may take.
    """

    namespace: str
    kubeconfig: str = ""
    context: str = ""
    seconds: float = 10.0


class Cluster(Protocol):
    """One namespace of a cluster; blocks. Everything raises ClusterFailure."""

    def resources(self) -> list[Object]:
        """All ModelDeployments, as they are now."""
        ...

    def changes(self) -> Iterator[None]:
        """One item for each change of a ModelDeployment from now on, and some more; ends now and then."""
        ...

    def apply(self, document: Object, version: str = "") -> Object:
        """Server-side apply; gives back the resource as it is now.

        Args:
            document: all fields that the deployer wants.
            version: take over fields of others too, while the resource has this `resourceVersion`; empty: do not.
        """
        ...

    def drop(self, name: str, parts: Sequence[str], version: str) -> Object:
        """Take parts of the spec away, whoever owns them, while the resource has this `resourceVersion`."""
        ...

    def delete(self, name: str, uid: str) -> None:
        """Delete the resource with this uid; one that is gone already is fine."""
        ...

    def pods(self, selector: str) -> tuple[list[Object], list[Object]]:
        """Pods with these labels, and what the metrics server says of them; nothing where there is none."""
        ...

    def config_map(self, name: str) -> Mapping[str, str] | None:
        """What a ConfigMap holds; None where there is none."""
        ...

    def write_keyring(self, name: str, data: Mapping[str, str]) -> None:
        """Let a ConfigMap hold this; what others have written beside it stays."""
        ...

    def close(self) -> None:
        """Let go of all connections; who waits for changes waits no more."""
        ...
