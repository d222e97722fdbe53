"""A real kube-apiserver over a real etcd on the loopback, and nothing else of Kubernetes: no kubelet, no controllers.

What is written there is validated, defaulted, stored and watched as in a cluster; pods stay wishes, and nothing is collected
when its owner is deleted. `api_server` is the fixture: one server for the whole run, where every test takes a namespace of
its own. Programs come from `tools/kubernetes/build`.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support import ROOT, eventually, free_ports

CRDS = ROOT / "crds"


@dataclass(frozen=True)
class ApiServer:
    """A running server: its URL, a kubeconfig file of an administrator, and its folder of keys and logs."""

    url: str
    kubeconfig: Path
    folder: Path

    def kubectl(self, *words: str, stdin: str = "", namespace: str = "default") -> str:
        """What kubectl prints.

        Raises:
            AssertionError: it failed; the message is what it said.
        """
        done = self.run_kubectl(*words, stdin=stdin, namespace=namespace)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run_kubectl(self, *words: str, stdin: str = "", namespace: str = "default") -> subprocess.CompletedProcess[str]:
        """A finished kubectl, whether it succeeded or not."""
        command: list[str | Path] = [programs() / "kubectl", "--kubeconfig", self.kubeconfig, "--namespace", namespace, *words]
        # A home of its own: kubectl keeps what it has learned of a server below it, by address, and ports come again.
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=environment)

    def get(self, *words: str, namespace: str = "default") -> Any:
        """An object, or a list of them, as JSON data."""
        return json.loads(self.kubectl("get", *words, "--output", "json", namespace=namespace))

    def namespace(self) -> str:
        """A fresh namespace with the service account that pods of it run as when they name none."""
        name = f"test-{secrets.token_hex(4)}"
        self.kubectl("create", "namespace", name)
        # A controller makes it in a cluster, and without it no pod is admitted.
        self.kubectl("create", "serviceaccount", "default", namespace=name)
        return name


_PROGRAMS = ("etcd", "kube-apiserver", "kubectl", "helm")


@cache
def programs() -> Path:
    """The folder of etcd, kube-apiserver, kubectl and helm; built where they are not there yet."""
    built = subprocess.run([ROOT / "tools/kubernetes/build", *_PROGRAMS], stdout=subprocess.PIPE, check=True, text=True)
    return Path(built.stdout.splitlines()[-1])


@contextmanager
def running(folder: Path) -> Iterator[ApiServer]:
    """A server that keeps everything under `folder`, ended with the block; ready in some four seconds."""
    port = free_ports(3)
    url = f"https://127.0.0.1:{port}"
    authority, key = _authority(folder)
    _certificate(folder, "server", "kube-apiserver", "", authority, key)
    _certificate(folder, "admin", "admin", "system:masters", authority, key)
    _write_kubeconfig(folder, url)
    server = ApiServer(url, folder / "admin.conf", folder)
    with ExitStack() as stack:
        stack.enter_context(_program(folder, "etcd", _etcd_options(folder, port + 1)))
        stack.enter_context(_program(folder, "kube-apiserver", _server_options(folder, port, port + 1)))
        eventually(lambda: server.kubectl("get", "--raw", "/readyz") == "ok")
        yield server


def _etcd_options(folder: Path, port: int) -> Sequence[str]:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        # Nothing here outlives the test, so nothing has to reach the disk.
        "--unsafe-no-fsync",
    ]


def _server_options(folder: Path, port: int, etcd: int) -> Sequence[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        # The Service `kubernetes` cannot lead to a loopback address.
        "--endpoint-reconciler-type=none",
        f"--secure-port={port}",
        f"--tls-cert-file={folder / 'server.crt'}",
        f"--tls-private-key-file={folder / 'server.key'}",
        f"--client-ca-file={folder / 'ca.crt'}",
        f"--service-account-key-file={folder / 'ca.key'}",
        f"--service-account-signing-key-file={folder / 'ca.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
        f"--cert-dir={folder}",
    ]


@contextmanager
def _program(folder: Path, name: str, options: Sequence[str]) -> Iterator[None]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([programs() / name, *options], stdout=log, stderr=log)
    try:
        yield
    finally:
        # Nothing is worth a server's goodbye, which takes as long as its open watches.
        process.kill()
        process.wait()


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """`ca.crt` and `ca.key` in the folder: the one authority that everybody here trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    _write(folder, "ca", certificate, key)
    return certificate, key


def _certificate(
    folder: Path, file: str, user: str, group: str, authority: x509.Certificate, signer: ec.EllipticCurvePrivateKey
) -> None:
    """`FILE.crt` and `FILE.key` for a server on the loopback, or for a client that is `user` of `group`."""
    key = ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    subject = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, user)])
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = _builder(subject, authority.subject, key).add_extension(addresses, critical=False).sign(signer, hashes.SHA256())
    _write(folder, file, certificate, key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=2))
    )


def _write(folder: Path, file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    (folder / f"{file}.key").write_bytes(pem)
    (folder / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_kubeconfig(folder: Path, url: str) -> None:
    def data(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    cluster = {"server": url, "certificate-authority-data": data("ca.crt")}
    user = {"client-certificate-data": data("admin.crt"), "client-key-data": data("admin.key")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
    # JSON is YAML, and needs no library.
    (folder / "admin.conf").write_text(json.dumps(config))


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One server for the whole run, with the project's own CRDs; every test takes a namespace of its own."""
    with running(tmp_path_factory.mktemp("apiserver")) as server:
        server.kubectl("apply", "--filename", str(CRDS))
        server.kubectl("wait", "--for=condition=Established", "--filename", str(CRDS))
        yield server
