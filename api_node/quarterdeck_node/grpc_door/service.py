"""The methods of the Open Inference Protocol over gRPC: each one admits its caller, asks the predictor, names what answered."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from quarterdeck.errors import InvalidInput, Malformed, NotFound, NotReady, Overloaded, QuarterdeckError, TooMany
from quarterdeck_node.auth import Scope
from quarterdeck_node.doors import tensors as shared
from quarterdeck_node.edge import REASONS
from quarterdeck_node.grpc_door import open_inference_pb2 as pb
from quarterdeck_node.grpc_door import tensors
from quarterdeck_node.identifiers import request_id
from quarterdeck_node.metrics import Outcome
from quarterdeck_node.node import Node
from quarterdeck_node.predictor import Context, Predicted, Slot, Snapshot

SERVICE = "inference.GRPCInferenceService"
STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_MAX_CALLER_ID = 128
_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer", bound=Message)


class Service:
    """Answers for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._leaving = False

    def leave(self) -> None:
        """Answer nobody any more: every further call is told to go elsewhere."""
        self._leaving = True

    def handler(self) -> grpc.GenericRpcHandler:
        """The service as gRPC takes it."""
        methods: dict[str, tuple[Callable[[Any, _Asked], Awaitable[Message]], type[Message], type[Message]]] = {
            "ServerLive": (self._server_live, pb.ServerLiveRequest, pb.ServerLiveResponse),
            "ServerReady": (self._server_ready, pb.ServerReadyRequest, pb.ServerReadyResponse),
            "ServerMetadata": (self._server_metadata, pb.ServerMetadataRequest, pb.ServerMetadataResponse),
            "ModelReady": (self._model_ready, pb.ModelReadyRequest, pb.ModelReadyResponse),
            "ModelMetadata": (self._model_metadata, pb.ModelMetadataRequest, pb.ModelMetadataResponse),
            "ModelInfer": (self._model_infer, pb.ModelInferRequest, pb.ModelInferResponse),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                # Messages are parsed within the edge: what gRPC cannot parse by itself it would call an unknown failure.
                name: grpc.unary_unary_rpc_method_handler(
                    self._guarded(answer, asked), response_serializer=answered.SerializeToString
                )
                for name, (answer, asked, answered) in methods.items()
            },
        )

    def _guarded(
        self, answer: Callable[[Any, _Asked], Awaitable[_Answer]], kind: type[Message]
    ) -> Callable[[bytes, Any], Awaitable[_Answer]]:
        """The one edge of this door: ids, errors and counts of every method."""

        async def guarded(message: bytes, context: Any) -> _Answer:
            asked = _Asked(self._node, context)
            self._node.inflight += 1
            try:
                if self._leaving:
                    raise NotReady("This node is leaving.", kind="node", hint="Ask another one, or again in a moment.")
                found = await answer(_parsed(message, kind), asked)
                await context.send_initial_metadata(asked.metadata())
                asked.end("ok")
                return found
            except QuarterdeckError as error:
                asked.refused(error)
                status, said = _status(error), error
            # The caller left, or its deadline passed, which gRPC itself tells it; a request that was received all the same.
            except asyncio.CancelledError:
                asked.end("cancelled")
                raise
            except Exception:
                # A caller that left while it was being answered: there is nobody to tell, and nothing went wrong.
                if context.cancelled():
                    asked.end("cancelled")
                    raise
                # The caller learns an id and nothing else; the log has the rest under the same id.
                _log.exception("request %s failed", asked.request_id)
                asked.end("error")
                status = grpc.StatusCode.INTERNAL
                said = QuarterdeckError("Something failed inside the node.", hint="Look for the request id in its log.")
            finally:
                self._node.inflight -= 1
            # Outside of the handlers: gRPC ends the call by raising, and that is no failure of ours.
            await context.abort(status, _told(said), (*asked.metadata(), *_metadata(said)))
            raise AssertionError("abort raises")

        return guarded

    async def _server_live(self, request: pb.ServerLiveRequest, asked: _Asked) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, request: pb.ServerReadyRequest, asked: _Asked) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=not self._node.missing())

    async def _server_metadata(self, request: pb.ServerMetadataRequest, asked: _Asked) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="quarterdeck", version="2")

    async def _model_ready(self, request: pb.ModelReadyRequest, asked: _Asked) -> pb.ModelReadyResponse:
        asked.admit(request.name, "read", "predict")
        try:
            asked.take(request.version)
        except NotReady:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def _model_metadata(self, request: pb.ModelMetadataRequest, asked: _Asked) -> pb.ModelMetadataResponse:
        slot = asked.admit(request.name, "read", "predict")
        snapshot = asked.take(request.version)
        schema = snapshot.resident.manifest.data_schema
        found = pb.ModelMetadataResponse(name=request.name, platform=f"quarterdeck_{snapshot.resident.manifest.form}")
        found.versions.extend(str(version) for version in sorted({*slot.versions, snapshot.ref.version}))
        for feature in schema.features:
            found.inputs.add(name=feature.name, datatype=shared.SAID[feature.type], shape=[-1])
        for output in shared.outputs(schema).values():
            found.outputs.add(name=output.name, datatype=output.datatype, shape=[-1, *output.tail])
        return found

    async def _model_infer(self, request: pb.ModelInferRequest, asked: _Asked) -> pb.ModelInferResponse:
        # Shed by the same figure as over HTTP, which counts the requests of both.
        if self._node.inflight > self._node.limits.inflight:
            raise Overloaded("Too many requests are being answered already.", hint="Try again in a second.")
        asked.admit(request.model_name, "predict")
        snapshot = asked.take(request.model_version)
        schema = snapshot.resident.manifest.data_schema
        wanted = shared.wanted([output.name for output in request.outputs], shared.outputs(schema))
        columns, count = shared.columns(tensors.inputs(request), schema)
        rows = snapshot.resident.binder.columns(columns, count)
        asked.predicted = predicted = await self._node.predictor.predict(snapshot, rows, asked.where())
        asked.rows = count
        parameters: dict[str, str | int] = {"digest": snapshot.ref.digest, "revision": snapshot.plan.revision}
        answered = tensors.response(request, wanted, predicted.given, count, parameters)
        answered.id, answered.model_version = request.id or asked.request_id, str(snapshot.ref.version)
        return answered


class _Asked:
    """One call: who asks, for what, until when, and what is counted of it."""

    def __init__(self, node: Node, context: Any) -> None:
        self.request_id = request_id()
        self.rows = 0
        self.predicted: Predicted | None = None
        self._node = node
        self._started, self._until = time.monotonic(), _deadline(context)
        self._sent: dict[str, str] = {}
        for name, value in context.invocation_metadata() or ():
            # The first of two of one name counts, as over HTTP; binary values are none of ours.
            if isinstance(value, str):
                self._sent.setdefault(name, value)
        self._slot: Slot | None = None
        self._snapshot: Snapshot | None = None
        self._key_id = ""

    def admit(self, name: str, *scopes: Scope) -> Slot:
        """Find the deployment and let the caller through to it; raises NotFound, Unauthenticated, Forbidden, TooMany."""
        kind, _, token = self._sent.get("authorization", "").partition(" ")
        secret = token.strip() if kind.lower() == "bearer" else self._sent.get("x-api-key", "")
        self._slot = self._node.predictor.slot(name)
        meter = self._node.keyring.check(secret, self._slot.plan, *scopes).meter
        self._key_id = meter.id
        meter.enter(self._started)
        return self._slot

    def take(self, version: str) -> Snapshot:
        """The snapshot that answers; raises NotFound, NotReady."""
        assert self._slot is not None
        name = self._slot.plan.name
        if version and not (version.isascii() and version.isdigit() and len(version) < 10):
            raise NotFound(f"{name} has no such version.", kind="version", hint="Versions are whole numbers.")
        self._snapshot = self._node.predictor.at(name, int(version) if version else None)
        return self._snapshot

    def where(self) -> Context:
        """Where the rows come from; raises InvalidInput where the caller's own id cannot be kept."""
        caller_id = self._sent.get("x-request-id", "")
        if len(caller_id) > _MAX_CALLER_ID or not (caller_id.isascii() and caller_id.isprintable()):
            raise InvalidInput(
                f"x-request-id must have at most {_MAX_CALLER_ID} printable ASCII characters.",
                code="request-id-invalid",
                kind="header",
                name="x-request-id",
            )
        return Context(self.request_id, "grpc", self._started, caller_id, self._key_id, self._until)

    def end(self, outcome: Outcome) -> None:
        """Count the call, once it reached a deployment."""
        metrics = self._node.metrics
        if self._slot is not None:
            ended = time.monotonic()
            metrics.request(self._slot, self._snapshot, "grpc", outcome, self._started, ended, self.predicted, self.rows)

    def refused(self, error: QuarterdeckError) -> None:
        """Count the call as what the error makes of it; as a rejection where the caller is to blame."""
        self.end("shed" if error.status == 503 else "error" if error.status >= 500 else "rejected")
        if error.status < 500:
            self._node.metrics.rejection(REASONS.get(error.status, "schema"))

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every answer carries: its id, and what gave it."""
        found = [("x-request-id", self.request_id)]
        if self._snapshot is not None:
            ref = self._snapshot.ref
            found += [
                ("quarterdeck-model", ref.model),
                ("quarterdeck-version", str(ref.version)),
                ("quarterdeck-digest", ref.digest),
                ("quarterdeck-revision", str(self._snapshot.plan.revision)),
            ]
        return tuple(found)


def _parsed(message: bytes, kind: type[Message]) -> Message:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise Malformed(f"The message is not a {kind.__name__}.", kind="message", name=kind.__name__) from None


def _metadata(error: QuarterdeckError) -> list[tuple[str, str]]:
    """What goes with a refusal."""
    later = [("retry-after", str(error.seconds))] if isinstance(error, TooMany) else []
    return [("quarterdeck-code", error.code), *later]


def _status(error: QuarterdeckError) -> grpc.StatusCode:
    # Clients repeat by themselves what was unavailable; what comes too late would come too late again.
    if error.code == "deadline-exceeded":
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return STATUS.get(error.status, grpc.StatusCode.INTERNAL)


def _deadline(context: Any) -> float:
    """The caller's deadline as `time.monotonic()`; gRPC gives the seconds that are left, or None."""
    left = context.time_remaining()
    return math.inf if left is None else time.monotonic() + float(left)


def _told(error: QuarterdeckError) -> str:
    """An error as the one line that gRPC has for it."""
    return f"{error.detail} {error.hint}".strip()
