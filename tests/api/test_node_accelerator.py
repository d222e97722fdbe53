"""From a wish for a GPU to what becomes of it: a node without one refuses the version by name, and the old one serves on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pytest

from quarterdeck.build import BuiltPackage, package
from quarterdeck.plan import VersionRef
from tests.deployer_world import world
from tests.nodes import LocalNode, deployment, encoding, local_node
from tests.support import eventually

GPU = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@cache
def graphed() -> BuiltPackage:
    """A package that was built for GPUs."""
    X = np.linspace(0.0, 1.0, 200).reshape(-1, 1)
    model = lightgbm.LGBMRegressor(n_estimators=3, num_leaves=4, n_jobs=1, verbose=-1).fit(X, X[:, 0])
    return package(model, X, X[:, 0], name="numbers", target="y", accelerated=True)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LocalNode]:
    """A node of its own for each story."""
    with local_node(tmp_path) as node:
        yield node


def on_gpu(ref: VersionRef) -> VersionRef:
    """The same version, scored by a GPU."""
    return ref.model_copy(update={"accelerator": "cuda"})


def ended(node: LocalNode, version: int) -> Any:
    """What the node reports of a version that is no longer on its way."""

    def report() -> Any:
        [found] = node.report().deployments
        return next((each for each in found.versions if each.version == version and each.state in ("ready", "failed")), None)

    return eventually(report)


def test_a_node_without_a_gpu_says_what_is_missing_and_serves_on(node: LocalNode) -> None:
    """`accelerator-missing`, naming the resource and the place; where there is a GPU, the version answers by it."""
    old, wanted = node.holds(encoding(1), 1), on_gpu(node.holds(graphed(), 2))
    node.serves(deployment(old))
    node.apply(deployment(wanted, old, revision=2, generation=2))
    told = ended(node, 2)
    if GPU:
        assert told.state == "ready"
        return
    assert (told.state, told.code, told.place) == ("failed", "accelerator-missing", "cuda")
    assert "CUDAExecutionProvider" in told.reason
    answer = node.predict({"number": 4.0})
    assert (answer.status_code, answer.json()["version"], answer.json()["revision"]) == (200, 1, 1)
    [shown] = node.report().deployments
    assert (shown.active, shown.revision) == (old.digest, 1)


def test_the_version_that_answers_goes_on_without_a_gpu_that_is_not_there(node: LocalNode) -> None:
    """The same bytes, wanted on a GPU: refused there, they go on answering by the processor under the old revision."""
    plain = node.holds(graphed(), 1)
    node.serves(deployment(plain))
    node.apply(deployment(on_gpu(plain), revision=2, generation=2))
    told = ended(node, 1)
    if not GPU:
        assert (told.state, told.code) == ("failed", "accelerator-missing")
        assert node.report().deployments[0].revision == 1
    [name] = graphed().manifest.data_schema.names
    assert node.predict({name: 0.5}).status_code == 200


def test_a_package_without_a_graph_is_refused_before_any_node_hears_of_it(tmp_path: Path) -> None:
    """By the deployer, for main and challenger, with how to build one; nothing changes."""
    with world(tmp_path) as found:
        found.register(1)
        found.register(2)
        found.put()
        wish = {"model": "flights", "version": 1}
        for body in (
            {"main": {**wish, "accelerator": "cuda"}},
            {"main": wish, "challenger": {"model": "flights", "version": 2, "accelerator": "cuda"}},
        ):
            refused = found.http.put("/api/deployments/late", json=body)
            assert (refused.status_code, refused.json()["code"]) == (422, "accelerator-unsupported")
            assert "--accelerated" in refused.json()["hint"]
        assert found.get()["wish"]["main"]["accelerator"] == "none"
        odd = found.http.put("/api/deployments/late", json={"main": {**wish, "accelerator": "quantum"}})
        assert odd.status_code == 422


def test_a_missing_gpu_is_a_condition_of_the_deployment(tmp_path: Path) -> None:
    """The wish is kept, not applied, and names node, code and resource; the same bytes go on answering meanwhile."""
    proof = graphed().manifest.accelerated
    assert proof is not None
    with world(tmp_path) as found:
        digest = found.register(1, accelerated=proof.model_dump())
        found.put()
        found.settled()
        found.main.refuses[digest] = "accelerator-missing"
        wish = {"main": {"model": "flights", "version": 1, "accelerator": "cuda"}}
        found.ok(found.http.put("/api/deployments/late", json=wish))
        observed = found.until(lambda: (seen := found.get()["observed"])["failure"] and seen)
    assert (observed["failure"]["code"], observed["applied"]) == ("accelerator-missing", False)
