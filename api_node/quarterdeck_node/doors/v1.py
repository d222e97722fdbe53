"""KServe V1 and TensorFlow Serving, which share their paths.

`instances` holds rows (objects by name, lists in schema order, single values), `inputs` a list of rows as well or an object of
columns; a text may be written as `{"b64": …}`. Rows are answered as `predictions`, columns as `outputs`. A classifier answers
each row with `prediction` and `scores`, as TensorFlow Serving does for models of several outputs; `signature_name` names one of
the two where only that is wanted.
Versions are reached by number or by label: `main`, the stage's name, and `previous` where one other version is held.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from typing import Any

from quarterdeck.errors import InvalidInput, Malformed, NotFound, NotReady, QuarterdeckError
from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.doors.call import Call, Door, Reply, json_reply
from quarterdeck_node.doors.dialect import by_column, expect, held, records, refused, version_in_path, visible
from quarterdeck_node.doors.explain import explained
from quarterdeck_node.predictor import Predicted, Snapshot

SIGNATURE = "serving_default"
_MEMBERS = ("instances", "inputs", "signature_name")
_BASE64 = "b64"


async def alive(call: Call) -> Reply:
    """The process answers: what KServe calls liveness."""
    return json_reply({"status": "alive"})


async def models(call: Call) -> Reply:
    """The deployments that this caller may ask."""
    return json_reply({"models": [slot.plan.name for slot in visible(call)]})


async def status(call: Call) -> Reply:
    """Whether a deployment answers, and the state of each version that is here: for both dialects in one object."""
    try:
        versions = [_take(call).ref.version] if _named(call) else held(call.slot) if call.slot else []
        is_ready = bool(_take(call))
    except NotReady:
        versions, is_ready = [], False
    states = [
        {"version": str(version), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for version in versions
    ]
    return json_reply({"name": call.name, "ready": is_ready, "model_version_status": states}, 200 if is_ready else 503)


async def metadata(call: Call) -> Reply:
    """The schema of one deployment, or of one of its versions, and the signatures that `:predict` takes."""
    snapshot = _take(call)
    schema = snapshot.resident.manifest.data_schema
    return json_reply(
        {
            "model_spec": {"name": call.name, "version": str(snapshot.ref.version), "signature_name": SIGNATURE},
            "metadata": {
                "schema": schema.model_dump(mode="json", exclude_none=True),
                "signatures": [SIGNATURE, "prediction", *(["scores"] if schema.classes else [])],
            },
        }
    )


async def predict(call: Call) -> Reply:
    """Answer rows or columns."""
    body = await call.body("application/json")
    snapshot = _take(call)
    document = expect(call.document(body), _MEMBERS, "The request")
    signature = _signature(document, snapshot)
    rows, by_name = _rows(document, snapshot)
    predicted = await call.predict(snapshot, rows, "v1")
    if by_name:
        return json_reply({"outputs": _columns(predicted, signature)})
    return json_reply({"predictions": [_one(answer, signature) for answer in predicted.answers]})


async def explain(call: Call) -> Reply:
    """Answer rows, each with what every feature contributed to its raw score."""
    body = await call.body("application/json")
    snapshot = _take(call)
    document = expect(call.document(body), _MEMBERS, "The request")
    signature = _signature(document, snapshot)
    rows, _ = _rows(document, snapshot)
    explanations = await explained(snapshot, rows)
    predicted = await call.predict(snapshot, rows, "v1")
    return json_reply({"predictions": [_one(answer, signature) for answer in predicted.answers], "explanations": explanations})


def refusal(error: QuarterdeckError, call: Call) -> Reply:
    """Both dialects' form of an error."""
    return refused(error, call, {"error": error.detail})


def _named(call: Call) -> bool:
    """Whether the path names one version."""
    return not {"version", "label"}.isdisjoint(call.scope["path_params"])


def _take(call: Call) -> Snapshot:
    label = call.scope["path_params"].get("label")
    return call.take(version_in_path(call) if label is None else _labelled(call, str(label)))


def _labelled(call: Call, label: str) -> int | None:
    """The version behind a label; None for the active one."""
    slot = call.slot or call.node.predictor.slot(call.name)
    if label in ("main", slot.plan.stage):
        return None
    others = [version for version in held(slot) if slot.live and version != slot.live.resident.ref.version]
    # While a new version is made ready there may be two: which of them was previous, a node is not told.
    if label == "previous" and len(others) == 1:
        return others[0]
    raise NotFound(
        f"{call.name} holds no version under this label.",
        kind="label",
        hint=f"There is main and {slot.plan.stage}, previous where one other version is held, and every version by its number.",
    )


def _signature(document: dict[str, Any], snapshot: Snapshot) -> str:
    """The output that is asked for; empty: all of them."""
    name = document.get("signature_name", SIGNATURE)
    classes = snapshot.resident.manifest.data_schema.classes
    if name in (SIGNATURE, ""):
        return "" if classes else "prediction"
    if name == "prediction" or (name == "scores" and classes):
        return str(name)
    raise InvalidInput(
        "There is no such signature.", code="signature-unknown", kind="signature", hint="GET …/metadata lists the signatures."
    )


def _rows(document: dict[str, Any], snapshot: Snapshot) -> tuple[Sequence[Row], bool]:
    """(the rows of a request, whether it is by column)"""
    given = [name for name in ("instances", "inputs") if name in document]
    if len(given) != 1:
        raise Malformed("The request must have either instances or inputs.", kind="member", hint="Rows go into instances.")
    resident, value = snapshot.resident, document[given[0]]
    texts = [feature.name for feature in resident.manifest.data_schema.features if feature.type in ("string", "datetime")]
    if given[0] == "inputs" and isinstance(value, dict):
        found, count = by_column(value, "inputs")
        for name in found.keys() & texts:
            found[name] = [_plain(value, row, name) for row, value in enumerate(found[name])]
        return resident.binder.columns(found, count), True
    rows = records(value, resident.manifest.data_schema, given[0])
    for number, row in enumerate(rows):
        row |= {name: _plain(row[name], number, name) for name in texts if type(row.get(name)) is dict}
    return resident.binder.rows(rows), False


def _plain(value: Any, row: int, column: str) -> Any:
    """A value of a text feature; one of the form `{"b64": …}`, as TensorFlow Serving has bytes, decoded."""
    if type(value) is not dict or value.keys() != {_BASE64} or not isinstance(value[_BASE64], str):
        return value
    try:
        return b64decode(value[_BASE64], validate=True).decode()
    except ValueError:
        said = "must be UTF-8 text in base64"
        raise InvalidInput(
            f"Row {row}, column {column}: {said}.",
            kind="feature",
            name=column,
            extra={"row": row, "column": column, "problems": [{"row": row, "column": column, "problem": said}]},
        ) from None


def _one(answer: Answer, signature: str) -> Any:
    if signature == "prediction":
        return answer.prediction
    return answer.scores if signature == "scores" else {"prediction": answer.prediction, "scores": answer.scores}


def _columns(predicted: Predicted, signature: str) -> Any:
    if signature:
        return [_one(answer, signature) for answer in predicted.answers]
    return {
        "prediction": [answer.prediction for answer in predicted.answers],
        "scores": [answer.scores for answer in predicted.answers],
    }


_MODEL = "/v1/models/{name}"
_PLACES = (_MODEL, _MODEL + "/versions/{version}", _MODEL + "/labels/{label}")
# The verbs first: a path parameter takes everything up to the next slash, the verb too.
DOORS = (
    *(Door("POST", place + ":predict", "predict", predict, "v1", refusal) for place in _PLACES),
    *(Door("POST", place + ":explain", "predict", explain, "v1", refusal) for place in _PLACES),
    Door("GET", "/", "open", alive, refusal=refusal),
    Door("GET", "/v1/models", "caller", models, refusal=refusal),
    *(Door("GET", place + "/metadata", "read", metadata, refusal=refusal) for place in _PLACES),
    *(Door("GET", place, "read", status, refusal=refusal) for place in _PLACES),
)
