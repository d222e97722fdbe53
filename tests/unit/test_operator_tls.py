"""Certificates of the plan server: made once, agreed upon, renewed in time, and trusted by a strict client."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import NotReady
from quarterdeck_operator.tls import CA_DAYS, SERVER_DAYS, Material, SecretStoreTwin, ensure, hosts_of, server_context

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)
HOSTS = ["quarterdeck-operator.quarterdeck.svc", "127.0.0.1"]


def end(material: Material) -> datetime:
    """When the server's certificate ends."""
    return x509.load_pem_x509_certificate(material.certificate).not_valid_after_utc


def handshake(ca: str, material: Material, host: str, *, strict: bool = True) -> None:
    """TLS between a client that trusts `ca` and a server with `material`, in memory."""
    client = ssl.create_default_context(cadata=ca)
    if strict:
        client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    theirs = server_context(material).wrap_bio(to_server, to_client, server_side=True)
    pending = {"client": ours, "server": theirs}
    for _ in range(10):
        for name, side in list(pending.items()):
            try:
                side.do_handshake()
                del pending[name]
            except ssl.SSLWantReadError:
                continue
    assert pending == {}


def test_an_empty_secret_is_filled_once() -> None:
    """The next operator, and the next start, find what the first one made."""
    store = SecretStoreTwin()
    made = ensure(store, HOSTS, NOW)
    assert ensure(store, HOSTS, NOW) == made
    assert store.writes == 1
    assert len(made.seed) == 32


@pytest.mark.parametrize("host", HOSTS)
def test_a_strict_client_trusts_the_server_under_each_of_its_names(host: str) -> None:
    """Names and addresses; the flags are those of Python 3.13's default."""
    made = ensure(SecretStoreTwin(), HOSTS, datetime.now(UTC))
    handshake(made.ca, made, host)


def test_a_client_does_not_trust_another_name_or_another_authority() -> None:
    """The certificate is good for the plan server only."""
    made = ensure(SecretStoreTwin(), HOSTS, datetime.now(UTC))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made.ca, made, "elsewhere.example")
    other = ensure(SecretStoreTwin(), HOSTS, datetime.now(UTC))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(other.ca, made, HOSTS[0])


@given(days=st.integers(0, CA_DAYS + 400))
def test_what_ensure_gives_is_always_good_for_a_while(days: int) -> None:
    """However long nobody looked: weeks are left, the authority that signed is trusted, tokens stay good."""
    store = SecretStoreTwin()
    first = ensure(store, HOSTS, NOW)
    later = NOW + timedelta(days=days)
    found = ensure(store, HOSTS, later)
    assert end(found) - later >= timedelta(days=30)
    signers = x509.load_pem_x509_certificates(found.ca.encode())
    issuer = x509.load_pem_x509_certificate(found.certificate).issuer
    assert issuer in [one.subject for one in signers if one.not_valid_after_utc > later]
    assert found.seed == first.seed


def test_a_certificate_is_renewed_before_its_end_by_the_same_authority() -> None:
    """Nodes that know the authority notice nothing."""
    store = SecretStoreTwin()
    first = ensure(store, HOSTS, NOW)
    assert ensure(store, HOSTS, NOW + timedelta(days=SERVER_DAYS - 31)) == first
    renewed = ensure(store, HOSTS, NOW + timedelta(days=SERVER_DAYS - 29))
    assert renewed.certificate != first.certificate
    assert renewed.ca == first.ca


def test_a_new_authority_is_made_known_long_before_it_signs() -> None:
    """Both are trusted meanwhile, and the certificate stays until its own renewal."""
    store = SecretStoreTwin()
    day = NOW + timedelta(days=CA_DAYS - 370)
    ensure(store, HOSTS, NOW)
    before = ensure(store, HOSTS, day)
    after = ensure(store, HOSTS, day + timedelta(days=10))
    assert after.certificate == before.certificate
    assert before.ca in after.ca
    assert len(x509.load_pem_x509_certificates(after.ca.encode())) == 2
    last = ensure(store, HOSTS, day + timedelta(days=80))
    newest = x509.load_pem_x509_certificates(after.ca.encode())[0]
    x509.load_pem_x509_certificate(last.certificate).verify_directly_issued_by(newest)


def test_a_new_name_of_the_plan_server_gets_a_new_certificate() -> None:
    """The chart was installed under another name."""
    store = SecretStoreTwin()
    first = ensure(store, HOSTS, NOW)
    second = ensure(store, ["other.quarterdeck.svc"], NOW)
    assert (second.ca, second.seed) == (first.ca, first.seed)
    assert second.certificate != first.certificate


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "tls.crt", "tls.key"])
@pytest.mark.parametrize("content", [b"", b"not PEM"])
def test_what_was_damaged_is_made_anew(name: str, content: bytes) -> None:
    """And the seed stays: mirroring goes on."""
    store = SecretStoreTwin()
    first = ensure(store, HOSTS, datetime.now(UTC))
    data, version = store.read()
    assert store.write({**data, name: content}, version)
    second = ensure(store, HOSTS, datetime.now(UTC))
    assert second.seed == first.seed
    handshake(second.ca, second, HOSTS[0])


class _Raced(SecretStoreTwin):
    """A Secret that another operator fills just before our first write."""

    def write(self, data: Mapping[str, bytes], version: str) -> bool:
        """Let the other one write first."""
        if not self.writes:
            super().write({**data, "mirror.seed": b"o" * 32}, version)
        return super().write(data, version)


class _Busy(SecretStoreTwin):
    """A Secret that is another version at every write."""

    def write(self, data: Mapping[str, bytes], version: str) -> bool:
        """Somebody else was faster."""
        return False


def test_two_operators_that_start_at_once_agree() -> None:
    """Whoever writes second takes what the first one made."""
    store = _Raced()
    made = ensure(store, HOSTS, NOW)
    stored = store.read()
    assert (made.ca.encode(), made.seed) == (stored.data["ca.crt"], b"o" * 32)
    assert store.writes == 1


def test_a_secret_that_others_keep_writing_is_given_up_for_now() -> None:
    """Better a start that fails and is tried again than one that hangs."""
    with pytest.raises(NotReady):
        ensure(_Busy(), HOSTS, NOW)


def test_the_plan_server_is_known_by_all_lengths_of_its_name() -> None:
    """What pods are told comes first."""
    assert hosts_of("https://q.ns.svc:8443", "q", "ns") == ["q.ns.svc", "q.ns.svc.cluster.local", "q.ns"]
    assert hosts_of("https://10.0.0.1:8443", "q", "ns")[0] == "10.0.0.1"
