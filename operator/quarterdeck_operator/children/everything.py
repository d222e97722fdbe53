"""All objects of one deployment at once, and which of those that there are must go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quarterdeck.plan import Plan, Role
from quarterdeck.resources import Spec
from quarterdeck_operator import plans
from quarterdeck_operator.children import autoscaling
from quarterdeck_operator.children.configs import plan_map
from quarterdeck_operator.children.deployments import deployment
from quarterdeck_operator.children.disruption import disruption_budget
from quarterdeck_operator.children.network import network_policy
from quarterdeck_operator.children.services import service
from quarterdeck_operator.names import Owner, record_name
from quarterdeck_operator.world import Object, ObjectKey, Template


@dataclass(frozen=True, slots=True)
class Parts:
    """What the objects are made of.

    Attributes:
        templates: current template of main, and of the challenger where there is one.
        plans: all plans, and `sequence`, their number.
        ca: PEM of the certificates that the plan server's is signed by.
        owned: what there is.
    """

    owner: Owner
    spec: Spec
    templates: Mapping[Role, Template]
    plans: Sequence[Plan]
    sequence: int
    ca: str
    owned: Mapping[ObjectKey, Object]


@dataclass(frozen=True, slots=True)
class Children:
    """What is to be written, objects and deletions each in their order."""

    objects: Sequence[Object]
    delete: Sequence[ObjectKey]


def build(parts: Parts) -> Children:
    """Everything that the deployment owns, but for its record."""
    owner, spec = parts.owner, parts.spec
    maps = [plan_map(owner, plans.mounted(plan, parts.sequence), parts.ca) for plan in parts.plans]
    objects = [*maps, *_role(parts, "main", autoscaling.number(owner, spec, parts.owned))]
    if "challenger" in parts.templates:
        objects += _role(parts, "challenger", spec.nodes.challenger_replicas if spec.running else 0)
    objects += [one for one in (disruption_budget(owner, spec), autoscaling.autoscaler(owner, spec)) if one is not None]
    return Children(objects, _superfluous(parts, objects))


def _role(parts: Parts, role: Role, replicas: int | None) -> list[Object]:
    owner, spec = parts.owner, parts.spec
    return [
        # Before the pods: the policy holds from their first moment.
        network_policy(owner, role),
        service(owner, role, grpc=spec.nodes.grpc and role == "main"),
        deployment(owner, role, parts.templates[role], spec, replicas),
    ]


def _superfluous(parts: Parts, objects: Sequence[Object]) -> list[ObjectKey]:
    """What we own and nobody wants any more; autoscalers first, for a number of pods waits for their end."""
    wanted = {ObjectKey(one["kind"], one["metadata"]["name"]) for one in objects}
    wanted.add(ObjectKey("ConfigMap", record_name(parts.owner.key.name)))
    gone = (key for key, one in parts.owned.items() if key not in wanted and "deletionTimestamp" not in one["metadata"])
    return sorted(gone, key=lambda key: (key.kind != autoscaling.KIND, key))
