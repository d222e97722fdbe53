"""PostgreSQL in a pod of the cluster: an image of Debian's package, a volume, and TLS by the cluster's own authority."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from tests.cluster import images, pki
from tests.cluster.control import kill
from tests.cluster.node import Node
from tests.postgres import USER, binary

NAME, PORT = "postgres", 5432
PASSWORD = "postgres-password"
_TLS = "postgres-tls"
_IMAGE = f"{images.REGISTRY}/quarterdeck-postgres"
_DATA = "/var/lib/postgres/data"
_START = """\
if [ ! -e {data}/PG_VERSION ]; then
  {bin}/initdb -D {data} --encoding=UTF8 --locale=C --username={user} --auth=scram-sha-256 --pwfile=/etc/password/password
  echo 'hostssl all all all scram-sha-256' >> {data}/pg_hba.conf
fi
exec {bin}/postgres -D {data} -c listen_addresses='*' -c unix_socket_directories= -c ssl=on -c jit=off \
  -c ssl_cert_file=/etc/tls/tls.crt -c ssl_key_file=/etc/tls/tls.key
"""
_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


class DatabasePod:
    """A server that may be killed and deleted; what it has acknowledged lies on its volume.

    Attributes:
        url: as the chart takes it.
    """

    def __init__(self, node: Node, namespace: str) -> None:
        self.node, self.namespace = node, namespace
        host = f"{NAME}.{namespace}.svc"
        self.url = f"postgresql://{USER}@{host}:{PORT}/postgres?sslmode=verify-full&sslrootcert=/etc/quarterdeck/s3-ca/ca.crt"
        self._host = host
        self._volume = Volume(node, namespace, NAME)

    def start(self) -> None:
        """Build the image where it is not there, start the pod, and wait until it takes connections."""
        image, archive = _image()
        self.node.load_images([archive])
        self._volume.make()
        pair = pki.signed(pki.read(self.node.authority.parent, "ca"), NAME, names=(self._host,))
        certificate = pair.certificate.public_bytes(serialization.Encoding.PEM).decode()
        tls = {"tls.crt": certificate, "tls.key": pki.key_pem(pair.key).decode()}
        self.node.apply(
            self._object("Secret", PASSWORD, stringData={"password": secrets.token_urlsafe(24)}),
            self._object("Secret", _TLS, stringData=tls),
            self._claim(),
            self._object("Service", NAME, spec={"selector": {"app": NAME}, "ports": [{"port": PORT}]}),
            self._deployment(image),
        )
        self.wait()

    def wait(self) -> None:
        """Wait until it takes connections."""
        self.node.rolled_out(NAME, self.namespace)

    def kill(self) -> None:
        """kill -9 of the server's first process, on the node; its children go with it."""
        kill(self.node, self._pod(), self.namespace)

    def delete_pod(self) -> None:
        """Delete its pod, and wait until that is gone; another one takes its place."""
        self.node.kubectl("delete", "pod", self._pod(), f"--namespace={self.namespace}", "--timeout=90s")

    def remove(self) -> None:
        """Take the volume away; the rest goes with the namespace."""
        # The server writes until its pod is gone.
        gone = ["--ignore-not-found", "--cascade=foreground", "--timeout=60s"]
        self.node.kubectl("delete", "deployment", NAME, f"--namespace={self.namespace}", *gone)
        self._volume.remove()

    def _pod(self) -> str:
        pods = self.node.get("pods", namespace=self.namespace, app=NAME)
        return str(next(pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]))

    def _object(self, kind: str, name: str, api: str = "v1", **content: Any) -> dict[str, Any]:
        return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": self.namespace}, **content}

    def _claim(self) -> dict[str, Any]:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        return self._object("PersistentVolumeClaim", NAME, spec=spec)

    def _deployment(self, image: str) -> dict[str, Any]:
        container = {
            "name": NAME,
            "image": image,
            "imagePullPolicy": "Never",
            "command": ["/bin/sh", "-c", _START.format(data=_DATA, bin=binary("postgres").parent, user=USER)],
            "securityContext": _SECURITY,
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
            "volumeMounts": [
                {"name": "data", "mountPath": str(Path(_DATA).parent)},
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "password", "mountPath": "/etc/password"},
                {"name": "tls", "mountPath": "/etc/tls"},
            ],
        }
        volumes = [
            {"name": "data", "persistentVolumeClaim": {"claimName": NAME}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "password", "secret": {"secretName": PASSWORD}},
            # The server refuses a key that others may read.
            {"name": "tls", "secret": {"secretName": _TLS, "defaultMode": 0o440}},
        ]
        pod = {
            "containers": [container],
            "volumes": volumes,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532},
        }
        labels = {"app": NAME}
        spec = {
            "replicas": 1,
            # Never two servers on one folder.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }
        return self._object("Deployment", NAME, "apps/v1", spec=spec)


class Volume:
    """A volume for one claim; no storage class makes them here, and what was claimed once is nobody else's afterwards."""

    def __init__(self, node: Node, namespace: str, claim: str) -> None:
        self._node, self._name = node, f"{namespace}-{claim}"
        self._claim = {"namespace": namespace, "name": claim}
        self._place = node.layout.folder / "volumes" / self._name

    def make(self) -> None:
        """Make it, before anybody claims it."""
        self._place.mkdir(parents=True)
        self._place.chmod(0o777)
        spec = {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(self._place)},
            "claimRef": self._claim,
        }
        self._node.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": self._name}, "spec": spec})

    def remove(self) -> None:
        """Take it away with what it holds; whoever had it mounted is gone."""
        self._node.kubectl("delete", "persistentvolume", self._name, "--ignore-not-found", "--wait=false")
        shutil.rmtree(self._place)


def _image() -> tuple[str, Path]:
    """Name and archive of an image with the server, what it is linked to, and a shell; nothing else is in it."""
    programs = [binary("postgres"), binary("initdb"), Path("/bin/sh")]
    place = binary("postgres").parent.parent
    dockerfile = "FROM scratch\nCOPY root /\nSTOPSIGNAL SIGINT\nUSER 65532:65532\n"
    key = images.digest(*programs, dockerfile.encode())
    name = f"{_IMAGE}:{key}"
    path = images.archive(_IMAGE, key)
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "Dockerfile").write_text(dockerfile)
            _fill(Path(folder) / "root", programs, place)
            images.buildah("bud", "--isolation", "chroot", "--layers=false", "--tag", name, folder)
        images.save(name, path)
    return name, path


def _fill(root: Path, programs: list[Path], place: Path) -> None:
    modules = [path for path in (place / "lib").glob("*.so") if not path.name.startswith("llvmjit")]
    for path in {*programs, *modules, *_linked([*programs, *modules])}:
        there = root / path.relative_to("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, there)
    for folder in (Path("/usr/share/postgresql") / place.name, Path("/usr/share/zoneinfo")):
        shutil.copytree(folder, root / folder.relative_to("/"))
    (root / "etc").mkdir()
    # The server looks up what its user is called.
    (root / "etc" / "passwd").write_text(f"{USER}:x:65532:65532::/:/bin/sh\n")


def _linked(files: list[Path]) -> set[Path]:
    """The libraries that files are linked to, the loader among them."""
    said = subprocess.run(["ldd", *files], capture_output=True, text=True, check=True).stdout
    return {Path(word) for line in said.splitlines() for word in line.split() if word.startswith("/") and not word.endswith(":")}
