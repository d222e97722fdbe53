"""/api/deployments/…/performance: both models' averages on the same labelled rows."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import Field

from quarterdeck.schema import Frozen, Name, Task
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.predictions import TheIndex
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.performance import PairScores, Performance, RoleScores, measure
from quarterdeck_deployer.predictions import PredictionIndex
from quarterdeck_deployer.registry import Registry

router = APIRouter(prefix="/api/deployments", tags=["predictions"], responses=ERRORS)


class PerformanceView(Frozen):
    """The newest pair of versions, and the pairs before it. Plain averages: which one is better is not said here."""

    deployment: str
    task: Task | None = Field(description="None where no labelled row has been stored.")
    rows: int = Field(description="Labelled rows that both answered; both are measured on these.")
    first: datetime | None = Field(description="When the oldest of them was predicted.")
    last: datetime | None = Field(description="When the newest of them was predicted.")
    main: RoleScores | None
    challenger: RoleScores | None
    others: list[PairScores]


def performance_of(registry: Registry, index: PredictionIndex, name: str) -> Performance:
    """Measure one deployment; blocks on the store. Raises `StorageError` where that cannot be read."""
    with index.current(name) as connection:
        return measure(connection, name, registry.schema)


@router.get("/{name}/performance")
def performance(name: Name, deployer: TheDeployer, index: TheIndex) -> PerformanceView:
    """Main and challenger measured on the same rows: those that both answered and whose truth has come."""
    deployer.deployments.current(name)
    found = performance_of(deployer.registry, index, name)
    newest = found.newest
    return PerformanceView(
        deployment=name,
        task=newest.task if newest else None,
        rows=newest.rows if newest else 0,
        first=newest.first if newest else None,
        last=newest.last if newest else None,
        main=newest.main if newest else None,
        challenger=newest.challenger if newest else None,
        others=found.others,
    )
