"""A release of the chart on a real API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.apiserver import ApiServer
from tests.chart.helm import CHART, Object, helm

MODEL: dict[str, Any] = {
    "apiVersion": "quarterdeck.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "late-flights"},
    "spec": {"model": {"name": "late-flights", "version": 1}},
}


@dataclass(frozen=True)
class Release:
    """A release of the chart in a namespace of its own."""

    server: ApiServer
    namespace: str

    def run(self, verb: str, *words: str) -> str:
        """What a helm command prints; it must end well."""
        chart = (str(CHART),) if verb in ("install", "upgrade") else ()
        done = helm(verb, "quarterdeck", *chart, "--namespace", self.namespace, *words, server=self.server)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, kind: str, name: str) -> Object:
        """One object of the namespace."""
        found: Object = self.server.get(kind, name, namespace=self.namespace)
        return found

    def names(self, kinds: str) -> set[str]:
        """Names of the namespace's objects of some kinds."""
        return set(self.server.kubectl("get", kinds, "--output", "name", namespace=self.namespace).split())

    def may(self, verb: str, resource: str, namespace: str, program: str = "operator") -> bool:
        """Whether a program's account may do that."""
        account = f"system:serviceaccount:{self.namespace}:quarterdeck-{program}"
        words = ["auth", "can-i", verb, *resource.split(), "--as", account]
        return self.server.run_kubectl(*words, namespace=namespace).returncode == 0
