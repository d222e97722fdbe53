"""The HorizontalPodAutoscaler of main, and who says how many pods there are: it or the spec, handed over without a dip.

When an autoscaler comes, the Deployment is applied without a number, and whoever applies it keeps the present one in place.
When it goes, it goes first, and the spec's number follows once it is gone: two that both say how many would pull to and fro.
"""

from __future__ import annotations

from collections.abc import Mapping

from quarterdeck.resources import Spec
from quarterdeck_operator.names import Owner, labels, metadata, role_name
from quarterdeck_operator.template import SERVE
from quarterdeck_operator.world import Object, ObjectKey

KIND = "HorizontalPodAutoscaler"
_CALM_SECONDS = 120


def autoscaler(owner: Owner, spec: Spec) -> Object | None:
    """The autoscaler on processor time; None where the spec says the number, or none is to run."""
    wish = spec.nodes.autoscaling
    if wish is None or not spec.running:
        return None
    name = role_name(owner.key.name, "main")
    return {
        "apiVersion": "autoscaling/v2",
        "kind": KIND,
        "metadata": metadata(owner, name, labels(owner.key.name, "main")),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": wish.min_replicas,
            "maxReplicas": wish.max_replicas,
            "metrics": [_processor_time(wish.cpu_percent)],
            # Load rises faster than it is sure to have gone: up at once, down after it was quiet for a while.
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": _CALM_SECONDS}},
        },
    }


def number(owner: Owner, spec: Spec, owned: Mapping[ObjectKey, Object]) -> int | None:
    """How many main pods the Deployment is applied with; None: an autoscaler says it, or did until just now."""
    name = role_name(owner.key.name, "main")
    wish = spec.nodes.autoscaling if spec.running else None
    if wish is None:
        stated = spec.nodes.replicas if spec.running else 0
        # Gone first, then the number: the next look finds no autoscaler any more.
        return None if ObjectKey(KIND, name) in owned else stated
    present = owned.get(ObjectKey("Deployment", name), {})
    # An autoscaler leaves a Deployment of no pods alone, so the first ones are ours to ask for.
    return None if present.get("spec", {}).get("replicas", 0) else wish.min_replicas


def _processor_time(percent: int) -> Object:
    # Of the serving container alone: the agent's trials of packages are no load that more nodes would take away.
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": SERVE, "target": target}}
