"""A cluster that is there already: reached by the user's KUBECONFIG alone, with an S3 server of the tests in a pod.

    KUBECONFIG=… CLUSTER=kubeconfig make test-cluster

`kind load image-archive ARCHIVE` brings images to its machines, or the command in CLUSTER_LOAD, to which the archive is added.
Only tests that reach pods through Kubernetes run there: this machine has no way to the addresses of somebody's pods.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3

from tests.cluster import images, pki
from tests.cluster.layout import Layout
from tests.cluster.node import S3_ACCOUNT, S3_PORT, Node
from tests.support import eventually, free_port

TESTS = frozenset({"test_changes.py"})
"""What can run there."""
STORAGE = "quarterdeck-tests-storage"
_LOAD = "kind load image-archive"
_IMAGE = f"{images.REGISTRY}/quarterdeck-s3server:1"
_CRD = "modeldeployments.quarterdeck.dev"
_LABELS = {"app": "s3"}


class Foreign(Node):
    """The user's cluster, as tests use one."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="quarterdeck-cluster-"))
        super().__init__(Layout("test", folder))
        (folder / "pki").mkdir()
        shutil.copy(os.environ["KUBECONFIG"], self.layout.kubeconfig)
        self._forward: subprocess.Popen[bytes] | None = None
        self._port, self._secret = free_port(), secrets.token_hex(16)
        self._crd_before = True

    def start(self) -> None:
        """Start the S3 server."""
        self._crd_before = "/" in self.kubectl("get", "crd", _CRD, "--ignore-not-found", "--output=name")
        authority = pki.authority("quarterdeck-tests")
        authority.write(self.layout.folder / "pki", "ca")
        server = pki.signed(authority, "s3", names=("127.0.0.1", f"s3.{STORAGE}.svc"))
        server.write(self.layout.folder / "pki", "s3")
        self.load_images([images.of_program(_IMAGE, images.tool("s3server/build"), "s3server")])
        self.apply(*self._storage())
        self.rolled_out("s3", STORAGE)
        command = ["port-forward", "service/s3", f"{self._port}:{S3_PORT}", f"--namespace={STORAGE}"]
        kubectl = [str(self.kubernetes / "kubectl"), f"--kubeconfig={self.layout.kubeconfig}", *command]
        # It complains of every connection that the other side closes first.
        self._forward = subprocess.Popen(kubectl, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: self._s3().list_buckets(), 30, every=0.3)

    def stop(self) -> None:
        """Take away what the tests have brought; the CRDs too, where there were none."""
        if self._forward is not None:
            self._forward.terminate()
            self._forward.wait()
        # What is left to be removed differs with how far the tests came.
        with suppress(RuntimeError):
            self.kubectl("delete", "namespace", STORAGE, "quarterdeck", "--ignore-not-found", "--timeout=150s")
        if not self._crd_before:
            self.kubectl("delete", "crd", _CRD, "--ignore-not-found")
        shutil.rmtree(self.layout.folder)

    def volumes(self, count: int = 3) -> None:
        """Its own storage class makes volumes."""

    def load_images(self, archives: Sequence[Path]) -> None:
        """By the user's command."""
        for archive in archives:
            subprocess.run([*shlex.split(os.environ.get("CLUSTER_LOAD", _LOAD)), str(archive)], check=True)

    @property
    def endpoint(self) -> str:
        """The S3 server as pods see it."""
        return f"https://s3.{STORAGE}.svc:{S3_PORT}"

    @property
    def endpoint_here(self) -> str:
        """The S3 server as this machine sees it."""
        return f"https://127.0.0.1:{self._port}"

    def bucket(self, name: str) -> None:
        """Make a bucket where there is none."""
        self._s3().create_bucket(Bucket=name)

    def s3_account(self) -> tuple[str, str]:
        """Access key and secret key of the S3 server's account."""
        return S3_ACCOUNT, self._secret

    def _s3(self) -> Any:
        session = boto3.Session(S3_ACCOUNT, self._secret, region_name="us-east-1")
        return session.client("s3", endpoint_url=self.endpoint_here, verify=str(self.authority))

    def _storage(self) -> list[dict[str, Any]]:
        about = {"name": "s3", "namespace": STORAGE}
        files = {name: (self.layout.folder / "pki" / name).read_text() for name in ("s3.crt", "s3.key")}
        account = {"ROOT_ACCESS_KEY_ID": S3_ACCOUNT, "ROOT_SECRET_ACCESS_KEY": self._secret}
        container = {
            "name": "s3",
            "image": _IMAGE,
            "imagePullPolicy": "Never",
            "args": ["--port", f":{S3_PORT}", "--cert", "/tls/s3.crt", "--key", "/tls/s3.key", "posix", "/buckets"],
            "env": [{"name": name, "valueFrom": {"secretKeyRef": {"name": "s3", "key": name}}} for name in account],
            "volumeMounts": [{"name": "tls", "mountPath": "/tls"}, {"name": "buckets", "mountPath": "/buckets"}],
        }
        pod = {
            "containers": [container],
            "securityContext": {"fsGroup": 65532},
            "volumes": [{"name": "tls", "secret": {"secretName": "s3"}}, {"name": "buckets", "emptyDir": {}}],
        }
        template = {"metadata": {"labels": _LABELS}, "spec": pod}
        ports = [{"port": S3_PORT}]
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STORAGE}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": {**files, **account}},
            {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": {"selector": _LABELS, "ports": ports}},
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": about,
                "spec": {"selector": {"matchLabels": _LABELS}, "template": template},
            },
        ]
