"""One ModelDeployment on the cluster, handled as its owner would handle it: by kubectl."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx

from quarterdeck.storage.keys import dataset_name
from tests.cluster.installation import AUTHORITY, SECRET, Installation
from tests.support import eventually

KIND = "modeldeployments.quarterdeck.dev"
NAME, ROLE = "quarterdeck.dev/deployment", "quarterdeck.dev/role"


class Deployment:
    """A public deployment whose packages lie in the tests' own bucket, or in the store with this URL."""

    def __init__(self, installation: Installation, namespace: str, name: str, store: str = "") -> None:
        self.installation, self.namespace, self.name = installation, namespace, name
        self.node = installation.node
        self._spec: dict[str, Any] = {
            "access": "public",
            "store": {"url": store or installation.store(installation.bucket), "secret": SECRET, "caConfigMap": AUTHORITY},
        }

    def apply(self, **spec: Any) -> float:
        """`kubectl apply` of the wish so far with these fields changed (None takes one away); when, in Unix seconds."""
        self._spec = {field: value for field, value in {**self._spec, **spec}.items() if value is not None}
        metadata = {"name": self.name, "namespace": self.namespace}
        self.node.apply(
            {"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": self._spec}
        )
        return time.time()

    def delete(self) -> None:
        """Delete the resource, and wait until the API server has it no more."""
        self.node.kubectl("delete", KIND, self.name, f"--namespace={self.namespace}", "--timeout=60s")

    def resource(self) -> dict[str, Any]:
        """The resource as the API server has it."""
        found: dict[str, Any] = self.node.get(KIND, self.name, self.namespace)
        return found

    def conditions(self) -> dict[str, dict[str, Any]]:
        """Conditions of the wish as it is now, by type."""
        found = self.resource()
        told = found.get("status", {}).get("conditions", [])
        return {each["type"]: each for each in told if each["observedGeneration"] == found["metadata"]["generation"]}

    def says(self, kind: str, status: str, reason: str = "", *, within: float = 15.0) -> dict[str, Any]:
        """The condition `kind`, waited for until it has this status and, where one is given, this reason.

        Raises:
            AssertionError: it has not within `within` seconds.
        """

        def condition() -> dict[str, Any] | None:
            found = self.conditions().get(kind)
            # What is there is more telling than that something is missing.
            assert found and found["status"] == status and reason in ("", found["reason"]), found  # noqa: PT018
            return found

        found = eventually(condition, within, every=0.3)
        assert found is not None
        return found

    def ready(self, version: int, *, within: float = 120.0) -> None:
        """Wait until every wanted node answers with this version, under the wish as it is now.

        Raises:
            AssertionError: not so within `within` seconds; the status is in the text.
        """

        def reached() -> bool:
            found = self.resource()
            status = found.get("status", {})
            assert status.get("observedGeneration") == found["metadata"]["generation"], status
            nodes = status["nodes"]
            assert [(each["version"], each["nodes"]) for each in status["versions"]] == [(version, nodes["wanted"])], status
            assert nodes["ready"] == nodes["wanted"], status
            return True

        try:
            eventually(reached, within, every=0.2)
        except AssertionError as error:
            status = json.dumps(self.resource().get("status"), indent=1)
            raise AssertionError(f"{error}\n{status}\n{self.told()}") from error.__cause__

    def told(self) -> str:
        """What pods and their events say, for the report of a failed test."""
        where = f"--namespace={self.namespace}"
        pods = self.node.kubectl("get", "pods", where, "--output=wide")
        events = self.node.kubectl("get", "events", where, "--sort-by=.lastTimestamp")
        return f"{pods}\n{events}"

    def pods(self, role: str = "main") -> list[dict[str, Any]]:
        """Pods of one role that are not being deleted, oldest first."""
        found = self.node.get("pods", namespace=self.namespace, **{NAME: self.name, ROLE: role})
        living = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return sorted(living, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    @property
    def url(self) -> str:
        """The Service, as this machine reaches it."""
        service = self.node.get("service", self.name, self.namespace)
        return f"http://{service['spec']['clusterIP']}"

    @property
    def dataset(self) -> str:
        """How its records are called in the store."""
        return dataset_name(self.name, self.namespace)

    def predict(self, number: float = 0.0) -> dict[str, Any]:
        """One row's answer from the Service."""
        answer = httpx.post(f"{self.url}/deployments/{self.name}/predict", json=[{"number": number}], trust_env=False, timeout=20)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told
