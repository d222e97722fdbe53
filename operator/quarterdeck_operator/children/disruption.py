"""The PodDisruptionBudget of main: machines are drained one node at a time."""

from __future__ import annotations

from quarterdeck.resources import Spec
from quarterdeck_operator.names import Owner, labels, metadata, role_name, selector
from quarterdeck_operator.world import Object


def disruption_budget(owner: Owner, spec: Spec) -> Object | None:
    """The budget; None where there is never more than one node: it could promise nothing, or block every drain."""
    most = spec.nodes.autoscaling.max_replicas if spec.nodes.autoscaling else spec.nodes.replicas
    if not spec.running or most <= 1:
        return None
    name = owner.key.name
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(owner, role_name(name, "main"), labels(name, "main")),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector(name, "main")},
            # A pod that answers nobody must not keep its machine from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
