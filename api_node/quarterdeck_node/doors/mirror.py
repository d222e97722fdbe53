"""The challenger's door: rows that main has answered already, mirrored in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from quarterdeck.errors import InvalidInput, Malformed, ModelFailed, NotFound, TooLarge
from quarterdeck.schema import Row
from quarterdeck_node.doors.call import Call, Door, Reply
from quarterdeck_node.predictor import Snapshot

MOST_FAILURES = 16
"""Rows of one batch that are found out to fail alone; a model that fails more of them is not asked about the rest."""

_HEAD, _TAIL = b'{"rows":', b"}"
# Room for the envelope around the largest body that main takes.
_ENVELOPE_BYTES = 64


async def answer(call: Call) -> Reply:
    """Answer each row, or say why not: one bad row does not cost the others their pair."""
    body = await call.body("application/json", limit=call.node.limits.body_bytes + _ENVELOPE_BYTES)
    snapshot = call.take()
    if snapshot.plan.role != "challenger":
        raise NotFound("This node is not the challenger of this deployment.", kind="deployment", name=call.name)
    good, refusals = _bound(call, snapshot, body)
    entries: list[bytes] = []
    try:
        if good:
            given = (await call.predict(snapshot, good, "mirror")).given
            entries = [given.kept()[1:-1]] if not refusals else [to_json(found) for found in given.all()]
    # Said per row, in a good answer: for main the challenger has answered.
    except ModelFailed as error:
        entries = await _apart(call, snapshot, good, error)
    if refusals:
        left = iter(entries)
        entries = [refusal or next(left) for refusal in refusals]
    return Reply(b'{%b"answers":[%b]}' % (snapshot.members, b",".join(entries)))


def _bound(call: Call, snapshot: Snapshot, body: bytes) -> tuple[Sequence[Row], list[bytes]]:
    """The rows that fit, and by row the entry of one that does not, or nothing; an empty list where all of them fit."""
    binder = snapshot.resident.binder
    if body.startswith(_HEAD) and body.endswith(_TAIL):
        try:
            return binder.read(body[len(_HEAD) : -len(_TAIL)])[0], []
        # Main bound these rows to its own schema; one that does not fit the challenger's is that one row's matter.
        except (Malformed, InvalidInput, TooLarge):
            pass
    bound = binder.each(_rows(call.document(body), call.node.limits.rows))
    good = [row for row in bound if not isinstance(row, InvalidInput)]
    return good, [_error(row.code) if isinstance(row, InvalidInput) else b"" for row in bound]


async def _apart(call: Call, snapshot: Snapshot, rows: Sequence[Row], whole: ModelFailed) -> list[bytes]:
    """Entries of rows that the model failed together: halves are asked for as long as that finds the ones to blame."""
    resident, failures = snapshot.resident, 0

    async def halves(part: Sequence[Row], error: ModelFailed) -> list[bytes]:
        nonlocal failures
        if len(part) == 1 or failures >= MOST_FAILURES:
            failures += len(part)
            return [_error(error.code)] * len(part)
        middle = len(part) // 2
        return [*await asked(part[:middle]), *await asked(part[middle:])]

    async def asked(part: Sequence[Row]) -> list[bytes]:
        try:
            return [to_json(found) for found in await resident.runtime.predict(part, call.context("mirror").deadline)]
        except ModelFailed as error:
            return await halves(part, error)

    resident.users += 1
    try:
        entries = await halves(rows, whole)
    finally:
        resident.users -= 1
    # The failed attempt at all of them was counted by the predictor; what became of each is known now.
    count = call.node.predictor.counts[snapshot.plan.name, resident.ref.digest]
    count.failed += failures - len(rows)
    count.answered += len(rows) - failures
    call.rows = len(rows)
    return entries


def _error(code: str) -> bytes:
    return to_json({"error": code})


def _rows(document: Any, limit: int) -> list[Any]:
    rows = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise InvalidInput("The body must be an object with a list `rows`.")
    if len(rows) > limit:
        raise TooLarge(f"More than {limit:,} rows in one request.", code="too-many-rows")
    return rows


DOORS = (Door("POST", "/mirror/{name}", "mirror", answer, "mirror"),)
