"""Plain records: `POST /deployments/{name}/predict` with one JSON object, or an array of them."""

from __future__ import annotations

from typing import Any

from quarterdeck_node.doors.call import Call, Door, Reply, json_reply, plain_answer
from quarterdeck_node.predictor import Predicted


async def predict(call: Call) -> Reply:
    """Answer records by name and schema."""
    body = await call.body("application/json")
    # After the body is here: however slowly it came, the newest version answers.
    snapshot = call.take()
    rows, _ = snapshot.resident.binder.read(body)
    return json_reply(document(call, await call.predict(snapshot, rows, "plain")))


def document(call: Call, predicted: Predicted) -> dict[str, Any]:
    """The answer's members: what answered, then one prediction per record, in order."""
    snapshot = predicted.snapshot
    classes = snapshot.resident.manifest.data_schema.classes
    return {
        "request_id": call.request_id,
        "deployment": snapshot.plan.name,
        "model": snapshot.ref.model,
        "version": snapshot.ref.version,
        "digest": snapshot.ref.digest,
        "revision": snapshot.plan.revision,
        "predictions": [plain_answer(classes, answer) for answer in predicted.answers],
    }


DOORS = (Door("POST", "/deployments/{name}/predict", "predict", predict, "plain"),)
