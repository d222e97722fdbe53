"""Predictions by a caller who keeps every answer, and what the store has of them in the end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from quarterdeck.record_files import Kind, keys
from quarterdeck.records import row_id
from quarterdeck.storage import Storage, open_storage
from tests.cluster.deployment import Deployment
from tests.cluster.installation import Installation
from tests.support import eventually

Row = dict[str, Any]
# Drain, the last answers and the last records all lie within a pod's grace, which is a minute.
_SHIPPED_SECONDS = 70.0


@dataclass
class Caller:
    """Asks a deployment's Service, never twice for the same, and keeps what it was told by row id.

    Attributes:
        answered: row id → what the answer said of that row.
        versions: row id → the version that the answer named.
        lost: requests without an answer, and why.
    """

    url: str
    answered: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, deployment: Deployment) -> Self:
        """Of one that is ready."""
        return cls(f"{deployment.url}/deployments/{deployment.name}/predict")

    def ask(self, client: httpx.Client, rows: Sequence[Row]) -> None:
        """One request."""
        try:
            answer = client.post(self.url, json=list(rows))
            answer.raise_for_status()
        except httpx.HTTPError as error:
            self.lost.append(f"{time.time():.3f} {error!r}")
            return
        told = answer.json()
        for place, each in enumerate(told["predictions"]):
            self.answered[row_id(told["request_id"], place)] = each
            self.versions[row_id(told["request_id"], place)] = told["version"]

    def ask_all(self, requests: Sequence[Sequence[Row]]) -> None:
        """One after the other, on one connection."""
        with client() as one:
            for rows in requests:
                self.ask(one, rows)


def client() -> httpx.Client:
    """A client that knows nothing of this machine's proxies."""
    return httpx.Client(trust_env=False, timeout=20)


class Asking:
    """Within the block `workers` ask on and on, each on a connection of its own, until it ends or `stop` says so."""

    def __init__(self, caller: Caller, rows: Sequence[Row], workers: int = 4, pause: float = 0.01) -> None:
        self._caller, self._rows, self._pause = caller, rows, pause
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(workers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        eventually(lambda: self._caller.answered, 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self) -> None:
        with client() as one:
            while not self._over.wait(self._pause):
                self._caller.ask(one, self._rows)


def storage_of(installation: Installation, bucket: str) -> Storage:
    """The store as an administrator sees it; opened within `installation.aws()`."""
    return open_storage(installation.store(bucket))


def row_counts(storage: Storage, dataset: str, kind: Kind) -> Counter[str]:
    """How often each row id lies in the store, over all files; a file that was delivered twice has the same name twice."""
    found: Counter[str] = Counter()
    for key in keys(storage, dataset, kind):
        found.update(pq.read_table(pa.BufferReader(storage.get(key)), columns=["row_id"])["row_id"].to_pylist())
    return found


def stored(installation: Installation, bucket: str, dataset: str, kind: Kind = "main") -> Counter[str]:
    """`row_counts`, read anew."""
    with installation.aws():
        return row_counts(storage_of(installation, bucket), dataset, kind)


def shipped(read: Callable[[], Counter[str]], wanted: set[str], seconds: float = _SHIPPED_SECONDS) -> Counter[str]:
    """What is stored once all of `wanted` is.

    Raises:
        AssertionError: it is not within `seconds`; how many rows are missing is in the text.
    """

    def whole() -> Counter[str]:
        found = read()
        missing = wanted - found.keys()
        assert not missing, f"{len(missing)} of {len(wanted)} rows are not stored, {sorted(missing)[:3]} for example"
        return found

    return eventually(whole, seconds, every=0.5)
