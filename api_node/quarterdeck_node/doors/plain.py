"""Plain records: `POST /deployments/{name}/predict` with one JSON object, an array of them, or a table (CSV, Arrow)."""

from __future__ import annotations

from quarterdeck_node.doors import tables
from quarterdeck_node.doors.call import Call, Door, Reply


async def predict(call: Call) -> Reply:
    """Answer records by name and schema."""
    if call.head.media not in ("application/json", ""):
        return await tables.predict(call)
    body = call.whole("application/json") or await call.body("application/json")
    # After the body is here: however slowly it came, the newest version answers.
    snapshot = call.take()
    rows, text = snapshot.resident.binder.read(body)
    predicted = call.answered(snapshot, rows, "plain", text) or await call.predict(snapshot, rows, "plain", text)
    return Reply(tables.plain(call, predicted))


DOORS = (Door("POST", "/deployments/{name}/predict", "predict", predict, "plain"),)
