"""What Quarterdeck is for, on a real cluster: two models side by side, every row written down, a promotion and the way back."""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import httpx
import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from quarterdeck.plan import VersionRef
from quarterdeck.record_files import pairs, read_challenger, read_main
from tests.cluster.deployment import Deployment
from tests.cluster.installation import BUCKET, Installation
from tests.cluster.ledger import Caller, Row, storage_of
from tests.models import FLIGHT_FEATURES, flight_model, flights
from tests.prometheus import complaints
from tests.support import ROOT, eventually

EXAMPLE = ROOT / "examples" / "with-challenger.yaml"
COPIED = 'quarterdeck_mirror_rows_total{result="answered"}'


@dataclass
class Job:
    """The example on the cluster, under a name and with packages of its own in the store that the chart names."""

    installation: Installation
    namespace: str
    name: str
    versions: tuple[VersionRef, VersionRef]

    @property
    def deployment(self) -> Deployment:
        """The example's, as kubectl sees it."""
        return Deployment(self.installation, self.namespace, self.name)

    def apply(self, main: int, challenger: int) -> None:
        """`kubectl apply` of the example's file with these versions."""
        text = EXAMPLE.read_text()
        for there, here in (
            ("  name: late-flights-compared\n", f"  name: {self.name}\n"),
            ("    name: late-flights\n    version: 1\n", f"    name: {self.versions[0].model}\n    version: {main}\n"),
            ("  challenger:\n    version: 2\n", f"  challenger:\n    version: {challenger}\n"),
        ):
            assert text.count(there) == 1
            text = text.replace(there, here)
        self.installation.node.kubectl("apply", f"--namespace={self.namespace}", "--filename=-", given=text)

    def pods(self) -> list[str]:
        """UIDs of all its pods."""
        return sorted(pod["metadata"]["uid"] for role in ("main", "challenger") for pod in self.deployment.pods(role))

    def records(self) -> tuple[pa.Table, pa.Table]:
        """What the store has: main's rows and the challenger's, once each."""
        with self.installation.aws():
            storage = storage_of(self.installation, BUCKET)
            return read_main(storage, self.deployment.dataset), read_challenger(storage, self.deployment.dataset)

    def scraped(self) -> list[dict[str, float]]:
        """Of each main pod: sample's name, also with its kind or result → sum. promtool has nothing to say about any."""
        found = []
        for pod in self.deployment.pods():
            text = httpx.get(f"http://{pod['status']['podIP']}:8080/metrics", trust_env=False, timeout=20).text
            assert complaints(text) == ""
            sums: dict[str, float] = defaultdict(float)
            for sample in (each for family in text_string_to_metric_families(text) for each in family.samples):
                sums[sample.name] += sample.value
                for label in ("kind", "result"):
                    if label in sample.labels:
                        sums[f'{sample.name}{{{label}="{sample.labels[label]}"}}'] += sample.value
            found.append(sums)
        return found


@pytest.fixture
def job(installation: Installation, namespace: str) -> Job:
    """Two models of late flights are in the store; nothing is deployed yet."""
    name = f"late-flights-{secrets.token_hex(3)}"
    gradient, logistic = flight_model("compiled"), flight_model("skops")
    first, second = (installation.publish(trained.package(name)) for trained in (gradient, logistic))
    return Job(installation, namespace, name, (first, second))


def flight_requests(count: int, rows: int) -> list[list[Row]]:
    """Requests of real flights."""
    frame = flights()[FLIGHT_FEATURES].head(count * rows)
    found: list[Row] = json.loads(frame.to_json(orient="records"))
    return [found[place : place + rows] for place in range(0, len(found), rows)]


def predictions(table: pa.Table) -> dict[str, Any]:
    """Row id → stored prediction."""
    return dict(zip(table["row_id"].to_pylist(), map(json.loads, table["prediction"].to_pylist()), strict=True))


def as_many(job: Job, count: int) -> tuple[pa.Table, pa.Table]:
    """The records, once main's and the challenger's are as many as were answered."""

    def whole() -> tuple[pa.Table, pa.Table]:
        main, challenger = job.records()
        assert main.num_rows == challenger.num_rows == count, (main.num_rows, challenger.num_rows, count)
        return main, challenger

    return eventually(whole, 60, every=0.5)


def receiving(job: Job, caller: Caller) -> None:
    """Ask until every main pod has had a copy answered: a new Service leads to its pods a moment after they are ready."""
    job.deployment.says("ChallengerReceiving", "True", within=60)

    def everywhere() -> bool:
        caller.ask_all(flight_requests(count=4, rows=1))
        return all(pod.get(COPIED, 0) > 0 for pod in job.scraped())

    eventually(everywhere, 30, every=0.5)


def test_the_main_job(job: Job) -> None:
    """Given the chart and two packages, when the example is applied, promoted and taken back, then every row is on record."""
    job.apply(main=1, challenger=2)
    job.deployment.ready(1)
    caller = Caller.of(job.deployment)
    receiving(job, caller)
    pods, revision = job.pods(), job.deployment.resource()["status"]["revision"]
    assert len(pods) == 3
    early = set(caller.answered)

    caller.ask_all(flight_requests(count=40, rows=5))
    assert caller.lost == []
    main, challenger = as_many(job, len(caller.answered))
    compared(job, caller, main, challenger, early)
    assert sum(each["quarterdeck_rows_total"] for each in job.scraped()) == len(caller.answered)
    for kind in ("main", "challenger"):
        assert sum(each[f'quarterdeck_records_total{{kind="{kind}"}}'] for each in job.scraped()) == len(caller.answered)

    for version, other in ((2, 1), (1, 2)):
        job.apply(main=version, challenger=other)
        job.deployment.ready(version)
        job.deployment.says("ChallengerReceiving", "True", within=60)
        before = set(caller.answered)
        caller.ask_all(flight_requests(count=10, rows=5))
        assert {caller.versions[name] for name in caller.answered.keys() - before} == {version}
        now = job.deployment.resource()["status"]["revision"]
        assert now > revision
        revision = now

    assert caller.lost == []
    assert job.pods() == pods, "neither a promotion nor the way back starts a pod"
    main, challenger = as_many(job, len(caller.answered))
    compared(job, caller, main, challenger, early)


def compared(job: Job, caller: Caller, main: pa.Table, challenger: pa.Table, early: set[str]) -> None:
    """Main's records say what was answered, by whom; beside every row but early ones stands what the other version says."""
    assert predictions(main) == {name: each["prediction"] for name, each in caller.answered.items()}
    assert dict(zip(main["row_id"].to_pylist(), main["version"].to_pylist(), strict=True)) == caller.versions
    assert set(challenger["row_id"].to_pylist()) == caller.answered.keys()
    both = pairs(main, challenger)
    assert caller.answered.keys() - early <= set(both["row_id"].to_pylist()), job.deployment.resource()["status"]
    digests = set(zip(both["main_digest"].to_pylist(), both["challenger_digest"].to_pylist(), strict=True))
    first, second = (version.digest for version in job.versions)
    assert digests <= {(first, second), (second, first)}
