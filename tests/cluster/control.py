"""The deployer that the chart installs, as people get it: with a namespace, an infrastructure and a bucket for each stage.

Programs reach it by a forwarded port, as its users do, and what it runs by the Services' addresses.
"""

from __future__ import annotations

import base64
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx

from quarterdeck.client import Client
from quarterdeck.client.calls import Json
from tests.cluster.deployment import Deployment
from tests.cluster.installation import AUTHORITY, NAMESPACE, RELEASE, SECRET, Installation
from tests.cluster.node import Node
from tests.support import eventually

STAGES: Mapping[str, str] = {stage: f"stage-{stage}" for stage in ("dev", "staging", "prod")}
"""Stage → its namespace, which is also the name of its bucket."""
PORT = 8400
"""On this machine too: the deployer answers to the addresses that it knows, and people forward this one."""
_SUFFIX = ".svc"


class Services(httpx.BaseTransport):
    """A network in which names of Services mean something: `NAME.NAMESPACE.svc` leads to the Service's address."""

    def __init__(self, node: Node) -> None:
        self._node, self._network = node, httpx.HTTPTransport(trust_env=False)
        self._addresses: dict[str, str] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it on; its Host header stays as it was."""
        host = request.url.host
        if host.endswith(_SUFFIX):
            if host not in self._addresses:
                self._addresses[host] = address(self._node, *host.split(".")[:2])
            request.url = request.url.copy_with(host=self._addresses[host])
        return self._network.handle_request(request)

    def close(self) -> None:
        """Close all connections."""
        self._network.close()


def address(node: Node, name: str, namespace: str) -> str:
    """The address of a Service."""
    return str(node.get("service", name, namespace)["spec"]["clusterIP"])


def kill(node: Node, pod: str, namespace: str) -> None:
    """kill -9 of the one container of a pod, past Kubernetes."""
    (container,) = node.get("pod", pod, namespace)["status"]["containerStatuses"]
    ident = container["containerID"].removeprefix("containerd://")
    where = [f"--address={node.layout.socket}", "--namespace=k8s.io"]
    node.inside("ctr", *where, "tasks", "kill", "--signal=SIGKILL", ident)


class ChartDeployer:
    """The deployer of one release.

    Attributes:
        url: where it is reached, also from this machine by `client()`.
    """

    def __init__(self, installation: Installation, release: str, namespace: str) -> None:
        self.installation, self.node = installation, installation.node
        self.release, self.namespace = release, namespace
        self.url = f"http://{release}-deployer.{namespace}{_SUFFIX}:{PORT}"

    @property
    def token(self) -> str:
        """The admin token of its Secret."""
        secret = self.node.get("secret", f"{self.release}-deployer-tokens", self.namespace)
        return base64.b64decode(secret["data"]["token"]).decode()

    def client(self, token: str = "", timeout: float = 30.0) -> Client:
        """A client with this token, the admin's where it is empty; it finds the doors of what runs in the cluster too."""
        return Client(self.url, token or self.token, timeout=timeout, transport=Services(self.node))

    def pod(self) -> str:
        """The name of its pod that is not being deleted; empty: there is none."""
        found = self.node.get("pods", namespace=self.namespace, **self._labels)
        return next((str(pod["metadata"]["name"]) for pod in found if "deletionTimestamp" not in pod["metadata"]), "")

    def wait(self) -> None:
        """Wait until it answers, whatever has become of its pod meanwhile."""
        with self.client(timeout=5) as client:
            eventually(lambda: client.call("GET", "/health"), 120, every=0.2)

    def delete_pod(self) -> None:
        """Delete its pod, and wait until that is gone; another one takes its place."""
        self.node.kubectl("delete", "pod", self.pod(), f"--namespace={self.namespace}", "--timeout=90s")

    def kill(self) -> None:
        """kill -9 of its process, on the node."""
        kill(self.node, self.pod(), self.namespace)

    @property
    def _labels(self) -> dict[str, str]:
        return {"app.kubernetes.io/name": "quarterdeck-deployer", "app.kubernetes.io/instance": self.release}


class Control(ChartDeployer):
    """The deployer of the tests' release, with its three stages; open it, or use it in a `with` block.

    Attributes:
        namespaces: stage → namespace.
        url: the forwarded port.
    """

    def __init__(self, installation: Installation) -> None:
        super().__init__(installation, RELEASE, NAMESPACE)
        self.namespaces = STAGES
        self.url = f"http://127.0.0.1:{PORT}"
        self._port = Forwarded(self.node, f"{RELEASE}-deployer", NAMESPACE)

    def __enter__(self) -> Self:
        self.installation.deploy_to(list(self.namespaces.values()))
        self._port.open()
        try:
            self.wait()
            with self.client() as client:
                for stage in self.namespaces:
                    self._set_up(client, stage)
        except BaseException:
            self._port.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._port.close()

    def store(self, stage: str) -> str:
        """The URL of a stage's own store; this machine opens it too, within `installation.aws()`."""
        return self.installation.store(self.namespaces[stage])

    def infrastructure(self, stage: str) -> str:
        """The name of a stage's infrastructure."""
        with self.client() as client:
            return str(client.stage(stage)["infrastructure"])

    def door(self, stage: str, name: str) -> str:
        """The base URL of a deployment's Service, as this machine reaches it."""
        return f"http://{address(self.node, name, self.namespaces[stage])}"

    def predict(self, stage: str, name: str, rows: Sequence[Mapping[str, Any]], key: str | None = None) -> Json:
        """What the Service of a deployment answers.

        Raises:
            httpx.HTTPStatusError: another status than 200.
        """
        headers = {"authorization": f"Bearer {key}"} if key else {}
        url = f"{self.door(stage, name)}/deployments/{name}/predict"
        answer = httpx.post(url, json=list(rows), headers=headers, trust_env=False, timeout=20)
        answer.raise_for_status()
        found: Json = answer.json()
        return found

    def deployment(self, stage: str, name: str) -> Deployment:
        """A ModelDeployment in a stage's namespace, with its store, as kubectl sees it."""
        return Deployment(self.installation, self.namespaces[stage], name, self.store(stage))

    def _set_up(self, client: Client, stage: str) -> None:
        namespace = self.namespaces[stage]
        self.node.bucket(namespace)
        (row,) = (each for each in client.infrastructures() if each["settings"].get("namespace") == namespace)
        node_store = {"url": self.store(stage), "secret": SECRET, "caConfigMap": AUTHORITY}
        opened = {"s3Folder": "/etc/quarterdeck/s3", "s3Ca": "/etc/quarterdeck/s3-ca/ca.crt"}
        settings = {"namespace": namespace, "nodeStore": node_store, **opened}
        client.put_infrastructure(row["name"], {"kind": "kubernetes", "store": self.store(stage), "settings": settings})
        kept = {field: value for field, value in client.stage(stage).items() if field in ("position", "gates", "approval")}
        client.put_stage(stage, {**kept, "infrastructure": row["name"]})


class Forwarded:
    """`kubectl port-forward` to a Service, opened anew whenever it ends: it leads to one pod, and ends with that."""

    def __init__(self, node: Node, service: str, namespace: str) -> None:
        command = ["port-forward", f"service/{service}", str(PORT), f"--namespace={namespace}", "--address=127.0.0.1"]
        self._command = [str(node.kubernetes / "kubectl"), f"--kubeconfig={node.layout.kubeconfig}", *command]
        self._log = node.layout.folder / "log" / "port-forward"
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name=f"port-forward {service}", daemon=True)

    def open(self) -> None:
        """Begin; when it leads somewhere is for the caller to find out."""
        self._thread.start()

    def close(self) -> None:
        """End it for good."""
        self._ending.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(20)

    def _keep(self) -> None:
        with self._log.open("ab") as log:
            while not self._ending.is_set():
                self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                # Whoever closes it between those two lines has seen no process to end.
                if self._ending.is_set():
                    self._process.terminate()
                self._process.wait()
                self._ending.wait(0.2)
