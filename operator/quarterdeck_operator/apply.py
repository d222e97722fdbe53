"""The only writer to the cluster. Each write is skipped where the cluster says already what it would say.

An object is written when one of two things is so: it carries another digest of what was applied last (annotation
`quarterdeck.dev/applied`: a field that is no longer wanted must go), or one of our fields has another value (somebody's edit is
repaired). Fields that others have set are neither looked at nor touched.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from quarterdeck.errors import Conflict, NotReady
from quarterdeck_operator.kube import (
    APPLY,
    CONFIG_MAP,
    EVENT,
    FIELD_MANAGER,
    MODEL_DEPLOYMENT,
    OWNED,
    ApiFailure,
    Patch,
    Reads,
    Writes,
)
from quarterdeck_operator.names import Owner, labels, metadata, record_name
from quarterdeck_operator.observe import Connection, owned_or_none
from quarterdeck_operator.quantities import covers
from quarterdeck_operator.world import ClusterRecord, Object, ObjectKey, Observed

APPLIED = "quarterdeck.dev/applied"
log = logging.getLogger(__name__)


class NotLeading(NotReady):
    """Another operator holds the Lease, so this one writes nothing."""

    default_code = "not-leading"


class ClusterWrites:
    """Writing over a connection, while this operator leads.

    Args:
        leads: asked before every write.
    """

    def __init__(self, connection: Connection, leads: Callable[[], bool]) -> None:
        self._connection, self._leads = connection, leads

    def create(self, path: str, body: Object) -> Object:
        """POST to a collection.

        Raises:
            ApiFailure: any refusal, or no answer.
            NotLeading: the Lease is another's.
        """
        return self._send("POST", path, body, {"fieldManager": FIELD_MANAGER})

    def replace(self, path: str, body: Object) -> Object:
        """PUT: compare and swap by `metadata.resourceVersion`.

        Raises:
            ApiFailure: any refusal, or no answer.
            NotLeading: the Lease is another's.
        """
        return self._send("PUT", path, body, {"fieldManager": FIELD_MANAGER})

    def patch(self, path: str, body: Object, content_type: Patch, manager: str = FIELD_MANAGER, *, force: bool = True) -> Object:
        """PATCH, as a rule with force where it is server-side apply: our fields are ours.

        Raises:
            ApiFailure: any refusal, or no answer.
            NotLeading: the Lease is another's.
        """
        forced = {"force": "true"} if content_type == APPLY and force else {}
        return self._send("PATCH", path, body, {"fieldManager": manager, **forced}, content_type)

    def delete(self, path: str, uid: str) -> None:
        """Delete the object with this uid; one that is gone already is fine.

        Raises:
            ApiFailure: any other refusal, or no answer.
            NotLeading: the Lease is another's.
        """
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            self._send("DELETE", path, options, {})
        except ApiFailure as failure:
            if failure.http != 404:
                raise

    def _send(self, method: str, path: str, body: Object, query: Mapping[str, str], content_type: str = "") -> Object:
        if not self._leads():
            raise NotLeading("Another operator holds the Lease.", kind="lease", hint="It takes over when that one is gone.")
        return self._connection.request(method, path, query, body, content_type)


def store_record(reads: Reads, writes: Writes, observed: Observed, resource: Object, record: ClusterRecord) -> None:
    """Compare and swap the record, where it has changed; before anybody can see what was decided.

    Raises:
        ApiFailure: it could not be written; `conflict` where another has written it meanwhile.
        Conflict: a ConfigMap of that name belongs to somebody else.
    """
    if observed.record_version and record == observed.record:
        return
    namespace, name = observed.key.namespace, record_name(observed.key.name)
    owner = Owner(observed.key, resource["metadata"]["uid"])
    body: Object = {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.name,
        "metadata": metadata(owner, name, labels(observed.key.name)),
        "data": {"record.json": record.model_dump_json()},
    }
    if not observed.record_version:
        _check_free(reads.get(CONFIG_MAP.path(namespace, name)), resource, CONFIG_MAP.name, name)
        writes.create(CONFIG_MAP.path(namespace), body)
        return
    body["metadata"]["resourceVersion"] = observed.record_version
    writes.replace(CONFIG_MAP.path(namespace, name), body)


def apply_objects(reads: Reads, writes: Writes, observed: Observed, resource: Object, objects: Sequence[Object]) -> None:
    """Server-side apply of each object that is missing or differs, in their order.

    Raises:
        ApiFailure: the first one that was refused.
        Conflict: an object of that name belongs to somebody else.
    """
    for wanted in objects:
        kind, name = OWNED[wanted["kind"]], wanted["metadata"]["name"]
        path = kind.path(observed.key.namespace, name)
        body = _stamped(wanted)
        live = observed.owned.get(ObjectKey(kind.name, name))
        if live is None:
            _check_free(reads.get(path), resource, kind.name, name)
        elif covers(live, body):
            continue
        else:
            _hand_over_replicas(writes, path, live, wanted)
        writes.patch(path, body, APPLY)


def delete_objects(writes: Writes, observed: Observed, keys: Sequence[ObjectKey]) -> None:
    """Delete owned objects that are wanted no more; never one that was made anew under the name.

    Raises:
        ApiFailure: the first one that was refused.
    """
    for key in keys:
        live = observed.owned[key]
        # What is going already needs no second push.
        if "deletionTimestamp" not in live["metadata"]:
            writes.delete(OWNED[key.kind].path(observed.key.namespace, key.name), live["metadata"]["uid"])


def write_status(writes: Writes, resource: Object, status: Object) -> None:
    """Write the status, where it says something else than it did.

    Raises:
        ApiFailure: it could not be written.
    """
    if resource.get("status") == status:
        return
    named = {field: resource["metadata"][field] for field in ("name", "namespace", "uid")}
    body = {"apiVersion": MODEL_DEPLOYMENT.api_version, "kind": MODEL_DEPLOYMENT.name, "metadata": named, "status": status}
    writes.patch(MODEL_DEPLOYMENT.path(named["namespace"], named["name"]) + "/status", body, APPLY)


def tell(writes: Writes, resource: Object, events: Sequence[tuple[str, str, str]], reporter: str) -> None:
    """Kubernetes events about the resource, for `kubectl describe`; what cannot be told is logged and left."""
    named = {field: resource["metadata"][field] for field in ("name", "namespace", "uid")}
    moment = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    for kind, reason, message in events:
        body: Object = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {"generateName": f"{named['name']}-", "namespace": named["namespace"]},
            "eventTime": moment,
            "type": kind,
            "reason": reason,
            "note": message[:1_024],
            "action": "Reconcile",
            "reportingController": FIELD_MANAGER,
            "reportingInstance": reporter,
            "regarding": {
                "apiVersion": MODEL_DEPLOYMENT.api_version,
                "kind": MODEL_DEPLOYMENT.name,
                **named,
            },
        }
        try:
            writes.create(EVENT.path(named["namespace"]), body)
        except ApiFailure as failure:
            log.warning("an event could not be written: %s", failure.detail)


def _stamped(wanted: Object) -> Object:
    """The object with the digest of what is applied."""
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
    named = wanted["metadata"]
    return {**wanted, "metadata": {**named, "annotations": {**named.get("annotations", {}), APPLIED: digest}}}


def _check_free(live: Object | None, resource: Object, kind: str, name: str) -> None:
    """A name that somebody else's object has is not taken over: with our mark on it, it would be deleted with the resource."""
    if live is None or owned_or_none(live, resource["metadata"]["uid"]):
        return
    owner = {"kind": MODEL_DEPLOYMENT.name, "name": resource["metadata"]["name"]}
    if any(owner.items() <= one.items() for one in live["metadata"].get("ownerReferences", ())):
        # It was deleted and is applied anew: the garbage collector is not through yet.
        raise ApiFailure(f"The {kind} {name} of the deployment that was deleted is still there.", http=409)
    raise Conflict(
        f"There is a {kind} {name} already, and it belongs to somebody else.",
        code="name-taken",
        kind=kind,
        name=name,
        hint="Rename the deployment, or remove that object.",
    )


def _hand_over_replicas(writes: Writes, path: str, live: Object, wanted: Object) -> None:
    """Leave the number of pods to the autoscaler as it is now.

    A field that its only owner gives up goes back to its default: three pods would be one until the autoscaler has looked.
    So the number gets a second owner first.
    """
    if wanted["kind"] != "Deployment" or "replicas" in wanted["spec"] or not _applied_replicas(live):
        return
    body: Any = {
        "apiVersion": wanted["apiVersion"],
        "kind": wanted["kind"],
        "metadata": {"name": wanted["metadata"]["name"], "namespace": live["metadata"]["namespace"]},
        "spec": {"replicas": live["spec"]["replicas"]},
    }
    # Without force: where somebody has said another number since we looked, the next look finds that it has an owner.
    writes.patch(path, body, APPLY, f"{FIELD_MANAGER}-replicas", force=False)


def _applied_replicas(live: Object) -> bool:
    """Whether our field manager has applied the number of pods."""
    return any(
        entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in live["metadata"].get("managedFields", ())
    )
