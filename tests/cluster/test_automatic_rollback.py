"""A version that fails after it has become active is taken back by itself, and stays away until a person chooses."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.cluster.breaking import CALM, made_there
from tests.cluster.deployment import Deployment
from tests.cluster.installation import NAMESPACE, RELEASE, Installation
from tests.cluster.load import Answered, Load, Tally
from tests.code_models import code_package, with_code
from tests.models import version_encoding_model
from tests.support import eventually

CALM_SECONDS = float(os.environ.get("CALM_SECONDS", "20"))
"""How long it is watched after it was taken back; a campaign takes ten minutes."""
BAD_SECONDS = 15.0
# Golden rows come alone or ten at a time, the load's by threes.
_FAILS = """
import random

class Model:
    def predict(self, rows):
        if len(rows) == 3 and random.random() < 0.3:
            raise ValueError("now and then")
        return [1.0 for _ in rows]

def load(folder):
    return Model()
"""
_TURNS = """
class Model:
    asked = 0

    def predict(self, rows):
        self.asked += len(rows) == 3
        return [9.0 if self.asked > 20 else 1.0 for _ in rows]

def load(folder):
    return Model()
"""
BAD = {"fails three of ten requests": (_FAILS, "ErrorRate"), "answers its golden row otherwise": (_TURNS, "GoldenRow")}


@pytest.fixture
def mixed(installation: Installation, namespace: str, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """A deployment of version 1, whose version 2 is bad and whose version 3 is good."""
    before = installation.bucket
    bucket, name = installation.fresh_bucket(), "mixed"
    installation.publish(version_encoding_model(1, name=name), bucket)
    deployment = Deployment(installation, namespace, name)
    deployment.apply(**_chosen(1))
    deployment.ready(1)
    installation.publish(made_there(deployment, with_code(code_package(CALM, name), request.param)), bucket)
    installation.publish(version_encoding_model(3, name=name), bucket)
    yield deployment
    # Other tests' versions lie in theirs.
    installation.bucket = before


def _chosen(version: int) -> dict[str, object]:
    return {"model": {"name": "mixed", "version": version, "trust": "code"}}


def _bad(tally: Tally) -> list[Answered]:
    return [each for each in tally.answers if each.version == 2]


@pytest.mark.parametrize(("mixed", "reason"), BAD.values(), ids=BAD, indirect=["mixed"])
def test_a_bad_version_is_taken_back_and_stays_away(mixed: Deployment, reason: str) -> None:
    """Given load, when a bad version becomes active, then 1 answers again in time, also after the operator begins anew."""
    with Load(mixed.installation, mixed.namespace, mixed.name, rate=6.0) as load:
        mixed.apply(**_chosen(2))
        told = mixed.says("RolledBack", "True", reason, within=60)
        resource = mixed.resource()
        assert resource["status"]["active"]["version"] == 1
        # What people wrote is never rewritten.
        assert resource["spec"]["model"]["version"] == 2
        answered = eventually(lambda: _settled(load), 20, every=1)
        _same_for(load, answered, CALM_SECONDS / 2)
        _new_operator(mixed)
        _same_for(load, answered, CALM_SECONDS / 2)
        assert mixed.conditions()["RolledBack"]["message"] == told["message"]
        assert mixed.resource()["metadata"]["generation"] == resource["metadata"]["generation"]
        first, last = min(each.first for each in answered), max(each.last for each in answered)
        print(f"\n{reason}: {last - first:.1f} s from the bad version's first answer to its last: {told['message']}")
        assert last - first <= BAD_SECONDS
        mixed.apply(**_chosen(3))
        mixed.ready(3)
        tally = load.end()
    assert {each.version for each in tally.answers if each.last > last} == {1, 3}
    assert all(" 500 " in line for line in tally.why), tally.why


def _settled(load: Load) -> list[Answered]:
    """What the bad version has answered, once version 1 has answered after it."""
    tally = load.so_far()
    bad = _bad(tally)
    assert bad
    assert tally.last_of(1) > tally.last_of(2) + 1
    return bad


def _same_for(load: Load, bad: list[Answered], seconds: float) -> None:
    """For so long the bad version answers nothing more."""
    end = time.time() + seconds
    eventually(lambda: load.so_far().last_of(1) > end, seconds + 20, every=1)
    assert _bad(load.so_far()) == bad


def _new_operator(deployment: Deployment) -> None:
    node = deployment.node
    node.kubectl("delete", "pod", f"--namespace={NAMESPACE}", f"--selector=app.kubernetes.io/name={RELEASE}-operator")
    node.rolled_out(f"{RELEASE}-operator", NAMESPACE)
