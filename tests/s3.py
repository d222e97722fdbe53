"""A real S3 server on the loopback for tests: versitygw over a temporary folder, and the settings that lead to it.

`s3` is the fixture: the server, with this process's own AWS settings leading to it and nowhere else. Child processes
take `S3Server.environment()`.
"""

from __future__ import annotations

import os
import secrets
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support import ROOT, eventually, free_port

AWS = "AWS_"


@dataclass(frozen=True)
class S3Server:
    """A running server: its base URL, one account, the folder whose sub-folders are buckets, and its process.

    `credentials` is an AWS credentials file; whoever rewrites it rotates the client's credentials.
    `certificate` is there only for a server with TLS.
    """

    endpoint: str
    access: str
    secret: str
    folder: Path
    credentials: Path
    process: subprocess.Popen[bytes]
    certificate: Path

    def bucket(self) -> str:
        """A fresh, empty bucket."""
        name = f"test-{secrets.token_hex(6)}"
        (self.folder / name).mkdir()
        return name

    def url(self, bucket: str, prefix: str = "", endpoint: str = "") -> str:
        """The URL of a store in a bucket, as `open_storage` reads it; `endpoint` for a proxy in between."""
        return f"s3://{bucket}/{prefix}?endpoint={endpoint or self.endpoint}"

    def environment(self) -> dict[str, str]:
        """The variables that a process needs to use this server, and none that would lead elsewhere."""
        return {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.credentials),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REGION": "us-east-1",
        }

    def set_credentials(self, access: str = "", secret: str = "") -> None:
        """Write the credentials file: the server's own account, or another one to see it refused."""
        content = f"[default]\naws_access_key_id = {access or self.access}\naws_secret_access_key = {secret or self.secret}\n"
        self.credentials.write_text(content)


def binary() -> Path:
    """The server's binary, built first where it is not there yet."""
    built = subprocess.run([ROOT / "tools/s3server/build"], stdout=subprocess.PIPE, check=True, text=True)
    return Path(built.stdout.splitlines()[-1])


@contextmanager
def running(folder: Path, *, tls: bool = False) -> Iterator[S3Server]:
    """A server that keeps its buckets, credentials file and log under `folder`, ended with the block."""
    port = free_port()
    buckets = folder / "buckets"
    buckets.mkdir(parents=True)
    access, secret = "tester", secrets.token_hex(16)
    # The secret goes by environment: command lines are for everybody to read.
    environment = {"PATH": os.environ["PATH"], "ROOT_ACCESS_KEY_ID": access, "ROOT_SECRET_ACCESS_KEY": secret}
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    options = ["--port", f"127.0.0.1:{port}", "--health", "/health", "--keep-alive", "--quiet"]
    if tls:
        self_signed(certificate, key)
        options += ["--cert", str(certificate), "--key", str(key)]
    command = [str(binary()), *options, "posix", str(buckets)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    endpoint = f"http{'s' if tls else ''}://127.0.0.1:{port}"
    server = S3Server(endpoint, access, secret, buckets, folder / "credentials", process, certificate)
    server.set_credentials()
    try:
        trust = ssl.create_default_context(cafile=certificate) if tls else False
        eventually(lambda: httpx.get(f"{endpoint}/health", verify=trust).is_success)
        yield server
    finally:
        process.terminate()
        process.wait()


def self_signed(certificate: Path, key: Path) -> None:
    """A certificate for 127.0.0.1 that signs itself."""
    subject = ["-subj", "/CN=s3 for tests", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-out", str(certificate), "-keyout", str(key)]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *kind, *subject, *files], check=True, capture_output=True)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for the whole run; every test takes a bucket of its own."""
    with running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[S3Server]:
    """The server, and this process's AWS settings lead to it until the test ends."""
    s3_server.set_credentials()
    with leading_to(s3_server):
        yield s3_server


@contextmanager
def leading_to(server: S3Server) -> Iterator[None]:
    """Within the block this process's own AWS settings lead to the server, and nowhere else."""
    before = {name: value for name, value in os.environ.items() if name.startswith(AWS)}
    for name in before:
        del os.environ[name]
    os.environ.update(server.environment())
    try:
        yield
    finally:
        for name in server.environment():
            os.environ.pop(name, None)
        os.environ.update(before)
