"""One deployment on the real cluster that is changed again and again, and asked pod by pod what it serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx

from quarterdeck.plan import VersionRef
from quarterdeck_operator.kube import MODEL_DEPLOYMENT, POD, ApiFailure
from quarterdeck_operator.observe import Connection
from tests.cluster.deployment import NAME, ROLE, Deployment
from tests.cluster.installation import Installation
from tests.cluster.load import Load
from tests.models import version_encoding_model
from tests.reconcile.world import SETTINGS
from tests.support import eventually

MODEL = "versions"
WAIT_SECONDS = 300.0


class Site:
    """The cluster, and versions in a bucket of its own; each answers its own number."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.api = Connection(SETTINGS, installation.node.layout.kubeconfig)
        self.refs: list[VersionRef] = []
        installation.fresh_bucket()

    def publish(self, count: int) -> list[VersionRef]:
        """So many versions that nobody has seen yet."""
        for _ in range(count):
            built = version_encoding_model(len(self.refs) + 1, name=MODEL)
            self.refs.append(self.installation.publish(built, self.installation.bucket))
        return self.refs[-count:]

    @contextmanager
    def subject(self, replicas: int, *, challenger: bool, version: int) -> Iterator[Subject]:
        """A deployment that is ready; gone after the block, with its namespace.

        Args:
            replicas: main nodes.
            challenger: whether there is one, of the version after main's.
            version: main's.
        """
        namespace = self.installation.namespace(f"rollouts-{time.time_ns() // 1_000_000:x}")
        try:
            subject = Subject(self, Deployment(self.installation, namespace, MODEL), replicas)
            subject.wish(model=version, challenger=version + 1 if challenger else None)
            subject.settled()
            subject.arrived(version, version + 1 if challenger else None)
            yield subject
        finally:
            self.installation.node.kubectl("delete", "namespace", namespace, "--wait=false")


class Subject:
    """A deployment under change. Times are Unix seconds, as the load's."""

    def __init__(self, site: Site, deployment: Deployment, replicas: int) -> None:
        self.site, self.deployment = site, deployment
        # Little, lest a small machine has no room for the pods that come before others go.
        self._nodes: dict[str, Any] = {"replicas": replicas, "resources": {"requests": {"cpu": "20m", "memory": "128Mi"}}}
        self._spec: dict[str, Any] = {}
        self._http = httpx.Client(trust_env=False, timeout=10.0)

    def load(self, rate: float = 10.0) -> Load:
        """Requests from a pod, over kept and fresh connections."""
        return Load(self.site.installation, self.deployment.namespace, MODEL, kept=6, fresh=2, rate=rate, seconds=7_200.0)

    def wish(self, **versions: int | None) -> None:
        """`kubectl apply` with these versions: `model`, and `challenger` where there is one."""
        for role, version in versions.items():
            self._spec[role] = None if version is None else {"version": version, **({"name": MODEL} if role == "model" else {})}
        self.deployment.apply(**self._spec, nodes=self._nodes)

    def patch(self, model: int) -> float:
        """One call of the API that wishes for this version; when it was made."""
        body = {"spec": {"model": {"version": model}}}
        start = time.time()
        self.site.api.request("PATCH", self._path(), {}, body, "application/merge-patch+json")
        return start

    def arrived(self, main: int, challenger: int | None = None) -> float:
        """Wait until every pod answers with its version; when the last one was seen to."""
        for role, version in (("main", main), ("challenger", challenger)):
            for pod in self.pods(role) if version is not None else ():
                eventually(partial(self._answers, pod, version), WAIT_SECONDS)
        return time.time()

    def revision(self) -> int:
        """The number that answers of the first main pod name now."""
        return int(self._serves(self.pods("main")[0])["revision"])

    def pods(self, role: str) -> list[dict[str, Any]]:
        """Pods of a role that are not ending."""
        return [pod for pod in self._listed(role) if "deletionTimestamp" not in pod["metadata"]]

    def uids(self) -> set[str]:
        """Of all pods that are not ending."""
        return {pod["metadata"]["uid"] for role in ("main", "challenger") for pod in self.pods(role)}

    def settled(self, without: set[str] | None = None) -> None:
        """Wait until there are as many main pods as wished for, all ready, and none of those in `without`."""

        def reached() -> bool:
            pods = self.pods("main")
            new = all(pod["metadata"]["uid"] not in (without or set()) for pod in pods)
            return new and len(pods) == self._nodes["replicas"] and all(map(_ready, pods))

        eventually(reached, WAIT_SECONDS, every=0.2)

    def drained(self) -> None:
        """Wait until no main pod is ending any more: what it loses it would lose at its very end."""
        eventually(lambda: len(self._listed("main")) == self._nodes["replicas"], WAIT_SECONDS, every=0.3)

    def roll(self, number: int) -> float:
        """Change what starts new pods, by turns another thing; seconds until every pod is a new one."""
        # Raising templateRevision would start nobody while the operator is the same.
        if number % 2:
            self._nodes["resources"] = {"requests": {"cpu": f"{20 + number % 10}m", "memory": "128Mi"}}
        else:
            self._nodes["env"] = {"STEP": str(number)}
        before, start = self.uids(), time.monotonic()
        self.wish()
        self.settled(without=before)
        return time.monotonic() - start

    def scale(self, replicas: int) -> None:
        """Wish for so many main pods, and wait for them."""
        self._nodes["replicas"] = replicas
        self.wish()
        self.settled()

    def delete_pod(self) -> None:
        """`kubectl delete pod` of one main pod, and wait for another."""
        gone = self.pods("main")[0]["metadata"]
        self.deployment.node.kubectl("delete", "pod", gone["name"], f"--namespace={gone['namespace']}", "--wait=false")
        self.settled(without={gone["uid"]})

    def evict_all(self) -> None:
        """Evict every main pod as a drain does it: refused ones are tried again until the budget has room."""
        before = self.pods("main")
        for pod in before:
            eventually(partial(self._evicted, pod), WAIT_SECONDS, every=0.5)
        self.settled(without={pod["metadata"]["uid"] for pod in before})

    def drain(self) -> None:
        """`kubectl drain` of the machine, as far as main's pods go; it takes pods again at once, for it is the only one."""
        node = self.deployment.node
        (machine,) = (one["metadata"]["name"] for one in node.get("nodes"))
        before = {pod["metadata"]["uid"] for pod in self.pods("main")}
        which = [machine, f"--pod-selector={NAME}={MODEL},{ROLE}=main", "--delete-emptydir-data", "--ignore-daemonsets"]
        with ThreadPoolExecutor(1) as beside:
            drained = beside.submit(node.kubectl, "drain", *which, f"--timeout={WAIT_SECONDS:.0f}s", seconds=WAIT_SECONDS)
            try:
                eventually(lambda: node.get("node", machine)["spec"].get("unschedulable"), 30, every=0.05)
            finally:
                node.kubectl("uncordon", machine)
            drained.result()
        self.settled(without=before)

    def _listed(self, role: str) -> list[dict[str, Any]]:
        labels = {"labelSelector": f"{NAME}={MODEL},{ROLE}={role}"}
        found: list[dict[str, Any]] = self.site.api.request("GET", POD.path(self.deployment.namespace), labels)["items"]
        return found

    def _evicted(self, pod: dict[str, Any]) -> bool:
        named = {part: pod["metadata"][part] for part in ("name", "namespace")}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": named}
        try:
            self.site.api.request("POST", f"{POD.path(named['namespace'], named['name'])}/eviction", {}, body)
        except ApiFailure as failure:
            if failure.http != 429:
                raise
            return False
        return True

    def _answers(self, pod: dict[str, Any], version: int | None) -> bool:
        return bool(self._serves(pod)["version"] == version)

    def _serves(self, pod: dict[str, Any]) -> dict[str, Any]:
        """What a pod itself says that it answers with."""
        answer = self._http.get(f"http://{pod['status']['podIP']}:8080/deployments")
        answer.raise_for_status()
        (told,) = answer.json()["deployments"]
        return dict(told)

    def _path(self) -> str:
        return MODEL_DEPLOYMENT.path(self.deployment.namespace, MODEL)


def _ready(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))
