"""The one file that speaks to a cluster's API server: ModelDeployments of one namespace, and the ConfigMap of its keys."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml
from kubernetes import client, config

from quarterdeck.crd import GROUP, PLURAL, VERSION
from quarterdeck_deployer.infrastructures.cluster_base import ClusterFailure, Place
from quarterdeck_deployer.infrastructures.kubernetes_fields import MANAGER, Object

PAGE = 250
"""Resources of one page of a list."""
WATCH_SECONDS = 240
"""A watch ends by itself after so long, and another one begins."""
_APPLY, _MERGE, _JSON = "application/apply-patch+yaml", "application/merge-patch+json", "application/json"


class ClusterApi:
    """A `Cluster` over the network; see there for what may go wrong.

    Raises:
        ClusterFailure: nobody says where the API server is.
    """

    def __init__(self, place: Place) -> None:
        configuration = client.Configuration()
        _load(configuration, place)
        # The loop tries again, with everything read anew; a repeated call deep down would only hide that.
        configuration.retries = False
        # The client says that it is typed, and its methods are not.
        self._client: Any = client.ApiClient(configuration)
        self._place, self._host = place, configuration.host.rstrip("/")
        self._refreshing = threading.Lock()
        self._watching: Any = None
        self._resources = f"/apis/{GROUP}/{VERSION}/namespaces/{place.namespace}/{PLURAL}"
        self._maps = f"/api/v1/namespaces/{place.namespace}/configmaps"

    def resources(self) -> list[Object]:
        """All ModelDeployments, as they are now, page by page."""
        found: list[Object] = []
        query = {"limit": str(PAGE)}
        while True:
            page = self._call("GET", self._resources, query)
            found += page["items"]
            following = page["metadata"].get("continue", "")
            if not following:
                return found
            query = {"limit": str(PAGE), "continue": following}

    def changes(self) -> Iterator[None]:
        """One item for each line of a watch."""
        query = {"watch": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        # Longer than the server's own end: what is silent beyond that is a connection that nobody holds any more.
        timeout = (self._place.seconds, WATCH_SECONDS + 30.0)
        answer = self._send("GET", self._resources, query, None, "", timeout)
        if answer.status >= 300:
            raise _refusal("GET", self._resources, answer.status, answer.read())
        self._watching = answer.response
        try:
            for chunk in answer.response.stream(65_536):
                if b"\n" in chunk:
                    yield None
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _silence("GET", self._resources, error) from None
        finally:
            self._watching = None
            answer.response.close()

    def apply(self, document: Object, version: str = "") -> Object:
        """PATCH with `application/apply-patch`."""
        name = document["metadata"]["name"]
        query = {"fieldManager": MANAGER}
        if version:
            # With force a change that came since we looked would be lost, if the version did not forbid it.
            query["force"] = "true"
            document = {**document, "metadata": {**document["metadata"], "resourceVersion": version}}
        return self._call("PATCH", f"{self._resources}/{name}", query, document, _APPLY)

    def drop(self, name: str, parts: Sequence[str], version: str) -> Object:
        """PATCH with a merge of nulls."""
        body = {"metadata": {"resourceVersion": version}, "spec": dict.fromkeys(parts)}
        return self._call("PATCH", f"{self._resources}/{name}", {"fieldManager": MANAGER}, body, _MERGE)

    def delete(self, name: str, uid: str) -> None:
        """DELETE with the uid as precondition."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            self._call("DELETE", f"{self._resources}/{name}", {}, options)
        except ClusterFailure as failure:
            if failure.http != 404:
                raise

    def pods(self, selector: str) -> tuple[list[Object], list[Object]]:
        """Two lists, each in one page."""
        inside, query = f"namespaces/{self._place.namespace}/pods", {"labelSelector": selector}
        pods = self._call("GET", f"/api/v1/{inside}", query)["items"]
        try:
            return pods, self._call("GET", f"/apis/metrics.k8s.io/v1beta1/{inside}", query)["items"]
        except ClusterFailure:
            # Not every cluster has a metrics server; how it is does not matter to anything else.
            return pods, []

    def config_map(self, name: str) -> Mapping[str, str] | None:
        """GET of the ConfigMap."""
        try:
            found: Mapping[str, str] = self._call("GET", f"{self._maps}/{name}", {}).get("data") or {}
        except ClusterFailure as failure:
            if failure.http != 404:
                raise
            return None
        return found

    def write_keyring(self, name: str, data: Mapping[str, str]) -> None:
        """Server-side apply of our entries; by force, for whoever revokes a key must not lose to anybody."""
        body: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(data)}
        self._call("PATCH", f"{self._maps}/{name}", {"fieldManager": MANAGER, "force": "true"}, body, _APPLY)

    def close(self) -> None:
        """Shut the watch's socket, and let go of the pool."""
        watching = self._watching
        if watching is not None:
            with suppress(Exception):
                # From another thread than the one that reads: closing would wait for it.
                watching.shutdown()
        self._client.rest_client.pool_manager.clear()

    def _call(self, method: str, path: str, query: Mapping[str, str], body: Object | None = None, kind: str = _JSON) -> Object:
        answer = self._send(method, path, query, body, kind, self._place.seconds)
        try:
            text = answer.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _silence(method, path, error) from None
        if answer.status >= 300:
            raise _refusal(method, path, answer.status, text)
        try:
            found: Object = json.loads(text)
        except ValueError:
            raise ClusterFailure("The API server answered with something else than JSON.", http=0) from None
        return found

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        kind: str,
        timeout: float | tuple[float, float],
    ) -> Any:
        headers = {"Accept": _JSON, "User-Agent": MANAGER}
        # One thread at a time: a service account's token is read anew from its file when it is old.
        with self._refreshing:
            self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        if body is not None:
            headers["Content-Type"] = kind
        url = f"{self._host}{path}?{urlencode(query)}"
        try:
            return self._client.rest_client.request(method, url, headers=headers, body=body, _request_timeout=timeout)
        except (urllib3.exceptions.HTTPError, client.ApiException, OSError) as error:
            raise _silence(method, path, error) from None


def _load(configuration: Any, place: Place) -> None:
    load: Any = config
    try:
        if not place.kubeconfig and "KUBERNETES_SERVICE_HOST" in os.environ:
            load.load_incluster_config(configuration)
        else:
            file, context = place.kubeconfig or None, place.context or None
            load.load_kube_config(config_file=file, context=context, client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError, yaml.YAMLError):
        raise ClusterFailure("Nobody says where the API server is, or the kubeconfig cannot be read.", http=0) from None


def _silence(method: str, path: str, error: Exception) -> ClusterFailure:
    return ClusterFailure(f"The API server did not answer {method} {path}: {type(error).__name__}.", http=0)


def _refusal(method: str, path: str, status: int, text: bytes) -> ClusterFailure:
    try:
        said = str(json.loads(text).get("message", ""))[:500]
    except (ValueError, AttributeError):
        said = "no message"
    return ClusterFailure(f"The API server answered {method} {path} with {status}: {said.rstrip('.')}.", http=status)
