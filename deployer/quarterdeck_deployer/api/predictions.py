"""/api/deployments/…/predictions and …/ledger: what the stored records say."""

from __future__ import annotations

import threading
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.predictions import Ledger, PredictedRow, PredictionIndex

router = APIRouter(prefix="/api/deployments", tags=["predictions"], responses=ERRORS)
_making = threading.Lock()


class Predictions(Frozen):
    """Newest first."""

    predictions: list[PredictedRow]


def _index(request: Request, deployer: TheDeployer) -> PredictionIndex:
    state = request.app.state
    # Two first requests at once must not make two indexes.
    with _making:
        if not hasattr(state, "prediction_index"):
            state.prediction_index = PredictionIndex(deployer.records, deployer.sessions, deployer.settings.data / "spill")
        index: PredictionIndex = state.prediction_index
        return index


TheIndex = Annotated[PredictionIndex, Depends(_index)]
"""The one index of this application; it is made when the first request needs it."""


@router.get("/{name}/predictions")
def newest_predictions(
    name: Name, deployer: TheDeployer, index: TheIndex, limit: Annotated[int, Query(ge=1, le=1000)] = 50
) -> Predictions:
    """The newest stored rows with main's and the challenger's answer and the truth; they arrive some seconds late."""
    # Not found, rather than empty, where there is no such deployment.
    deployer.deployments.current(name)
    return Predictions(predictions=index.newest(name, limit))


@router.get("/{name}/ledger")
def ledger(name: Name, deployer: TheDeployer, index: TheIndex) -> Ledger:
    """Rows by what became of them, counted in the store."""
    deployer.deployments.current(name)
    return index.ledger(name)
