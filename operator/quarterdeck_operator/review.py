"""What the plan server asks the cluster: whose token a pod shows, and the one Secret that holds its certificates."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from quarterdeck.errors import NotFound
from quarterdeck_operator.identity import Identity
from quarterdeck_operator.kube import POD, SECRET, TOKEN_REVIEW, ApiFailure, Reads, Writes
from quarterdeck_operator.names import AUDIENCE, labels_of
from quarterdeck_operator.tls import Stored
from quarterdeck_operator.world import Object

_ACCOUNT = "system:serviceaccount:"
_POD_NAME, _POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"


@dataclass(frozen=True, slots=True)
class ClusterReviewer:
    """Asks the API server whose token it is, and reads the pod's labels; blocks."""

    reads: Reads
    writes: Writes

    def review(self, token: str) -> Identity | None:
        """Whose token it is; None: it is not good, not for our audience, or not a pod's that exists.

        Raises:
            ApiFailure: the API server did not answer.
        """
        body: Object = {
            "apiVersion": TOKEN_REVIEW.api_version,
            "kind": TOKEN_REVIEW.name,
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        status = self.writes.create(TOKEN_REVIEW.path(), body).get("status", {})
        user = status.get("user", {})
        # An API server that knows no audiences would answer without any, and take a token that was meant for somebody else.
        if not status.get("authenticated") or AUDIENCE not in status.get("audiences", ()):
            return None
        name, uid = (next(iter(user.get("extra", {}).get(key, ())), "") for key in (_POD_NAME, _POD_UID))
        account = str(user.get("username", "")).removeprefix(_ACCOUNT).split(":")
        if not name or len(account) != 2:
            return None
        pod = self.reads.get(POD.path(account[0], name))
        # A pod that was made anew under the name is another one.
        if pod is None or pod["metadata"]["uid"] != uid:
            return None
        return Identity(account[0], name, account[1], dict(labels_of(pod)))


@dataclass(frozen=True, slots=True)
class ClusterSecret:
    """The named Secret; blocks."""

    reads: Reads
    writes: Writes
    namespace: str
    name: str

    def read(self) -> Stored:
        """What it holds.

        Raises:
            NotFound: the chart has not made it.
            ApiFailure: it could not be read.
        """
        secret = self._get()
        data = {name: base64.b64decode(value) for name, value in (secret.get("data") or {}).items()}
        return Stored(data, secret["metadata"]["resourceVersion"])

    def write(self, data: Mapping[str, bytes], version: str) -> bool:
        """Replace its content if it still has this version; False: somebody else was faster.

        Raises:
            NotFound: it is gone.
            ApiFailure: it could not be written.
        """
        secret = self._get()
        metadata = {**secret["metadata"], "resourceVersion": version}
        text = {name: base64.b64encode(value).decode() for name, value in data.items()}
        try:
            self.writes.replace(SECRET.path(self.namespace, self.name), {**secret, "metadata": metadata, "data": text})
        except ApiFailure as failure:
            if failure.conflict:
                return False
            raise
        return True

    def _get(self) -> Object:
        secret = self.reads.get(SECRET.path(self.namespace, self.name))
        if secret is None:
            raise NotFound(
                f"There is no Secret {self.name} in the namespace {self.namespace}.",
                kind="secret",
                name=self.name,
                hint="The chart makes it, empty; the operator may not create Secrets.",
            )
        return secret
