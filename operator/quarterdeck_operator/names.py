"""How everything is called that belongs to one deployment in a cluster: objects, labels, ports, folders of a pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quarterdeck.plan import Role
from quarterdeck_operator.kube import DEPLOYMENT_LABEL, FIELD_MANAGER, MANAGED_BY, MODEL_DEPLOYMENT
from quarterdeck_operator.world import Object, ResourceKey

NAME_LABEL = "app.kubernetes.io/name"
NODE_APP = "quarterdeck-node"
ROLE_LABEL = "quarterdeck.dev/role"
TEMPLATE_LABEL = "quarterdeck.dev/template"
HTTP_PORT = 8080
GRPC_PORT = 8081
AUDIENCE = "quarterdeck-plan-server"
"""Whom the pods' projected tokens are meant for; good for nothing else in the cluster."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The ModelDeployment that objects belong to."""

    key: ResourceKey
    uid: str


def role_name(deployment: str, role: Role) -> str:
    """Name of the role's Deployment, autoscaler, disruption budget and network policy."""
    return f"{deployment}-{role}"


def service_name(deployment: str, role: Role) -> str:
    """Name of the role's Service; callers know main by the deployment's own name."""
    return deployment if role == "main" else role_name(deployment, role)


def plan_name(deployment: str, role: Role, template: str) -> str:
    """Name of a plan and of its ConfigMap; at most 63 characters for deployments' names of at most 40."""
    return f"{role_name(deployment, role)}-{template}"


def record_name(deployment: str) -> str:
    """Name of the ConfigMap with the decision record."""
    return f"{deployment}-record"


def selector(deployment: str, role: Role) -> dict[str, str]:
    """Labels by which a role's pods are found; a Deployment's selector can never change, so neither can these."""
    return {NAME_LABEL: NODE_APP, DEPLOYMENT_LABEL: deployment, ROLE_LABEL: role}


def labels(deployment: str, role: Role | None = None, template: str = "") -> dict[str, str]:
    """Labels of an owned object or pod; those of role and template where it has one."""
    found = {NAME_LABEL: NODE_APP, MANAGED_BY: FIELD_MANAGER, DEPLOYMENT_LABEL: deployment}
    return {**found, **({ROLE_LABEL: role} if role else {}), **({TEMPLATE_LABEL: template} if template else {})}


def metadata(owner: Owner, name: str, its_labels: Mapping[str, str]) -> Object:
    """Metadata of an object that the resource owns and that goes when the resource goes."""
    return {
        "name": name,
        "namespace": owner.key.namespace,
        "labels": dict(its_labels),
        "ownerReferences": [
            {
                "apiVersion": MODEL_DEPLOYMENT.api_version,
                "kind": MODEL_DEPLOYMENT.name,
                "name": owner.key.name,
                "uid": owner.uid,
                "controller": True,
            }
        ],
    }


def role_of(labels: Mapping[str, str]) -> Role:
    """The role that a pod's labels say; main where they say none."""
    return "challenger" if labels.get(ROLE_LABEL) == "challenger" else "main"


def labels_of(thing: Object) -> Mapping[str, str]:
    """Labels of any object; none where it has none."""
    found: Mapping[str, str] = thing.get("metadata", {}).get("labels") or {}
    return found
