"""The gRPC door: the Open Inference Protocol, health and reflection, asked by gRPC's own client."""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from quarterdeck.records import Answer
from quarterdeck.schema import Row
from quarterdeck_node.grpc_door import open_inference_pb2 as pb
from quarterdeck_node.grpc_door.server import listen
from quarterdeck_node.grpc_door.service import SERVICE
from tests.nodes import LocalNode, binary, deployment, encoding, key, local_node
from tests.support import eventually, free_port

ROW: dict[str, Any] = {"distance": 512.5, "hour": 7, "holiday": True, "carrier": "B6", "wind": 3.25}
DATATYPES = {"distance": "FP64", "hour": "INT64", "holiday": "BOOL", "carrier": "BYTES", "wind": "FP64"}
PACKED = {"FP64": "<d", "INT64": "<q", "BOOL": "<?"}


class Door:
    """A client of the door, and the node behind it."""

    def __init__(self, node: LocalNode, channel: grpc.Channel) -> None:
        self.node = node
        self.channel = channel

    def ask(self, method: str, request: Any, answer: Any, timeout: float = 30.0, **metadata: str) -> Any:
        """One call; gRPC's client raises `grpc.RpcError`. Underscores in names of metadata stand for dashes."""
        sent = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
        call = self.channel.unary_unary(f"/{SERVICE}/{method}", type(request).SerializeToString, answer.FromString)
        return call(request, timeout=timeout, metadata=sent)

    def infer(self, request: pb.ModelInferRequest, **metadata: Any) -> pb.ModelInferResponse:
        """Answer tensors."""
        found: pb.ModelInferResponse = self.ask("ModelInfer", request, pb.ModelInferResponse, **metadata)
        return found


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A node with a public classifier in two versions and a closed deployment, asked over gRPC."""
    with local_node(tmp_path_factory.mktemp("node")) as node:
        late, one, two = node.holds(binary(), 1), node.holds(encoding(1), 1), node.holds(encoding(2), 2)
        keys = (key("mine"), key("theirs", project="another"))
        closed = deployment(one, name="closed", access="project")
        node.serves(deployment(late, name="late"), deployment(two, one), closed, keys=keys)
        port = free_port()
        server = node.call(listen, node.node, "127.0.0.1", port)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Door(node, channel)
        node.call(server.stop, 1.0)


def typed() -> pb.ModelInferRequest:
    """`ROW` with typed contents."""
    request = pb.ModelInferRequest(model_name="late", id="mine")
    fields = {"FP64": "fp64_contents", "INT64": "int64_contents", "BOOL": "bool_contents", "BYTES": "bytes_contents"}
    for name, value in ROW.items():
        given = value.encode() if isinstance(value, str) else value
        typed_contents: dict[str, Any] = {fields[DATATYPES[name]]: [given]}
        contents = pb.InferTensorContents(**typed_contents)
        request.inputs.add(name=name, datatype=DATATYPES[name], shape=[1], contents=contents)
    return request


def raw() -> pb.ModelInferRequest:
    """`ROW` with raw contents."""
    request = pb.ModelInferRequest(model_name="late")
    for name, value in ROW.items():
        request.inputs.add(name=name, datatype=DATATYPES[name], shape=[1, 1])
        text = value.encode() if isinstance(value, str) else b""
        request.raw_input_contents.append(
            struct.pack("<I", len(text)) + text if text else struct.pack(PACKED[DATATYPES[name]], value)
        )
    return request


def scores(door: Door) -> list[float]:
    """What the plain door answers to `ROW`."""
    found = door.node.predict(ROW, "late").json()["predictions"][0]["scores"]
    return list(found.values())


def test_typed_tensors_are_answered_as_plain_records_are(door: Door) -> None:
    """Bit for bit, and what answered is named in the message and in the metadata."""
    answer = door.infer(typed())
    outputs = {output.name: output for output in answer.outputs}
    assert list(outputs["scores"].contents.fp64_contents) == scores(door)
    assert (list(outputs["scores"].shape), answer.id, answer.model_version) == ([1, 2], "mine", "1")
    assert answer.parameters["digest"].string_param == binary().manifest.digest


def test_raw_tensors_are_answered_raw(door: Door) -> None:
    """The same numbers as bytes, in the order of the outputs."""
    answer = door.infer(raw())
    place = [output.name for output in answer.outputs].index("scores")
    assert list(struct.unpack("<2d", answer.raw_output_contents[place])) == scores(door)


def test_a_version_can_be_asked_for(door: Door) -> None:
    """The one that the request names, active or not; the metadata of the answer names it as well."""
    for version in ("1", "2"):
        request = pb.ModelInferRequest(model_name="numbers", model_version=version)
        request.inputs.add(name="number", datatype="FP64", shape=[2], contents={"fp64_contents": [1.0, 2.0]})
        answer, call = door.channel.unary_unary(
            f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        ).with_call(request, timeout=60)
        assert list(answer.outputs[0].contents.fp64_contents) == [float(version)] * 2
        assert dict(call.initial_metadata())["quarterdeck-version"] == version


def test_only_the_outputs_that_are_asked_for_are_answered(door: Door) -> None:
    """By name, once each."""
    request = typed()
    request.outputs.add(name="scores")
    assert [output.name for output in door.infer(request).outputs] == ["scores"]


def changed(change: Callable[[pb.ModelInferRequest], object]) -> pb.ModelInferRequest:
    """A good request with one thing wrong."""
    request = typed()
    change(request)
    return request


def _both(request: pb.ModelInferRequest) -> None:
    request.raw_input_contents.extend(raw().raw_input_contents)


def _text(request: pb.ModelInferRequest) -> None:
    request.inputs[3].contents.bytes_contents[0] = b"\xff\xfe"


INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("change", "status", "code", "said"),
    [
        (lambda request: setattr(request, "model_name", "nobody"), MISSING, "not-found", "no deployment"),
        (lambda request: setattr(request, "model_version", "9"), MISSING, "not-found", "does not hold"),
        (lambda request: setattr(request, "model_version", "one"), MISSING, "not-found", "whole numbers"),
        (lambda request: setattr(request.inputs[1], "datatype", "FP64"), INVALID, "shape-mismatch", "hour"),
        (lambda request: setattr(request.inputs[1], "name", "x"), INVALID, "invalid-input", "not a feature"),
        (lambda request: request.inputs[1].shape.append(7), INVALID, "shape-mismatch", "hour"),
        (lambda request: request.ClearField("inputs"), INVALID, "malformed", "no inputs"),
        (lambda request: request.inputs.pop(), INVALID, "invalid-input", "wind is missing"),
        (_both, INVALID, "malformed", "not both"),
        (_text, INVALID, "invalid-input", "Row 0, column carrier"),
        (lambda request: request.outputs.add(name="nothing"), INVALID, "invalid-input", "no such output"),
    ],
    ids=["deployment", "version", "not a version", "datatype", "name", "shape", "empty", "absent", "both", "text", "output"],
)
def test_what_does_not_fit_is_refused_by_name(
    door: Door, change: Callable[[pb.ModelInferRequest], object], status: grpc.StatusCode, code: str, said: str
) -> None:
    """With gRPC's status, our code in the metadata, and what to do in the message."""
    with pytest.raises(grpc.RpcError) as refused:
        door.infer(changed(change))
    error: Any = refused.value
    assert (error.code(), dict(error.trailing_metadata())["quarterdeck-code"]) == (status, code)
    assert said in error.details()


@pytest.mark.parametrize(
    ("metadata", "status"),
    [
        ({}, grpc.StatusCode.UNAUTHENTICATED),
        ({"x_api_key": "nobody's"}, grpc.StatusCode.UNAUTHENTICATED),
        ({"x_api_key": "theirs"}, grpc.StatusCode.PERMISSION_DENIED),
        ({"authorization": "Bearer mine"}, None),
        ({"x_api_key": "mine"}, None),
    ],
    ids=["none", "unknown", "of another project", "bearer", "header"],
)
def test_keys_count_as_over_http(door: Door, metadata: dict[str, str], status: grpc.StatusCode | None) -> None:
    """Metadata carries what headers do."""
    request = pb.ModelInferRequest(model_name="closed")
    request.inputs.add(name="number", datatype="FP64", shape=[1], contents={"fp64_contents": [1.0]})
    if status is None:
        assert door.infer(request, **metadata).model_version == "1"
        return
    with pytest.raises(grpc.RpcError) as refused:
        door.infer(request, **metadata)
    assert refused.value.code() == status


def test_metadata_says_what_to_send(door: Door) -> None:
    """Inputs with their datatypes, outputs, and the versions that are held."""
    late = door.ask("ModelMetadata", pb.ModelMetadataRequest(name="late"), pb.ModelMetadataResponse)
    assert {tensor.name: tensor.datatype for tensor in late.inputs} == DATATYPES
    assert [output.name for output in late.outputs] == ["prediction", "scores"]
    numbers = door.ask("ModelMetadata", pb.ModelMetadataRequest(name="numbers"), pb.ModelMetadataResponse)
    assert list(numbers.versions) == ["1", "2"]


def test_the_server_says_that_it_lives_and_is_ready(door: Door) -> None:
    """And which deployments are."""
    assert door.ask("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
    assert door.ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
    assert door.ask("ModelReady", pb.ModelReadyRequest(name="late"), pb.ModelReadyResponse).ready
    assert door.ask("ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse).name == "quarterdeck"


def test_health_is_that_of_the_node_and_of_each_deployment(door: Door) -> None:
    """By gRPC's own health service, which load balancers and probes ask; watching tells the state at once."""
    health = health_pb2_grpc.HealthStub(door.channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ("", SERVICE, "late"):
        assert health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60).status == serving
    with pytest.raises(grpc.RpcError) as unknown:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=60)
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    watch = health.Watch(health_pb2.HealthCheckRequest(service="late"), timeout=60)
    assert next(iter(watch)).status == serving
    watch.cancel()


def test_reflection_lists_the_services(door: Door) -> None:
    """So that tools find the methods without the .proto file."""
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(door.channel)
    answer = next(iter(stub.ServerReflectionInfo(iter([asked]), timeout=60)))
    assert SERVICE in [service.name for service in answer.list_services_response.service]


def test_requests_are_counted_and_recorded_under_their_door(door: Door) -> None:
    """As the metrics' protocol and in the record."""
    before = _counted(door)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: door.infer(typed()), range(20)))
    assert _counted(door) == before + 20


class Gate:
    """A runtime that holds every request until it is opened."""

    def __init__(self) -> None:
        self.arrived: list[float] = []
        self.open = asyncio.Event()

    async def predict(self, rows: Sequence[Row], deadline: float = math.inf) -> list[Answer]:
        """As `Runtime.predict`."""
        self.arrived.append(deadline)
        await self.open.wait()
        return [Answer(1.0, []) for _ in rows]

    async def close(self) -> None:
        """As `Runtime.close`."""


@contextmanager
def held(door: Door) -> Iterator[Gate]:
    """A gate in the place of the model of `numbers`, opened at the end."""
    resident = door.node.node.predictor.slots["numbers"].versions[2]
    kept = resident.runtime, resident.scoring
    gate = Gate()
    resident.runtime, resident.scoring = gate, None
    try:
        yield gate
    finally:
        door.node.call(gate.open.set)
        resident.runtime, resident.scoring = kept


def number(*numbers: float) -> pb.ModelInferRequest:
    """Rows for `numbers`."""
    request = pb.ModelInferRequest(model_name="numbers")
    request.inputs.add(name="number", datatype="FP64", shape=[len(numbers)], contents={"fp64_contents": numbers})
    return request


def test_a_caller_that_leaves_is_counted_as_such_and_nothing_is_recorded(door: Door) -> None:
    """Its deadline passed or it cancelled: one request received, of no row, and nothing is held up by it."""
    before, written = _counted(door, "cancelled", "numbers"), dict(door.node.node.spool.written)
    with held(door) as gate:
        ask: Any = door.channel.unary_unary(f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString)
        call = ask.future(number(1.0), timeout=60)
        eventually(lambda: gate.arrived)
        call.cancel()
        eventually(lambda: _counted(door, "cancelled", "numbers") == before + 1)
        with pytest.raises(grpc.RpcError) as late:
            ask(number(1.0), timeout=2.0)
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: _counted(door, "cancelled", "numbers") == before + 2)
        eventually(lambda: door.node.node.predictor.slots["numbers"].versions[2].users == 0)
    assert door.node.node.inflight == 0
    assert dict(door.node.node.spool.written) == written


def test_the_callers_deadline_reaches_the_model_and_no_deadline_is_none(door: Door) -> None:
    """As the moment by which the answer must be there."""
    with held(door) as gate:
        door.node.call(gate.open.set)
        began = time.monotonic()
        door.infer(number(1.0), timeout=50.0)
        door.channel.unary_unary(f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString)(number(1.0))
    assert 40 < gate.arrived[0] - began < 60 + time.monotonic() - began
    assert gate.arrived[1] == math.inf


def test_calls_beyond_the_nodes_limit_are_shed_by_name(door: Door) -> None:
    """Together with the requests over HTTP, by one figure; health answers all the same."""
    node = door.node.node
    node.inflight += node.limits.inflight
    try:
        with pytest.raises(grpc.RpcError) as shed:
            door.infer(number(1.0))
        health = health_pb2_grpc.HealthStub(door.channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    finally:
        node.inflight -= node.limits.inflight
    error: Any = shed.value
    assert (error.code(), dict(error.trailing_metadata())["quarterdeck-code"]) == (grpc.StatusCode.UNAVAILABLE, "overloaded")
    assert health.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ([0], 0), ([0, 1], 0), ([0, 0], 0), ([2**62], 1), ([2**62, 2**62], 1), ([-1], 1), ([1, 1, 1], 1), ([], 1), ([1], 0),
        ([1], 2),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("packed", [True, False], ids=["raw", "typed"])
def test_shapes_that_do_not_fit_are_refused(door: Door, shape: list[int], values: int, packed: bool) -> None:
    """None of them is believed before it is compared with what came; no rows are no request."""
    request = pb.ModelInferRequest(model_name="numbers")
    tensor = request.inputs.add(name="number", datatype="FP64", shape=shape)
    if packed:
        request.raw_input_contents.append(struct.pack("<d", 1.0) * values)
    else:
        tensor.contents.fp64_contents.extend([1.0] * values)
    with pytest.raises(grpc.RpcError) as refused:
        door.infer(request)
    assert refused.value.code() == INVALID
    assert _counted(door, "error", "numbers") == 0


def test_refusals_are_counted_by_their_reason(door: Door) -> None:
    """The same reasons as over HTTP: who may not ask is not who asks for what there is not."""

    def reasons() -> dict[str, float]:
        lines = [line for line in door.node.get("/metrics").text.splitlines() if line.startswith("quarterdeck_rejections_total")]
        return {line.split('"')[1]: float(line.split()[-1]) for line in lines}

    before = reasons()
    closed = pb.ModelInferRequest(model_name="closed")
    for request in (closed, pb.ModelInferRequest(model_name="nobody"), changed(_both), changed(_text)):
        with pytest.raises(grpc.RpcError):
            door.infer(request)
    after = reasons()
    assert {reason: after[reason] - before[reason] for reason in after if after[reason] != before[reason]} == {
        "auth": 1, "unknown": 1, "format": 1, "schema": 1,
    }  # fmt: skip


def test_watchers_are_bounded_and_do_not_hold_up_the_end(door: Door) -> None:
    """Sixty-four may watch, one more is told to ask instead; a server that stops lets go of all of them at once."""
    port = free_port()
    server = door.node.call(listen, door.node.node, "127.0.0.1", port)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest(), timeout=120) for _ in range(64)]
        assert {next(watch).status for watch in watches} == {health_pb2.HealthCheckResponse.SERVING}
        with pytest.raises(grpc.RpcError) as refused:
            next(health.Watch(health_pb2.HealthCheckRequest(), timeout=60))
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        # For as long as it takes: were they waited for, it would be until their own deadlines, and those would be errors.
        door.node.call(server.stop, 300.0)
        assert [list(watch) for watch in watches] == [[]] * 64


def _counted(door: Door, outcome: str = "ok", name: str = "late") -> float:
    lines = door.node.get("/metrics").text.splitlines()
    wanted = (f'deployment="{name}"', 'protocol="grpc"', f'outcome="{outcome}"', "quarterdeck_requests_total")
    return sum(float(line.split()[-1]) for line in lines if all(part in line for part in wanted))
