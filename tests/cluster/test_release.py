"""The chart's release comes, is upgraded, goes back, goes and comes again; models answer all the while, by the same pods."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.plan import VersionRef
from tests.cluster.deployment import KIND, Deployment
from tests.cluster.images import RECIPES
from tests.cluster.installation import CHART, NAMESPACE, RELEASE, Installation
from tests.cluster.load import Load
from tests.support import eventually

OLDER = "0.0.1"
CLAIM = f"{RELEASE}-deployer"


class Release:
    """The chart as it is, and one that is older: other version, labels and image tags. No older code has been released yet."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self._installation, self._node = installation, installation.node
        self._newer = installation.values()
        self._older: dict[str, Any] = deepcopy(self._newer)
        for program in RECIPES:
            image = self._newer[program]["image"]
            name = f"{self._newer['images']['registry']}/{image['repository']}"
            containerd = [f"--address={self._node.layout.socket}", "--namespace=k8s.io"]
            self._node.inside("ctr", *containerd, "images", "tag", "--force", f"{name}:{image['tag']}", f"{name}:{OLDER}")
            self._older[program]["image"]["tag"] = OLDER
        installation.helm("package", str(CHART), f"--version={OLDER}", f"--app-version={OLDER}", f"--destination={folder}")
        self._chart = folder / f"quarterdeck-{OLDER}.tgz"

    def install_older(self) -> None:
        """As it was before, from nothing."""
        self._installation.release(self._older, self._chart)

    def upgrade(self) -> None:
        """To the chart of the checkout; installs it where nothing is."""
        self._installation.release(self._newer)

    def back(self) -> None:
        """`helm rollback`."""
        self._installation.helm("rollback", RELEASE)
        self._installation.wait()

    def uninstall(self) -> None:
        """`helm uninstall`; its pods are gone after this."""
        self._installation.uninstall()
        eventually(lambda: not self.pods(), 90, every=0.3)

    def pods(self) -> list[str]:
        """What runs of the release."""
        found = self._node.get("pods", namespace=NAMESPACE, **{"app.kubernetes.io/instance": RELEASE})
        return [pod["metadata"]["name"] for pod in found]

    def version(self) -> str:
        """The version of the chart, as the operator's labels tell it."""
        labels = self._node.get("deployment", f"{RELEASE}-operator", NAMESPACE)["metadata"]["labels"]
        return str(labels["helm.sh/chart"]).removeprefix("quarterdeck-")


@pytest.fixture
def release(installation: Installation, alone: None, tmp_path: Path) -> Release:
    """Not installed, but everything that it needs is there; afterwards the release is as it was before the test."""
    found = Release(installation, tmp_path)
    found.uninstall()
    return found


def restarts(deployment: Deployment) -> dict[str, int]:
    """UID of each pod → restarts of its containers."""
    found = {}
    for pod in [*deployment.pods(), *deployment.pods("challenger")]:
        status = pod["status"]
        containers = [*status["containerStatuses"], *status["initContainerStatuses"]]
        found[pod["metadata"]["uid"]] = sum(each["restartCount"] for each in containers)
    return found


def templates(deployment: Deployment) -> dict[str, tuple[str, int, Any]]:
    """Each Deployment's UID, number of changes of its spec, and pod template."""
    kept = {}
    for found in deployment.node.get("deployments", namespace=deployment.namespace):
        about = found["metadata"]
        kept[about["name"]] = (about["uid"], about["generation"], found["spec"]["template"])
    return kept


def answered(load: Load) -> None:
    """Wait for 200 more answers."""
    wanted = load.so_far().answered + 200
    eventually(lambda: load.so_far().answered >= wanted, 180, every=0.5)


def test_models_outlive_the_release(
    release: Release, namespace: str, installation: Installation, versions: tuple[VersionRef, ...]
) -> None:
    """Given load, when the release is upgraded, taken back, removed and installed, then no pod is touched and nothing is lost."""
    assert versions
    release.install_older()
    assert release.version() == OLDER
    deployment = Deployment(installation, namespace, "versions")
    deployment.apply(model={"name": "versions", "version": 1}, nodes={"replicas": 2})
    deployment.ready(1, within=300)
    pods, made = restarts(deployment), templates(deployment)
    with Load(installation, namespace, "versions") as load:
        release.upgrade()
        assert release.version() != OLDER
        # The node's image of the newer one waits until somebody asks for it.
        deployment.says("TemplateOutdated", "True", within=180)
        answered(load)
        assert (restarts(deployment), templates(deployment)) == (pods, made)

        release.back()
        assert release.version() == OLDER
        deployment.says("TemplateOutdated", "False", within=180)
        assert (restarts(deployment), templates(deployment)) == (pods, made)

        release.uninstall()
        assert deployment.resource()["status"]["phase"] == "Ready"
        assert installation.node.get("crd", KIND)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert installation.node.get("persistentvolumeclaim", CLAIM, NAMESPACE)["status"]["phase"] == "Bound"
        answered(load)
        assert (restarts(deployment), templates(deployment)) == (pods, made)

        release.upgrade()
        deployment.says("TemplateOutdated", "True", within=180)
        assert (restarts(deployment), templates(deployment)) == (pods, made)
        # The plan server has an authority of its own each time; pods find it among their mounted files.
        deployment.apply(model={"name": "versions", "version": 3})
        deployment.ready(3, within=300)
        assert restarts(deployment) == pods
        seen = load.end()
    assert (seen.lost, seen.sent) == (0, seen.answered), seen.why
    assert {each.version for each in seen.answers} == {1, 3}
