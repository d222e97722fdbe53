"""The plan server's certificate and its authority, and the seed of mirroring tokens: all in the one Secret that we may write.

Two operators that start at once agree by compare-and-swap: whoever writes first has made it, the other reads it. The authority is
renewed long before its end, and both are trusted until then; what the old one signed stays in use until it is due itself, so
every node has learned the new authority before it meets it.
"""

from __future__ import annotations

import ipaddress
import secrets
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quarterdeck.errors import NotReady

CA_DAYS = 3_650
CA_RENEW_DAYS = 365
SERVER_DAYS = 90
SERVER_RENEW_DAYS = 30
SEED_BYTES = 32
_CA, _CA_KEY, _CERTIFICATE, _KEY, _SEED = "ca.crt", "ca.key", "tls.crt", "tls.key", "mirror.seed"
_TRIES = 5
# Clocks of machines differ a little; a certificate of this minute must be good on all of them.
_BEFORE = timedelta(hours=1)


class Stored(NamedTuple):
    """The Secret's content, and its version for the next write."""

    data: Mapping[str, bytes]
    version: str


class SecretStore(Protocol):
    """The one Secret; blocks. The chart has made it, empty."""

    def read(self) -> Stored:
        """What it holds.

        Raises:
            QuarterdeckError: it is not there, or cannot be read.
        """
        ...

    def write(self, data: Mapping[str, bytes], version: str) -> bool:
        """Replace its content if it still has this version; False: somebody else was faster.

        Raises:
            QuarterdeckError: it cannot be written.
        """
        ...


class SecretStoreTwin:
    """A Secret in memory."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}
        self._version = 1
        self.writes = 0

    def read(self) -> Stored:
        """What it holds."""
        return Stored(dict(self._data), str(self._version))

    def write(self, data: Mapping[str, bytes], version: str) -> bool:
        """Replace its content if it still has this version."""
        if version != str(self._version):
            return False
        self._data, self._version, self.writes = dict(data), self._version + 1, self.writes + 1
        return True


@dataclass(frozen=True, slots=True)
class Material:
    """What the plan server runs with.

    Attributes:
        ca: PEM of all certificates that nodes are to trust.
        certificate, key: PEM of the server's own.
        seed: what mirroring tokens are derived from.
    """

    ca: str
    certificate: bytes
    key: bytes
    seed: bytes


def ensure(store: SecretStore, hosts: Sequence[str], now: datetime) -> Material:
    """What the Secret holds, made or renewed where that is due. Call it at start and every few hours.

    Args:
        store: the Secret.
        hosts: names or addresses that nodes reach the plan server by, the most common first.
        now: the time, UTC.

    Raises:
        NotReady: others kept writing at the same time.
        QuarterdeckError: the Secret cannot be read or written.
    """
    for _ in range(_TRIES):
        stored = store.read()
        wanted = _renewed(stored.data, hosts, now)
        if wanted == stored.data or store.write(wanted, stored.version):
            return Material(wanted[_CA].decode(), wanted[_CERTIFICATE], wanted[_KEY], wanted[_SEED])
    raise NotReady("The plan server's Secret is being written by others all the time.", kind="secret", hint="It is tried again.")


def hosts_of(url: str, service: str, namespace: str) -> list[str]:
    """Names of the plan server: the one that pods are told, and its Service's in all their lengths."""
    told = urlsplit(url).hostname or ""
    names = [told, *(f"{service}.{namespace}{end}" for end in (".svc", ".svc.cluster.local", ""))]
    return list(dict.fromkeys(name for name in names if name))


def load(context: ssl.SSLContext, material: Material) -> None:
    """Put the server's certificate into a TLS context; of one in use, it counts from the next connection on."""
    # OpenSSL takes certificates from files only; only we can read this one, and it is gone at once.
    descriptor, name = tempfile.mkstemp()
    try:
        with open(descriptor, "wb") as file:
            file.write(material.certificate + material.key)
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()


def server_context(material: Material) -> ssl.SSLContext:
    """TLS for the plan server: 1.2 and newer, no client certificates; tokens say who asks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load(context, material)
    return context


def _renewed(data: Mapping[str, bytes], hosts: Sequence[str], now: datetime) -> dict[str, bytes]:
    """The content with what was missing, is nearly over or fits nothing made anew."""
    made = {name: data[name] for name in (_CA, _CA_KEY, _CERTIFICATE, _KEY, _SEED) if data.get(name)}
    made.setdefault(_SEED, secrets.token_bytes(SEED_BYTES))
    authorities, signer = _authorities(made, now)
    if signer is None or authorities[0].not_valid_after_utc - now < timedelta(days=CA_RENEW_DAYS):
        authority, signer = _authority(now)
        authorities = [authority, *authorities]
        made |= {_CA: b"".join(map(_pem, authorities)), _CA_KEY: _key_pem(signer)}
    if not _fits(made, authorities, hosts, now):
        certificate, key = _certificate(authorities[0], signer, hosts, now)
        made |= {_CERTIFICATE: _pem(certificate), _KEY: _key_pem(key)}
    return made


def _authorities(data: Mapping[str, bytes], now: datetime) -> tuple[list[x509.Certificate], ec.EllipticCurvePrivateKey | None]:
    """Authorities that are still good, newest first, and the newest one's key; none of both where they do not fit together."""
    try:
        found = x509.load_pem_x509_certificates(data[_CA])
        key = serialization.load_pem_private_key(data[_CA_KEY], None)
    # Missing or damaged: both come anew, together.
    except (KeyError, ValueError, TypeError):
        return [], None
    good = bool(found) and found[0].public_key() == key.public_key() and found[0].not_valid_after_utc > now
    if not good or not isinstance(key, ec.EllipticCurvePrivateKey):
        return [], None
    return [one for one in found if one.not_valid_after_utc > now], key


def _fits(data: Mapping[str, bytes], authorities: Sequence[x509.Certificate], hosts: Sequence[str], now: datetime) -> bool:
    """Whether the server's certificate is signed by a trusted authority, names all hosts, and lasts a while."""
    try:
        certificate = x509.load_pem_x509_certificate(data[_CERTIFICATE])
        key = serialization.load_pem_private_key(data[_KEY], None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (KeyError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    lasts = certificate.not_valid_after_utc - now >= timedelta(days=SERVER_RENEW_DAYS)
    return (
        lasts
        and certificate.public_key() == key.public_key()
        and all(_general(host) in names for host in hosts)
        and any(_signed(certificate, authority) for authority in authorities)
    )


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    # Whatever does not fit: another name, another algorithm, another key.
    except Exception:
        return False
    return True


def _authority(now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # Named by its day: two authorities of the same name would be taken for one.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"quarterdeck plan server CA {now:%Y-%m-%d}")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, name, key, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def _certificate(
    authority: x509.Certificate, signer: ec.EllipticCurvePrivateKey, hosts: Sequence[str], now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # Clients go by the alternative names; a common name has room for 64 characters only.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "quarterdeck plan server")])
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(name, authority.subject, key, now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return builder.sign(signer, hashes.SHA256()), key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
