"""The whole life of a model, by one script over the public client, wherever its stages are.

Two versions of a small model are published and come to production through three stages with a store each; one is taken back,
and a caller is shut out. What a person would look at is looked at after each step, and how long each took is kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quarterdeck.build import package
from quarterdeck.client import Client
from quarterdeck.client.deployments import Done
from quarterdeck.client.predictions import Predicted
from quarterdeck.copying import check_stored, holds
from quarterdeck.errors import NotFound, Unauthenticated
from quarterdeck.frames import rows_of
from quarterdeck.plan import VersionRef
from quarterdeck.record_files import read_main
from quarterdeck.resources import ModelDeployment
from quarterdeck.schema import Row
from quarterdeck.storage import Storage
from quarterdeck.storage.keys import blob_key, dataset_name
from tests.support import eventually

GATES: tuple[tuple[str, ...], ...] = ((), ("package", "golden"), ("package", "golden", "scenarios", "schema", "replay"))
"""Of the three stages, from free to strict."""
WAIT_SECONDS = 180.0
REVOKED_SECONDS = 10.0
_FEATURES = ["alcohol", "flavanoids", "proline"]
_STRIDE = 20


@dataclass(frozen=True)
class Stage:
    """One stage, the store of its infrastructure as this process opens it, and in a cluster the namespace."""

    name: str
    store: Storage
    namespace: str = ""


class World(Protocol):
    """Where the life takes place: an instance, and three stages with `GATES` and with stores that no other one has."""

    @property
    def client(self) -> Client:
        """Of the deployer, as an admin; its predictions go where the deployer says."""
        ...

    @property
    def stages(self) -> Sequence[Stage]:
        """Three, in their order; where the first one is, copies can be sent to a challenger."""
        ...

    def nodes(self, stage: Stage, deployment: str) -> Sequence[str]:
        """The base URLs of all nodes that answer callers there."""
        ...


@dataclass
class Life:
    """One model's life.

    Args:
        world: where.
        model: its name, and that of its deployment in the first stage.
        folder: for packages.

    Attributes:
        seconds: what was done, and how long it took, in order.
    """

    world: World
    model: str
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    refs: dict[int, VersionRef] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    labels: dict[int, list[int]] = field(default_factory=dict)
    secret: str = ""

    def live(self) -> None:
        """All of it, in order; what was deployed is deleted at the end."""
        dev, staging, prod = self._stages()
        way = ((dev, staging), (staging, prod))
        with self._timed("publish v1"):
            self._publish(1)
        with self._timed(f"make a key and deploy v1 in {dev.name}"):
            key = self._key()
            self._deploy(dev)
        for source, target in way:
            with self._timed(f"promote v1 to {target.name}"):
                self._promote(source, target, 1)
        with self._timed("publish v2"):
            self._publish(2)
        with self._timed("make it the challenger, until pairs are stored"):
            self._challenge(dev)
        with self._timed("swap"):
            self._swap(dev)
        for source, target in way:
            with self._timed(f"promote v2 to {target.name}"):
                self._promote(source, target, 2)
        for stage in (prod, dev):
            with self._timed(f"roll {stage.name} back to revision 1"):
                self._back(stage)
        with self._timed("find each stage's records in its own store"):
            self._recorded()
        with self._timed("revoke the key, until no node takes it"):
            self._revoke(key)
        with self._timed("delete all three"):
            self._delete()

    def table(self, where: str) -> str:
        """How long each step took, line by line."""
        lines = {**self.seconds, "all of it": sum(self.seconds.values())}
        return f"\nThe whole life, {where}:\n" + "".join(f"{seconds:8.2f} s  {what}\n" for what, seconds in lines.items())

    def _stages(self) -> Sequence[Stage]:
        stages = self.world.stages
        assert len({stage.store.url for stage in stages}) == len(stages) == len(GATES)
        listed = {one["name"]: one for one in self.world.client.stages()}
        shown = [listed[stage.name] for stage in stages]
        assert len({one["infrastructure"] for one in shown}) == len(stages)
        assert tuple(tuple(gate["gate"] for gate in one["gates"]) for one in shown) == GATES
        return stages

    def _publish(self, version: int) -> None:
        """By the API, as a pipeline without the store's credentials does."""
        X, y = load_wine(return_X_y=True, as_frame=True)
        X = X[_FEATURES]
        # The versions are close enough to each other for every gate, and their scores differ.
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0 / (1.0 + 0.1 * version))).fit(X, y)
        built = package(model, X, y, name=self.model, description=f"the {version}. try")
        self.world.client.publish(built.write(self.folder / str(version)))
        shown = self.world.client.version(self.model, version)
        assert shown["digest"] == built.manifest.digest
        self.refs[version] = VersionRef(model=self.model, version=version, digest=built.manifest.digest)
        asked = X.iloc[::_STRIDE]
        self.rows, self.labels[version] = rows_of(asked), [int(label) for label in model.predict(asked)]

    def _key(self) -> str:
        made = self.world.client.create_key({"name": f"caller of {self.model}"})
        self.secret = made["secret"]
        return str(made["id"])

    def _deploy(self, stage: Stage) -> None:
        """For callers with a key; the version comes to the stage's own store with it."""
        spec = {"model": {"name": self.model, "version": 1}, "stage": stage.name, "access": "instance"}
        wish = ModelDeployment.model_validate({"metadata": {"name": self.model}, "spec": spec})
        self._applied(self.world.client.apply(wish, why="the first", wait=WAIT_SECONDS), 1)
        assert check_stored(stage.store, self.refs[1])
        self._answers(stage, 1)
        assert self._statuses(stage, key="") == {401}
        with pytest.raises(Unauthenticated):
            self.world.client.predict(self.model, self.rows)

    def _promote(self, source: Stage, target: Stage, version: int) -> None:
        """Through every gate; the files come to the other store, and the deployment there is the same service's."""
        assert not holds(target.store, self.refs[version])
        files = {entry.sha256 for entry in check_stored(source.store, self.refs[version]).files}
        missing = [sha256 for sha256 in files if target.store.size(blob_key(sha256)) is None]
        why = f"v{version} is good"
        found = self.world.client.promote(self._name(source), target.name, why=why, wait=WAIT_SECONDS)
        assert found["state"] == "done", found
        gates = GATES[list(self.world.stages).index(target)]
        assert [(gate["gate"], gate["passed"]) for gate in found["gates"]] == [(gate, True) for gate in gates]
        assert check_stored(target.store, self.refs[version])
        assert found["copied"]["files"] == len(missing), found
        assert (found["target"], found["revision"]) == (self._name(target), version)
        eventually(lambda: self.world.client.deployment(self._name(target))["observed"]["applied"], WAIT_SECONDS)
        self._answers(target, version)
        newest = self.world.client.revisions(self._name(target))[0]
        assert (newest["kind"], newest["why"]) == ("promote", f"{why} (promotion {found['id']})")
        assert self.world.client.promotions(1, stage=target.name, service=self.model)[0]["id"] == found["id"]

    def _challenge(self, stage: Stage) -> None:
        """Main answers as before, and every copy that is answered is stored with main's answer."""
        self._applied(self.world.client.set_challenger(self.model, 2, why="a try", wait=WAIT_SECONDS), 2)

        def paired() -> bool:
            self._answers(stage, 1)
            return bool(self.world.client.ledger(self.model)["pairs"] >= len(self.rows))

        eventually(paired, every=0.5)
        pairs = [one for one in self.world.client.predictions(self.model) if one["challenger"]]
        assert {(one["main"]["version"], one["challenger"]["version"]) for one in pairs} == {(1, 2)}

    def _swap(self, stage: Stage) -> None:
        self._applied(self.world.client.swap(self.model, why="it is better", wait=WAIT_SECONDS), 3)
        self._answers(stage, 2)

    def _back(self, stage: Stage) -> None:
        """The pair of the first revision is restored by a new one, and history says so."""
        name, client = self._name(stage), self.world.client
        before = len(client.revisions(name))
        self._applied(client.rollback(name, 1, why="as it was", wait=WAIT_SECONDS), before + 1)
        self._answers(stage, 1)
        newest = client.revisions(name)[0]
        assert (newest["kind"], newest["restored"], newest["why"]) == ("rollback", 1, "as it was")
        assert (newest["main"]["version"], newest["challenger"]) == (1, None)

    def _recorded(self) -> None:
        """Rows of both versions, each in the bucket of its stage and in no other."""
        for stage in self.world.stages:
            dataset = dataset_name(self._name(stage), stage.namespace)

            def arrived(stage: Stage = stage, dataset: str = dataset) -> Any:
                found = read_main(stage.store, dataset)
                versions = set(found["version"].to_pylist())
                assert versions == {1, 2}, versions
                return found

            assert set(eventually(arrived, every=0.2)["stage"].to_pylist()) == {stage.name}
            others = [other.store for other in self.world.stages if other is not stage]
            assert not any(read_main(store, dataset).num_rows for store in others)

    def _revoke(self, key: str) -> None:
        """No node of any stage takes it any more, soon."""
        self.world.client.revoke_key(key)
        eventually(lambda: all(self._statuses(stage, self.secret) == {401} for stage in self.world.stages), REVOKED_SECONDS)
        listed = self.world.client.keys()
        assert next(one for one in listed if one["id"] == key)["revoked"]
        for stage in self.world.stages:
            with pytest.raises(Unauthenticated):
                self.world.client.predict(self._name(stage), self.rows, key=self.secret)

    def _delete(self) -> None:
        for stage in self.world.stages:
            name = self._name(stage)
            assert self.world.client.delete(name, why="the end", wait=WAIT_SECONDS)["applied"]
            with pytest.raises(NotFound):
                self.world.client.deployment(name)

    def _name(self, stage: Stage) -> str:
        return self.model if stage is self.world.stages[0] else f"{self.model}-{stage.name}"

    def _applied(self, done: Done, revision: int) -> None:
        assert (done["applied"], done["revision"]) == (True, revision), done
        observed = self.world.client.deployment(done["deployment"])["observed"]
        ready = next(one for one in observed["conditions"] if one["type"] == "Ready")
        assert (observed["deployed"]["state"], ready["status"]) == ("yes", "True"), observed

    def _answers(self, stage: Stage, version: int) -> None:
        """Every node answers the caller with this version, and so does the road that clients take, as the model itself does."""

        def reached() -> Predicted:
            found = [answer.json()["version"] for answer in self._asked(stage, self.secret)]
            assert set(found) == {version}, found
            return self.world.client.predict(self._name(stage), self.rows, key=self.secret)

        said = eventually(reached, WAIT_SECONDS, every=0.05)
        assert (said["version"], said["digest"]) == (version, self.refs[version].digest)
        assert [one["prediction"] for one in said["predictions"]] == self.labels[version]

    def _statuses(self, stage: Stage, key: str) -> set[int]:
        return {answer.status_code for answer in self._asked(stage, key)}

    def _asked(self, stage: Stage, key: str) -> list[httpx.Response]:
        name, headers = self._name(stage), {"authorization": f"Bearer {key}"} if key else {}
        nodes = self.world.nodes(stage, name)
        assert nodes
        urls = [f"{node}/deployments/{name}/predict" for node in nodes]
        return [httpx.post(url, json=self.rows, headers=headers, trust_env=False, timeout=20) for url in urls]

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[what] = time.monotonic() - began


def set_stages(client: Client, stages: Sequence[str], infrastructures: Sequence[str]) -> None:
    """Make three stages with `GATES`, each on its infrastructure."""
    for place, (stage, infrastructure, gates) in enumerate(zip(stages, infrastructures, GATES, strict=True)):
        asked = [{"gate": gate} for gate in gates]
        client.put_stage(stage, {"position": 20 + place, "infrastructure": infrastructure, "gates": asked})
