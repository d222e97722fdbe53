"""Records as tables on the plain door: CSV and Arrow, answered in the same form unless the caller accepts only another."""

from __future__ import annotations

from quarterdeck_node.doors import arrow, csv
from quarterdeck_node.doors.call import Call, Reply
from quarterdeck_node.predictor import Predicted

JSON = "application/json"
MEDIA = (JSON, *csv.MEDIA, arrow.MEDIA)


async def predict(call: Call) -> Reply:
    """Answer a table, column by column."""
    body = await call.body(*MEDIA)
    snapshot = call.take()
    media, binder, limits = call.head.media, snapshot.resident.binder, call.node.limits
    if media == arrow.MEDIA:
        return _reply(call, await call.predict(snapshot, arrow.read(body, binder, limits), "arrow"), media)
    return _reply(call, await call.predict(snapshot, csv.read(body, binder, limits), "csv"), media)


def _reply(call: Call, predicted: Predicted, media: str) -> Reply:
    snapshot = predicted.snapshot
    classes = snapshot.resident.manifest.data_schema.classes
    form = _accepted(call.header(b"accept").lower(), media)
    if form == arrow.MEDIA:
        return Reply(arrow.write(predicted.given, classes), media=form)
    if form in csv.MEDIA:
        return Reply(csv.write(predicted.given, classes), media=f"{form}; charset=utf-8")
    return Reply(plain(call, predicted))


def plain(call: Call, predicted: Predicted) -> bytes:
    """What answered, then one prediction per record, in order; `description` promises these members."""
    members = call.request_id.encode(), predicted.snapshot.members, predicted.given.plain()
    return b'{"request_id":"%b",%b"predictions":[%b]}' % members


def _accepted(accept: str, media: str) -> str:
    """The form of the answer: that of the request, unless the caller names others only."""
    named = [part.partition(";")[0].strip() for part in accept.split(",")]
    if not accept or media in named or "*/*" in named:
        return media
    return next((form for form in (arrow.MEDIA, *csv.MEDIA, JSON) if form in named), media)
