"""A whole system whose store is a bucket behind a network that fails at times: answers never wait for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from quarterdeck.client import Client, Label
from quarterdeck.record_files import keys
from quarterdeck.storage import Storage, open_storage
from tests.faultproxy import HEALTHY, FaultProxy, Toxics, proxied
from tests.local.shared import stored
from tests.local.system import LocalSystem, cli
from tests.models import version_encoding_model
from tests.s3 import S3Server, leading_to
from tests.support import eventually

NAME = "versions"
YAML = """\
apiVersion: quarterdeck.dev/v1alpha1
kind: ModelDeployment
metadata: {name: versions}
spec:
  model: {name: versions, version: 1}
  access: public
"""


@dataclass
class Bucket:
    """A system, the network between it and its bucket, and the way to the bucket past that network."""

    system: LocalSystem
    client: Client
    proxy: FaultProxy
    storage: Storage
    server: S3Server
    answered: list[str]

    def ask(self, count: int) -> None:
        """Predict `count` rows; their ids are kept."""
        found = self.client.predict(NAME, [{"number": float(number)} for number in range(count)])
        self.answered += [f"{found['request_id']}-{place}" for place in range(count)]

    def whole(self) -> None:
        """Wait until the bucket holds every answered row, and see that it holds none twice."""
        eventually(lambda: stored(self.storage, NAME).num_rows >= len(self.answered), every=0.3)
        assert sorted(stored(self.storage, NAME)["row_id"].to_pylist()) == sorted(self.answered)


@contextmanager
def running(folder: Any, server: S3Server) -> Iterator[Bucket]:
    """`quarterdeck up --store s3://…` with one deployment, made by the command line."""
    server.set_credentials()
    bucket = server.bucket()
    with (
        leading_to(server),
        proxied(server.endpoint) as proxy,
        LocalSystem(folder, store=server.url(bucket, "team/a", proxy.url), ship_seconds=0.2) as system,
        system.client() as client,
    ):
        version_encoding_model(1).write(folder / "package")
        pushed = cli(folder, "package", "push", "package", "-o", "json")
        assert json.loads(pushed.stdout)["version"] == 1, pushed.stderr
        applied = cli(folder, "apply", "-f", "-", "-o", "json", stdin=YAML)
        assert json.loads(applied.stdout)["applied"], applied.stderr
        yield Bucket(system, client, proxy, open_storage(server.url(bucket, "team/a")), server, [])


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Bucket]:
    """One system for all tests of this file."""
    with running(tmp_path_factory.mktemp("bucket"), s3_server) as found:
        yield found


def test_the_whole_job_goes_over_the_bucket(bucket: Bucket) -> None:
    """Package and records lie in it under the store's layout, labels meet rows, and nothing lies in a folder of the machine."""
    bucket.ask(5)
    bucket.whole()
    labels: list[Label] = [{"row_id": row_id, "value": 3.0} for row_id in bucket.answered[:5]]
    assert bucket.client.send_feedback(NAME, labels)["accepted"] == 5
    measured = bucket.client.performance(NAME)
    assert (measured["rows"], measured["main"]["mae"]) == (5, 2.0)
    listed = list(bucket.storage.list(""))
    assert "models/versions/1/manifest.json" in listed
    assert any(key.startswith("records/versions/main/dt=") and key.endswith(".parquet") for key in listed)
    assert {key.split("/")[0] for key in listed} == {"models", "blobs", "records", "checks"}
    assert not (bucket.system.home.folder / "store").exists()


def test_secrets_of_the_bucket_are_told_to_nobody(bucket: Bucket) -> None:
    """Neither the account's secret nor its file's path is in any file, log or answer of the system."""
    shown = json.dumps(bucket.client.instance()) + bucket.system.log
    texts = [path.read_bytes() for path in bucket.system.home.folder.rglob("*") if path.is_file()]
    assert bucket.server.secret not in shown
    assert not any(bucket.server.secret.encode() in text for text in texts)


def test_a_store_that_is_away_costs_no_answer_and_no_record(bucket: Bucket) -> None:
    """Connections are reset for a while: answers come as ever, records wait in the spool, and all arrive, each once."""
    before = len(keys(bucket.storage, NAME, "main"))
    bucket.proxy.toxics = Toxics(down=True)
    for count in (1, 2, 3, 4, 5):
        bucket.ask(count)
    eventually(lambda: spooled(bucket) > 0)
    assert len(keys(bucket.storage, NAME, "main")) == before
    bucket.proxy.toxics = HEALTHY
    bucket.whole()
    eventually(lambda: spooled(bucket) == 0, every=0.2)
    assert bucket.client.ledger(NAME)["records"] == len(bucket.answered)


def test_a_delivery_whose_answer_is_lost_is_not_counted_twice(bucket: Bucket) -> None:
    """The store did as it was told and the network swallowed its word: the same object is put again under the same name."""
    bucket.proxy.toxics = Toxics(match="/records/", swallow=True, times=2)
    bucket.ask(7)
    bucket.whole()
    bucket.proxy.toxics = HEALTHY
    assert bucket.client.ledger(NAME)["records"] == len(bucket.answered)


def test_credentials_may_be_wrong_for_a_while_and_be_rotated(bucket: Bucket) -> None:
    """Refused by the store: serving goes on; with the right ones in the same file records arrive without a restart."""
    children = dict(bucket.system.note.children)
    bucket.server.set_credentials(secret="not-the-secret-any-more")
    try:
        bucket.ask(4)
        bucket.ask(4)
        eventually(lambda: spooled(bucket) > 0)
    finally:
        bucket.server.set_credentials()
    bucket.whole()
    assert bucket.system.note.children == children


def test_a_store_that_is_away_is_named_where_it_is_needed(bucket: Bucket) -> None:
    """Questions about records fail with the store's own code and a hint; predicting and the deployment's state do not."""
    bucket.proxy.toxics = Toxics(down=True)
    try:
        done = cli(bucket.system.folder, "performance", NAME)
        assert done.returncode != 0
        assert done.stderr.startswith("error: ")
        assert "hint: " in done.stderr
        bucket.ask(1)
        assert bucket.client.deployment(NAME)["observed"]["running"]["state"] == "yes"
    finally:
        bucket.proxy.toxics = HEALTHY
    bucket.whole()


def spooled(bucket: Bucket) -> int:
    """Record files that wait on the main node's disk."""
    folder = bucket.system.home.folder / "main" / "spool"
    return sum(path.stat().st_size > 0 for path in folder.iterdir())
