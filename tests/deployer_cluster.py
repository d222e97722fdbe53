"""A deployer's part for one namespace, without a loop: its services on a real database, and steps that a test takes itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from quarterdeck.storage import open_storage
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.database import Database, utc_now
from quarterdeck_deployer.deployments import Deployments
from quarterdeck_deployer.infrastructures.cluster_base import Cluster
from quarterdeck_deployer.infrastructures.kubernetes_adoption import learn
from quarterdeck_deployer.infrastructures.kubernetes_infrastructure import Manner, OnKubernetes, Ring
from quarterdeck_deployer.infrastructures.scope import Scope
from quarterdeck_deployer.keys import Keys
from quarterdeck_deployer.models import InfrastructureRow, Stage
from quarterdeck_deployer.observed import ObservedDeployment
from quarterdeck_deployer.registry import Registry
from quarterdeck_deployer.registry_views import VersionInput
from quarterdeck_deployer.revisions import DeploymentInput, RevisionView, VersionChoice
from quarterdeck_deployer.settings import Settings
from quarterdeck_deployer.supply import Stores, Supply
from tests.deployer_world import laid_out, manifest, publish

NAME, PLACE, STAGE = "late-flights", "cluster", "prod"
PERSON = Act(who="ann", why="because")


class ClusterWorld:
    """Versions 1 to 4 of model `flights`, a stage in a cluster, and nobody who runs the loop."""

    def __init__(self, folder: Path, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace, self.now = cluster, namespace, 1_000.0
        self.database = Database(laid_out(Settings(data=folder)).database_place)
        self.storage = open_storage(f"memory://{folder}")
        self.registry = Registry(self.database, self.storage)
        with self.database.writing.begin() as session:
            row = InfrastructureRow(name=PLACE, kind="kubernetes", store="s3://models", settings={}, created=utc_now())
            session.add(row)
            session.flush()
            session.add(Stage(name=STAGE, position=0, infrastructure=PLACE, gates=[], approval=False, created=utc_now()))
        self.digests: dict[int, str] = {}
        for version in range(1, 5):
            package = manifest("flights", salt=version)
            publish(self.storage, version, package)
            self.registry.register("flights", VersionInput(version=version, digest=package.digest), PERSON)
            self.digests[version] = package.digest
        self.infrastructure = self.another()
        stores = Stores(self.storage, lambda stage: False, lambda stage: self.storage)
        supply = Supply(stores, folder / "copying")
        self.deployments = Deployments(self.database, supply, lambda: None, lambda name: self.infrastructure.refused(name))
        self.keys = Keys(self.database, lambda: None)

    def another(self) -> OnKubernetes:
        """The same part after a restart: it knows nothing but what is written down."""
        given = partial(learn, self.registry, self.storage)
        scope, manner = Scope(PLACE), Manner(self.namespace, ring=Ring(used=lambda uses: self.keys.told(uses)))
        return OnKubernetes("s3://models", self.database, scope, lambda: self.cluster, manner, given, lambda: self.now)

    def put(self, main: int = 1, challenger: int | None = None, **more: Any) -> int:
        """Wish for a pair; gives back the revision."""
        pair = {"main": VersionChoice(model="flights", version=main)}
        if challenger is not None:
            pair["challenger"] = VersionChoice(model="flights", version=challenger)
        wish = DeploymentInput(stage=STAGE, **pair, **more)
        return self.deployments.put(NAME, wish, PERSON).revision

    def settle(self, most: int = 6) -> None:
        """Step until there is nothing more to do at once."""
        for _ in range(most):
            if not self.infrastructure.step():
                return
        raise AssertionError("it goes on")

    def wish(self) -> RevisionView:
        """The newest revision."""
        return self.deployments.current(NAME)

    def seen(self) -> ObservedDeployment:
        """What is observed."""
        return self.infrastructure.observe(self.deployments.one(NAME))

    def spec(self) -> dict[str, Any]:
        """The spec in the cluster."""
        return self.resource()["spec"]  # type: ignore[no-any-return]

    def resource(self) -> dict[str, Any]:
        """The resource in the cluster."""
        (found,) = (one for one in self.cluster.resources() if one["metadata"]["name"] == NAME)
        return found

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()
