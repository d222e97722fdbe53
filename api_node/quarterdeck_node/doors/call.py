"""One HTTP request on its way through a door, and the reply to it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Generator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import to_json

from quarterdeck.errors import Malformed, NotFound, Overloaded, QuarterdeckError, TooLarge
from quarterdeck_node.answers import label_text, plain_answer
from quarterdeck_node.auth import Meter, Scope
from quarterdeck_node.binding import parse
from quarterdeck_node.doors.head import Head
from quarterdeck_node.identifiers import request_id
from quarterdeck_node.metrics import Protocol
from quarterdeck_node.node import Node
from quarterdeck_node.predictor import Context, Predicted, Slot, Snapshot

__all__ = ["Call", "Door", "Reply", "json_reply", "label_text", "plain_answer", "problem"]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class CallerGone(Exception):
    """The caller closed the connection before its request was complete."""


@dataclass(slots=True)
class Reply:
    """What goes back."""

    body: bytes
    status: int = 200
    media: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


def json_reply(document: Any, status: int = 200, media: str = "application/json") -> Reply:
    """A document as JSON."""
    return Reply(to_json(document), status, media)


class Call:
    """A request. Doors read it by the methods; `slot`, `snapshot` and `rows` tell the edge what to count and to name.

    Args:
        node: whose doors these are.
        scope: ASGI's; of it only `method`, `path_params` and `query_string` are for doors.
        receive: ASGI's; not asked where `body` is given.
        head: the request's headers; read from `scope` where not given.
        body: the whole body where it is here already. Such a call may run before it has a task of its own.
    """

    # Shared until a door or the edge knows better: each that need not be set is a fiftieth of a microsecond.
    key_id = caller_id = ""
    slot: Slot | None = None
    snapshot: Snapshot | None = None
    predicted: Predicted | None = None
    rows = 0
    body_read = False

    def __init__(
        self,
        node: Node,
        scope: MutableMapping[str, Any],
        receive: Receive,
        head: Head | None = None,
        body: bytes | None = None,
    ) -> None:
        self.node, self.scope = node, scope
        self._receive, self._body = receive, body
        self.head = head or Head(scope["headers"])
        self.request_id = request_id()
        self.started = time.monotonic()

    @property
    def name(self) -> str:
        """The deployment's name: that of the path, or of the one that an unnamed path means."""
        return self.slot.plan.name if self.slot is not None else str(self.scope["path_params"]["name"])

    def header(self, name: bytes) -> str:
        """One request header by its lower-case name; empty where it was not sent."""
        return self.head.get(name)

    def secret(self) -> str:
        """The API key that was sent, if any."""
        return self.head.secret

    def admit(self, secret: str, *scopes: Scope) -> Slot:
        """Find the deployment of the path and let the caller through to it.

        Raises:
            NotFound: there is no such deployment.
            Unauthenticated, Forbidden: by the deployment's access.
            TooMany: the key's own limit is reached.
        """
        self.slot = slot = self.node.predictor.slot(self.scope["path_params"]["name"])
        head, keyring = self.head, self.node.keyring
        if secret is not head.secret:
            self._enter(keyring.check(secret, slot.plan, *scopes).meter)
            return slot
        admitted = head.admitted
        # The same head, and neither the keys nor the plan have changed since it was let in; both are replaced, never changed.
        if admitted is not None and admitted[0] is keyring and admitted[1] is slot.plan and admitted[2] == scopes:
            # As `_enter`, without the call: this is the road of nearly every request.
            meter: Meter = admitted[3]
            self.key_id = meter.id
            meter.enter(self.started)
            return slot
        holder = keyring.check(secret, slot.plan, *scopes, digest=head.digest)
        if holder.expires is None:
            head.admitted = (keyring, slot.plan, scopes, holder.meter)
        self._enter(holder.meter)
        return slot

    def admit_sole(self, secret: str, *scopes: Scope) -> Slot:
        """Let the caller through to the only deployment there is, for paths that name none.

        Raises:
            NotFound: there is none, or several; the hint names those that this caller may ask.
            Unauthenticated, Forbidden: by the deployment's access.
        """
        slots = self.node.predictor.slots
        if len(slots) != 1:
            # Which deployments there are is told to those only whose key opens them.
            names = ", ".join(name for name in sorted(slots) if self.node.keyring.allows(secret, slots[name].plan, *scopes))
            raise NotFound(
                f"This path means the only deployment of a node, and there are {len(slots)} here.",
                code="deployment-unnamed",
                kind="deployment",
                hint=f"Use a path that names one of {names}." if names else "GET /deployments lists those that your key opens.",
                extra={"deployments": names.split(", ")} if names else None,
            )
        [self.slot] = slots.values()
        self._enter(self.node.keyring.check(secret, self.slot.plan, *scopes).meter)
        return self.slot

    def _enter(self, meter: Meter) -> None:
        self.key_id = meter.id
        meter.enter(self.started)

    def take(self, version: int | None = None) -> Snapshot:
        """The snapshot that answers this request from now to its end."""
        self.snapshot = self.node.predictor.at(self.name, version)
        return self.snapshot

    def context(self, door: Protocol) -> Context:
        """Where the rows come from, and until when their caller waits.

        Raises:
            InvalidInput: the caller's own request id cannot be kept, or its deadline is no number of seconds.
        """
        head, started = self.head, self.started
        deadline = started + head.timeout if head.timeout else math.inf
        return Context(self.request_id, door, started, head.caller_id or self.caller_id, self.key_id, deadline)

    def answered(self, snapshot: Snapshot, rows: Sequence[Any], door: Protocol, text: bytes = b"") -> Predicted | None:
        """As `predict`, for what need not be waited for; None where `predict` has to be asked.

        A door that most callers use asks this first: each coroutine on the way to an answer costs a sixth of a microsecond.
        """
        predicted = self.node.predictor.answered(snapshot, rows, self.context(door), text)
        if predicted is not None:
            self.predicted, self.rows = predicted, 1
        return predicted

    async def predict(self, snapshot: Snapshot, rows: Sequence[Any], door: Protocol, text: bytes = b"") -> Predicted:
        """Have rows answered that are bound to the snapshot's schema.

        Args:
            snapshot: from `take`.
            rows: at least one.
            door: for metrics and records.
            text: the rows as the JSON text of an array, where the door has it: nothing encodes them again then.
        """
        # A model elsewhere is waited for, with deadlines that need a task.
        if self._body is not None and snapshot.resident.scoring is None:
            # Refused before there is a task: in a flood it is the refusals that take the model's processor.
            if snapshot.resident.admit is not None:
                snapshot.resident.admit(len(rows), self.context(door).deadline)
            await in_a_task()
        self.predicted = predicted = await self.node.predictor.predict(snapshot, rows, self.context(door), text)
        self.rows = len(rows)
        return predicted

    def document(self, body: bytes) -> Any:
        """Any JSON document, within this node's limits; see `binding.parse`."""
        return parse(body, self.node.limits)

    def whole(self, *media: str) -> bytes:
        """As `body`, where that is here already and not too large; empty otherwise, and `body` has to be asked.

        Raises:
            Unsupported: another content type, or compressed.
        """
        head, body = self.head, self._body
        head.check_media(media)
        if body is None or max(head.length, len(body)) > self.node.limits.body_bytes:
            return b""
        self.body_read = True
        return body

    async def body(self, *media: str, limit: int | None = None) -> bytes:
        """The whole body.

        Args:
            media: content types that this door reads; a request without one is taken as the first.
            limit: bytes; the node's where not given.

        Raises:
            Unsupported: another content type, or compressed.
            TooLarge: more than `limit`, declared or real.
            Overloaded: too many large bodies are on their way at once.
            Malformed: it did not arrive in time.
            CallerGone: it will never be complete.
        """
        self.head.check_media(media)
        limits = self.node.limits
        limit = limits.body_bytes if limit is None else limit
        # Refused before a byte of it is read; what is declared wrongly is counted below.
        if self.head.length > limit:
            raise _too_large(limit)
        if self._body is not None:
            if len(self._body) > limit:
                raise _too_large(limit)
            self.body_read = True
            return self._body
        try:
            async with asyncio.timeout(limits.body_seconds):
                return await self._read(limit)
        except TimeoutError:
            raise Malformed(f"The body was not complete after {limits.body_seconds:g} s.", code="body-too-slow") from None

    async def _read(self, limit: int) -> bytes:
        message = await self._receive()
        part = message.get("body", b"")
        # Nearly every request is here already, in one piece: it is not copied, and nothing is kept account of.
        if message["type"] == "http.request" and not message.get("more_body") and len(part) <= limit:
            self.body_read = True
            return bytes(part)
        node, body = self.node, bytearray()
        try:
            while True:
                if message["type"] == "http.disconnect":
                    raise CallerGone
                part = message.get("body", b"")
                if len(body) + len(part) > limit:
                    raise _too_large(limit)
                if node.receiving + len(part) > node.limits.bodies_bytes:
                    raise Overloaded("Too many large requests arrive at once.", hint="Try again in a second.")
                node.receiving += len(part)
                body += part
                if not message.get("more_body"):
                    # Only now can the connection carry another request.
                    self.body_read = True
                    return bytes(body)
                message = await self._receive()
        finally:
            node.receiving -= len(body)


def problem(error: QuarterdeckError, call: Call) -> Reply:
    """An error as problem+json."""
    return json_reply({**error.problem(), "request_id": call.request_id}, error.status, "application/problem+json")


class _Turn:
    """One turn of whoever drives the coroutine."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def in_a_task() -> None:
    """Give up the turn once: whoever drives this coroutine by hand goes on with it in a task."""
    await _Turn()


Answering = Callable[[Call], Awaitable[Reply]]
Access = Literal["open", "caller", "predict", "sole", "read", "mirror"]


@dataclass(frozen=True, slots=True)
class Door:
    """One route: nothing is reachable that does not state who may reach it.

    `open`: anybody, and nothing of a deployment is shown. `caller`: the door itself shows each caller only what its key opens.
    `predict`, `read`, `mirror`: the path names a deployment, and the key needs that scope by the deployment's access.
    `sole`: the path names none and means the only one there is; the key needs the scope `predict`.
    """

    method: Literal["GET", "POST"]
    path: str
    access: Access
    answer: Answering
    protocol: Protocol | None = None
    refusal: Callable[[QuarterdeckError, Call], Reply] = problem


def _too_large(limit: int) -> TooLarge:
    size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit} bytes"
    return TooLarge(f"The body is larger than {size}.", hint="Send fewer records per request.")
