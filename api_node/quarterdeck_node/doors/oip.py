"""Open Inference Protocol, version 2, over REST: tensors as JSON or as bytes, every version by its path, what is here.

Errors are `{"error": …}` with the members of problem+json beside it; what is 422 elsewhere is 400 here, as the protocol says.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from pydantic_core import to_json

from quarterdeck.errors import InvalidInput, NotReady, QuarterdeckError
from quarterdeck.plan import DeploymentPlan
from quarterdeck_node.answers import Answers, label_text
from quarterdeck_node.doors import binary_tensors
from quarterdeck_node.doors.call import Call, Door, Reply, json_reply
from quarterdeck_node.doors.dialect import held, refused, version_in_path, visible
from quarterdeck_node.doors.oip_layout import Layouts
from quarterdeck_node.doors.oip_request import InferenceRequest, Reader, read
from quarterdeck_node.doors.tensors import SAID, Output, elements, outputs, wanted
from quarterdeck_node.predictor import Predicted, Resident, Slot, Snapshot

EXTENSIONS = ("binary_tensor_data", "model_repository")
_LENGTH = b"inference-header-content-length"


class _Version:
    """What is worked out once for each version: how its requests are read, and what it answers with."""

    def __init__(self, resident: Resident) -> None:
        schema = resident.manifest.data_schema
        self.reader = Reader(resident)
        self.layouts = Layouts(resident.binder)
        self.outputs = outputs(schema)
        self.all = list(self.outputs.values())
        as_texts = self.all[0].datatype == "BYTES"
        self._labels = [to_json(label_text(label) if as_texts else label) for label in schema.classes]
        self._around: tuple[DeploymentPlan, bytes, bytes] | None = None

    def data(self, output: Output, given: Answers) -> bytes:
        """The elements of one output as JSON, with commas between."""
        if output.numeric:
            return given.numbers()
        picks = given.picks
        return to_json(elements(output, given))[1:-1] if picks is None else b",".join([self._labels[pick] for pick in picks])

    def written(self, snapshot: Snapshot, identity: bytes, tensors: bytes) -> bytes:
        """The JSON of an answer around its id and its outputs."""
        around, plan = self._around, snapshot.plan
        # The same until the plan changes.
        if around is None or around[0] is not plan:
            ref = snapshot.ref
            head = b'{"model_name":"%b","model_version":"%d","id":' % (plan.name.encode(), ref.version)
            what = b',"parameters":{"digest":"%b","revision":%d},"outputs":[' % (ref.digest.encode(), plan.revision)
            around = self._around = plan, head, what
        return b"".join((around[1], identity, around[2], tensors, b"]}"))


# By the version itself, and only as long as something else holds it.
_versions: WeakKeyDictionary[Resident, _Version] = WeakKeyDictionary()


async def server(call: Call) -> Reply:
    """Who answers here, and the extensions that it speaks."""
    return json_reply({"name": "quarterdeck", "version": "2", "extensions": EXTENSIONS})


async def live(call: Call) -> Reply:
    """The process answers."""
    return json_reply({"live": True})


async def ready(call: Call) -> Reply:
    """Both keys, since the protocol's text and its clients disagree about the name."""
    is_ready = not call.node.missing()
    return json_reply({"ready": is_ready, "live": True}, 200 if is_ready else 503)


async def models(call: Call) -> Reply:
    """The deployments that this caller may ask."""
    return json_reply({"models": [slot.plan.name for slot in visible(call)]})


async def index(call: Call) -> Reply:
    """Every version that is here of the deployments that this caller may ask, and its state."""
    await call.body("application/json", "application/octet-stream")
    return json_reply([state for slot in visible(call) for state in _states(slot)])


def _states(slot: Slot) -> list[dict[str, str]]:
    name = slot.plan.name
    found = [{"name": name, "version": str(version), "state": "READY", "reason": ""} for version in held(slot)]
    return found if slot.live else [*found, {"name": name, "state": "UNAVAILABLE", "reason": "It has no active version."}]


async def metadata(call: Call) -> Reply:
    """Inputs and outputs of one deployment, or of one of its versions."""
    snapshot = call.take(version_in_path(call))
    schema = snapshot.resident.manifest.data_schema
    versions = sorted({*(held(call.slot) if call.slot else ()), snapshot.ref.version})
    return json_reply(
        {
            "name": call.name,
            "versions": [str(version) for version in versions],
            "platform": f"quarterdeck_{snapshot.resident.manifest.form}",
            "inputs": [{"name": feature.name, "datatype": SAID[feature.type], "shape": [-1]} for feature in schema.features],
            "outputs": [
                {"name": one.name, "datatype": one.datatype, "shape": [-1, *one.tail]} for one in outputs(schema).values()
            ],
        }
    )


async def model_ready(call: Call) -> Reply:
    """Whether one deployment answers."""
    try:
        call.take(version_in_path(call))
    except NotReady:
        return json_reply({"name": call.name, "ready": False}, 503)
    return json_reply({"name": call.name, "ready": True})


async def infer(call: Call) -> Reply:
    """Answer tensors."""
    length = call.header(_LENGTH)
    # Only with the header may a part of the body be something other than JSON.
    media = ("application/octet-stream", "application/json") if length else ("application/json",)
    body = call.whole(*media) or await call.body(*media)
    snapshot = call.take(version_in_path(call))
    resident = snapshot.resident
    version = _versions.get(resident)
    if version is None:
        version = _versions[resident] = _Version(resident)
    if not length and (found := version.layouts.read(body)) is not None:
        row, text, layout = found
        predicted = call.answered(snapshot, [row], "oip", text) or await call.predict(snapshot, [row], "oip", text)
        filled = layout.answer % tuple([version.data(output, predicted.given) for output in layout.asked])
        return Reply(version.written(snapshot, b'"%b"' % call.request_id.encode(), filled))
    request, binary = read(body, length, call.node.limits)
    if request.model_name not in ("", call.name):
        raise InvalidInput("The path and the request name different models.", kind="member", name="model_name")
    asked = wanted([one.name for one in request.outputs], version.outputs) if request.outputs else version.all
    rows = version.reader.rows(request, binary)
    predicted = call.answered(snapshot, rows, "oip") or await call.predict(snapshot, rows, "oip")
    if len(rows) == 1 and not length and request.is_bare:
        version.layouts.learn(body, [tensor.name for tensor in request.inputs], rows[0], asked)
    return _reply(call, version, request, predicted, asked)


def refusal(error: QuarterdeckError, call: Call) -> Reply:
    """The protocol's own form of an error."""
    return refused(error, call, {"error": error.detail})


def _reply(call: Call, version: _Version, request: InferenceRequest, predicted: Predicted, asked: list[Output]) -> Reply:
    """Written piece by piece: the numbers are text already, since records need them so."""
    snapshot, given = predicted.snapshot, predicted.given
    tensors, binary = [], b""
    for output in asked:
        # Nearly every request is told nothing of bytes, and asks for none.
        if (request.parameters or request.outputs) and request.binary(output.name):
            part = binary_tensors.write(output.datatype, elements(output, given))
            data = b'"parameters":{"binary_data_size":%d}' % len(part)
            binary += part
        else:
            data = b'"data":[%b]' % version.data(output, given)
        tensors.append(output.written % (call.rows, data))
    head = version.written(snapshot, to_json(request.id or call.request_id), b",".join(tensors))
    if not binary:
        return Reply(head)
    return Reply(head + binary, 200, "application/octet-stream", ((_LENGTH, b"%d" % len(head)),))


_MODEL = "/v2/models/{name}"
_AT = "/v2/models/{name}/versions/{version}"
DOORS = (
    Door("GET", "/v2", "open", server, refusal=refusal),
    Door("GET", "/v2/health/live", "open", live, refusal=refusal),
    Door("GET", "/v2/health/ready", "open", ready, refusal=refusal),
    Door("GET", "/v2/models", "caller", models, refusal=refusal),
    Door("POST", "/v2/repository/index", "caller", index, refusal=refusal),
    *(Door("GET", path, "read", metadata, refusal=refusal) for path in (_MODEL, _AT)),
    *(Door("GET", path + "/ready", "read", model_ready, refusal=refusal) for path in (_MODEL, _AT)),
    *(Door("POST", path + "/infer", "predict", infer, "oip", refusal) for path in (_MODEL, _AT)),
)
