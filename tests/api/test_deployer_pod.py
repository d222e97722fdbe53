"""The deployer as it runs in a pod: on every address, with the store's credentials and authority in files, behind other names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import s3
from tests.deployer_process import healthy, prepare, start
from tests.deployer_world import ADMIN
from tests.support import eventually, free_port

SERVICE = "http://quarterdeck-deployer.models.svc:8400"


@pytest.fixture(scope="module", name="store")
def private_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A server whose certificate only its own authority vouches for."""
    with s3.running(tmp_path_factory.mktemp("store"), tls=True) as server:
        yield server


def mounted(store: s3.S3Server, folder: Path) -> dict[str, str]:
    """Settings of a Secret and a ConfigMap that are mounted as files."""
    (folder / "s3").mkdir()
    (folder / "s3" / "access-key-id").write_text(store.access)
    (folder / "s3" / "secret-access-key").write_text(store.secret)
    shutil.copy(store.certificate, folder / "ca.crt")
    return {"S3_FOLDER": str(folder / "s3"), "S3_CA": str(folder / "ca.crt"), "STORE": store.url(store.bucket(), "quarterdeck")}


def test_it_answers_to_the_names_that_it_was_told(tmp_path: Path, store: s3.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Service's name and the port that somebody forwards; a stranger's name is refused, also on 0.0.0.0."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    port = free_port()
    prepare(tmp_path / "data")
    process = start(tmp_path / "data", port, HOST="0.0.0.0", URLS=SERVICE, **mounted(store, tmp_path))
    try:
        eventually(lambda: healthy(port))
        named = {"host": "quarterdeck-deployer.models.svc:8400", "authorization": f"Bearer {ADMIN}"}
        url = f"http://127.0.0.1:{port}/api/instance"
        with httpx.Client(trust_env=False) as client:
            assert client.get(url, headers=named).json()["console_url"] == f"{SERVICE}/"
            assert client.get(url, headers={**named, "host": "rebound.example:8400"}).json()["code"] == "host-not-allowed"
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_a_store_without_its_secret_is_named_at_the_start(tmp_path: Path, store: s3.S3Server) -> None:
    """By the key that is missing: a pod that waits without a word helps nobody."""
    told = mounted(store, tmp_path)
    (tmp_path / "s3" / "secret-access-key").unlink()
    prepare(tmp_path / "data")
    process = start(tmp_path / "data", free_port(), **told)
    assert process.wait(60) == 2
    assert "error: The S3 credentials have no usable `secret-access-key`." in (tmp_path / "data" / "stderr").read_text()
