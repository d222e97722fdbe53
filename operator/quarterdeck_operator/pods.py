"""What a pod cannot report about itself: no image, no room, no memory, no leave. Pure, from pods and Deployments.

Everything that a node can say (a package that is missing, refused, or answers wrongly) it says in its reports; here is the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from quarterdeck_operator.world import Object

MIN_READY_SECONDS = 3
"""How long a new pod must have been ready before an old one goes: so long it may take until every machine routes to it."""
RECENT_SECONDS = 300.0
"""A container that runs again was out of order for so long as far as people are concerned."""
_WORDS = 300
# What differs from one time to the next would make news of the same trouble.
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d[T ][\d:.,]+(Z|[+-]\d\d:?\d\d)?\s*")
_POD = re.compile(r'^pods "[^"]*" is forbidden: ')
_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError"}
_PUBLIC_HINT = "Check nodes.image, and nodes.imagePullSecrets where its registry asks for one."
_CONFIG = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "PostStartHookError"}


CODES = (
    "image-not-pulled",
    "out-of-memory",
    "container-not-created",
    "quota-exceeded",
    "pod-security",
    "service-account-missing",
    "pods-not-created",
    "unschedulable",
    "crashed",
    "evicted",
    "pod-failed",
    "progress-deadline",
)
"""Every code, the most telling first."""
_PAST = {"evicted", "pod-failed"}


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that keeps pods from answering.

    Attributes:
        node: the pod; empty where there is none to speak of.
        place: which part: `container serve`, `pod`, `Deployment late-flights-main`.
        code: stable and kebab-case.
        reason: what, and the next step, in sentences.
    """

    node: str
    place: str
    code: str
    reason: str


def alive(pods: Sequence[Object]) -> list[Object]:
    """Those that are not on their way out."""
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def is_ready(pod: Object) -> bool:
    """Whether the pod gets traffic."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def is_routed(pod: Object, now: float) -> bool:
    """Whether the pod has been ready for long enough for every machine to route to it."""
    conditions = pod.get("status", {}).get("conditions") or ()
    since = (one.get("lastTransitionTime") for one in conditions if one.get("type") == "Ready")
    return is_ready(pod) and now - max(map(_moment, since)) >= MIN_READY_SECONDS


def failures(pods: Sequence[Object], deployments: Sequence[Object], now: float) -> list[Failure]:
    """Everything that keeps pods from answering, the most telling first, each place once.

    Args:
        pods: of one deployment; those that are being deleted are left out.
        deployments: its Deployments.
        now: Unix seconds.
    """
    found = [one for pod in alive(pods) for one in _of_pod(pod, now)]
    found += [one for deployment in deployments for one in _of_deployment(deployment)]
    # Pods that have failed lie about until somebody clears them away, long after others took their place.
    found = [one for one in found if one.code not in _PAST or not _complete(deployments)]
    # A Deployment that ran out of time says nothing that a pod of it has not said better.
    precise = [one for one in found if one.code != "progress-deadline"]
    return sorted(precise or found, key=lambda one: (CODES.index(one.code), one.node, one.place))


def _complete(deployments: Sequence[Object]) -> bool:
    """Whether every Deployment has all the pods that it wants."""
    return bool(deployments) and all(
        one.get("status", {}).get("availableReplicas", 0) >= one.get("spec", {}).get("replicas", 1) for one in deployments
    )


def _of_pod(pod: Object, now: float) -> Iterator[Failure]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") == "Failed":
        yield _failed(name, status)
        return
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            hint = "Lower nodes.resources, change nodes.nodeSelector or nodes.tolerations, or add a machine."
            yield Failure(name, "pod", "unschedulable", _sentences("No machine takes the pod", condition, hint))
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        failure = _without_image(pod, container) or _of_container(name, container, now)
        if failure:
            yield failure


def _failed(name: str, status: Object) -> Failure:
    if status.get("reason") == "Evicted":
        hint = "The machine ran short of what the message names; ask for it in nodes.resources.requests."
        return Failure(name, "pod", "evicted", _sentences("The pod was evicted from its machine", status, hint))
    return Failure(name, "pod", "pod-failed", _sentences("The pod has failed", status, "`kubectl describe pod` says more."))


def _of_container(pod: str, container: Object, now: float) -> Failure | None:
    place = f"container {container['name']}"
    waiting = container.get("state", {}).get("waiting") or {}
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}
    reason = waiting.get("reason", "")
    if reason in _CONFIG:
        hint = "Check the image and what nodes refers to."
        return Failure(pod, place, "container-not-created", _sentences("The container cannot be created", waiting, hint))
    # It may run again at this moment, only to end the same way: what is ready, and has been for a while, is well.
    if not ended or (container.get("ready") and now - _moment(ended.get("finishedAt")) > RECENT_SECONDS):
        return None
    return _ended(pod, place, container, ended)


def _without_image(pod: Object, container: Object) -> Failure | None:
    waiting = container.get("state", {}).get("waiting") or {}
    if waiting.get("reason") not in _IMAGE:
        return None
    # A Secret that does not exist is told by nobody: the kubelet asks the registry without it.
    named = ", ".join(each["name"] for each in pod.get("spec", {}).get("imagePullSecrets") or ())
    hint = f"Check nodes.image, and that the Secret {named} exists and opens the registry." if named else _PUBLIC_HINT
    said = _sentences(f"The image {container['image']} is not there", waiting, hint)
    return Failure(pod["metadata"]["name"], f"container {container['name']}", "image-not-pulled", said)


def _ended(pod: str, place: str, container: Object, ended: Object) -> Failure | None:
    if ended.get("reason") == "OOMKilled":
        hint = "Raise nodes.resources.limits.memory, or take a smaller model."
        return Failure(pod, place, "out-of-memory", f"Killed for want of memory. {hint}")
    # An end in order is one that somebody asked for; a ready container has got over the other ends.
    if container.get("ready") or ended.get("exitCode") == 0:
        return None
    lines = [line for line in str(ended.get("message", "")).splitlines() if line.strip()]
    last = f": {_short(_STAMP.sub('', lines[-1]))}" if lines else "."
    hint = f"`kubectl logs {pod} -c {container['name']} --previous` says more."
    return Failure(pod, place, "crashed", f"Ended with status {ended.get('exitCode')}{last} {hint}")


def _of_deployment(deployment: Object) -> Iterator[Failure]:
    place = f"Deployment {deployment['metadata']['name']}"
    for condition in deployment.get("status", {}).get("conditions") or ():
        kind, true = condition.get("type"), condition.get("status") == "True"
        if kind == "ReplicaFailure" and true:
            yield _refused(place, condition)
        if kind == "Progressing" and not true and condition.get("reason") == "ProgressDeadlineExceeded":
            hint = "`kubectl describe` of its pods says what they wait for."
            yield Failure("", place, "progress-deadline", _sentences("New pods were not ready in time", condition, hint))


def _refused(place: str, condition: Object) -> Failure:
    """Pods that the API server does not even create."""
    said = _POD.sub("", str(condition.get("message", "")))
    condition = {"message": said}
    if "exceeded quota" in said or "failed quota" in said:
        hint = "Raise the namespace's ResourceQuota, or lower nodes.replicas or nodes.resources."
        return Failure("", place, "quota-exceeded", _sentences("The namespace's quota has no room for a pod", condition, hint))
    if "violates PodSecurity" in said:
        hint = "Label the namespace pod-security.kubernetes.io/enforce: restricted, or less strictly."
        return Failure("", place, "pod-security", _sentences("The namespace's Pod Security refuses the pod", condition, hint))
    if "serviceaccount" in said.lower() and "not found" in said:
        hint = "Create the service account, or correct nodes.serviceAccount."
        return Failure("", place, "service-account-missing", _sentences("The pod's service account is missing", condition, hint))
    hint = "The message names what refuses it."
    return Failure("", place, "pods-not-created", _sentences("The API server refuses the pod", condition, hint))


def _sentences(what: str, told: Object, hint: str) -> str:
    said = _short(str(told.get("message", "")))
    return f"{what}: {said} {hint}" if said else f"{what}. {hint}"


def _short(text: str) -> str:
    """One line, with its full stop."""
    line = re.sub(r"\s+", " ", text).strip()
    line = line if len(line) <= _WORDS else line[: _WORDS - 1] + "…"
    return line if line.endswith((".", "…", "!")) or not line else f"{line}."


def _moment(text: str | None) -> float:
    """In Unix seconds; 0 where it is not said."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0
