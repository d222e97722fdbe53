"""What is wanted, from what is seen: pure, and the same for the same world. All that is remembered is in the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from quarterdeck import rollout
from quarterdeck.plan import NodeReport, Role, VersionRef
from quarterdeck.resources import Spec, spec_of
from quarterdeck.rollout import Condition, Decision, Status
from quarterdeck.rollout_record import same, scored
from quarterdeck_operator import plans, status, template
from quarterdeck_operator.children.everything import Parts, build
from quarterdeck_operator.names import TEMPLATE_LABEL, Owner, labels_of, role_of
from quarterdeck_operator.pods import alive, is_ready, is_routed
from quarterdeck_operator.resolution import Resolution, resolve, wish
from quarterdeck_operator.settings import Settings
from quarterdeck_operator.world import ClusterRecord, Object, Observed, Template, Wanted


@dataclass(frozen=True, slots=True)
class Context:
    """What is the same for all deployments.

    Attributes:
        ca: PEM of the certificates that the plan server's is signed by.
        seed: the secret that mirroring tokens are derived from.
    """

    settings: Settings
    ca: str
    seed: bytes


def decide_world(observed: Observed, resource: Object, context: Context) -> Wanted:
    """Everything that is to be written for one deployment.

    Args:
        observed: what was seen.
        resource: its ModelDeployment.
        context: settings and secrets of the operator.

    Raises:
        InvalidInput: the spec is none that this operator can read.
    """
    spec, generation = spec_of(resource, "operator"), int(resource["metadata"]["generation"])
    # Without a record: a new resource, or somebody has deleted it, and then what serves must go on serving.
    observed = observed if observed.record_version else replace(observed, record=plans.recalled(observed))
    pods = alive(observed.pods)
    resolution = resolve(spec, observed.record.pins, _of_pods(observed.reports, pods), generation)
    templates, outdated = _templates(spec, observed.record, context.settings)
    record = _chosen(observed.record, spec, generation).model_copy(update={"pins": dict(resolution.pins), "templates": templates})
    wished = _rollout_spec(spec, record, resolution, observed, generation)
    counting = _counting(observed.reports, pods, templates, wished.wanted, record.record)
    decision = rollout.decide(wished, record.record, counting, observed.now)
    decision = decision.model_copy(update={"conditions": _conditions(decision, resolution, observed, spec, outdated=outdated)})
    store = template.store_of(spec, context.settings)
    built = plans.build(
        observed,
        plans.Wish(
            spec, generation, decision, templates, resolution.resolve, store=store.url if store else "", seed=context.seed
        ),
    )
    sequence, content = plans.number(observed.record, built, observed.reports)
    owner = Owner(observed.key, resource["metadata"]["uid"])
    children = build(Parts(owner, spec, templates, built, sequence, context.ca, observed.owned))
    return Wanted(
        record=record.model_copy(update={"record": decision.record, "sequence": sequence, "content": content}),
        plans=[plans.served(plan, sequence) for plan in built],
        objects=children.objects,
        delete=children.delete,
        status=status.build(observed, resource, spec, decision).document(),
        events=_events(observed.record.record, decision.record),
    )


def _chosen(record: ClusterRecord, spec: Spec, generation: int) -> ClusterRecord:
    """Note in which generation a person last said which version; a change of anything else lifts no rejection."""
    said = wish(spec)
    return record if said == record.wish else record.model_copy(update={"wish": said, "chosen": generation})


def _templates(spec: Spec, record: ClusterRecord, settings: Settings) -> tuple[dict[Role, Template], bool]:
    """The template of each role that has pods, and whether an operator of today would render one of them otherwise."""
    roles: list[Role] = ["main", "challenger"] if spec.challenger else ["main"]
    kept = {role: template.keep(record.templates.get(role), template.render(spec, role, settings)) for role in roles}
    return {role: used for role, (used, _) in kept.items()}, any(outdated for _, outdated in kept.values())


def _rollout_spec(spec: Spec, record: ClusterRecord, resolution: Resolution, observed: Observed, generation: int) -> rollout.Spec:
    return rollout.Spec(
        deployment=observed.key.name,
        generation=generation,
        main=resolution.main,
        challenger=resolution.challenger,
        pin=resolution.pin,
        running=spec.running,
        reachable=any(is_routed(pod, observed.now) for pod in _challengers(observed.pods, record.templates)),
        chosen=record.chosen,
        rollback=spec.rollback,
        progress_seconds=float(spec.progress_seconds),
    )


def _challengers(pods: Sequence[Object], templates: Mapping[Role, Template]) -> list[Object]:
    """The challenger's pods of its current template; an older one's answer with another version."""
    current = templates.get("challenger")
    its = [(pod, labels_of(pod)) for pod in alive(pods)]
    return [
        pod for pod, labels in its if current and role_of(labels) == "challenger" and labels.get(TEMPLATE_LABEL) == current.hash
    ]


def _of_pods(reports: Sequence[NodeReport], pods: Sequence[Object]) -> list[NodeReport]:
    """Reports of pods that exist and are not ending."""
    names = {pod["metadata"]["name"] for pod in pods}
    return [report for report in reports if report.node in names]


def _counting(
    reports: Sequence[NodeReport],
    pods: Sequence[Object],
    templates: Mapping[Role, Template],
    wanted: VersionRef | None,
    record: rollout.Record,
) -> list[NodeReport]:
    """Reports that the decision turns on: of the current templates' pods. Pods of older ones are on their way out.

    A pod that gets traffic and says nothing is a node that has not spoken: nothing is flipped past it.
    """
    said = {report.node: report for report in reports}
    current: list[NodeReport] = []
    steady: list[NodeReport] = []
    older: list[NodeReport] = []
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        name, its = pod["metadata"]["name"], labels_of(pod)
        role = role_of(its)
        if name in said and said[name].role == role:
            report = said[name]
        elif is_ready(pod):
            report = NodeReport(node=name, boot="", role=role, url="", sequence=0, ready=True)
        else:
            continue
        if role in templates and its.get(TEMPLATE_LABEL) == templates[role].hash:
            current.append(report)
            steady += [report] if role == "challenger" or is_ready(pod) else []
        elif role == "main":
            older.append(report)
    # While none of the new ones has come up, for want of an image perhaps, a step back must still reach those that answer.
    if not older or not any(report.role == "main" for report in current):
        return [*current, *older]
    holding = [report for report in older if _holds(report, wanted)]
    # Nothing is to be moved; but what answers may be on trial, and most of its requests reach the old pods.
    if same(wanted, record.active):
        return [*current, *holding]
    # A step back: those that answer hold it already, and need not wait for new pods that cannot even load what is active.
    if holding == older and any(same(wanted, way) for way in (record.previous, record.left)):
        return [*steady, *older]
    return current


def _holds(report: NodeReport, wanted: VersionRef | None) -> bool:
    """Whether the node has the version loaded and proven."""
    versions = (version for one in report.deployments for version in one.versions if version.state == "ready")
    return wanted is not None and any(scored(version) == scored(wanted) for version in versions)


def _conditions(decision: Decision, resolution: Resolution, observed: Observed, spec: Spec, *, outdated: bool) -> list[Condition]:
    """The decision's, with what only a cluster has; a version without a digest is not called "no version"."""
    verified, challenger = resolution.condition, resolution.challenger_condition
    late: dict[str, Condition] = {}
    if not resolution.known:
        # Both would say that no version is chosen.
        under_way: Status = "True" if verified.status == "Unknown" else "False"
        late["Progressing"] = verified.model_copy(update={"type": "Progressing", "status": under_way})
        late["ModelLoaded"] = verified.model_copy(update={"type": "ModelLoaded"})
    if challenger is not None:
        late["ChallengerReady"] = challenger
        late["ChallengerReceiving"] = challenger.model_copy(update={"type": "ChallengerReceiving", "status": "False"})
    told = [late.get(one.type, one) for one in decision.conditions]
    reconciled = Condition(type="Reconciled", status="True", reason="Applied", message="Everything is as it was decided.")
    return [*told, verified, _keyring(observed, spec), _outdated(outdated), reconciled]


def _keyring(observed: Observed, spec: Spec) -> Condition:
    if observed.keyring_problem:
        message = f"{observed.keyring_problem}. Write a JSON list of keys there; those that were read last stay good."
        return Condition(type="KeyringReady", status="False", reason="KeyringUnreadable", message=message)
    missing = observed.keyring_missing
    if missing and spec.access == "public":
        message = f"There is no ConfigMap {missing}, and none is needed: everybody may predict."
        return Condition(type="KeyringReady", status="True", reason="NotNeeded", message=message)
    if missing:
        message = f"There is no ConfigMap {missing}, so nobody may predict. Create it with a JSON list of keys as keyring.json."
        return Condition(type="KeyringReady", status="False", reason="KeyringMissing", message=message)
    message = f"{len(observed.keyring)} key(s) are known."
    return Condition(type="KeyringReady", status="True", reason="KeyringRead", message=message)


def _outdated(outdated: bool) -> Condition:
    if outdated:
        message = "This operator makes pods otherwise than those that run; raise spec.nodes.templateRevision to take that over."
        return Condition(type="TemplateOutdated", status="True", reason="NewerTemplate", message=message)
    return Condition(type="TemplateOutdated", status="False", reason="UpToDate", message="Pods are as this operator makes them.")


def _events(before: rollout.Record, after: rollout.Record) -> list[tuple[str, str, str]]:
    """What is worth a line in `kubectl describe`: versions that began to answer, and changes that were stopped."""
    found: list[tuple[str, str, str]] = []
    if after.active and after.active != before.active and after.revision != before.revision:
        taken = after.taken_back if after.taken_back != before.taken_back else None
        message = taken.message if taken else f"{after.active} answers from now on, as revision {after.revision}."
        found.append(("Warning", "RolledBack", message) if taken else ("Normal", "Swapped", message))
    if after.hold and after.hold != before.hold:
        found.append(("Warning", "Held", after.hold.reason))
    return found
