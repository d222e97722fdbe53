"""MLflow's scoring protocol, for the only deployment of a node or for one that the path names.

A request has exactly one of dataframe_split, dataframe_records, instances and inputs, or is CSV. Predictions are labels or
numbers, as scikit-learn's flavour answers them; `params.predict_method` may be `predict_proba`: the scores by class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quarterdeck.errors import InvalidInput, Malformed, QuarterdeckError, Unsupported
from quarterdeck.schema import Row
from quarterdeck_node.doors import csv
from quarterdeck_node.doors.call import Call, Door, Reply, json_reply
from quarterdeck_node.doors.description import release
from quarterdeck_node.doors.dialect import by_column, expect, records, refused
from quarterdeck_node.predictor import Resident

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_METHODS = ("predict", "predict_proba")
_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    422: "BAD_REQUEST",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


async def invocations(call: Call) -> Reply:
    """Answer a data frame, rows or columns."""
    charset = call.header(b"content-type").lower().partition("charset=")[2].strip('" ')
    if charset not in ("", "utf-8"):
        raise Unsupported("Only UTF-8 is read here.", hint="Send charset=utf-8, or none.")
    body = await call.body("application/json", *csv.MEDIA)
    snapshot = call.take()
    if call.head.media in csv.MEDIA:
        rows, method = csv.read(body, snapshot.resident.binder, call.node.limits), "predict"
    else:
        document = expect(call.document(body), (*_FORMS, "params"), "The request")
        method = _method(document.get("params"))
        rows = _rows(document, snapshot.resident)
    if method == "predict_proba" and not snapshot.resident.manifest.data_schema.classes:
        raise InvalidInput("A regression has no predict_proba.", kind="parameter", name="predict_method", hint="Leave it out.")
    predicted = await call.predict(snapshot, rows, "mlflow")
    answers = predicted.answers
    given = [answer.scores for answer in answers] if method == "predict_proba" else [answer.prediction for answer in answers]
    return json_reply({"predictions": given})


async def ping(call: Call) -> Reply:
    """200 when everything that shall answer can, else 404, as the protocol says."""
    return Reply(b"\n", 404 if call.node.missing() else 200)


async def version(call: Call) -> Reply:
    """The version of this program, as text."""
    return Reply(release().encode(), media="text/plain; charset=utf-8")


def refusal(error: QuarterdeckError, call: Call) -> Reply:
    """The protocol's own form of an error."""
    return refused(error, call, {"error_code": _CODES.get(error.status, "BAD_REQUEST"), "message": str(error)})


def _method(params: Any) -> str:
    """How the model is asked.

    Raises:
        InvalidInput: another parameter, or another method.
    """
    if params is None:
        return "predict"
    found = expect(params, ("predict_method",), "params").get("predict_method", "predict")
    if found not in _METHODS:
        hint = f"There is {' and '.join(_METHODS)}."
        raise InvalidInput("This predict_method is not known.", kind="parameter", name="predict_method", hint=hint)
    return str(found)


def _rows(document: dict[str, Any], resident: Resident) -> Sequence[Row]:
    given = [form for form in _FORMS if form in document]
    if len(given) != 1:
        raise Malformed(f"The request must have exactly one of {', '.join(_FORMS)}.", kind="member")
    form, value = given[0], document[given[0]]
    schema = resident.manifest.data_schema
    if form == "dataframe_split":
        return resident.binder.rows(_split(value))
    if form == "inputs" and isinstance(value, dict):
        return resident.binder.columns(*by_column(value, form))
    return resident.binder.rows(records(value, schema, form))


def _split(value: Any) -> list[Any]:
    """Records of a data frame as names, rows and an index, which means nothing here."""
    frame = expect(value, ("columns", "data", "index"), "dataframe_split")
    names, data = frame.get("columns"), frame.get("data")
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names) and isinstance(data, list)):
        raise Malformed("dataframe_split must have a list of columns and a list of data.", kind="member", name="dataframe_split")
    if len(set(names)) != len(names):
        raise InvalidInput("A column is named twice.", code="duplicate-name", kind="member", name="dataframe_split")
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(names):
            raise InvalidInput(
                f"Row {number}: must be a list of {len(names)} values.", kind="row", extra={"row": number, "column": ""}
            )
    return [dict(zip(names, row, strict=True)) for row in data]


DOORS = (
    Door("POST", "/invocations", "sole", invocations, "mlflow", refusal),
    Door("POST", "/deployments/{name}/invocations", "predict", invocations, "mlflow", refusal),
    Door("GET", "/ping", "open", ping, refusal=refusal),
    Door("GET", "/health", "open", ping, refusal=refusal),
    Door("GET", "/version", "open", version, refusal=refusal),
)
