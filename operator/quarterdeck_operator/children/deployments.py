"""The Deployment of a role: pods of one template, replaced one by one and never below their number."""

from __future__ import annotations

from quarterdeck.plan import Role
from quarterdeck.resources import Spec
from quarterdeck_operator.names import Owner, labels, metadata, role_name, selector
from quarterdeck_operator.pods import MIN_READY_SECONDS
from quarterdeck_operator.template import bind
from quarterdeck_operator.world import Object, Template

_OLD_REPLICA_SETS = 2


def deployment(owner: Owner, role: Role, template: Template, spec: Spec, replicas: int | None) -> Object:
    """One role's Deployment; `replicas` None leaves the number to its autoscaler."""
    name = owner.key.name
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(owner, role_name(name, role), labels(name, role)),
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "selector": {"matchLabels": selector(name, role)},
            # The new pod first: with one replica nobody would answer meanwhile, and with many the rest would carry its load.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "minReadySeconds": MIN_READY_SECONDS,
            "progressDeadlineSeconds": spec.progress_seconds,
            # Ways back are versions in the plan, not old templates.
            "revisionHistoryLimit": _OLD_REPLICA_SETS,
            "template": bind(template, owner.key, role),
        },
    }
