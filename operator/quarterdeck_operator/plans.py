"""From a decision to plans: what the pods of each role and template are told. Pure.

A plan is named by deployment, role and template, so that old and new pods are told different things in a rolling change. Of each
there are two copies under one number: the served one has the mirroring token; the mounted one, for a node that starts while the
operator is gone, lies in a ConfigMap that many may read and therefore does not.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from quarterdeck.plan import DeploymentPlan, Key, Mirror, NodeReport, Plan, Role, TokenIssuer, VersionName, VersionRef
from quarterdeck.resources import Spec
from quarterdeck.rollout import Decision, Record
from quarterdeck.rollout_record import same, scored
from quarterdeck_operator.names import TEMPLATE_LABEL, labels_of, plan_name, role_of, service_name
from quarterdeck_operator.world import ClusterRecord, Object, Observed, ResourceKey, Template

PLAN_FILE, CA_FILE = "plan.json", "ca.crt"
MIRROR = "mirror"
"""Id of the mirroring token among the keys of challenger plans."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What plans are made of.

    Attributes:
        generation: the wish that they serve.
        templates: current template of each role that has pods or shall have them.
        resolve: versions whose digest nobody has told yet.
        store: URL of the package and record store; empty: nobody named one.
        seed: the operator's secret that mirroring tokens are derived from.
    """

    spec: Spec
    generation: int
    decision: Decision
    templates: Mapping[Role, Template]
    resolve: Sequence[VersionName]
    store: str
    seed: bytes


def build(observed: Observed, wish: Wish) -> list[Plan]:
    """All plans of a deployment, numbered 0, by name: those of the current templates, and of older ones that still have pods."""
    stored = _stored(observed)
    keyring = _keyring(observed, stored)
    current = [_current(observed.key, role, wish, keyring) for role in _roles(wish.templates)]
    names = {plan.node for plan in current}
    frozen = [
        _frozen(observed, stored[name], wish, keyring)
        for name in sorted({_asks_for(observed.key, pod) for pod in observed.pods} - names)
        if name in stored
    ]
    issuers = _issuers(observed, stored)
    return [plan.model_copy(update={"issuers": issuers}) for plan in (*current, *frozen)]


def number(record: ClusterRecord, plans: Sequence[Plan], reports: Sequence[NodeReport]) -> tuple[int, str]:
    """The plans' number, and the digest of their content; it rises when the content does, and above all that nodes have seen."""
    content = _content(plans)
    # A record that was lost or restored starts low, and nodes take no notice of a plan that is older than theirs.
    seen = max((report.sequence // 2 for report in reports), default=0)
    if content == record.content and seen <= record.sequence:
        return record.sequence, content
    return max(record.sequence, seen) + 1, content


def recalled(observed: Observed) -> ClusterRecord:
    """What the plans' ConfigMaps still tell where the record is gone: what serves, the way back, and the plans' number.

    Rejections, holds and templates are forgotten. An empty record where there are no plans.
    """
    main = [plan for plan in _stored(observed).values() if plan.deployments[0].role == "main"]
    newest = max(main, key=lambda plan: plan.sequence, default=None)
    if newest is None:
        return ClusterRecord()
    (told,) = newest.deployments
    others = [ref for ref in told.resident if not same(ref, told.active)]
    return ClusterRecord(
        record=Record(revision=told.revision, active=told.active, previous=others[-1] if others else None),
        sequence=newest.sequence // 2,
        pins={f"{ref.model}/{ref.version}": ref.digest for ref in told.resident},
    )


def served(plan: Plan, sequence: int) -> Plan:
    """The copy that the plan server gives; odd, thus newer than the mounted one of the same decision."""
    return plan.model_copy(update={"sequence": 2 * sequence + 1})


def mounted(plan: Plan, sequence: int) -> Plan:
    """The copy for the plan's ConfigMap: even, and without the mirroring token."""
    deployments = [one.model_copy(update={"mirror": None}) for one in plan.deployments]
    return plan.model_copy(update={"sequence": 2 * sequence, "deployments": deployments})


def mirror_token(seed: bytes, key: ResourceKey) -> str:
    """What the main pods of a deployment show to its challenger pods; 64 hex digits."""
    # Derived, not stored: whoever has the one Secret can make all of them again.
    return hmac.new(seed, f"{key.namespace}/{key.name}".encode(), hashlib.sha256).hexdigest()


def _roles(templates: Mapping[Role, Template]) -> list[Role]:
    """Main first, so that equal worlds give equal plans."""
    return sorted(templates, reverse=True)


def _asks_for(key: ResourceKey, pod: Object) -> str:
    """Name of the plan that a pod follows."""
    its = labels_of(pod)
    return plan_name(key.name, role_of(its), its.get(TEMPLATE_LABEL, ""))


def _stored(observed: Observed) -> dict[str, Plan]:
    """The plans as their ConfigMaps have them; one that cannot be read, or is not of this deployment, is none."""
    found: dict[str, Plan] = {}
    for (kind, name), thing in observed.owned.items():
        text = thing.get("data", {}).get(PLAN_FILE) if kind == "ConfigMap" else None
        if text is None:
            continue
        try:
            plan = Plan.model_validate_json(text)
        # Somebody wrote into it, or another version of the operator did: the current ones are written anew anyway.
        except ValidationError:
            continue
        if plan.node == name and [one.name for one in plan.deployments] == [observed.key.name]:
            found[name] = plan
    return found


def _newest(stored: Mapping[str, Plan]) -> Plan | None:
    return max(stored.values(), key=lambda plan: plan.sequence, default=None)


def _issuers(observed: Observed, stored: Mapping[str, Plan]) -> list[TokenIssuer]:
    """Whose tokens are good, as `_keyring`."""
    newest = _newest(stored)
    return list(observed.issuers) if not observed.keyring_problem else newest.issuers if newest else []


def _keyring(observed: Observed, stored: Mapping[str, Plan]) -> list[Key]:
    """The namespace's keys; while they cannot be read, those of the newest plan: a typing mistake must not lock everybody out."""
    if not observed.keyring_problem:
        return list(observed.keyring)
    newest = _newest(stored)
    return [key for key in newest.keyring if key.id != MIRROR] if newest else []


def _with_mirror(key: ResourceKey, role: Role, wish: Wish, keyring: Sequence[Key]) -> list[Key]:
    # Only challenger nodes know the mirroring token: on main it would open nothing but confusion.
    if role == "main":
        return list(keyring)
    digest = hashlib.sha256(mirror_token(wish.seed, key).encode()).hexdigest()
    return [Key(id=MIRROR, sha256=digest, project="*", scopes=["mirror"]), *keyring]


def _current(key: ResourceKey, role: Role, wish: Wish, keyring: Sequence[Key]) -> Plan:
    decision, spec, main = wish.decision, wish.spec, role == "main"
    challenger = [decision.challenger] if decision.challenger else []
    deployment = DeploymentPlan(
        name=key.name,
        project=spec.project,
        service=spec.service or key.name,
        stage=spec.stage or DeploymentPlan.model_fields["stage"].default,
        role=role,
        revision=decision.record.revision,
        generation=wish.generation,
        resolve=list(wish.resolve),
        active=decision.active if main else decision.challenger,
        resident=decision.resident if main else challenger,
        access=spec.access,
        records=spec.records,
        mirror=_mirror(key, wish) if main else None,
    )
    return Plan(
        node=plan_name(key.name, role, wish.templates[role].hash),
        sequence=0,
        store=wish.store,
        namespace=key.namespace,
        keyring=_with_mirror(key, role, wish, keyring),
        deployments=[deployment],
    )


def _frozen(observed: Observed, plan: Plan, wish: Wish, keyring: Sequence[Key]) -> Plan:
    """A plan whose pods are being replaced: it holds what it held, and answers as before, but for people who may ask now.

    One thing moves it: a version that was decided upon and that all its pods hold. So a step back reaches old pods too, however
    long their replacement takes.
    """
    (old,) = plan.deployments
    update: dict[str, Any] = {"access": wish.spec.access}
    if _held(observed, plan.node, old, wish.decision.active):
        update |= {"active": wish.decision.active, "revision": wish.decision.record.revision}
    frozen = old.model_copy(update=update)
    frozen = frozen.model_copy(update={"mirror": _frozen_mirror(observed.key, frozen, wish)})
    keys = _with_mirror(observed.key, old.role, wish, keyring)
    return plan.model_copy(update={"sequence": 0, "deployments": [frozen], "keyring": keys})


def _held(observed: Observed, plan: str, old: DeploymentPlan, wanted: VersionRef | None) -> bool:
    """Whether every pod of this plan that is heard of has the version loaded and proven; never true of none."""
    if old.role != "main" or not any(same(wanted, ref) for ref in old.resident):
        return False
    pods = {pod["metadata"]["name"] for pod in observed.pods if _asks_for(observed.key, pod) == plan}
    heard = [one for report in observed.reports if report.node in pods for one in report.deployments]
    ready = [{scored(version) for version in one.versions if version.state == "ready"} for one in heard]
    return wanted is not None and bool(ready) and all(scored(wanted) in versions for versions in ready)


def _frozen_mirror(key: ResourceKey, frozen: DeploymentPlan, wish: Wish) -> Mirror | None:
    """Old main pods go on sending copies, unless the challenger is what they answer with themselves."""
    mirror = _mirror(key, wish)
    if mirror is None or frozen.role != "main" or frozen.active is None or frozen.active.digest == mirror.version.digest:
        return None
    return mirror


def _mirror(key: ResourceKey, wish: Wish) -> Mirror | None:
    if wish.decision.mirror is None:
        return None
    url = f"http://{service_name(key.name, 'challenger')}.{key.namespace}.svc"
    return Mirror(url=url, version=wish.decision.mirror, token=mirror_token(wish.seed, key))


def _content(plans: Sequence[Plan]) -> str:
    digest = hashlib.sha256()
    for plan in plans:
        digest.update(plan.content() + b"\n")
    return digest.hexdigest()
