"""kopf's part: it watches, and each event only says which deployment is to be looked at. Nothing is decided here.

There are no finalizers, annotations, timers or daemons: a resource can always be deleted, also while no operator runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import kopf

from quarterdeck_operator.kube import (
    CONFIG_MAP,
    DEPLOYMENT_LABEL,
    FIELD_MANAGER,
    MANAGED_BY,
    MODEL_DEPLOYMENT,
    OWNED,
    POD,
    SELECTOR,
)
from quarterdeck_operator.settings import Settings
from quarterdeck_operator.world import Object, ResourceKey


class Enqueue(Protocol):
    """Asks for a look at a deployment; from any thread."""

    def __call__(self, key: ResourceKey, *, changed: bool = False) -> None:
        """`changed`: a person has changed it."""
        ...


Rekey = Callable[[Sequence[ResourceKey], Object], None]
"""Is told of a keyring's new content, and of the deployments that name it."""


class Handlers:
    """What is remembered between events: which generation of each resource was seen, and which keyring it names.

    Args:
        settings: name the keyring of those that name none.
        enqueue: asks for a look.
        rekey: is told at once of other keys.
    """

    def __init__(self, settings: Settings, enqueue: Enqueue, rekey: Rekey = lambda keys, ring: None) -> None:
        self._default_keyring, self._enqueue, self._rekey = settings.keyring, enqueue, rekey
        self._seen: dict[ResourceKey, tuple[str, int]] = {}
        self._keyrings: dict[ResourceKey, str] = {}

    def resource(self, event: str | None, body: Object) -> None:
        """A ModelDeployment was listed, changed or deleted."""
        key = ResourceKey(body["metadata"]["namespace"], body["metadata"]["name"])
        if event == "DELETED":
            self._seen.pop(key, None)
            self._keyrings.pop(key, None)
            self._enqueue(key)
            return
        # With the uid: one that was deleted and made anew while nobody watched has the same generation.
        generation = (str(body["metadata"]["uid"]), int(body["metadata"].get("generation", 0)))
        # Our own writing of the status comes back as an event, and says nothing new.
        if self._seen.get(key) != generation:
            self._seen[key] = generation
            self._keyrings[key] = body.get("spec", {}).get("keyring") or self._default_keyring
            self._enqueue(key, changed=True)

    def owned(self, body: Object) -> None:
        """An object or pod with our label was listed, changed or deleted."""
        metadata = body["metadata"]
        labels = metadata.get("labels") or {}
        if labels.get(MANAGED_BY) == FIELD_MANAGER and DEPLOYMENT_LABEL in labels:
            self._enqueue(ResourceKey(metadata["namespace"], labels[DEPLOYMENT_LABEL]))

    def settled(self, memo: Any, event: str | None, body: Object) -> None:
        """As `owned`, for kinds whose status changes all the time and means nothing to us."""
        said = content(body)
        if event == "DELETED" or memo.get("said") != said:
            memo["said"] = said
            self.owned(body)

    def config_map(self, memo: Any, event: str | None, body: Object) -> None:
        """A ConfigMap was listed, changed or deleted: one of ours, or a keyring."""
        metadata = body["metadata"]
        named = [
            key for key, name in self._keyrings.items() if key.namespace == metadata["namespace"] and name == metadata["name"]
        ]
        if named and event != "DELETED" and memo.get("said") != content(body):
            self._rekey(named, body)
        for key in named:
            self._enqueue(key)
        self.settled(memo, event, body)


def content(body: Object) -> str:
    """Digest of what people and we write into an object, as opposed to what controllers note down about it."""
    metadata = body["metadata"]
    said = [body.get("spec"), body.get("data"), *(metadata.get(part) for part in ("labels", "annotations", "ownerReferences"))]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=dict).encode()).hexdigest()


def registry(handlers: Handlers, beat: Callable[[], None]) -> kopf.OperatorRegistry:
    """kopf's registry of the handlers.

    Args:
        handlers: what events are told to.
        beat: called once a second while kopf's loop turns; whether its watches are alive kopf sees to itself.
    """
    found = kopf.OperatorRegistry()
    kopf.on.login(registry=found)(_login)
    turning: list[asyncio.Task[None]] = []

    @kopf.on.startup(registry=found)
    async def begin(**_: Any) -> None:
        turning.append(asyncio.create_task(_turn(beat)))

    @kopf.on.cleanup(registry=found)
    async def end(**_: Any) -> None:
        for task in turning:
            task.cancel()

    @kopf.on.event(MODEL_DEPLOYMENT.api_version, MODEL_DEPLOYMENT.plural, registry=found)
    async def resource(type: str | None, body: kopf.Body, **_: Any) -> None:
        handlers.resource(type, dict(body))

    @kopf.on.event(OWNED["Deployment"].api_version, OWNED["Deployment"].plural, registry=found)
    @kopf.on.event(POD.api_version, POD.plural, registry=found)
    async def owned(body: kopf.Body, **_: Any) -> None:
        handlers.owned(dict(body))

    @kopf.on.event(CONFIG_MAP.api_version, CONFIG_MAP.plural, registry=found)
    async def config_map(type: str | None, body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
        handlers.config_map(memo, type, dict(body))

    for name in ("Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"):

        @kopf.on.event(OWNED[name].api_version, OWNED[name].plural, registry=found)
        async def settled(type: str | None, body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
            handlers.settled(memo, type, dict(body))

    return found


def operator_settings(settings: Settings) -> kopf.OperatorSettings:
    """kopf's settings: it writes nothing, and it asks the API server for what carries our label alone."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    # With it kopf would list and watch all namespaces and CRDs, and need leave to.
    found.scanning.disabled = True
    found.process.ultimate_exiting_timeout = 30.0
    found.queueing.exit_timeout = 0.5
    found.networking.request_timeout = settings.request_seconds
    # ConfigMaps are the exception: a keyring is anybody's.
    for kind in (*(kind for kind in OWNED.values() if kind != CONFIG_MAP), POD):
        group, _, version = kind.api_version.rpartition("/")
        found.watching.label_selectors[group, version, kind.plural] = SELECTOR
    return found


async def _turn(beat: Callable[[], None]) -> None:
    while True:
        beat()
        await asyncio.sleep(1.0)


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
