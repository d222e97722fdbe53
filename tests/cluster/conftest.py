"""Fixtures of the tests on a real cluster. The node and Quarterdeck on it are there once for the whole run."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from quarterdeck.plan import VersionRef
from tests.cluster.control import Control
from tests.cluster.deployment import Deployment
from tests.cluster.foreign import TESTS, Foreign
from tests.cluster.installation import Installation
from tests.cluster.layout import Layout
from tests.cluster.node import Node
from tests.models import version_encoding_model


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything in this folder needs the cluster, and minutes where others take seconds."""
    for item in items:
        if item.path.parent.name == "cluster":
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(900))
    if os.environ.get("CLUSTER") == "kubeconfig":
        elsewhere = [item for item in items if item.get_closest_marker("cluster") and item.path.name not in TESTS]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in elsewhere]
    # Whoever needs the release to himself comes last, so that nothing before was shaken by him.
    items.sort(key=lambda item: "alone" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """Quarterdeck, installed by its chart on a node of our own.

    CLUSTER=kubeconfig installs it on the cluster that KUBECONFIG leads to, and takes it away again (see foreign.py).
    CLUSTER=keep leaves it running for the next run; CLUSTER=as-is takes what runs already as it is, and leaves it too.
    CLUSTER_NAME=try is the one of `make cluster-up` in place of the tests' own.
    """
    how = os.environ.get("CLUSTER", "")
    own = Layout.of("try" if os.environ.get("CLUSTER_NAME") == "try" else "test")
    node = Foreign() if how == "kubeconfig" else Node(own)
    keep = how in ("keep", "as-is")
    found = Installation(node)
    try:
        if how == "as-is":
            found.adopt()
        else:
            node.start()
            found.install()
        yield found
    finally:
        if how == "kubeconfig":
            found.uninstall()
        if not keep:
            node.stop()


@pytest.fixture(scope="session")
def control(installation: Installation) -> Iterator[Control]:
    """The chart's deployer with the stages dev, staging and prod, each in a namespace and with a bucket of its own."""
    with Control(installation) as found:
        yield found


@pytest.fixture
def alone(installation: Installation) -> Iterator[None]:
    """The test may stop the operator or change the release; afterwards both are as they were."""
    values = installation.values()
    yield
    installation.release(values)


@pytest.fixture(scope="session")
def versions(installation: Installation) -> tuple[VersionRef, ...]:
    """Three published versions of one model; each answers its own number."""
    bucket = installation.fresh_bucket()
    return tuple(installation.publish(version_encoding_model(number), bucket) for number in (1, 2, 3))


@pytest.fixture
def namespace(installation: Installation) -> Iterator[str]:
    """An empty namespace, gone after the test with everything in it."""
    name = installation.namespace(f"test-{secrets.token_hex(3)}")
    yield name
    installation.node.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def deployment(installation: Installation, namespace: str, versions: tuple[VersionRef, ...]) -> Deployment:
    """A deployment of the first version that is ready."""
    assert versions
    found = Deployment(installation, namespace, "versions")
    found.apply(model={"name": "versions", "version": 1})
    found.ready(1)
    return found
