"""The status of a ModelDeployment, whole, from one look at the world. Pure.

Equal worlds give equal statuses, the times of what has not changed included, so that nothing is written where nothing happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from quarterdeck.plan import DeploymentReport, Role, VersionRef, VersionReport
from quarterdeck.resource_status import (
    DeploymentStatus,
    LastFailure,
    NodeCount,
    Phase,
    ServingVersion,
    StatusCondition,
    StatusVersion,
    Truth,
)
from quarterdeck.resources import Spec
from quarterdeck.rollout import Decision
from quarterdeck.rollout_record import reason_of
from quarterdeck_operator.children import autoscaling
from quarterdeck_operator.names import ROLE_LABEL, labels_of, role_name, selector
from quarterdeck_operator.pods import Failure, alive, failures, is_ready
from quarterdeck_operator.world import Object, ObjectKey, Observed

_Told = tuple[Truth, str, str]
"""Status, reason and message of a condition."""


def build(observed: Observed, resource: Object, spec: Spec, decision: Decision) -> DeploymentStatus:
    """The status that is true now.

    Args:
        observed: what was seen.
        resource: the ModelDeployment, with the status that it has.
        spec: what it wants.
        decision: what was decided, with all conditions but that of the pods, which is added here.
    """
    old = _old(resource)
    seen = _Seen(observed, spec)
    told: dict[str, _Told] = {one.type: (one.status, one.reason, one.message) for one in decision.conditions}
    told["PodsHealthy"] = _pods_healthy(spec, seen)
    if seen.autoscaler is not None:
        told["AutoscalerActive"] = _autoscaler_active(seen.autoscaler)
    generation = int(resource["metadata"]["generation"])
    moment = moment_text(observed.now)
    phase = _phase(spec, decision, seen)
    return DeploymentStatus(
        observed_generation=generation,
        phase=phase,
        revision=decision.record.revision,
        active=_version(decision.active),
        previous=_version(decision.record.previous or decision.record.left),
        challenger=_version(decision.challenger),
        replicas=len(seen.main),
        ready_replicas=seen.ready,
        selector=",".join(f"{name}={value}" for name, value in sorted(selector(observed.key.name, "main").items())),
        nodes=NodeCount(ready=seen.ready, wanted=seen.wanted),
        versions=_serving(seen, decision),
        last_failure=_last_failure(old, seen, decision, phase, moment),
        conditions=_conditions(told, old, generation, moment),
    )


class _Seen:
    """Pods, reports and failures of one deployment, told apart by role."""

    def __init__(self, observed: Observed, spec: Spec) -> None:
        name = observed.key.name
        pods = alive(observed.pods)
        self.main = [pod for pod in pods if labels_of(pod).get(ROLE_LABEL) == "main" and not _is_over(pod)]
        self.names = {pod["metadata"]["name"] for pod in pods}
        self.ready = sum(is_ready(pod) for pod in self.main)
        roles: tuple[Role, ...] = ("main", "challenger")
        self.deployments = {
            role: observed.owned[key]
            for role in roles
            if (key := ObjectKey("Deployment", role_name(name, role))) in observed.owned
        }
        self.autoscaler = observed.owned.get(ObjectKey(autoscaling.KIND, role_name(name, "main")))
        self.wanted = self._wanted(spec)
        self.reports: list[tuple[str, DeploymentReport]] = [
            (report.node, one)
            for report in observed.reports
            for one in report.deployments
            if one.name == name and report.node in self.names
        ]
        self.main_failures = self._failures("main", pods, observed.now)
        self.failures = [*self.main_failures, *self._failures("challenger", pods, observed.now)]

    def _wanted(self, spec: Spec) -> int:
        """Main pods that there should be; an autoscaler's word stands in the Deployment."""
        if not spec.running:
            return 0
        if spec.nodes.autoscaling is None:
            return spec.nodes.replicas
        stated = self.deployments.get("main", {}).get("spec", {}).get("replicas")
        return int(stated or spec.nodes.autoscaling.min_replicas)

    def _failures(self, role: Role, every: Sequence[Object], now: float) -> list[Failure]:
        pods = [pod for pod in every if labels_of(pod).get(ROLE_LABEL) == role]
        return failures(pods, [self.deployments[role]] if role in self.deployments else [], now)

    @property
    def rolling(self) -> bool:
        """Whether the main Deployment is still replacing pods."""
        main = self.deployments.get("main")
        if main is None:
            return self.wanted > 0
        status = main.get("status", {})
        observed = status.get("observedGeneration", 0) >= main["metadata"].get("generation", 0)
        return not observed or status.get("updatedReplicas", 0) < self.wanted or status.get("replicas", 0) > self.wanted

    def refused(self) -> tuple[str, VersionReport] | None:
        """The first version (by node) that a node refuses, or cannot fetch."""
        for node, report in sorted(self.reports, key=lambda one: one[0]):
            for version in report.versions:
                if version.state == "failed" or (version.state == "fetching" and version.code):
                    return node, version
        return None


def _old(resource: Object) -> DeploymentStatus:
    try:
        return DeploymentStatus.model_validate(resource.get("status") or {})
    # Another version of the operator wrote it: its times are lost, and nothing else.
    except ValidationError:
        return DeploymentStatus()


def _is_over(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def _version(ref: VersionRef | None) -> StatusVersion | None:
    return StatusVersion(model=ref.model, version=ref.version, digest=ref.digest) if ref else None


def _serving(seen: _Seen, decision: Decision) -> list[ServingVersion]:
    """What main nodes say they answer with now, most nodes first."""
    record = decision.record
    models = {ref.digest: ref.model for ref in (record.target, record.left, record.previous, record.active) if ref}
    counted = Counter(report.active for _, report in seen.reports if report.role == "main" and report.active)
    numbers = {version.digest: version.version for _, report in seen.reports for version in report.versions}
    known = [(digest, nodes) for digest, nodes in counted.items() if digest in numbers]
    return [
        ServingVersion(model=models.get(digest, ""), version=numbers[digest], digest=digest, nodes=nodes)
        for digest, nodes in sorted(known, key=lambda one: (-one[1], one[0]))
    ]


def _pods_healthy(spec: Spec, seen: _Seen) -> _Told:
    if seen.failures:
        first = seen.failures[0]
        more = f" And {len(seen.failures) - 1} more." if len(seen.failures) > 1 else ""
        return "False", reason_of(first.code), f"{_where(first)}: {first.reason}{more}"
    if not spec.running:
        return "True", "Stopped", "No pods are to run."
    if seen.ready < seen.wanted:
        return "Unknown", "Starting", f"{seen.ready} of {seen.wanted} main pods are ready; nothing is known to be wrong."
    return "True", "Ready", f"{seen.ready} of {seen.wanted} main pods are ready."


def _autoscaler_active(autoscaler: Object) -> _Told:
    """Whether it knows the load; without a metrics server it does nothing, and says so in a place where nobody looks."""
    conditions = autoscaler.get("status", {}).get("conditions") or ()
    active = next((one for one in conditions if one.get("type") == "ScalingActive"), None)
    if active is None:
        return "Unknown", "Starting", "The autoscaler has not looked yet."
    if active.get("status") == "True":
        return "True", "Following", "The number of main pods follows their processor time."
    said = str(active.get("message") or "no reason is given").rstrip(".")
    return (
        "False",
        str(active.get("reason") or "Inactive"),
        f"The number of pods stays as it is: {said}. Is there a metrics server?",
    )


def _where(failure: Failure) -> str:
    return ", ".join(part for part in (failure.node, failure.place) if part)


def _phase(spec: Spec, decision: Decision, seen: _Seen) -> Phase:
    """The most telling word first: a hold is worth more than what goes on beside it."""
    record, conditions = decision.record, {one.type: one for one in decision.conditions}
    # A challenger's trouble is none of those who ask main.
    broken = bool(seen.main_failures)
    if not spec.running or not seen.wanted:
        return "Stopped"
    if record.active is None:
        return "Failed" if record.hold or broken else "Pending"
    if not seen.ready:
        return "Failed" if broken and not seen.rolling else "Degraded"
    if record.taken_back:
        return "RolledBack"
    if record.hold:
        return "Held"
    if record.target or seen.rolling:
        return "Degraded" if broken else "Progressing"
    ready = conditions.get("Ready")
    settled = ready is not None and ready.status == "True" and seen.ready >= seen.wanted
    return "Ready" if settled and not broken else "Degraded"


def _last_failure(old: DeploymentStatus, seen: _Seen, decision: Decision, phase: Phase, moment: str) -> LastFailure | None:
    """What is wrong now, with the time at which it began to be; else what was wrong last, until a change has succeeded."""
    present = _present(seen, decision)
    before = old.last_failure
    if present is not None and present.node == "" and before is not None and before.code == present.code and decision.record.hold:
        # Once a version is given up nodes speak of it no more; they said where it was.
        return before
    if present is None:
        gone = before is not None and phase == "Ready" and _overcome(before, seen, decision)
        return None if gone else before
    # Names of pods change with every attempt; the same trouble on the next one has the same beginning.
    same = before is not None and (before.place, before.code, before.reason) == (present.place, present.code, present.reason)
    since = before.time if same and before else moment
    return LastFailure(node=present.node, place=present.place, code=present.code, reason=present.reason, time=since)


def _present(seen: _Seen, decision: Decision) -> Failure | None:
    refused = seen.refused()
    if refused:
        node, version = refused
        return Failure(node, version.place, version.code or "load-failed", version.reason or f"Version {version.version} failed.")
    if seen.failures:
        return seen.failures[0]
    verified = next((one for one in decision.conditions if one.type == "ArtifactVerified" and one.status == "False"), None)
    if verified:
        return Failure("", "", _kebab(verified.reason), verified.message)
    hold = decision.record.hold
    if hold:
        return Failure("", "", hold.code or "held", hold.reason)
    unreadable = next((one for one in decision.conditions if one.reason == "KeyringUnreadable"), None)
    return Failure("", "", _kebab(unreadable.reason), unreadable.message) if unreadable else None


def _overcome(failure: LastFailure, seen: _Seen, decision: Decision) -> bool:
    """Whether a later version answers, or the pod that it happened on is gone."""
    since = datetime.fromisoformat(failure.time).timestamp()
    return decision.record.active_since > since or failure.node not in seen.names


def _conditions(told: Mapping[str, _Told], old: DeploymentStatus, generation: int, moment: str) -> Sequence[StatusCondition]:
    before = {one.type: one for one in old.conditions}
    return [
        StatusCondition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=before[kind].last_transition_time
            if kind in before and before[kind].status == status
            else moment,
            observed_generation=generation,
        )
        for kind, (status, reason, message) in told.items()
    ]


def moment_text(now: float) -> str:
    """A moment in Unix seconds as conditions have it, in UTC."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _kebab(reason: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in reason).lstrip("-")
