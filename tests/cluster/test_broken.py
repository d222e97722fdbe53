"""Whatever is broken is named within seconds, with the next step, while the version that served serves on."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import pytest

from quarterdeck.plan import VersionRef
from tests.cluster.breaking import SMALL, WAYS, Broken, Change, Scene
from tests.cluster.deployment import Deployment
from tests.cluster.installation import Installation
from tests.cluster.load import Load, Tally
from tests.support import eventually

NAMED_SECONDS = 15.0
TELLING = ("ArtifactVerified", "ModelLoaded", "PodsHealthy", "KeyringReady", "Reconciled")
GOOD: Change = {"model": {"name": "versions", "version": 1}, "nodes": {"resources": SMALL}}


class Named(NamedTuple):
    """How the status called it: the condition, what it says, and after how many seconds."""

    seconds: float
    condition: str
    reason: str
    message: str
    code: str


@pytest.fixture(scope="module")
def scene(installation: Installation, versions: tuple[VersionRef, ...]) -> Iterator[Scene]:
    """One deployment for all ways: after each it is mended, as its owner would do it."""
    name = installation.namespace(f"test-{secrets.token_hex(3)}")
    deployment = Deployment(installation, name, "versions")
    deployment.apply(**GOOD)
    deployment.ready(1)
    yield Scene(installation, deployment, versions)
    installation.node.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def load(scene: Scene) -> Iterator[Load]:
    """Light load on it from before the first way until after the last."""
    deployment = scene.deployment
    with Load(scene.installation, deployment.namespace, deployment.name, kept=2, fresh=1, rate=5) as found:
        yield found


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[Broken, Named]]]:
    """What was measured; printed after the last way."""
    rows: list[tuple[Broken, Named]] = []
    yield rows
    print()
    for way, named in rows:
        print(f"{way.name:32} {named.seconds:5.1f} s  {named.condition:16} {named.reason:24} {named.code:24} {named.message}")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_it_is_named_and_the_old_version_answers_on(
    way: Broken, scene: Scene, load: Load, table: list[tuple[Broken, Named]]
) -> None:
    """Given load on version 1, when the deployment is broken, then that is named in time, and version 1 loses no request."""
    deployment, before = scene.deployment, load.so_far()
    change = way.change(scene)
    # Before kubectl begins: what it takes until the API server has the change is counted too.
    began = time.time()
    deployment.apply(**change)
    try:
        named = eventually(lambda: _named(deployment, way, began), 40, every=0.4)
        table.append((way, named))
    finally:
        for kind, name in scene.made:
            deployment.node.kubectl("delete", kind, name, f"--namespace={deployment.namespace}")
        scene.made.clear()
        deployment.apply(**{**dict.fromkeys(change), "store": scene.good_store, **GOOD})
        deployment.ready(1)
    assert named.seconds <= NAMED_SECONDS, named
    assert way.code == named.code, named
    after = eventually(lambda: _later(load, before), 5, every=0.5)
    assert after.lost == before.lost, after.why
    assert {each.version for each in after.answers} == {1}


def _later(load: Load, before: Tally) -> Tally:
    after = load.so_far()
    assert after.answered > before.answered
    return after


def _named(deployment: Deployment, way: Broken, began: float) -> Named:
    """How the status calls what is broken.

    Raises:
        AssertionError: it does not, yet; the status is in the text.
    """
    found, seconds = deployment.resource(), time.time() - began
    status: dict[str, Any] = found["status"]
    failure = status.get("lastFailure", {})
    fresh = failure and datetime.fromisoformat(failure["time"]).timestamp() >= int(began)
    for one in status["conditions"]:
        current = one["observedGeneration"] == found["metadata"]["generation"]
        telling = one["type"] in TELLING and one["status"] != "True"
        if current and telling and all(word in one["message"] for word in way.words):
            return Named(seconds, one["type"], one["reason"], one["message"], failure["code"] if fresh else "")
    raise AssertionError(json.dumps(status, indent=1))
