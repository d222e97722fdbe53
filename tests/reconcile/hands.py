"""Two clusters for the same tests: the API server's twin in memory, and a real kube-apiserver with etcd."""

from __future__ import annotations

import json
from collections.abc import Mapping

from quarterdeck_operator.apply import ClusterWrites
from quarterdeck_operator.kube import FIELD_MANAGER, MERGE, MODEL_DEPLOYMENT, OWNED, Patch
from quarterdeck_operator.observe import ClusterReads, Connection
from quarterdeck_operator.twin import ClusterTwin
from quarterdeck_operator.world import Object
from tests.apiserver import ApiServer
from tests.reconcile.world import NAME, SETTINGS


def is_operators(path: str) -> bool:
    """Whether it is the operator that writes there, as a rule."""
    return path.split("/")[-2] in {*(kind.plural for kind in OWNED.values()), "events"} or path.endswith("/status")


class TwinHand:
    """A cluster in memory."""

    def __init__(self) -> None:
        self.twin = ClusterTwin()
        self.reads = self.writes = self.twin
        self.namespace = "flights"

    def apply_resource(self, spec: Object) -> None:
        """`kubectl apply` of the ModelDeployment."""
        path = MODEL_DEPLOYMENT.path(self.namespace, NAME)
        if self.twin.get(path) is None:
            self.add(path.rpartition("/")[0], {"kind": "ModelDeployment", "metadata": self._metadata(), "spec": spec})
        else:
            self.twin.edit(path, lambda body: body.update(spec=spec))

    def delete_resource(self) -> None:
        """`kubectl delete`, and what the garbage collector does about it."""
        self.remove(MODEL_DEPLOYMENT.path(self.namespace, NAME))

    def change(self, path: str, patch: Object) -> None:
        """A merge patch by somebody else."""
        self.twin.patch(path, {"metadata": {}, **patch}, MERGE)

    def remove(self, path: str) -> None:
        """Delete an object that others own."""
        found = self.twin.get(path)
        assert found is not None
        self.twin.delete(path, found["metadata"]["uid"])

    def add(self, path: str, body: Object) -> None:
        """Create an object that others own."""
        self.twin.create(path, body)

    def written(self) -> list[tuple[str, str]]:
        """Writes of the operator so far; those of others are told apart by kind."""
        return [one for one in self.twin.writes if is_operators(one[1])]

    def _metadata(self) -> Object:
        return {"name": NAME, "namespace": self.namespace}


class _Counted(ClusterWrites):
    """Writes that are noted down."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, lambda: True)
        self.done: list[tuple[str, str]] = []

    def _send(self, method: str, path: str, body: Object, query: Mapping[str, str], content_type: str = "") -> Object:
        answer = super()._send(method, path, body, query, content_type)
        self.done.append((method, path))
        return answer


class RealHand:
    """A namespace of a real API server. It has no controllers: pods and the garbage collector are played by the test."""

    def __init__(self, server: ApiServer) -> None:
        self._server, self.namespace = server, server.namespace()
        self._connection = Connection(SETTINGS, server.kubeconfig)
        self.reads = ClusterReads(self._connection)
        self.writes = self._counted = _Counted(self._connection)

    def close(self) -> None:
        """Let go of all connections."""
        self._connection.close()

    def apply_resource(self, spec: Object) -> None:
        """`kubectl apply` of the ModelDeployment."""
        body = {
            "apiVersion": MODEL_DEPLOYMENT.api_version,
            "kind": "ModelDeployment",
            "metadata": {"name": NAME, "namespace": self.namespace},
            "spec": spec,
        }
        self._server.kubectl("apply", "--filename", "-", stdin=json.dumps(body), namespace=self.namespace)

    def delete_resource(self) -> None:
        """`kubectl delete`, and what the garbage collector does about it."""
        self.remove(MODEL_DEPLOYMENT.path(self.namespace, NAME))
        for kind in OWNED.values():
            words = ("delete", kind.plural, "--selector", f"app.kubernetes.io/managed-by={FIELD_MANAGER}")
            self._server.kubectl(*words, namespace=self.namespace)

    def change(self, path: str, patch: Object) -> None:
        """A merge patch by somebody else."""
        self._other("PATCH", path, patch, MERGE)

    def remove(self, path: str) -> None:
        """Delete an object that others own."""
        self._other("DELETE", path, {"gracePeriodSeconds": 0})

    def add(self, path: str, body: Object) -> None:
        """Create an object that others own, with its status."""
        self._other("POST", path, body)
        if "status" in body:
            self._other("PATCH", f"{path}/{body['metadata']['name']}/status", {"status": body["status"]}, MERGE)

    def written(self) -> list[tuple[str, str]]:
        """Writes of the operator so far."""
        return self._counted.done

    def _other(self, method: str, path: str, body: Object, content_type: Patch | str = "") -> None:
        self._connection.request(method, path, {"fieldManager": "somebody"} if method != "DELETE" else {}, body, content_type)
