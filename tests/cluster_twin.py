"""A cluster in memory as the deployer knows it, with server-side apply, optimistic locks, and other people's hands.

It stands on the operator's own twin of an API server; what it says is held against a real one by the same tests.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quarterdeck_deployer.infrastructures.cluster_base import ClusterFailure
from quarterdeck_deployer.infrastructures.kubernetes_fields import MANAGER, Object
from quarterdeck_operator.kube import APPLY, CONFIG_MAP, MERGE, MODEL_DEPLOYMENT, ApiFailure, Patch
from quarterdeck_operator.twin import ClusterTwin


class DeployerTwin:
    """One namespace.

    Attributes:
        refuse: HTTP status that every write is answered with; 0: none. `silent`: nothing is answered at all.
        written: methods and names of the writes so far.
    """

    def __init__(self, namespace: str = "models") -> None:
        self.api, self.namespace = ClusterTwin(), namespace
        self.refuse, self.silent, self.closed = 0, False, False
        self.written: list[tuple[str, str]] = []
        self._stirred = threading.Condition()

    def resources(self) -> list[Object]:
        """All ModelDeployments."""
        self._answer()
        found = self.api.get(MODEL_DEPLOYMENT.path(self.namespace))
        return list(found["items"]) if found else []

    def changes(self) -> Iterator[None]:
        """One item for each change."""
        while not self.closed:
            with self._stirred:
                self._stirred.wait(1.0)
            yield None

    def apply(self, document: Object, version: str = "") -> Object:
        """Server-side apply."""
        name = document["metadata"]["name"]
        self._write("APPLY", name)
        if version:
            self._require_version(name, version)
        return self._patched(name, document, APPLY, MANAGER, force=bool(version))

    def drop(self, name: str, parts: Sequence[str], version: str) -> Object:
        """A merge of nulls."""
        self._write("DROP", name)
        self._require_version(name, version)
        return self._patched(name, {"metadata": {}, "spec": dict.fromkeys(parts)}, MERGE, MANAGER)

    def delete(self, name: str, uid: str) -> None:
        """Delete with the uid as precondition."""
        self._write("DELETE", name)
        try:
            self.api.delete(self._path(name), uid)
        except ApiFailure as failure:
            raise ClusterFailure(failure.detail, http=failure.http) from None
        self.stir()

    def pods(self, selector: str) -> tuple[list[Object], list[Object]]:
        """No pod: nobody makes any here."""
        self._answer()
        return [], []

    def config_map(self, name: str) -> Mapping[str, str] | None:
        """What the ConfigMap holds."""
        self._answer()
        found = self.api.get(CONFIG_MAP.path(self.namespace, name))
        return found["data"] if found else None

    def write_keyring(self, name: str, data: Mapping[str, str]) -> None:
        """Apply our entries."""
        self._write("KEYS", name)
        body = {**_named(CONFIG_MAP.api_version, CONFIG_MAP.name, name, self.namespace), "data": dict(data)}
        self.api.patch(CONFIG_MAP.path(self.namespace, name), body, APPLY, MANAGER)

    def close(self) -> None:
        """End the watch."""
        self.closed = True
        self.stir()

    def say(self, name: str, spec: Mapping[str, Any], manager: str) -> Object:
        """Somebody else's apply, with force: `manager` owns these fields afterwards."""
        document = {**_named(MODEL_DEPLOYMENT.api_version, MODEL_DEPLOYMENT.name, name, self.namespace), "spec": dict(spec)}
        return self._patched(name, document, APPLY, manager)

    def tell(self, name: str, status: Mapping[str, Any]) -> None:
        """The operator's status."""
        self.api.edit(self._path(name), lambda body: body.update(status=dict(status)))
        self.stir()

    def remove(self, name: str) -> None:
        """`kubectl delete`."""
        self.api.delete(self._path(name), self.resource(name)["metadata"]["uid"])
        self.stir()

    def resource(self, name: str) -> Object:
        """One resource as it is."""
        found = self.api.get(self._path(name))
        assert found is not None
        return found

    def stir(self) -> None:
        """Something has changed."""
        with self._stirred:
            self._stirred.notify_all()

    def _path(self, name: str) -> str:
        return MODEL_DEPLOYMENT.path(self.namespace, name)

    def _answer(self) -> None:
        if self.silent:
            raise ClusterFailure("The API server did not answer.", http=0)

    def _write(self, method: str, name: str) -> None:
        self._answer()
        if self.refuse:
            raise ClusterFailure(f"The API server answered with {self.refuse}.", http=self.refuse)
        self.written.append((method, name))

    def _require_version(self, name: str, version: str) -> None:
        if self.resource(name)["metadata"]["resourceVersion"] != version:
            raise ClusterFailure("It has changed meanwhile.", http=409)

    def _patched(self, name: str, document: Object, kind: Patch, manager: str, *, force: bool = True) -> Object:
        named = {**document.get("metadata", {}), "name": name, "namespace": self.namespace}
        body = {**document, "metadata": named} if kind == APPLY else document
        try:
            found = self.api.patch(self._path(name), body, kind, manager, force=force)
        except ApiFailure as failure:
            raise ClusterFailure(failure.detail, http=failure.http) from None
        self.stir()
        return found


def _named(api_version: str, kind: str, name: str, namespace: str) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}
