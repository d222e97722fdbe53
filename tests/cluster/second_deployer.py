"""A deployer of a test's own, by the same chart, whose deployments the release's operator looks after like any others.

It may be killed and restarted, with the database that the test gives it, while nobody else's deployer notices.
"""

from __future__ import annotations

from typing import Any

from tests.cluster.control import ChartDeployer
from tests.cluster.database_pod import PASSWORD, DatabasePod, Volume
from tests.cluster.installation import AUTHORITY, CHART, SECRET, Installation

_RELEASE = "second"
_INFRASTRUCTURE = "cluster"
"""What a deployer calls the first namespace of its own cluster."""


class SecondDeployer(ChartDeployer):
    """A release without an operator, in the namespace where its deployments are too.

    Args:
        installation: the release with the operator.
        namespace: an empty one, with the store's credentials.
        database: where it keeps what it knows; None: in SQLite on its volume.
        volume: whether it has one; without it the database is needed.
    """

    def __init__(self, installation: Installation, namespace: str, database: DatabasePod | None, *, volume: bool = True) -> None:
        super().__init__(installation, _RELEASE, namespace)
        self._database = database
        self._volume = Volume(self.node, namespace, f"{_RELEASE}-deployer") if volume else None

    def install(self) -> None:
        """Install it, and wait until it answers and knows its store."""
        if self._volume is not None:
            self._volume.make()
        values = self.installation.values()
        deployer: dict[str, Any] = {"image": values["deployer"]["image"], "kubernetes": {"namespaces": [self.namespace]}}
        deployer["persistence"] = {"enabled": self._volume is not None}
        if self._database is not None:
            deployer["database"] = {"url": self._database.url, "passwordSecret": PASSWORD}
        store = {"url": self._store, "secret": SECRET, "caConfigMap": AUTHORITY}
        own = {"operator": {"enabled": False}, "crds": {"install": False}, "store": store, "deployer": deployer}
        given = {"images": values["images"], "metrics": values["metrics"], **own}
        self.installation.helm(
            "upgrade", self.release, str(CHART), "--install", "--values=-", given=given, namespace=self.namespace
        )
        self.wait()
        with self.client() as client:
            settings = {"namespace": self.namespace, "nodeStore": store}
            client.put_infrastructure(_INFRASTRUCTURE, {"kind": "kubernetes", "settings": settings})

    def remove(self) -> None:
        """Take it away with its volume; what it has deployed goes with the namespace."""
        gone = ["--wait", "--ignore-not-found", "--cascade=foreground"]
        self.installation.helm("uninstall", self.release, *gone, namespace=self.namespace)
        if self._volume is not None:
            self._volume.remove()

    @property
    def _store(self) -> str:
        return self.installation.store(self.installation.bucket)
