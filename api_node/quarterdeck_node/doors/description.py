"""OpenAPI of what is deployed: made from each version's schema, with golden rows as examples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from quarterdeck.schema import Feature, Schema
from quarterdeck_node.doors.described import described, tables
from quarterdeck_node.predictor import Live, Slot

_TYPES: dict[str, dict[str, str]] = {
    "float": {"type": "number"},
    "int": {"type": "integer", "format": "int64"},
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
}
_REFUSALS = {
    "400": "Not JSON.",
    "401": "No usable key.",
    "403": "The key does not open this deployment.",
    "413": "Too large.",
    "415": "Another content type.",
    "422": "The records do not fit the schema.",
    "500": "The model failed.",
    "503": "Not ready, or too busy.",
}


def openapi(base_url: str, slots: Sequence[Slot], most_rows: int) -> dict[str, Any]:
    """The document.

    Args:
        base_url: where callers reach the node.
        slots: the deployments to describe; those that answer nothing yet are left out.
        most_rows: records of one request.
    """
    # A schema is known only where something answers.
    lives = [slot.live for slot in slots if slot.live is not None]
    paths: dict[str, Any] = {}
    for live in lives:
        name = live.plan.name
        paths[f"/deployments/{name}"] = {"get": _reading(f"What {name} is, takes and answers with")}
        paths[f"/deployments/{name}/predict"] = {"post": _predict(live, most_rows)}
        paths[f"/deployments/{name}/form"] = {"get": _reading(f"A form to try {name} in a browser")}
        paths[f"/v2/models/{name}"] = {"get": _reading(f"Inputs and outputs of {name} (Open Inference Protocol V2)")}
        paths[f"/v2/models/{name}/ready"] = {"get": _reading(f"Whether {name} can answer (Open Inference Protocol V2)")}
        paths[f"/v2/models/{name}/infer"] = {"post": _infer(live, "")}
        paths[f"/v2/models/{name}/versions/{live.resident.ref.version}/infer"] = {"post": _infer(live, ", by version")}
        paths[f"/v1/models/{name}"] = {"get": _reading(f"State of {name} and its versions (KServe V1, TensorFlow Serving)")}
        paths[f"/v1/models/{name}/metadata"] = {"get": _reading(f"Schema of {name} (TensorFlow Serving)")}
        for door in described(live):
            paths[door.path] = {"post": _operation(live, door.summary, door.content, door.answer)}
    for path, summary in _COMMON:
        paths[path] = {"get": {**_reading(summary), "security": []}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Quarterdeck API node", "version": release()},
        "servers": [{"url": base_url}],
        "paths": paths,
        "components": {
            "schemas": {**{_name(live): record(live.resident.manifest.data_schema) for live in lives}, "Problem": _PROBLEM},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        "security": [{"bearer": []}, {"key": []}],
    }


def record(schema: Schema) -> dict[str, Any]:
    """JSON schema of one record."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": schema.names,
        "properties": {feature.name: _property(feature) for feature in schema.features},
    }


def _property(feature: Feature) -> dict[str, Any]:
    found: dict[str, Any] = dict(_TYPES[feature.type])
    if feature.nullable:
        found["type"] = [found["type"], "null"]
    # Examples and not an enum: unseen categories are legal.
    if feature.categories:
        found["examples"] = feature.categories[:20]
    said = [feature.description] if feature.description else []
    if feature.minimum is not None and feature.maximum is not None:
        said.append(f"In training: {feature.minimum:g} to {feature.maximum:g}.")
    return {**found, "description": " ".join(said)} if said else found


def _name(live: Live) -> str:
    return f"{live.plan.name}-record"


def _predict(live: Live, most_rows: int) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{_name(live)}"}
    body = {"oneOf": [reference, {"type": "array", "items": reference, "minItems": 1, "maxItems": most_rows}]}
    content = {"application/json": {"schema": body, "example": live.resident.manifest.golden[0].row}, **tables(live)}
    return _operation(live, f"Predict with {live.plan.name}", content, _answer(live.resident.manifest.data_schema))


def _infer(live: Live, how: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _INFER}}
    return _operation(live, f"Infer with {live.plan.name}{how} (Open Inference Protocol V2)", content, {"type": "object"})


def _reading(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "OK"}}}


def _operation(live: Live, summary: str, content: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refusals = {status: {"description": said, "content": problem} for status, said in _REFUSALS.items()}
    answered = {"description": "One prediction per record.", "content": {"application/json": {"schema": answer}}}
    return {
        "summary": summary,
        "operationId": summary.lower().replace(" ", "-").translate({ord(sign): None for sign in "(),"}),
        "description": live.resident.manifest.description,
        "tags": [live.plan.name],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": answered, **refusals},
        **({"security": []} if live.plan.access == "public" else {}),
    }


def _answer(schema: Schema) -> dict[str, Any]:
    number = {"type": "number"}
    one: dict[str, Any] = {"prediction": {"enum": schema.classes} if schema.classes else number}
    if schema.classes:
        one["scores"] = {"type": "object", "additionalProperties": number}
    text, whole = {"type": "string"}, {"type": "integer"}
    # Beside `plain.document`, which makes what is promised here.
    properties = {
        "request_id": text,
        "deployment": text,
        "model": text,
        "version": whole,
        "digest": text,
        "revision": whole,
        "predictions": {"type": "array", "items": {"type": "object", "properties": one, "required": list(one)}},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


_COMMON = (
    ("/live", "Whether the process answers"),
    ("/ready", "Whether everything that shall answer can"),
    ("/metrics", "Prometheus metrics"),
    ("/deployments", "What is deployed here"),
    ("/v2", "The server (Open Inference Protocol V2)"),
    ("/v2/health/live", "Whether the process answers (Open Inference Protocol V2)"),
    ("/v2/health/ready", "Whether everything that shall answer can (Open Inference Protocol V2)"),
    ("/v2/models", "What is deployed here (Open Inference Protocol V2)"),
    ("/v1/models", "What is deployed here (KServe V1)"),
    ("/ping", "Whether everything that shall answer can (MLflow)"),
    ("/health", "Whether everything that shall answer can (MLflow, too)"),
    ("/version", "The version of this program (MLflow)"),
)
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "data": {"type": "array"},
    },
}
_INFER = {
    "type": "object",
    "required": ["inputs"],
    "properties": {"id": {"type": "string"}, "inputs": {"type": "array", "items": _TENSOR, "minItems": 1}},
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "hint": {"type": "string"},
        "row": {"type": "integer"},
        "column": {"type": "string"},
        "request_id": {"type": "string"},
    },
}


@cache
def release() -> str:
    """The version of this program; 0 where it is not installed."""
    try:
        return version("quarterdeck")
    except PackageNotFoundError:
        return "0"
