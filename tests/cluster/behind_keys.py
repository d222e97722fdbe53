"""Deployments that the chart's deployer has made at several nodes, and the doors at which each of them is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from quarterdeck.client import Client
from quarterdeck.plan import AccessMode
from quarterdeck.resources import ModelDeployment
from quarterdeck.schema import Schema
from quarterdeck_operator.names import HTTP_PORT
from tests.cluster.control import Control
from tests.cluster.deployment import KIND
from tests.models import version_encoding_model
from tests.support import eventually

STAGE = "dev"


class Door(NamedTuple):
    """A Service or a node."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Where HTTP is spoken."""
        return f"http://{self.host}:{self.port}"


def deployed(control: Control, client: Client, names: Mapping[AccessMode, str], project: str, nodes: int) -> Schema:
    """Publish a model and deploy it, with gRPC.

    Args:
        client: an admin's.
        names: mode → name of the deployment.
        project: of all of them.
        nodes: main nodes of each.

    Returns:
        The model's schema.
    """
    name = next(iter(names.values()))
    built = version_encoding_model(1, name=name)
    control.installation.publish(built, control.namespaces[STAGE])
    client.register(control.installation.publish(built))
    for mode, name in names.items():
        spec = {"model": {"name": built.manifest.model, "version": 1}, "access": mode, "project": project, "stage": STAGE}
        client.apply(ModelDeployment.model_validate({"metadata": {"name": name}, "spec": spec}))
    for name in names.values():
        _several(control, name, nodes)
    for name in names.values():
        control.deployment(STAGE, name).ready(1)
        # Ready are also those that are about to be replaced.
        control.node.rolled_out(f"{name}-main", control.namespaces[STAGE])
    return built.manifest.data_schema


def doors_of(control: Control, name: str) -> list[Door]:
    """The Service of a deployment, then each of its main nodes."""
    deployment = control.deployment(STAGE, name)
    nodes = [Door(str(pod["status"]["podIP"]), HTTP_PORT) for pod in deployment.pods()]
    return [Door(deployment.url.removeprefix("http://"), 80), *nodes]


def _several(control: Control, name: str, nodes: int) -> None:
    """How many nodes there are is no matter of revisions: whoever may use kubectl says it."""
    small = {"requests": {"cpu": "50m"}}
    patch = json.dumps({"spec": {"nodes": {"replicas": nodes, "grpc": True, "resources": small}}})
    words = ("patch", KIND, name, f"--namespace={control.namespaces[STAGE]}", "--type=merge", f"--patch={patch}")
    eventually(lambda: control.node.kubectl(*words), 30)
