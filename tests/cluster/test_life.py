"""The whole life of a model on a real cluster: three namespaces, a bucket for each, and the deployer that the chart installs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quarterdeck.client import Client
from quarterdeck.storage import open_storage
from quarterdeck_operator.names import HTTP_PORT
from tests.cluster.control import Control
from tests.life import Life, Stage


@dataclass
class Cluster:
    """The stages of a cluster."""

    control: Control
    client: Client
    stages: Sequence[Stage]

    def nodes(self, stage: Stage, deployment: str) -> Sequence[str]:
        """Its main pods."""
        pods = self.control.deployment(stage.name, deployment).pods()
        return [f"http://{pod['status']['podIP']}:{HTTP_PORT}" for pod in pods]


def test_the_whole_life(control: Control, tmp_path: Path) -> None:
    """What is tried in one namespace comes to production in the third, from bucket to bucket, and everybody's key with it."""
    with control.installation.aws(), control.client() as client:
        stages = [Stage(name, open_storage(control.store(name)), namespace) for name, namespace in control.namespaces.items()]
        life = Life(Cluster(control, client, stages), f"life-{secrets.token_hex(3)}", tmp_path)
        life.live()
    print(life.table("a cluster"))
