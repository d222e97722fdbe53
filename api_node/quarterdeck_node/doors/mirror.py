"""The challenger's door: rows that main has answered already, mirrored in batches."""

from __future__ import annotations

from typing import Any

from quarterdeck.errors import InvalidInput, ModelFailed, NotFound, TooLarge
from quarterdeck_node.binding import MAX_ROWS, parse
from quarterdeck_node.doors.call import Call, Door, Reply, json_reply


async def answer(call: Call) -> Reply:
    """Answer each row, or say why not: one bad row does not cost the others their pair."""
    body = await call.body("application/json")
    snapshot = call.take()
    if snapshot.plan.role != "challenger":
        raise NotFound("This node is not the challenger of this deployment.", kind="deployment", name=call.name)
    bound = snapshot.resident.binder.each(_rows(parse(body)))
    # Main bound these rows to its own schema; one that does not fit the challenger's is that one row's matter.
    good = [row for row in bound if not isinstance(row, InvalidInput)]
    answers: list[Any] = []
    try:
        given = iter((await call.predict(snapshot, good, "mirror")).answers if good else [])
        answers = [{"error": row.code} if isinstance(row, InvalidInput) else next(given) for row in bound]
    # Said per row, in a good answer: for main the challenger has answered.
    except ModelFailed as error:
        answers = [{"error": row.code if isinstance(row, InvalidInput) else error.code} for row in bound]
    ref = snapshot.ref
    return json_reply(
        {"model": ref.model, "version": ref.version, "digest": ref.digest, "revision": snapshot.plan.revision, "answers": answers}
    )


def _rows(document: Any) -> list[Any]:
    rows = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise InvalidInput("The body must be an object with a list `rows`.")
    if len(rows) > MAX_ROWS:
        raise TooLarge(f"More than {MAX_ROWS:,} rows in one request.", code="too-many-rows")
    return rows


DOORS = (Door("POST", "/mirror/{name}", "mirror", answer, "mirror"),)
