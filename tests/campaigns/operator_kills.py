"""The operator as a process on a real API server, killed before and after each of its writes, and refused each of them.

    python -m tests.campaigns.operator_kills --every 1 --seed 1

For each act of a life (create, update, another environment, rollback) and each of its writes: the operator is killed before
the write, after it (the API server has it, the operator never learned), or is answered 409, 429 or 500 once. The end must be that
of a calm day, clocks and numbers of history masked. The last act is a change during which the resource is deleted, at the very
write that is struck: of it nothing may be left. Nodes are twins that speak to the plan server over TLS with real tokens.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from quarterdeck.plan import Plan as NodePlan
from quarterdeck.plan import Role
from quarterdeck_operator.kube import DEPLOYMENT_LABEL, MERGE, MODEL_DEPLOYMENT, OWNED, POD, SELECTOR, ApiFailure
from quarterdeck_operator.names import AUDIENCE, ROLE_LABEL, TEMPLATE_LABEL, labels_of, plan_name
from quarterdeck_operator.observe import Connection
from quarterdeck_operator.world import Object
from tests.apifault import ApiFault, Plan
from tests.apiserver import ApiServer, programs, running
from tests.reconcile.world import NAME, SETTINGS, Node, digest, pods_of
from tests.support import ROOT, eventually, free_ports

DELETE = "delete"
ACTS: dict[str, Object] = {
    "create": {"model": {"name": NAME, "version": 1}, "challenger": {"version": 3}, "nodes": {"replicas": 2}},
    "update": {"model": {"name": NAME, "version": 2}, "challenger": {"version": 3}, "nodes": {"replicas": 2}},
    "environment": {"model": {"name": NAME, "version": 2}, "nodes": {"replicas": 2, "env": {"A": "1"}}},
    "rollback": {
        "model": {"name": NAME, "version": 2},
        "nodes": {"replicas": 2, "env": {"A": "1"}},
        "pin": {"version": 1, "reason": "worse"},
    },
    DELETE: {"model": {"name": NAME, "version": 4}, "challenger": {"version": 3}, "nodes": {"replicas": 3, "env": {"A": "2"}}},
}
WAYS = ("killed before", "killed after", "409", "429", "500")
KNOWN = {(NAME, version): digest(version) for version in range(1, 5)}


class OperatorProcess:
    """The operator as a program, with the API server behind the proxy."""

    def __init__(self, kubeconfig: Path, log: Path, ports: int, identity: str = "the-pod") -> None:
        self._kubeconfig, self._log, self.url = kubeconfig, log, f"https://127.0.0.1:{ports}"
        self.health_url = f"http://127.0.0.1:{ports + 1}"
        settings = {
            "KUBECONFIG": str(kubeconfig),
            "QUARTERDECK_NODE_IMAGE": "registry.example/node:1",
            "QUARTERDECK_STORE": "s3://packages/main",
            "QUARTERDECK_HOST": "127.0.0.1",
            "QUARTERDECK_PORT": str(ports),
            "QUARTERDECK_METRICS_PORT": str(ports + 1),
            "QUARTERDECK_PLAN_SERVER_URL": self.url,
            "QUARTERDECK_IDENTITY": identity,
        }
        self._environment = {"PATH": "/usr/bin:/bin", **settings}
        self._lock, self._process = threading.Lock(), self._begin()

    def another(self, log: Path) -> OperatorProcess:
        """A second one beside this, in another pod as it were."""
        return OperatorProcess(self._kubeconfig, log, free_ports(2), "another-pod")

    def start(self) -> None:
        """Begin again after a stop."""
        with self._lock:
            if self._process.poll() is not None:
                self._process = self._begin()

    def kill(self) -> None:
        """SIGKILL, and a new one at once; one that has ended stays so."""
        with self._lock:
            if self._process.poll() is not None:
                return
            self._process.kill()
            self._process.wait()
            self._process = self._begin()

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        with self._lock:
            if self._process.poll() is None:
                self._process.terminate()
                status = self._process.wait(60)
                assert status == 0, f"exit status {status}"

    def rss(self) -> int:
        """Resident memory in bytes."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * 4_096

    def _begin(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            command = [str(ROOT / ".venv/bin/python"), "-m", "quarterdeck_operator"]
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log, cwd=self._log.parent)


@dataclass
class Namespace:
    """One deployment's namespace, and the nodes of its pods."""

    name: str
    nodes: dict[str, Node] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)


class Cluster:
    """A person's, the kubelet's and the nodes' hands, past the proxy."""

    def __init__(self, server: ApiServer, operator: OperatorProcess) -> None:
        self._server, self._operator = server, operator
        self._connection = Connection(SETTINGS, server.kubeconfig)
        self._http: httpx.Client | None = None
        self.namespaces: dict[str, Namespace] = {}
        # Digest → code: what nodes will not load.
        self.refuses: dict[str, str] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No pod or node moves any more."""
        self._ending.set()
        self._thread.join()
        self._connection.close()
        if self._http is not None:
            self._http.close()

    def namespace(self) -> Namespace:
        """A fresh one, whose pods and nodes follow from now on."""
        found = Namespace(self._server.namespace())
        self.namespaces = {**self.namespaces, found.name: found}
        return found

    def leave(self, namespace: Namespace) -> None:
        """Delete the resource, and let nobody look after its pods any more."""
        self.namespaces = {name: one for name, one in self.namespaces.items() if one is not namespace}
        self.delete(namespace)

    def apply(self, namespace: Namespace, spec: Object) -> None:
        """Create the resource, or replace its spec."""
        path = MODEL_DEPLOYMENT.path(namespace.name, NAME)
        try:
            live = self._connection.request("GET", path, {})
            self._connection.request("PUT", path, {}, {**live, "spec": spec})
        except ApiFailure as failure:
            if failure.conflict:
                self.apply(namespace, spec)
                return
            if failure.http != 404:
                raise
            metadata = {"name": NAME, "namespace": namespace.name}
            body = {"apiVersion": MODEL_DEPLOYMENT.api_version, "kind": "ModelDeployment", "metadata": metadata, "spec": spec}
            self._connection.request("POST", MODEL_DEPLOYMENT.path(namespace.name), {}, body)

    def delete(self, namespace: Namespace) -> None:
        """Delete the resource."""
        with suppress(ApiFailure):
            self._connection.request("DELETE", MODEL_DEPLOYMENT.path(namespace.name, NAME), {})

    def owned(self, namespace: Namespace) -> dict[str, Object]:
        """Everything that carries our label, by kind and name."""
        found: dict[str, Object] = {}
        for kind in OWNED.values():
            for one in self._list(kind.path(namespace.name)):
                found[f"{kind.name}/{one['metadata']['name']}"] = one
        return found

    def resource(self, namespace: Namespace) -> Object:
        """The ModelDeployment."""
        return self._connection.request("GET", MODEL_DEPLOYMENT.path(namespace.name, NAME), {})

    def exists(self, namespace: Namespace) -> bool:
        """Whether the ModelDeployment is there."""
        try:
            self.resource(namespace)
        except ApiFailure as failure:
            if failure.http != 404:
                raise
            return False
        return True

    def _list(self, path: str) -> list[Object]:
        return list(self._connection.request("GET", path, {"labelSelector": f"{SELECTOR},{DEPLOYMENT_LABEL}={NAME}"})["items"])

    def _run(self) -> None:
        while not self._ending.wait(0.05):
            for namespace in list(self.namespaces.values()):
                with suppress(ApiFailure, httpx.TransportError, ssl.SSLError):
                    self._collect(namespace)
                    self._kubelet(namespace)
                    self._nodes(namespace)

    def _collect(self, namespace: Namespace) -> None:
        """The garbage collector's part, which an API server alone does not have: what the deleted resource owned goes."""
        if self.exists(namespace):
            return
        for kind in OWNED.values():
            for one in self._list(kind.path(namespace.name)):
                self._connection.request("DELETE", kind.path(namespace.name, one["metadata"]["name"]), {})

    def _kubelet(self, namespace: Namespace) -> None:
        wanted = pods_of(namespace.name, self._list(OWNED["Deployment"].path(namespace.name)))
        present = {pod["metadata"]["name"] for pod in self._list(POD.path(namespace.name))}
        for name in wanted.keys() - present:
            path, pod = POD.path(namespace.name), wanted[name]
            self._connection.request("POST", path, {}, pod)
            self._connection.request("PATCH", f"{path}/{name}/status", {}, {"status": pod["status"]}, MERGE)
        for name in present - wanted.keys():
            self._connection.request("DELETE", POD.path(namespace.name, name), {}, {"gracePeriodSeconds": 0})
            namespace.nodes.pop(name, None)

    def _nodes(self, namespace: Namespace) -> None:
        for pod in self._list(POD.path(namespace.name)):
            name, labels = pod["metadata"]["name"], labels_of(pod)
            role: Role = "challenger" if labels[ROLE_LABEL] == "challenger" else "main"
            node = namespace.nodes.setdefault(name, Node(name, role, plan_name(NAME, role, labels[TEMPLATE_LABEL])))
            headers = {"authorization": f"Bearer {self._token(namespace, pod)}"}
            after = node.plan.sequence if node.plan else 0
            answer = self._client().get(f"/plans/{node.plan_name}", params={"after": after}, headers=headers)
            fresh = NodePlan.model_validate_json(answer.content) if answer.status_code == 200 else None
            report = node.step(fresh, self.refuses, KNOWN)
            self._client().post(f"/nodes/{name}/report", content=report.model_dump_json(), headers=headers)

    def _token(self, namespace: Namespace, pod: Object) -> str:
        uid = pod["metadata"]["uid"]
        if uid not in namespace.tokens:
            bound = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": uid}
            body: Object = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"audiences": [AUDIENCE], "expirationSeconds": 3_600, "boundObjectRef": bound},
            }
            path = f"/api/v1/namespaces/{namespace.name}/serviceaccounts/default/token"
            namespace.tokens[uid] = self._connection.request("POST", path, {}, body)["status"]["token"]
        return namespace.tokens[uid]

    def _client(self) -> httpx.Client:
        if self._http is None:
            secret = self._server.get("secret", "quarterdeck-plan-server", namespace="quarterdeck")
            authority = base64.b64decode(secret["data"]["ca.crt"]).decode()
            self._http = httpx.Client(base_url=self._operator.url, verify=ssl.create_default_context(cadata=authority), timeout=5)
        return self._http


@dataclass(frozen=True)
class Stage:
    """Everything that runs."""

    server: ApiServer
    fault: ApiFault
    operator: OperatorProcess
    cluster: Cluster


@contextmanager
def stage(server: ApiServer, folder: Path) -> Iterator[Stage]:
    """Proxy, operator and nodes on a running server; ended with the block."""
    # Another stage may have been on this server before: its authority is as good.
    server.kubectl("apply", "-f", "-", stdin="{apiVersion: v1, kind: Namespace, metadata: {name: quarterdeck}}")
    secret = "{apiVersion: v1, kind: Secret, metadata: {name: quarterdeck-plan-server}}"
    server.kubectl("apply", "-f", "-", stdin=secret, namespace="quarterdeck")
    fault = ApiFault(server, folder)
    operator = OperatorProcess(fault.kubeconfig, folder / "operator.log", free_ports(2))
    cluster = Cluster(server, operator)
    try:
        yield Stage(server, fault, operator, cluster)
    finally:
        cluster.stop()
        operator.stop()
        fault.stop()


def live(on: Stage, act: str, plan: Plan) -> tuple[Namespace, float]:
    """A life up to an act, at which the plan strikes. Gives back its namespace, and the seconds that the act took to settle."""
    namespace = on.cluster.namespace()
    for one, spec in ACTS.items():
        settle(on, namespace)
        on.fault.plan = plan if one == act else Plan()
        began = time.monotonic()
        if one == DELETE and plan.number:
            _change_and_delete(on, namespace, plan)
        else:
            on.cluster.apply(namespace, spec)
            eventually(lambda: _done(on.cluster.resource(namespace)), every=0.05)
        if one == act:
            settle(on, namespace)
            # A write that never came is not to be struck later, in somebody else's act.
            on.fault.plan = Plan()
            return namespace, time.monotonic() - began
    raise AssertionError(act)


def _change_and_delete(on: Stage, namespace: Namespace, plan: Plan) -> None:
    """Apply the last act's change, and delete the resource at the write that is struck."""
    harm = plan.strike

    def strike() -> None:
        on.cluster.delete(namespace)
        harm()

    plan.strike = strike
    on.cluster.apply(namespace, ACTS[DELETE])
    # The last writes of a calm day may not come on this one; it is deleted all the same.
    with suppress(AssertionError):
        eventually(lambda: len(plan.writes) >= plan.number, 10, every=0.05)
    on.cluster.delete(namespace)


def settle(on: Stage, namespace: Namespace, calm: float = 0.6) -> None:
    """Wait until nothing of the operator's has been written for a while."""
    quiet, seen = time.monotonic(), ""
    for _ in range(1_200):
        now = json.dumps([normal(on.cluster, namespace), len(on.fault.plan.writes)], sort_keys=True)
        if now != seen:
            quiet, seen = time.monotonic(), now
        if time.monotonic() - quiet > calm:
            return
        time.sleep(0.05)
    raise AssertionError("it goes on writing")


def _done(resource: Object) -> bool:
    status = resource.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    spec = resource["spec"]
    wanted = (spec.get("pin") or spec["model"])["version"]
    return bool(
        status.get("observedGeneration") == resource["metadata"]["generation"]
        and (status.get("active") or {}).get("version") == wanted
        and [one["version"] for one in status.get("versions", ())] == [wanted]
        and conditions["Ready"]["status"] == "True"
        and conditions["Progressing"]["status"] == "False"
        and conditions["Reconciled"]["status"] == "True"
        and ("challenger" not in spec or conditions["ChallengerReceiving"]["status"] == "True")
    )


def normal(cluster: Cluster, namespace: Namespace) -> Object:
    """Everything that is owned and the status, without what the server and the clock give, and without history's numbers."""
    found: Object = {name: _masked(one) for name, one in cluster.owned(namespace).items()}
    with suppress(ApiFailure):
        found["status"] = cluster.resource(namespace).get("status", {})
    found["answering"] = sorted({str(node.active.get(NAME)) for node in namespace.nodes.values() if node.role == "main"})
    text = json.dumps(found, sort_keys=True).replace(namespace.name, "NAMESPACE")
    # A mirroring key is made of the namespace's name.
    text = re.sub(r'"sha256": "[0-9a-f]{64}"', '"sha256": ""', text)
    text = re.sub(r'"(lastTransitionTime|time)": "[^"]*"', r'"\1": ""', text)
    result: Object = json.loads(text)
    return result


def _masked(body: Object) -> Object:
    metadata = {key: body["metadata"][key] for key in ("name", "labels")}
    owners = [one["kind"] + "/" + one["name"] for one in body["metadata"].get("ownerReferences", ())]
    spec = {key: value for key, value in body.get("spec", {}).items() if key not in ("clusterIP", "clusterIPs")}
    data = {name: _unnumbered(text) for name, text in body.get("data", {}).items()}
    return {"metadata": metadata, "owners": owners, "spec": spec, "data": data}


def _unnumbered(text: str) -> Object | str:
    if not text.startswith("{"):
        return text
    data: Object = json.loads(text)
    for history in ("sequence", "content"):
        data.pop(history, None)
    for clock in ("active_since", "target_since", "watch", "counted"):
        data.get("record", {}).pop(clock, None)
    return data


def strike_all(on: Stage, acts: list[str], every: int, chance: random.Random) -> tuple[int, list[str]]:
    """All strikes, or a share of them. Gives back how many there were, and those whose end was another."""
    struck, wrong = 0, []
    for act in acts:
        calm_plan = Plan()
        namespace, _ = live(on, act, calm_plan)
        calm, writes = normal(on.cluster, namespace), len(calm_plan.writes)
        if act == DELETE:
            calm = {"answering": []}
        on.cluster.leave(namespace)
        print(f"{act}: {writes} writes", flush=True)
        cases = [(number, way) for number in range(1, writes + 1) for way in WAYS]
        for number, way in cases if every == 1 else chance.sample(cases, max(1, len(cases) // every)):
            plan = _plan(on, number, way)
            namespace, seconds = live(on, act, plan)
            end = _end(on, namespace, calm)
            struck += len(plan.writes) >= number
            said = "the same end" if end == calm else _difference(end, calm)
            if end != calm:
                wrong.append(f"{act}, write {number} {plan.writes[number - 1 : number]}, {way}: {said}")
            print(f"  {act} write {number} {way}: {said} after {seconds:.1f} s", flush=True)
            on.cluster.leave(namespace)
    return struck, wrong


def _plan(on: Stage, number: int, way: str) -> Plan:
    if way.startswith("killed"):
        return Plan(number, "before" if way == "killed before" else "after", strike=on.operator.kill)
    return Plan(number, "before", answer=int(way))


def _end(on: Stage, namespace: Namespace, calm: Object) -> Object:
    """The end that is reached; the calm one is given time to be."""
    with suppress(AssertionError):
        eventually(lambda: normal(on.cluster, namespace) == calm, 20, every=0.1)
    return normal(on.cluster, namespace)


def _difference(one: object, other: object, place: str = "") -> str:
    """Where two ends differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
        return "; ".join(_difference(one.get(key), other.get(key), f"{place}/{key}") for key in keys)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return "; ".join(_difference(a, b, f"{place}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    return f"{place}: {str(one)[:120]} instead of {str(other)[:120]}"


def restart_writes(on: Stage) -> int:
    """How many writes a restart makes where nothing has changed, all kinds but Lease, Secret and token reviews."""
    namespace, _ = live(on, "update", Plan())
    on.fault.plan = plan = Plan()
    on.operator.kill()
    time.sleep(15)
    on.cluster.leave(namespace)
    return len(plan.writes)


def main() -> int:
    """Run the campaign; exit status 1 where an end was another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="strike one in so many")
    parser.add_argument("--acts", default=",".join(ACTS))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    programs()
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as server:
        folder = Path(name)
        server.kubectl("apply", "--server-side", "--filename", str(ROOT / "crds"))
        with stage(server, folder) as on:
            restarted = restart_writes(on)
            print(f"a restart writes {restarted} times", flush=True)
            struck, wrong = strike_all(on, options.acts.split(","), options.every, random.Random(options.seed))
            print(f"{struck} strikes, {len(wrong)} other ends; operator holds {on.operator.rss() / 2**20:.0f} MiB")
        for one in wrong:
            print(one)
    return 1 if wrong or restarted else 0


if __name__ == "__main__":
    raise SystemExit(main())
