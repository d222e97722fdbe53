"""The ConfigMap of a plan, as pods mount it."""

from __future__ import annotations

from quarterdeck.plan import Plan
from quarterdeck_operator.names import TEMPLATE_LABEL, Owner, labels, metadata
from quarterdeck_operator.plans import CA_FILE, PLAN_FILE
from quarterdeck_operator.world import Object


def plan_map(owner: Owner, plan: Plan, ca: str) -> Object:
    """The ConfigMap of a mounted plan.

    Args:
        owner: the deployment.
        plan: the mounted copy, without the mirroring token.
        ca: PEM of the certificates that the plan server's is signed by.
    """
    role = plan.deployments[0].role
    its_labels = {**labels(owner.key.name, role), TEMPLATE_LABEL: plan.node.rpartition("-")[2]}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(owner, plan.node, its_labels),
        "data": {PLAN_FILE: plan.model_dump_json(), CA_FILE: ca},
    }
