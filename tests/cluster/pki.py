"""Certificates and kubeconfigs of a cluster that lives for days at most."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster.layout import Layout

_DAYS = 30


@dataclass(frozen=True)
class Pair:
    """A key and the certificate for it."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def write(self, folder: Path, name: str) -> None:
        """Write `name`.key (readable by its owner alone) and `name`.crt."""
        path = folder / f"{name}.key"
        path.touch(mode=0o600)
        path.write_bytes(key_pem(self.key))
        (folder / f"{name}.crt").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))


def read(folder: Path, name: str) -> Pair:
    """What `Pair.write` has written."""
    key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Pair(key, x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes()))


def authority(name: str) -> Pair:
    """A certificate authority that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _started(subject, subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False),  # signs certificates and lists
            critical=True,
        )
    )
    return Pair(key, builder.sign(key, hashes.SHA256()))


def signed(by: Pair, user: str, group: str = "", *, names: tuple[str, ...] = ()) -> Pair:
    """A certificate for client and server alike; `names` are DNS names or addresses of the server."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, user)])
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _started(subject, by.certificate.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), critical=False)
    return Pair(key, builder.sign(by.key, hashes.SHA256()))


def write_all(layout: Layout) -> None:
    """Write what every program of the node needs, and the administrator's kubeconfig last."""
    folder = layout.folder / "pki"
    folder.mkdir()
    ca, front = authority("quarterdeck-cluster"), authority("quarterdeck-front-proxy")
    ca.write(folder, "ca")
    front.write(folder, "front-ca")
    signed(front, "front-proxy").write(folder, "front")
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    server = ("127.0.0.1", "localhost", layout.node, layout.address(128, 1), *service)
    signed(ca, "kube-apiserver", names=server).write(folder, "apiserver")
    signed(ca, "apiserver-kubelet", "system:masters").write(folder, "apiserver-kubelet")
    signed(ca, "s3", names=(layout.node, "127.0.0.1", "s3.storage.svc")).write(folder, "s3")
    accounts = ec.generate_private_key(ec.SECP256R1())
    (folder / "accounts.key").write_bytes(key_pem(accounts))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "accounts.pub").write_bytes(accounts.public_key().public_bytes(serialization.Encoding.PEM, public))
    kubelet = signed(ca, f"system:node:{layout.name}", "system:nodes", names=(layout.node, layout.name))
    kubelet.write(folder, "kubelet")
    clients = {
        "kubelet": kubelet,
        "controller-manager": signed(ca, "system:kube-controller-manager"),
        "scheduler": signed(ca, "system:kube-scheduler"),
        "proxy": signed(ca, "system:kube-proxy"),
        "admin": signed(ca, "admin", "system:masters"),
    }
    for name, pair in clients.items():
        _write_kubeconfig(folder / f"{name}.conf", layout, ca, pair)


def _write_kubeconfig(path: Path, layout: Layout, ca: Pair, client: Pair) -> None:
    certificate, trusted = (each.certificate.public_bytes(serialization.Encoding.PEM) for each in (client, ca))
    cluster = {"server": f"https://{layout.node}:6443", "certificate-authority-data": _base64(trusted)}
    user = {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key_pem(client.key))}
    name = f"quarterdeck-{layout.name}"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content))


def _started(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
    )


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # The classic form, because Kubernetes reads its account keys in that form too.
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
