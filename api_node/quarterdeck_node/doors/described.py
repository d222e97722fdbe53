"""The dialects' part of the OpenAPI document: for each deployment, what their doors take, with a golden row as example."""

from __future__ import annotations

from typing import Any, NamedTuple

from quarterdeck.schema import Row
from quarterdeck_node.doors import arrow, csv
from quarterdeck_node.predictor import Live

_ANY: dict[str, Any] = {"type": "object"}
_RECORDS = {"type": "array", "items": {"type": "object"}, "minItems": 1}


class Described(NamedTuple):
    """One door of one deployment: its request bodies by media type, and the schema of its answer."""

    path: str
    summary: str
    content: dict[str, Any]
    answer: dict[str, Any]


def tables(live: Live) -> dict[str, Any]:
    """What the plain door reads beside JSON."""
    row = live.resident.manifest.golden[0].row
    lines = ",".join(row) + "\n" + ",".join(_cell(value) for value in row.values()) + "\n"
    found: dict[str, Any] = {media: {"schema": {"type": "string"}, "example": lines} for media in csv.MEDIA}
    return {**found, arrow.MEDIA: {"schema": {"type": "string", "format": "binary"}}}


def described(live: Live) -> list[Described]:
    """The doors of every dialect but the Open Inference Protocol's."""
    name, row = live.plan.name, live.resident.manifest.golden[0].row
    service = live.plan.service or name
    version = live.resident.ref.version
    return [
        Described(f"/deployments/{name}/explain", f"Explain {name}", _json(_ANY, row), _object("explanations")),
        *_v1(name, version, row),
        _mlflow(name, row),
        *_dataiku(name, service, row),
    ]


def _v1(name: str, version: int, row: Row) -> list[Described]:
    body = {"type": "object", "properties": {"instances": _RECORDS, "inputs": {}, "signature_name": {"type": "string"}}}
    content = _json(body, {"instances": [row]})
    places = {"": "", f"/versions/{version}": ", by version", "/labels/main": ", by label"}
    verbs = (
        ("predict", "Predict with", "KServe V1, TensorFlow Serving", _object("predictions", "outputs")),
        ("explain", "Explain", "KServe V1", _object("predictions", "explanations")),
    )
    return [
        Described(f"/v1/models/{name}{place}:{verb}", f"{summary} {name}{how} ({dialect})", content, answer)
        for verb, summary, dialect, answer in verbs
        for place, how in places.items()
    ]


def _mlflow(name: str, row: Row) -> Described:
    forms = ("dataframe_split", "dataframe_records", "instances", "inputs", "params")
    example = {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}
    content = _json({"type": "object", "properties": {form: {} for form in forms}}, example)
    content |= {media: {"schema": {"type": "string"}} for media in csv.MEDIA}
    return Described(f"/deployments/{name}/invocations", f"Invoke {name} (MLflow)", content, _object("predictions"))


def _dataiku(name: str, service: str, row: Row) -> list[Described]:
    base = f"/public/api/v1/{service}/{name}"
    one = _json({"type": "object", "required": ["features"], "properties": {"features": _ANY}}, {"features": row})
    many = _json({"type": "object", "required": ["items"], "properties": {"items": _RECORDS}}, {"items": [{"features": row}]})
    return [
        Described(f"{base}/predict", f"Predict one record with {name} (Dataiku)", one, _object("result", "apiContext")),
        Described(f"{base}/predict-multi", f"Predict records with {name} (Dataiku)", many, _object("results", "apiContext")),
    ]


def _json(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


def _object(*members: str) -> dict[str, Any]:
    return {"type": "object", "properties": {member: {} for member in members}}


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
