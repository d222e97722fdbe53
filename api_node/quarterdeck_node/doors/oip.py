"""Open Inference Protocol, version 2, over REST with JSON tensors.

A model's features are its inputs: one tensor per feature of shape [n] or [n, 1], or, where every feature is a number, a single
tensor of shape [n, features]. Datatypes must be those of the schema; nothing is converted that could lose anything.
Errors are `{"error": …}` with the members of problem+json beside it; what is 422 elsewhere is 400 here, as the protocol says.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from quarterdeck.errors import InvalidInput, Malformed, NotFound, NotReady, QuarterdeckError, TooLarge, Unsupported
from quarterdeck.schema import Feature, FeatureType, Schema
from quarterdeck_node.binding import MAX_ROWS, parse
from quarterdeck_node.doors.call import Call, Door, Reply, json_reply, label_text
from quarterdeck_node.predictor import Predicted, Resident, Snapshot

_INTEGERS = frozenset(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
_TAKEN: dict[FeatureType, frozenset[str]] = {
    "float": _FLOATS,
    "int": _INTEGERS,
    "boolean": frozenset({"BOOL"}),
    "string": frozenset({"BYTES"}),
    "datetime": frozenset({"BYTES"}),
}
_SAID: dict[FeatureType, str] = {"float": "FP64", "int": "INT64", "boolean": "BOOL", "string": "BYTES", "datetime": "BYTES"}
MAX_INPUTS = 4_096
MAX_OUTPUTS = 16
MAX_PARAMETERS = 64


def _few(given: Any) -> Any:
    # Before its members are looked at: each misfit would become four errors, and a million of them a gigabyte.
    if isinstance(given, dict) and len(given) > MAX_PARAMETERS:
        raise ValueError(f"there may be {MAX_PARAMETERS} parameters at most")
    return given


_Parameters = Annotated[dict[str, str | int | float | bool], BeforeValidator(_few)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Tensor(_Strict):
    name: str
    shape: Annotated[list[Annotated[int, Field(ge=0, le=10**6)]], Field(min_length=1, max_length=2)]
    datatype: str
    parameters: _Parameters = {}
    data: list[Any]


class _Output(_Strict):
    name: str
    parameters: _Parameters = {}


class _Request(_Strict):
    id: Annotated[str, Field(max_length=256)] = ""
    parameters: _Parameters = {}
    inputs: Annotated[list[_Tensor], Field(min_length=1, max_length=MAX_INPUTS)]
    outputs: Annotated[list[_Output], Field(max_length=MAX_OUTPUTS)] = []


async def server(call: Call) -> Reply:
    """Who answers here."""
    return json_reply({"name": "quarterdeck", "version": "2", "extensions": []})


async def live(call: Call) -> Reply:
    """The process answers."""
    return json_reply({"live": True})


async def ready(call: Call) -> Reply:
    """Both keys, since the protocol's text and its clients disagree about the name."""
    is_ready = not call.node.missing()
    return json_reply({"ready": is_ready, "live": True}, 200 if is_ready else 503)


async def models(call: Call) -> Reply:
    """The deployments that this caller may ask."""
    secret = call.secret()
    slots = call.node.predictor.slots
    return json_reply(
        {
            "models": [
                name for name, slot in sorted(slots.items()) if call.node.keyring.allows(secret, slot.plan, "predict", "read")
            ]
        }
    )


async def metadata(call: Call) -> Reply:
    """Inputs and outputs of one deployment, or of one of its versions."""
    snapshot = call.take(_version(call))
    schema = snapshot.resident.manifest.data_schema
    versions = sorted({*(call.slot.versions if call.slot else ()), snapshot.ref.version})
    return json_reply(
        {
            "name": call.name,
            "versions": [str(version) for version in versions],
            "platform": f"quarterdeck_{snapshot.resident.manifest.form}",
            "inputs": [{"name": feature.name, "datatype": _SAID[feature.type], "shape": [-1]} for feature in schema.features],
            "outputs": [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in _outputs(schema)],
        }
    )


async def model_ready(call: Call) -> Reply:
    """Whether one deployment answers."""
    try:
        call.take(_version(call))
    except NotReady:
        return json_reply({"name": call.name, "ready": False}, 503)
    return json_reply({"name": call.name, "ready": True})


async def infer(call: Call) -> Reply:
    """Answer tensors."""
    if call.header(b"inference-header-content-length"):
        raise Unsupported("Binary tensors are not spoken here.", code="binary-unsupported", hint="Send tensors as JSON.")
    body = await call.body("application/json")
    snapshot = call.take(_version(call))
    request = _parse(body)
    schema = snapshot.resident.manifest.data_schema
    wanted = _wanted(request, schema)
    rows = snapshot.resident.binder.rows(_rows(request.inputs, schema))
    predicted = await call.predict(snapshot, rows, "oip")
    return json_reply(_response(call, request, predicted, wanted))


def refusal(error: QuarterdeckError, call: Call) -> Reply:
    """The protocol's own form of an error."""
    status = 400 if error.status == 422 else error.status
    body = {"error": error.detail, **error.problem(), "status": status, "request_id": call.request_id}
    return json_reply(body, status, "application/problem+json")


def _version(call: Call) -> int | None:
    text = call.scope["path_params"].get("version")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound(f"{call.name} has no such version.", kind="version", hint="Versions are whole numbers.")
    return int(text)


def _parse(body: bytes) -> _Request:
    document = parse(body)
    try:
        return _Request.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:64] for part in first["loc"][:4]) or "the document"
        raise Malformed(f"This is not an inference request: {place}: {first['msg']}.", kind="member", name=place) from None


def _rows(tensors: list[_Tensor], schema: Schema) -> list[dict[str, Any]]:
    """Rows of the request's tensors; every input is used, and none may be missing."""
    # A single [n, 1] tensor of a one-feature model is both forms; its name does not matter then.
    if len(tensors) == 1 and len(tensors[0].shape) == 2 and (tensors[0].shape[1] > 1 or len(schema.features) == 1):
        return _matrix(tensors[0], schema)
    features = {feature.name: feature for feature in schema.features}
    columns = {tensor.name: _column(tensor, features.get(tensor.name)) for tensor in tensors}
    if len(columns) != len(tensors):
        raise InvalidInput("An input is named twice.", code="duplicate-name", kind="input")
    missing = [name for name in schema.names if name not in columns]
    if missing:
        name = missing[0]
        raise InvalidInput(f"Input {name} is missing.", kind="input", name=name, extra={"column": name, "row": 0})
    # Never cut to the shortest: that would pair values of different rows.
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1:
        raise InvalidInput("The inputs have different numbers of rows.", kind="input")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _column(tensor: _Tensor, feature: Feature | None) -> list[Any]:
    if feature is None:
        name = tensor.name[:64]
        raise InvalidInput(f"Input {name} is not a feature of this model.", kind="input", name=name, extra={"column": name})
    # An INT64 tensor for a float feature is nearly always a column that was mixed up.
    if tensor.datatype not in _TAKEN[feature.type]:
        raise InvalidInput(
            f"Input {feature.name} must have datatype {_SAID[feature.type]}.",
            code="datatype-mismatch",
            kind="input",
            name=feature.name,
            extra={"column": feature.name},
        )
    if len(tensor.shape) == 2 and tensor.shape[1] != 1:
        raise InvalidInput(
            f"Input {feature.name} must have shape [n] or [n, 1].",
            code="shape-mismatch",
            kind="input",
            name=feature.name,
            extra={"column": feature.name},
        )
    return _flat(tensor)


def _matrix(tensor: _Tensor, schema: Schema) -> list[dict[str, Any]]:
    """One tensor for all features, in the schema's order."""
    if any(feature.type not in ("float", "int") for feature in schema.features):
        raise InvalidInput(
            "A single tensor works only where every feature is a number.",
            code="shape-mismatch",
            kind="input",
            hint="Send one input per feature; GET the model's metadata for their names.",
        )
    width = len(schema.features)
    if tensor.shape[1] != width:
        raise InvalidInput(f"The tensor must have shape [n, {width}].", code="shape-mismatch", kind="input")
    if tensor.datatype not in _FLOATS | _INTEGERS:
        raise InvalidInput("The tensor must have a number as its datatype.", code="datatype-mismatch", kind="input")
    whole = [feature.type == "int" for feature in schema.features]
    flat = _flat(tensor)
    rows = (zip(schema.names, flat[at : at + width], whole, strict=True) for at in range(0, len(flat), width))
    return [{name: _number(value, is_whole) for name, value, is_whole in row} for row in rows]


def _number(value: Any, whole: bool) -> Any:
    """In a tensor of floats whole numbers come as 3.0; only an exact one is a whole number."""
    return int(value) if whole and isinstance(value, float) and value.is_integer() else value


def _flat(tensor: _Tensor) -> list[Any]:
    """The elements in row-major order, nested or flat; their number must be the shape's."""
    if tensor.shape[0] > MAX_ROWS:
        raise TooLarge(f"More than {MAX_ROWS:,} rows in one request.", code="too-many-rows")
    data = tensor.data
    # Nested data is flattened once; whatever is nested deeper is no scalar and is refused by the schema.
    if data and isinstance(data[0], list):
        data = [value for part in data for value in (part if isinstance(part, list) else [part])]
    expected = tensor.shape[0] * (tensor.shape[1] if len(tensor.shape) == 2 else 1)
    if len(data) != expected:
        name = tensor.name[:64]
        raise InvalidInput(
            f"Input {name} has {len(data)} elements where its shape has {expected}.",
            code="shape-mismatch",
            kind="input",
            name=name,
            extra={"column": name},
        )
    return data


def _outputs(schema: Schema) -> list[tuple[str, str, list[int]]]:
    kinds = {bool: "BOOL", int: "INT64", float: "FP64"}
    # bool is a kind of int in Python: compared by exact type.
    types = {type(label) for label in schema.classes}
    datatype = "FP64" if not types else kinds.get(next(iter(types)), "BYTES") if len(types) == 1 else "BYTES"
    found: list[tuple[str, str, list[int]]] = [("prediction", datatype, [-1])]
    return [*found, ("scores", "FP64", [-1, len(schema.classes)])] if schema.classes else found


def _wanted(request: _Request, schema: Schema) -> list[str]:
    there = [name for name, *_ in _outputs(schema)]
    for output in request.outputs:
        if output.name not in there:
            raise InvalidInput(f"There is no such output; there is {' and '.join(there)}.", kind="output", name=output.name[:64])
        if output.parameters.get("binary_data"):
            raise Unsupported("Binary tensors are not spoken here.", code="binary-unsupported", hint="Ask for outputs as JSON.")
    names = [output.name for output in request.outputs]
    # Every mention would be answered with a copy of the data: a few bytes in, gigabytes out.
    if len(set(names)) != len(names):
        raise InvalidInput("An output is named twice.", code="duplicate-name", kind="output")
    return names or there


def _response(call: Call, request: _Request, predicted: Predicted, wanted: list[str]) -> dict[str, Any]:
    snapshot: Snapshot = predicted.snapshot
    resident: Resident = snapshot.resident
    outputs = {name: (datatype, shape) for name, datatype, shape in _outputs(resident.manifest.data_schema)}
    rows = len(predicted.answers)
    answered = []
    for name in wanted:
        datatype, shape = outputs[name]
        if name == "scores":
            data: list[Any] = [score for answer in predicted.answers for score in answer.scores]
        else:
            labels = [answer.prediction for answer in predicted.answers]
            data = [label_text(label) for label in labels] if datatype == "BYTES" else labels
        answered.append({"name": name, "shape": [rows, *shape[1:]], "datatype": datatype, "data": data})
    return {
        "model_name": call.name,
        "model_version": str(snapshot.ref.version),
        "id": request.id or call.request_id,
        "parameters": {"digest": snapshot.ref.digest, "revision": snapshot.plan.revision},
        "outputs": answered,
    }


_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{version}"
DOORS = (
    Door("GET", "/v2", "open", server, refusal=refusal),
    Door("GET", "/v2/health/live", "open", live, refusal=refusal),
    Door("GET", "/v2/health/ready", "open", ready, refusal=refusal),
    Door("GET", "/v2/models", "caller", models, refusal=refusal),
    *(Door("GET", path, "read", metadata, refusal=refusal) for path in (_MODEL, _VERSION)),
    *(Door("GET", path + "/ready", "read", model_ready, refusal=refusal) for path in (_MODEL, _VERSION)),
    *(Door("POST", path + "/infer", "predict", infer, "oip", refusal) for path in (_MODEL, _VERSION)),
)
