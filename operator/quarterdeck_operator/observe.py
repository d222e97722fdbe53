"""The only reader of the cluster: everything that one decision looks at, read anew each time.

Nothing is cached: what is decided upon is what was there a moment ago, also after a restart, a lost watch or a stranger's edit.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config
from pydantic import TypeAdapter, ValidationError

from quarterdeck.errors import NotFound, QuarterdeckError
from quarterdeck.plan import Key, TokenIssuer
from quarterdeck_operator.board import Board
from quarterdeck_operator.kube import (
    CONFIG_MAP,
    DEPLOYMENT_LABEL,
    MODEL_DEPLOYMENT,
    OWNED,
    POD,
    SELECTOR,
    ApiFailure,
    Reads,
    resource_key,
)
from quarterdeck_operator.names import record_name
from quarterdeck_operator.settings import Settings
from quarterdeck_operator.world import ClusterRecord, Object, ObjectKey, Observed, ResourceKey

PAGE = 250
"""Objects of one page of a list: the whole of a large cluster is never in memory at once."""
MAX_KEYS_BYTES = 900_000
"""Of a keyring, as plans have it: their ConfigMaps hold 1 MiB, and something else besides."""
_KEYS, _ISSUERS = TypeAdapter(list[Key]), TypeAdapter(list[TokenIssuer])


class RecordUnreadable(QuarterdeckError):
    """The record is there and cannot be read: going on without it would forget what serves."""

    default_code = "record-unreadable"


class Connection:
    """One client of the API server, used by all threads; blocks.

    Args:
        settings: how long a call may take and how many go on at once.
        kubeconfig: where the API server is; None: as the pod's service account says, or KUBECONFIG.

    Raises:
        NotFound: nobody says where the API server is.
    """

    def __init__(self, settings: Settings, kubeconfig: Path | None = None) -> None:
        configuration = client.Configuration()
        _load(configuration, kubeconfig)
        # Our own queue tries again, with everything read anew; a repeated call deep down would only hide that.
        configuration.retries = False
        configuration.connection_pool_maxsize = settings.workers + 4
        # The client says that it is typed, and its methods are not.
        self._client: Any = client.ApiClient(configuration)
        self._seconds = settings.request_seconds
        self._host = configuration.host.rstrip("/")
        self._refreshing = threading.Lock()

    def request(
        self, method: str, path: str, query: Mapping[str, str], body: Object | None = None, content_type: str = ""
    ) -> Object:
        """One call; gives back the JSON that was answered.

        Raises:
            ApiFailure: with the HTTP status, or with 0 where no answer came.
        """
        headers = {"Accept": "application/json", "User-Agent": "quarterdeck-operator"}
        # One thread at a time: a service account's token is read anew from its file when it is old.
        with self._refreshing:
            self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        if body is not None:
            headers["Content-Type"] = content_type or "application/json"
        url = f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            answer = self._client.rest_client.request(method, url, headers=headers, body=body, _request_timeout=self._seconds)
            text = answer.read()
        except (urllib3.exceptions.HTTPError, client.ApiException, OSError) as error:
            raise ApiFailure(f"{method} {path} was not answered: {type(error).__name__}.", http=0) from None
        if answer.status >= 300:
            raise ApiFailure(f"{method} {path} was answered {answer.status}: {_message(text)}", http=answer.status)
        try:
            found: Object = json.loads(text)
        except ValueError:
            raise ApiFailure(f"{method} {path} was answered with something else than JSON.", http=0) from None
        return found

    def close(self) -> None:
        """Let go of all connections."""
        self._client.rest_client.pool_manager.clear()


def _load(configuration: Any, kubeconfig: Path | None) -> None:
    load: Any = config
    try:
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            load.load_incluster_config(configuration)
        else:
            load.load_kube_config(config_file=kubeconfig and str(kubeconfig), client_configuration=configuration)
    except config.ConfigException:
        raise NotFound(
            "Nobody says where the API server is.",
            kind="setting",
            name="KUBECONFIG",
            hint="Run in a pod with a service account, or set KUBECONFIG.",
        ) from None


class ClusterReads:
    """Reading over a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object | None:
        """One object or list; None where it does not exist.

        Raises:
            ApiFailure: any other refusal, or no answer.
        """
        try:
            return self._connection.request("GET", path, query or {})
        except ApiFailure as failure:
            if failure.http == 404:
                return None
            raise


def observe(reads: Reads, board: Board, settings: Settings, key: ResourceKey, clock: Callable[[], float]) -> Observed:
    """Everything about one deployment, as it is now.

    Raises:
        ApiFailure: something could not be read; nothing is decided upon half a picture.
        RecordUnreadable: the record's ConfigMap holds something else than a record.
    """
    resource = reads.get(MODEL_DEPLOYMENT.path(*key))
    if resource is None or "deletionTimestamp" in resource["metadata"]:
        # Whatever it owned goes with it: the cluster's garbage collector follows the owner references.
        return Observed(key, None, ClusterRecord(), "", {}, (), (), now=clock())
    owned = _owned(reads, resource)
    record, version = _record(_record_map(reads, owned, resource))
    keyring = resource["spec"].get("keyring") or settings.keyring
    found = reads.get(CONFIG_MAP.path(key.namespace, keyring))
    known, issuers, problem = read_keyring(found) if found else ([], [], "")
    labels = {"labelSelector": f"{SELECTOR},{DEPLOYMENT_LABEL}={key.name}"}
    return Observed(
        key=key,
        resource=resource,
        record=record,
        record_version=version,
        owned=owned,
        pods=_items(reads, POD.path(key.namespace), labels),
        # After the pods: a report of a pod that was not listed is left out, the other way round it would be missed.
        reports=board.live(key),
        keyring=known,
        issuers=issuers,
        keyring_problem=problem,
        keyring_missing="" if found else keyring,
        now=clock(),
    )


def keys(reads: Reads, settings: Settings) -> list[ResourceKey]:
    """All ModelDeployments of the watched namespaces.

    Raises:
        ApiFailure: a list could not be read.
    """
    paths = [MODEL_DEPLOYMENT.path(namespace) for namespace in settings.namespaces] or [MODEL_DEPLOYMENT.path()]
    return [resource_key(item) for path in paths for item in _items(reads, path, {})]


def _owned(reads: Reads, resource: Object) -> dict[ObjectKey, Object]:
    name, namespace, uid = (resource["metadata"][field] for field in ("name", "namespace", "uid"))
    found: dict[ObjectKey, Object] = {}
    for kind in OWNED.values():
        for item in _items(reads, kind.path(namespace), {"labelSelector": f"{SELECTOR},{DEPLOYMENT_LABEL}={name}"}):
            if owned_or_none(item, uid):
                # Items of lists come without these two.
                found[ObjectKey(kind.name, item["metadata"]["name"])] = {
                    "apiVersion": kind.api_version,
                    "kind": kind.name,
                    **item,
                }
    return found


def _record_map(reads: Reads, owned: Mapping[ObjectKey, Object], resource: Object) -> Object | None:
    """The record's ConfigMap. By its name where it does not carry our label: a label that somebody took off loses no memory."""
    metadata = resource["metadata"]
    name = record_name(metadata["name"])
    labelled = owned.get(ObjectKey(CONFIG_MAP.name, name))
    return labelled or owned_or_none(reads.get(CONFIG_MAP.path(metadata["namespace"], name)), metadata["uid"])


def owned_or_none(live: Object | None, uid: str) -> Object | None:
    """The object, if the resource with this uid is its controller."""
    owners = live["metadata"].get("ownerReferences", ()) if live else ()
    # A label can be written by anybody; what carries it and belongs to another owner is not ours to touch.
    return live if any(owner.get("uid") == uid and owner.get("controller") for owner in owners) else None


def _items(reads: Reads, path: str, query: Mapping[str, str]) -> list[Object]:
    items: list[Object] = []
    more = {"limit": str(PAGE)}
    while True:
        page = reads.get(path, {**query, **more})
        # A collection that does not exist: its kind is not installed (yet), so there is none of it.
        if page is None:
            return items
        items += page["items"]
        following = page["metadata"].get("continue", "")
        if not following:
            return items
        more = {"limit": str(PAGE), "continue": following}


def _record(config_map: Object | None) -> tuple[ClusterRecord, str]:
    if config_map is None:
        return ClusterRecord(), ""
    name = config_map["metadata"]["name"]
    try:
        record = ClusterRecord.model_validate_json(config_map.get("data", {}).get("record.json", ""))
    except ValidationError:
        raise RecordUnreadable(
            f"The ConfigMap {name} holds no record that this operator can read; nothing is changed.",
            kind="config-map",
            name=name,
            hint="Run the operator that wrote it, or delete the ConfigMap: what serves goes on, rejections are forgotten.",
        ) from None
    return record, config_map["metadata"]["resourceVersion"]


def read_keyring(config_map: Object) -> tuple[list[Key], list[TokenIssuer], str]:
    """A keyring's keys and issuers, or why they cannot be read."""
    name, data = config_map["metadata"]["name"], config_map.get("data", {})
    try:
        found = _KEYS.validate_json(data.get("keyring.json", ""))
        issuers = _ISSUERS.validate_json(data.get("issuers.json", "[]"))
        size = len(_KEYS.dump_json(found))
        if size > MAX_KEYS_BYTES:
            return (
                [],
                [],
                f"ConfigMap {name}: its {len(found):,} keys take {size:,} bytes; plans have room for {MAX_KEYS_BYTES:,}",
            )
        return found, issuers, ""
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "keyring.json"
        return [], [], f"ConfigMap {name}: {place}: {first['msg']}"


def _message(text: bytes) -> str:
    """What the API server said, in one short line."""
    try:
        said = str(json.loads(text).get("message", ""))
    except (ValueError, AttributeError):
        said = "no message"
    return said[:500]
