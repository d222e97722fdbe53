"""Predictions, their records and the truth about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from quarterdeck.client.answers import answer
from quarterdeck.client.calls import Json, as_list, as_object, part
from quarterdeck.client.instance import Instance
from quarterdeck.schema import Row


class Predicted(TypedDict):
    """One answered request. `digest` and `revision` tell exactly what computed it."""

    request_id: str
    deployment: str
    model: str
    version: int
    digest: str
    revision: int
    predictions: list[Json]


class Label(TypedDict):
    """The truth about one predicted row, named by its `row_id` or by the caller's own id and the row's number (from 0)."""

    value: Any
    row_id: NotRequired[str]
    caller_id: NotRequired[str]
    row: NotRequired[int]
    observed_at: NotRequired[str]


class Predictions(Instance):
    """Records, feedback and scores under `/api/deployments`, and the nodes' own doors."""

    def send_feedback(self, name: str, labels: Sequence[Label]) -> Json:
        """Tell the truth about predicted rows; how many were ``accepted``, and how many of these ``replaced`` an earlier one."""
        return as_object(self.call("POST", f"/api/deployments/{part(name)}/feedback", {"labels": list(labels)}))

    def performance(self, name: str) -> Json:
        """Scores of main and challenger on the same labelled rows."""
        return as_object(self.call("GET", f"/api/deployments/{part(name)}/performance"))

    def predictions(self, name: str, limit: int = 50) -> list[Json]:
        """The newest records with both answers and the label."""
        return as_list(self.call("GET", f"/api/deployments/{part(name)}/predictions", limit=limit)["predictions"])

    def ledger(self, name: str) -> Json:
        """How many rows have a record, an answer of the challenger, both, and a label."""
        return as_object(self.call("GET", f"/api/deployments/{part(name)}/ledger"))

    def predict(self, deployment: str, rows: Sequence[Row], *, key: str = "", request_id: str = "", url: str = "") -> Predicted:
        """Ask the main node.

        Args:
            deployment: which one.
            rows: records; feature name → value.
            key: API key, where the deployment asks for one.
            request_id: an id of the caller's own, to name the rows by later.
            url: base URL of a node; empty: where the deployer says that the deployment is reached.
        """
        place = f"{url.rstrip('/')}/deployments/{part(deployment)}/predict" if url else self._door(deployment)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if request_id:
            headers["x-request-id"] = request_id
        found: Predicted = answer(self._doors, "POST", place, list(rows), {}, headers, self._timeout)
        return found

    def _door(self, deployment: str) -> str:
        """Where a deployment is asked; each stage may be on another infrastructure."""
        # Asked for once: an address that a call names counts for that call alone.
        if deployment not in self._addresses:
            found = as_object(self.call("GET", f"/api/deployments/{part(deployment)}"))
            self._addresses[deployment] = str(found["urls"]["predict"])
        return self._addresses[deployment]
