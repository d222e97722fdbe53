"""Rollback by the deployer's API under load: seconds from the call to the last request that the version left still answered.

    python -m tests.campaigns.rollback_latency local --flips 100
    CLUSTER=as-is python -m tests.campaigns.rollback_latency cluster --flips 100 --replicas 1 3

Each flip leads back to the version before, which is resident. `local` is what `quarterdeck up` starts; `cluster` is the chart's
deployer, reached by a forwarded port, and a Service that a pod asks (see cluster_rollouts for CLUSTER). A request counts from
when it was sent, so each figure is too large rather than too small. Exit status 1 where a request was lost, or a flip did not
come about.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from quarterdeck.client import Client
from quarterdeck.resources import ModelDeployment
from tests.campaigns.cluster_rollouts import installed
from tests.cluster import load_in_pod
from tests.cluster.control import Control
from tests.cluster.deployment import KIND
from tests.cluster.installation import BUCKET
from tests.cluster.load import Answered, Load, Tally
from tests.local.system import LocalSystem
from tests.models import version_encoding_model
from tests.support import eventually

KEPT, FRESH, RATE = 6, 2, 25.0
"""Connections that are kept, workers that open one for each request, and requests per second of each."""
PAUSE_SECONDS = (0.3, 1.5)
"""Between two flips, at random: no flip is to keep time with anything that ticks."""
WAIT_SECONDS = 30.0
STAGE = "dev"


@dataclass(frozen=True)
class Flip:
    """One rollback: when it was called (Unix seconds), which version it left, and after how many seconds the API had seen it."""

    called: float
    left: int
    observed: float


class Asking(Protocol):
    """Load on a deployment, for as long as a block lasts."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def end(self) -> Tally:
        """Let it finish what is under way, and read what it has seen."""
        ...


class LocalLoad:
    """The load of the cluster's tests as a process of this machine."""

    def __init__(self, url: str, folder: Path) -> None:
        self._log = folder / "load"
        self._command = [sys.executable, str(load_in_pod.__file__), url, str(KEPT), str(FRESH), str(RATE), "7200"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log)
        eventually(lambda: self._last().answered > 0, 60)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(20)

    def end(self) -> Tally:
        """Let it finish what is under way, and read what it has seen."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0
        return self._last()

    def _last(self) -> Tally:
        return Tally.read(json.loads(self._log.read_text().splitlines()[-1]))


def measure(client: Client, name: str, revisions: Sequence[int], load: Asking, count: int) -> list[str]:
    """Flip so many times between two revisions (of versions 1 and 2; the second one serves), and print the figures.

    Returns what went wrong.
    """
    flips, misses = list[Flip](), list[str]()
    with load:
        for number in range(count):
            flip = _flip(client, name, revisions[number % 2], 2 - number % 2, misses)
            if flip is None:
                break
            flips.append(flip)
        tally = load.end()
    misses += tally.why or ["nothing was answered"] * (not tally.answered)
    print(f"{len(flips)} rollbacks, {tally.answered} requests answered, {tally.lost} lost, {len(misses)} misses")
    _print("API call to the last request admitted to the version left", [_seconds(flip, tally.answers) for flip in flips])
    _print("API call to the API's word that all nodes follow", [flip.observed for flip in flips])
    return misses


def _flip(client: Client, name: str, revision: int, left: int, misses: list[str]) -> Flip | None:
    eventually(lambda: client.deployment(name)["observed"]["rollback_ready"], WAIT_SECONDS, every=0.1)
    time.sleep(random.uniform(*PAUSE_SECONDS))
    called = time.time()
    done = client.rollback(name, revision=revision, wait=WAIT_SECONDS)
    if done["applied"] and done["changed"]:
        return Flip(called, left, time.time() - called)
    misses.append(f"revision {done['revision']} was not applied: {done['note']}")
    return None


def _seconds(flip: Flip, answers: Sequence[Answered]) -> float:
    """How long the version left went on being asked; revisions are told apart, since it has come and gone before."""
    serving = max((one for one in answers if one.version == flip.left and one.first < flip.called), key=lambda one: one.first)
    return max(0.0, serving.last - flip.called)


def _print(what: str, seconds: Sequence[float]) -> None:
    ordered = sorted(seconds)
    if ordered:
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        print(f"  {what:<60} p50 {statistics.median(ordered):.3f} s, p99 {p99:.3f} s, max {ordered[-1]:.3f} s", flush=True)


def local(count: int) -> list[str]:
    """Deployer, main and challenger as processes of this machine."""
    with tempfile.TemporaryDirectory() as folder, LocalSystem(Path(folder)) as system, system.client() as client:
        name = "versions"
        refs = [system.publish(version_encoding_model(version, name=name)) for version in (1, 2)]
        revisions = [system.deploy(name, ref) for ref in refs]
        load = LocalLoad(f"{system.main_url}/deployments/{name}/predict", Path(folder))
        print("local, 1 main")
        return measure(client, name, revisions, load, count)


def cluster(count: int, replicas: int) -> list[str]:
    """The chart's deployer writes a ModelDeployment with so many main nodes, and a pod asks its Service."""
    with installed() as installation, Control(installation) as control, control.client() as client:
        name = f"rollbacks-{secrets.token_hex(3)}"
        for version in (1, 2):
            built = version_encoding_model(version, name=name)
            installation.publish(built, control.namespaces[STAGE])
            client.register(installation.publish(built, BUCKET))
        deployment = control.deployment(STAGE, name)
        try:
            revisions = [_applied(client, name, 1)]
            nodes = {"replicas": replicas, "resources": {"requests": {"cpu": "20m", "memory": "128Mi"}}}
            patch = ["--type=merge", f"--patch={json.dumps({'spec': {'nodes': nodes}})}"]
            installation.node.kubectl("patch", KIND, name, f"--namespace={deployment.namespace}", *patch)
            deployment.ready(1)
            revisions.append(_applied(client, name, 2))
            load = Load(installation, deployment.namespace, name, kept=KEPT, fresh=FRESH, rate=RATE, seconds=7_200.0)
            print(f"cluster, {replicas} main")
            return measure(client, name, revisions, load, count)
        finally:
            client.delete(name, why="the campaign is over")


def _applied(client: Client, name: str, version: int) -> int:
    spec = {"stage": STAGE, "model": {"name": name, "version": version}, "access": "public"}
    done = client.apply(ModelDeployment.model_validate({"metadata": {"name": name}, "spec": spec}), wait=180)
    assert done["applied"], done
    return done["revision"]


def main() -> int:
    """Run it, print the figures; 1 on any miss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", choices=["local", "cluster"])
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 3], help="of main, in the cluster")
    asked = parser.parse_args()
    misses = local(asked.flips) if asked.where == "local" else []
    for replicas in asked.replicas if asked.where == "cluster" else ():
        misses += cluster(asked.flips, replicas)
    print("\n".join(misses[:20]), file=sys.stderr)
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
