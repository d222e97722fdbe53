"""One running system for many tests: each test takes names of its own, so that none sees what another one did."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from prometheus_client.parser import text_string_to_metric_families

from quarterdeck.build import BuiltPackage
from quarterdeck.client import Client
from quarterdeck.frames import rows_of
from quarterdeck.manifest import Manifest
from quarterdeck.plan import VersionRef
from quarterdeck.record_files import MAIN_COLUMNS, keys, read_main
from quarterdeck.schema import Row, Task
from quarterdeck.storage import Storage
from tests.local.system import LocalSystem
from tests.models import model_package, table, version_encoding_model
from tests.support import eventually

FEATURES = ["distance", "hour", "holiday", "carrier", "wind"]
DATATYPES = {"float": "FP64", "int": "INT64", "boolean": "BOOL", "string": "BYTES"}
SHIPPED_SECONDS = 60.0


@dataclass
class Shared:
    """A running system, clients that stay open, and the versions that were published to it."""

    system: LocalSystem
    client: Client
    http: httpx.Client
    storage: Storage
    built: dict[str, BuiltPackage] = field(default_factory=dict)
    refs: dict[str, VersionRef] = field(default_factory=dict)
    grpc: str = ""

    def publish(self, what: str, built: BuiltPackage) -> VersionRef:
        """Push and register a package once; `what` is its name among the tests."""
        if what not in self.refs:
            ref = built.push(self.storage)
            self.client.register(ref)
            self.built[what], self.refs[what] = built, ref
        return self.refs[what]

    def task(self, task: Task) -> VersionRef:
        """The published LightGBM model of one task."""
        return self.publish(task, model_package(task, "compiled", task))

    def version(self, number: int) -> VersionRef:
        """Version 1 or 2 of `versions`: every answer is the version's own number."""
        # Numbers are given in the order of pushing.
        for each in range(1, number + 1):
            self.publish(f"versions-{each}", version_encoding_model(each))
        return self.refs[f"versions-{number}"]

    def manifest(self, what: str) -> Manifest:
        """The manifest of a published package."""
        return self.built[what].manifest

    def deploy(self, name: str, main: VersionRef, challenger: VersionRef | None = None, **spec: Any) -> int:
        """Apply a deployment (public, unless said otherwise) and wait until it is so; the revision."""
        return self.system.deploy(name, main, challenger, **spec)

    def ask(self, name: str, rows: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        """The plain door; `rows` may be bytes to be sent as they are."""
        body = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
        given = {"content-type": "application/json", **(headers or {})}
        return self.http.post(f"/deployments/{name}/predict", content=body, headers=given)

    def infer(
        self, name: str, document: Any, headers: dict[str, str] | None = None, *, version: int | None = None
    ) -> httpx.Response:
        """The door of the Open Inference Protocol."""
        place = f"/v2/models/{name}" + (f"/versions/{version}" if version else "")
        return self.http.post(f"{place}/infer", json=document, headers=headers)

    def form(self, name: str, row: Row, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        """The HTML form, filled in as a browser would."""
        texts = {f"feature:{key}": text_of(value) for key, value in row.items()}
        return self.http.post(f"/deployments/{name}/form", data={**texts, **fields}, headers=headers)

    def records(self, name: str, count: int) -> pa.Table:
        """Main's stored rows, once there are at least `count`; as they lie in the files, duplicates and all."""
        eventually(lambda: read_main(self.storage, name).num_rows >= count, SHIPPED_SECONDS, every=0.2)
        return stored(self.storage, name)

    def arrived(self, name: str, row_id: str) -> dict[str, Any]:
        """Main's stored row of that id, once it is there."""

        def found() -> list[dict[str, Any]]:
            return [row for row in stored(self.storage, name).to_pylist() if row["row_id"] == row_id]

        (only,) = eventually(found, SHIPPED_SECONDS, every=0.2)
        return only

    def mirroring(self, name: str) -> None:
        """Wait until main mirrors: it has taken over the plan that says so."""
        eventually(lambda: self.observed(name)["mirroring"], every=0.1)
        wanted = self.deployer_metric("quarterdeck_deployer_plan_sequence", node="main")
        eventually(lambda: self.node_seen("main")["sequence"] >= wanted, every=0.1)

    def node_seen(self, node: str) -> dict[str, Any]:
        """What the deployer knows of a node; any deployment will do."""
        seen = self.client.deployments()[0]["observed"]["nodes"]
        return next(one for one in seen if one["node"] == node)

    def deployer_metric(self, name: str, **labels: str) -> float:
        """One sample of the deployer's metrics."""
        return sample(httpx.get(self.client.url + "/metrics", trust_env=False).text, name, **labels)

    def node_metric(self, name: str, **labels: str) -> float:
        """One sample of the main node's metrics."""
        return sample(self.http.get("/metrics").text, name, **labels)

    def observed(self, name: str) -> dict[str, Any]:
        """What the deployer sees of a deployment."""
        return cast("dict[str, Any]", self.client.deployment(name)["observed"])


def sample(text: str, name: str, **labels: str) -> float:
    """The sum of the samples of that name with these labels in a Prometheus text; AssertionError where there is none."""
    found = [
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    ]
    assert found, f"no sample {name} {labels}"
    return sum(found)


def stored(storage: Storage, name: str) -> pa.Table:
    """Every row of every file of main's records, read without the reader that drops duplicates."""
    tables = [pq.read_table(io.BytesIO(storage.get(key))).select(MAIN_COLUMNS.names) for key in keys(storage, name, "main")]
    return pa.concat_tables(tables) if tables else MAIN_COLUMNS.empty_table()


def rows(count: int, start: int = 0) -> list[Row]:
    """Rows of the table that the models of all tasks take, some of their values null."""
    return rows_of(table()[FEATURES].iloc[start : start + count])


def tensors(manifest: Manifest, given: list[Row], **more: Any) -> dict[str, Any]:
    """An inference request with one input per feature."""
    inputs = [
        {"name": one.name, "shape": [len(given)], "datatype": DATATYPES[one.type], "data": [row[one.name] for row in given]}
        for one in manifest.data_schema.features
    ]
    return {"inputs": inputs, **more}


def text_of(value: object) -> str:
    """A value as people type it into a form."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
