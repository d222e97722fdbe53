"""Which events lead to a look, and which say nothing new."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck_operator.handlers import Handlers, operator_settings
from quarterdeck_operator.kube import DEPLOYMENT_LABEL, FIELD_MANAGER, MANAGED_BY
from quarterdeck_operator.settings import Settings
from quarterdeck_operator.world import Object, ResourceKey

KEY = ResourceKey("flights", "late")
SETTINGS = Settings(node_image="node:1")


class _Asked:
    """Notes down what was asked for."""

    def __init__(self) -> None:
        self.looks: list[tuple[ResourceKey, bool]] = []

    def __call__(self, key: ResourceKey, *, changed: bool = False) -> None:
        self.looks.append((key, changed))


def _resource(generation: int, uid: str = "u1", **spec: Any) -> Object:
    return {"metadata": {"namespace": "flights", "name": "late", "uid": uid, "generation": generation}, "spec": spec}


def _owned(**more: Any) -> Object:
    labels = {MANAGED_BY: FIELD_MANAGER, DEPLOYMENT_LABEL: "late"}
    return {"metadata": {"namespace": "flights", "name": "late-main", "labels": labels}, **more}


def test_a_resource_is_looked_at_when_its_spec_changes_and_when_it_goes() -> None:
    """Not when its status does, for that is our own writing; and a new one of the same name is another one."""
    asked = _Asked()
    handlers = Handlers(SETTINGS, asked)
    for event, body in (
        (None, _resource(1)),
        ("MODIFIED", _resource(1)),
        ("MODIFIED", _resource(2)),
        ("MODIFIED", _resource(2, "u2")),
        ("DELETED", _resource(2, "u2")),
    ):
        handlers.resource(event, body)
    assert asked.looks == [(KEY, True), (KEY, True), (KEY, True), (KEY, False)]


@pytest.mark.parametrize("labels", [{}, {MANAGED_BY: "helm", DEPLOYMENT_LABEL: "late"}, {MANAGED_BY: FIELD_MANAGER}])
def test_strangers_objects_wake_nobody(labels: dict[str, str]) -> None:
    """Only both labels together are ours."""
    asked = _Asked()
    Handlers(SETTINGS, asked).owned({"metadata": {"namespace": "flights", "name": "x", "labels": labels}})
    assert asked.looks == []


def test_a_status_that_moves_by_itself_wakes_nobody() -> None:
    """An autoscaler's status changes every fifteen seconds; its spec is what we wrote."""
    asked, memo = _Asked(), dict[str, str]()
    handlers = Handlers(SETTINGS, asked)
    handlers.settled(memo, None, _owned(spec={"minReplicas": 1}, status={"currentReplicas": 1}))
    handlers.settled(memo, "MODIFIED", _owned(spec={"minReplicas": 1}, status={"currentReplicas": 2}))
    assert len(asked.looks) == 1
    handlers.settled(memo, "MODIFIED", _owned(spec={"minReplicas": 9}, status={"currentReplicas": 2}))
    handlers.settled(memo, "DELETED", _owned(spec={"minReplicas": 9}))
    assert len(asked.looks) == 3


def test_a_keyring_wakes_those_who_name_it() -> None:
    """By the spec's name, or by the default one; in its own namespace only."""
    asked = _Asked()
    handlers = Handlers(SETTINGS, asked)
    handlers.resource(None, _resource(1, keyring="ours"))
    asked.looks.clear()
    for namespace, name in (("flights", "ours"), ("flights", "quarterdeck-keyring"), ("other", "ours")):
        handlers.config_map({}, "MODIFIED", {"metadata": {"namespace": namespace, "name": name}, "data": {}})
    assert asked.looks == [(KEY, False)]


def test_kopf_writes_nothing_and_needs_no_leave_to_scan() -> None:
    """No events, no look at namespaces or CRDs."""
    found = operator_settings(SETTINGS)
    assert not found.posting.enabled
    assert found.scanning.disabled


def test_other_keys_are_told_at_once_and_the_same_ones_are_not() -> None:
    """To the deployments that name the keyring, before anybody looks at them; a keyring that goes tells nothing."""
    told: list[tuple[list[ResourceKey], Object]] = []
    handlers = Handlers(SETTINGS, _Asked(), lambda keys, ring: told.append((list(keys), ring["data"])))
    handlers.resource(None, _resource(1))
    ring = {"metadata": {"namespace": "flights", "name": SETTINGS.keyring}, "data": {"keyring.json": "[]"}}
    other = {**ring, "data": {"keyring.json": "[1]"}}
    memo: dict[str, str] = {}
    for event, body in ((None, ring), ("MODIFIED", ring), ("MODIFIED", other), ("DELETED", other)):
        handlers.config_map(memo, event, body)
    handlers.config_map({}, None, {**ring, "metadata": {"namespace": "flights", "name": "late-record"}})
    assert told == [([KEY], ring["data"]), ([KEY], other["data"])]
