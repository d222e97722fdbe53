"""A small cluster around the reconciler: resources, pods that come and go as Deployments say, nodes that speak by the board."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from quarterdeck.plan import DeploymentPlan, DeploymentReport, NodeReport, Plan, Resolved, Role, VersionRef, VersionReport
from quarterdeck_operator.board import Board
from quarterdeck_operator.decision import Context
from quarterdeck_operator.kube import (
    CONFIG_MAP,
    DEPLOYMENT_LABEL,
    MODEL_DEPLOYMENT,
    OWNED,
    POD,
    SELECTOR,
    ApiFailure,
    Reads,
    Writes,
)
from quarterdeck_operator.names import ROLE_LABEL, TEMPLATE_LABEL, labels_of, plan_name
from quarterdeck_operator.reconcile import SOON_SECONDS, Reconciler
from quarterdeck_operator.settings import Settings
from quarterdeck_operator.world import ClusterRecord, Object, ResourceKey

SETTINGS = Settings(node_image="registry.example/node:1", store="s3://packages/main", identity="operator-1")
NAME = "late-flights"


def digest(version: int, model: str = NAME) -> str:
    """The digest of a version's manifest in these tests."""
    return "sha256:" + hashlib.sha256(f"{model}/{version}".encode()).hexdigest()


class Hand(Protocol):
    """What a person or another controller does in the cluster, whichever kind of cluster it is."""

    @property
    def reads(self) -> Reads:
        """Reading, as the operator does."""

    @property
    def writes(self) -> Writes:
        """Writing, as the operator does."""

    @property
    def namespace(self) -> str:
        """Where everything is."""

    def apply_resource(self, spec: Object) -> None:
        """`kubectl apply` of the ModelDeployment."""

    def delete_resource(self) -> None:
        """`kubectl delete`, and what the garbage collector does about it."""

    def change(self, path: str, patch: Object) -> None:
        """A merge patch by somebody else."""

    def remove(self, path: str) -> None:
        """Delete an object that others own."""

    def add(self, path: str, body: Object) -> None:
        """Create an object that others own."""

    def written(self) -> list[tuple[str, str]]:
        """Writes of the operator so far: method and path."""


@dataclass
class Node:
    """A node of one pod: it takes the served plan over and says so."""

    pod: str
    role: Role
    plan_name: str
    plan: Plan | None = None
    active: dict[str, str | None] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)

    def step(self, plan: Plan | None, refuses: dict[str, str], known: dict[tuple[str, int], str]) -> NodeReport:
        """Take a newer plan over, and report."""
        if plan is not None and (self.plan is None or plan.sequence > self.plan.sequence):
            self.plan = plan
        deployments = [self._report(one, refuses, known) for one in self.plan.deployments] if self.plan else []
        return NodeReport(
            node=self.pod,
            boot=f"boot-{self.pod}",
            role=self.role,
            url="http://10.0.0.1:8080",
            sequence=self.plan.sequence if self.plan else 0,
            ready=any(self.active.values()),
            deployments=deployments,
        )

    def _report(self, plan: DeploymentPlan, refuses: dict[str, str], known: dict[tuple[str, int], str]) -> DeploymentReport:
        versions = [_loaded(ref, refuses) for ref in plan.resident]
        good = {version.digest for version in versions if version.state == "ready"}
        if plan.active is None or plan.active.digest in good:
            self.active[plan.name] = plan.active.digest if plan.active else None
        return DeploymentReport(
            name=plan.name,
            role=plan.role,
            revision=plan.revision,
            generation=plan.generation,
            active=self.active.get(plan.name),
            versions=versions,
            resolved=[_looked_up(one.model, one.version, known) for one in plan.resolve],
            mirroring=plan.mirror.version.digest if plan.mirror else None,
            probe_failure="row 1 was answered otherwise" if self.active.get(plan.name) in self.wrong else "",
        )


def _loaded(ref: VersionRef, refuses: dict[str, str]) -> VersionReport:
    code = refuses.get(ref.digest, "")
    reason = "row 3 gives another answer" if code else ""
    return VersionReport(digest=ref.digest, version=ref.version, state="failed" if code else "ready", code=code, reason=reason)


def _looked_up(model: str, version: int, known: dict[tuple[str, int], str]) -> Resolved:
    found = known.get((model, version))
    code, reason = ("", "") if found else ("not-found", "There is no such version in the store.")
    return Resolved(model=model, version=version, digest=found, code=code, reason=reason)


class World:
    """A cluster, an operator that can be replaced by a new one at any time, and the nodes.

    Attributes:
        refuses: digest → code with which nodes refuse it.
        wrong: digests that answer a golden row wrongly once they serve.
        known: what the package store holds.
        mute: pods that do not report.
        woken: who was to be looked at because of a report, since the operator began.
        now: Unix seconds.
        ready_since: when new pods became ready, as Kubernetes writes moments.
        failed: what follows a look that failed in `settle`; None: it raises.
    """

    def __init__(self, hand: Hand) -> None:
        self.hand, self.key = hand, ResourceKey(hand.namespace, NAME)
        self.refuses: dict[str, str] = {}
        self.known = {(NAME, version): digest(version) for version in range(1, 10)}
        self.mute: set[str] = set()
        self.wrong: set[str] = set()
        self.now = 1_800_000_000.0
        self.ready_since = "2026-01-01T00:00:00Z"
        self.nodes: dict[str, Node] = {}
        self._said: dict[str, NodeReport] = {}
        self.failed: Callable[[], None] | None = None
        self.restart()

    def restart(self) -> None:
        """A new operator that remembers nothing."""
        self.woken: list[ResourceKey] = []
        self.board = Board(self.woken.append, lambda: self.now)
        self.board.leading = True
        context = Context(SETTINGS, "CERTIFICATE", b"seed")
        self.reconciler = Reconciler(self.hand.reads, self.hand.writes, self.board, context, SETTINGS.identity, lambda: self.now)

    def reconcile(self) -> float | None:
        """One look."""
        return self.reconciler.reconcile(self.key)

    def settle(self, rounds: int = 20) -> None:
        """Look, let pods and nodes follow, and look again, until nobody writes or says anything new."""
        for _ in range(rounds):
            before = len(self.hand.written())
            try:
                again = self.reconcile()
            except ApiFailure:
                if self.failed is None:
                    raise
                self.failed()
                again = SOON_SECONDS
            moved = self.kubelet()
            moved = self.step_nodes() or moved
            if len(self.hand.written()) == before and not moved and again != SOON_SECONDS:
                return
        raise AssertionError(f"not settled: {self.hand.written()[-6:]}")

    def kubelet(self) -> bool:
        """Pods as the Deployments say, the new ones before the old ones go. Gives back whether any came or went."""
        moved = False
        wanted = pods_of(self.key.namespace, self._list("Deployment"), self.ready_since)
        present = {pod["metadata"]["name"]: pod for pod in self._pods()}
        for name, pod in wanted.items():
            if name not in present:
                self.hand.add(POD.path(self.key.namespace), pod)
                moved = True
        for name in present.keys() - wanted.keys():
            self.hand.remove(POD.path(self.key.namespace, name))
            moved = True
        return moved

    def step_nodes(self) -> bool:
        """Each pod's node takes over what is published for it, and reports. Gives back whether any of them says something new."""
        before, self._said = self._said, {}
        for pod in self._pods():
            name, labels = pod["metadata"]["name"], labels_of(pod)
            if name in self.mute:
                continue
            role: Role = "challenger" if labels[ROLE_LABEL] == "challenger" else "main"
            plan = plan_name(self.key.name, role, labels[TEMPLATE_LABEL])
            node = self.nodes.setdefault(name, Node(name, role, plan))
            node.wrong = self.wrong
            published = self.board.plan(self.key.namespace, plan, self.key.name)
            self._said[name] = node.step(published, self.refuses, self.known)
            self.board.take(self.key, self._said[name])
        return self._said != before

    def apply(self, version: int | None = 1, **spec: Any) -> None:
        """`kubectl apply` of the resource with this version."""
        model = spec.pop("model", {"name": NAME, "version": version})
        self.hand.apply_resource({"model": model, **spec})

    def resource(self) -> Object:
        """The ModelDeployment as it is."""
        found = self.hand.reads.get(MODEL_DEPLOYMENT.path(*self.key))
        assert found is not None
        return found

    def record(self) -> ClusterRecord:
        """The record as it is stored."""
        found = self.hand.reads.get(CONFIG_MAP.path(self.key.namespace, f"{NAME}-record"))
        assert found is not None
        return ClusterRecord.model_validate_json(found["data"]["record.json"])

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        found = {one["type"]: one for one in self.resource()["status"]["conditions"]}
        return found[kind]["status"], found[kind]["reason"]

    def answering(self, role: Role = "main") -> set[str | None]:
        """What the nodes of the pods that exist answer with."""
        pods = {pod["metadata"]["name"] for pod in self._pods()}
        return {node.active.get(NAME) for node in self.nodes.values() if node.pod in pods and node.role == role}

    def names(self, kind: str) -> list[str]:
        """Names of the owned objects of one kind."""
        return [one["metadata"]["name"] for one in self._list(kind)]

    def object(self, kind: str, name: str) -> Object:
        """One owned object."""
        return next(one for one in self._list(kind) if one["metadata"]["name"] == name)

    def path(self, kind: str, name: str) -> str:
        """Path of an owned object."""
        return OWNED[kind].path(self.key.namespace, name)

    def writes_since(self, count: int) -> Sequence[tuple[str, str]]:
        """Writes of the operator after the first `count`."""
        return self.hand.written()[count:]

    def _list(self, kind: str) -> list[Object]:
        labels = {"labelSelector": f"{SELECTOR},{DEPLOYMENT_LABEL}={NAME}"}
        found = self.hand.reads.get(OWNED[kind].path(self.key.namespace), labels)
        return list(found["items"]) if found else []

    def _pods(self) -> list[Object]:
        found = self.hand.reads.get(POD.path(self.key.namespace), {"labelSelector": f"{SELECTOR},{DEPLOYMENT_LABEL}={NAME}"})
        return list(found["items"]) if found else []


def pods_of(namespace: str, deployments: Sequence[Object], ready_since: str = "2026-01-01T00:00:00Z") -> dict[str, Object]:
    """The pods that Deployments ask for, ready, by name."""
    wanted = [_pod(namespace, one, number, ready_since) for one in deployments for number in range(one["spec"]["replicas"])]
    return {pod["metadata"]["name"]: pod for pod in wanted}


def _pod(namespace: str, deployment: Object, number: int, ready_since: str) -> Object:
    template = deployment["spec"]["template"]
    name = f"{deployment['metadata']['name']}-{template['metadata']['labels'][TEMPLATE_LABEL]}-{number}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(template["metadata"]["labels"])},
        "spec": {"containers": [{"name": "serve", "image": "registry.example/node:1"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ready_since}]},
    }
