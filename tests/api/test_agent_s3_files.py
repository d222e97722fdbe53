"""Credentials and authority from mounted files: what is missing is named, what is exchanged counts without a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck.errors import StorageError
from quarterdeck.storage import S3Files, open_storage
from quarterdeck_node.spool import Spool
from tests.agents import agent_in, put, record
from tests.models import version_encoding_model
from tests.s3 import S3Server, running, self_signed
from tests.support import eventually

SECRET = "Put `access-key-id` and `secret-access-key` into the Secret that `spec.store.secret` names."


class Mounted:
    """A Secret's and a ConfigMap's files."""

    def __init__(self, folder: Path) -> None:
        self.secret, self.ca = folder / "s3", folder / "ca" / "ca.crt"
        self.secret.mkdir()
        self.ca.parent.mkdir()

    @property
    def files(self) -> S3Files:
        """Credentials only."""
        return S3Files(self.secret)

    def write(self, **values: str) -> None:
        """Exchange keys of the Secret, each at once."""
        for name, value in values.items():
            part = self.secret / "..part"
            part.write_text(value)
            part.replace(self.secret / name.replace("_", "-"))

    def right(self, server: S3Server) -> None:
        """The server's own account."""
        self.write(access_key_id=server.access, secret_access_key=server.secret + "\n")


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    """Nothing is there yet."""
    return Mounted(tmp_path)


@pytest.fixture
def unset(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Server:
    """The server, to which no variable and no credentials file leads."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return s3


def refusal(store: str, files: S3Files) -> StorageError:
    """What a first look at the store says."""
    with pytest.raises(StorageError) as caught:
        list(open_storage(store, files).list(""))
    return caught.value


@pytest.mark.parametrize(
    ("values", "named"),
    [
        pytest.param({}, "access-key-id", id="nothing"),
        pytest.param({"access_key_id": "a"}, "secret-access-key", id="half of it"),
        pytest.param({"access_key_id": "", "secret_access_key": "b"}, "access-key-id", id="an empty one"),
        pytest.param({"access_key_id": "a", "secret_access_key": " \n"}, "secret-access-key", id="blanks"),
        pytest.param({"access_key_id": "ä", "secret_access_key": "b"}, "access-key-id", id="no header could carry it"),
    ],
)
def test_what_is_missing_is_named_with_its_secret(unset: S3Server, mounted: Mounted, values: dict[str, str], named: str) -> None:
    """Retryable, for a Secret may be made after the pod; never the values."""
    mounted.write(**values)

    error = refusal(unset.url("bucket"), mounted.files)

    assert (error.code, error.retryable, error.name, error.hint) == ("credentials-missing", True, named, SECRET)
    assert error.detail == f"The S3 credentials have no usable `{named}`."


def test_an_open_store_takes_over_exchanged_files(unset: S3Server, mounted: Mounted) -> None:
    """There later, wrong, right, gone, right again: each look is by the files of that moment."""
    storage = open_storage(unset.url(unset.bucket()), mounted.files)

    def code() -> str:
        try:
            return str(list(storage.list("")))
        except StorageError as error:
            return error.code

    assert code() == "credentials-missing"
    mounted.right(unset)
    assert code() == "[]"
    mounted.write(secret_access_key="wrong" * 8)
    assert code() == "wrong-credentials"
    mounted.right(unset)
    assert code() == "[]"
    (mounted.secret / "secret-access-key").unlink()
    assert code() == "credentials-missing"
    mounted.right(unset)
    assert code() == "[]"


def test_wrong_credentials_from_files_point_to_the_secret(unset: S3Server, mounted: Mounted) -> None:
    """Whoever mounted files cannot set the process's variables."""
    mounted.write(access_key_id="nobody", secret_access_key="wrong")

    error = refusal(unset.url(unset.bucket()), mounted.files)

    assert (error.code, error.hint) == ("wrong-credentials", SECRET)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server whose certificate nobody knows."""
    with running(tmp_path_factory.mktemp("tls"), tls=True) as server:
        yield server


def test_a_private_authority_is_taken_over_when_it_comes(
    tls: S3Server, unset: S3Server, mounted: Mounted, tmp_path: Path
) -> None:
    """Missing, foreign, right: named each time, and the very same store works in the end."""
    mounted.right(tls)
    storage = open_storage(tls.url(tls.bucket()), S3Files(mounted.secret, mounted.ca))
    with pytest.raises(StorageError) as missing:
        list(storage.list(""))
    assert (missing.value.code, missing.value.retryable) == ("ca-missing", True)
    self_signed(mounted.ca, tmp_path / "key")
    with pytest.raises(StorageError) as foreign:
        list(storage.list(""))
    assert (foreign.value.code, foreign.value.retryable) == ("unreachable", True)
    for error in (missing.value, foreign.value):
        assert "`ca.crt` into the ConfigMap that `spec.store.caConfigMap` names" in error.hint

    mounted.ca.write_bytes(tls.certificate.read_bytes())

    assert list(storage.list("")) == []


def test_a_running_agent_takes_over_a_rotated_secret(unset: S3Server, mounted: Mounted, tmp_path: Path) -> None:
    """Packages, digests and records, before and after the Secret is there and after it was exchanged."""
    url = unset.url(unset.bucket(), "team")
    mounted.right(unset)
    storage = open_storage(url, mounted.files)
    ref = version_encoding_model(1).push(storage)
    (mounted.secret / "access-key-id").unlink()
    wanted = {"model": ref.model, "version": ref.version, "store": url}
    with agent_in(tmp_path / "node", url, s3_folder=mounted.secret) as agent, agent.client() as client:
        missing = agent.ensure(ref)
        assert (missing.status_code, missing.json()["code"], missing.json()["retryable"]) == (502, "credentials-missing", True)
        assert missing.json()["hint"] == SECRET
        spool = Spool(agent.folder / "spool", "boot")
        put(spool, record(1, digest=ref.digest))
        spool.close()
        eventually(lambda: agent.get("/health")["shipping"]["last_error"] == "credentials-missing")
        mounted.right(unset)
        assert agent.ensure(ref).status_code == 200
        assert client.post("/resolve", json=wanted).json() == {"digest": ref.digest}
        eventually(lambda: agent.spooled() == [])
        mounted.write(secret_access_key="withdrawn" * 4)
        assert client.post("/resolve", json=wanted).json()["code"] == "wrong-credentials"
        mounted.right(unset)
        assert client.post("/resolve", json=wanted).json() == {"digest": ref.digest}


def test_a_number_that_cannot_be_looked_up_says_why(unset: S3Server, mounted: Mounted, tmp_path: Path) -> None:
    """No such version, no such bucket, no manifest: each by its code, with the next step."""
    bucket = unset.bucket()
    url = unset.url(bucket)
    mounted.right(unset)
    open_storage(url, mounted.files).put("models/odd/1/manifest.json", b"{}")
    cases = {
        (url, "m"): (502, "not-found", "The store has no m v1."),
        (url, "odd"): (422, "manifest-invalid", "manifest.json is not a manifest"),
        (unset.url("no-such-bucket-anywhere"), "m"): (502, "no-such-bucket", "There is no bucket no-such-bucket-anywhere"),
        ("s3://bucket?endpoint=http://127.0.0.1:9", "m"): (502, "unreachable", "The bucket bucket at http://127.0.0.1:9"),
    }
    with agent_in(tmp_path / "node", url, s3_folder=mounted.secret) as agent, agent.client() as client:
        for (store, model), (status, code, detail) in cases.items():
            found = client.post("/resolve", json={"model": model, "version": 1, "store": store})
            assert (found.status_code, found.json()["code"]) == (status, code)
            assert found.json()["detail"].startswith(detail)
            assert found.json()["hint"]
