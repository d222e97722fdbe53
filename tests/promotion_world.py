"""A deployer with real packages, two stores, and promotions between them; nodes are twins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.linear_model import LogisticRegression

from quarterdeck.build import BuiltPackage, package
from quarterdeck.errors import StorageError
from quarterdeck.plan import VersionRef
from quarterdeck.record_files import files
from quarterdeck.records import Answer, Frame, MainRecord
from quarterdeck.schema import Row
from quarterdeck.storage import Storage
from quarterdeck.storage.memory import MemoryStorage
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.promotions import DecisionInput
from quarterdeck_deployer.trials import AT_ONCE
from tests.deployer_world import World, world

MODEL, NAME = "late", "late"
ROWS: list[Row] = [{"hour": float(hour), "distance": 100.0 * hour} for hour in range(24)]


@cache
def built(version: int, columns: tuple[str, ...] = ("hour", "distance")) -> BuiltPackage:
    """A small classifier; the higher the version, the later in the day a flight must leave to be late."""
    X = pd.DataFrame(ROWS)[[*columns]]
    y = pd.Series(["yes" if hour >= 11 + version else "no" for hour in range(24)], name="late")
    return package(LogisticRegression(max_iter=500).fit(X, y), X, y, name=MODEL, description=f"version {version}")


def ref(version: int) -> VersionRef:
    """A published version."""
    return VersionRef(model=MODEL, version=version, digest=built(version).manifest.digest)


class Breaking(MemoryStorage):
    """A store that fails at the write with a certain number."""

    def __init__(self, at: int) -> None:
        super().__init__("breaking")
        self.left = at

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        """Fail once, as a connection that is lost."""
        self.left -= 1
        if self.left == 0:
            raise StorageError("lost", code="unreachable")
        return super().put(key, data, if_absent=if_absent)


@dataclass
class Stages:
    """One deployer; stages dev, staging and prod as it makes them."""

    world: World
    folder: Path

    def publish(self, version: int, columns: tuple[str, ...] = ("hour", "distance")) -> str:
        """Push and register a version; gives back its digest."""
        ref = built(version, columns).push(self.world.deployer.storage, version)
        answer = self.world.http.post(f"/api/models/{MODEL}/versions", json={"version": version, "digest": ref.digest})
        assert answer.status_code == 201, answer.text
        return ref.digest

    def deploy(self, version: int = 1, name: str = NAME, **more: Any) -> dict[str, Any]:
        """Make a deployment in dev."""
        body = {"main": {"model": MODEL, "version": version}, "access": "public", **more}
        return self.world.ok(self.world.http.put(f"/api/deployments/{name}", json=body))

    def infrastructure(self, name: str, store: str, *stages: str) -> Storage:
        """Another infrastructure with a store of its own, and stages moved there."""
        body = {"kind": "static", "store": store}
        assert self.world.http.put(f"/api/infrastructures/{name}", json=body).status_code == 201
        for stage in stages:
            self.stage(stage, infrastructure=name)
        return self.world.deployer.infrastructures.storage(name)

    def stage(self, name: str, **changes: Any) -> dict[str, Any]:
        """Change a stage, or make it."""
        known = {one["name"]: one for one in self.world.http.get("/api/stages").json()}.get(name, {})
        kept = {member: known[member] for member in ("position", "infrastructure", "gates", "approval") if member in known}
        return self.world.ok(self.world.http.put(f"/api/stages/{name}", json={**kept, **changes}))

    def promote(self, to: str, name: str = NAME, **more: Any) -> dict[str, Any]:
        """Promote and wait for the end."""
        answer = self.world.http.post(f"/api/deployments/{name}/promote", json={"to": to, **more}, params={"wait": 60})
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def main(self, name: str) -> tuple[str, int, int]:
        """(stage, main's version, revision) of a deployment."""
        wish = self.world.get(name)["wish"]
        return wish["stage"], wish["main"]["version"], wish["number"]

    def records(self, name: str, rows: list[Row], version: int = 1, key: str = "") -> None:
        """Store rows as main would have answered them a moment ago."""
        model = built(version).manifest
        answers = [Answer("yes" if float(str(row.get("hour", 0))) >= 11 + version else "no", [0.5, 0.5]) for row in rows]
        moment = int(datetime.now(UTC).timestamp() * 1e6)
        record = MainRecord(
            ts=moment, request_id=f"{name}-{moment}", deployment=name, project="default", stage="dev", revision=1, model=MODEL,
            version=version, digest=model.digest, door="plain", latency_us=9, caller_id="", key_id=key, rows=rows,
            answers=answers,
        )  # fmt: skip
        storage, dataset = self.world.deployer.records(name)
        assert dataset == name
        for file in files([Frame(1, record)], f"boot{moment}", lambda digest: model.data_schema):
            storage.put(file.key, file.data)

    def as_person(self, who: str, act: str, number: int, why: str = "") -> dict[str, Any]:
        """Decide as another person, by the service itself: who it is, is the edge's business."""
        decide = getattr(self.world.deployer.promotions, act)
        found: dict[str, Any] = decide(number, DecisionInput(why=why), Act(who=who)).model_dump(mode="json")
        return found

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let no version be loaded in this block: promotions that ask golden rows stay where they are."""
        free = self.world.deployer.trials._free
        for _ in range(AT_ONCE):
            free.acquire()
        try:
            yield
        finally:
            free.release(AT_ONCE)


@contextmanager
def stages(folder: Path) -> Iterator[Stages]:
    """A running deployer with nothing published."""
    with world(folder) as found:
        yield Stages(found, folder)
