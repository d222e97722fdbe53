"""One HTTP request on its way through a door, and the reply to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import to_json

from quarterdeck.errors import InvalidInput, Malformed, Overloaded, QuarterdeckError, TooLarge, Unsupported
from quarterdeck.records import Answer
from quarterdeck.schema import Label
from quarterdeck_node.auth import Scope
from quarterdeck_node.identifiers import request_id
from quarterdeck_node.metrics import Protocol
from quarterdeck_node.node import Node
from quarterdeck_node.predictor import Context, Predicted, Slot, Snapshot

MAX_BODY = 8 * 2**20
MAX_BODIES = 256 * 2**20
"""Bytes of all bodies together that are being received: a thousand slow callers with 8 MiB each must not fill the memory."""
BODY_SECONDS = 30.0
_MAX_CALLER_ID = 128
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


@dataclass(slots=True)
class Call:
    """A request. Doors read it by the methods; `slot`, `snapshot` and `rows` tell the edge what to count and to name."""

    node: Node
    scope: MutableMapping[str, Any]
    receive: Receive
    request_id: str = field(default_factory=request_id)
    started: float = field(default_factory=time.perf_counter)
    key_id: str = ""
    slot: Slot | None = None
    snapshot: Snapshot | None = None
    rows: int = 0
    body_read: bool = False
    _headers: dict[bytes, bytes] | None = None

    @property
    def name(self) -> str:
        """The deployment's name in the path."""
        return str(self.scope["path_params"]["name"])

    def header(self, name: bytes) -> str:
        """One request header by its lower-case name; empty where it was not sent."""
        if self._headers is None:
            # Backwards, so that the first of two headers of one name counts; once, since six of them are asked for.
            self._headers = dict(reversed(self.scope["headers"]))
        return self._headers.get(name, b"").decode("latin-1")

    def secret(self) -> str:
        """The API key that was sent, if any."""
        # A scheme that is not ours leaves the other header free to carry the key.
        kind, _, token = self.header(b"authorization").partition(" ")
        return token.strip() if kind.lower() == "bearer" else self.header(b"x-api-key")

    def admit(self, secret: str, *scopes: Scope) -> Slot:
        """Find the deployment of the path and let the caller through to it.

        Raises:
            NotFound: there is no such deployment.
            Unauthenticated, Forbidden: by the deployment's access.
        """
        self.slot = self.node.predictor.slot(self.name)
        self.key_id = self.node.keyring.check(secret, self.slot.plan, *scopes)
        return self.slot

    def take(self, version: int | None = None) -> Snapshot:
        """The snapshot that answers this request from now to its end."""
        self.snapshot = self.node.predictor.at(self.name, version)
        return self.snapshot

    def context(self, door: Protocol) -> Context:
        """Where the rows come from.

        Raises:
            InvalidInput: the caller's own request id cannot be kept.
        """
        caller_id = self.header(b"x-request-id")
        if len(caller_id) > _MAX_CALLER_ID or not (caller_id.isascii() and caller_id.isprintable()):
            raise InvalidInput(
                f"x-request-id must have at most {_MAX_CALLER_ID} printable ASCII characters.",
                code="request-id-invalid",
                kind="header",
                name="x-request-id",
            )
        return Context(self.request_id, door, self.started, caller_id, self.key_id)

    async def predict(self, snapshot: Snapshot, rows: list[Any], door: Protocol) -> Predicted:
        """Have rows answered that are bound to the snapshot's schema."""
        predicted = await self.node.predictor.predict(snapshot, rows, self.context(door))
        self.rows = len(rows)
        return predicted

    async def body(self, *media: str, limit: int = MAX_BODY) -> bytes:
        """The whole body.

        Args:
            media: content types that this door reads; a request without one is taken as the first.
            limit: bytes.

        Raises:
            Unsupported: another content type, or compressed.
            TooLarge: more than `limit`, declared or real.
            Overloaded: too many large bodies are on their way at once.
            Malformed: it did not arrive within 30 seconds.
            CallerGone: it will never be complete.
        """
        given = self.header(b"content-type").partition(";")[0].strip().lower()
        if given and given not in media:
            raise Unsupported("This door does not read that content type.", hint=f"Send {' or '.join(media)}.")
        if self.header(b"content-encoding").lower() not in ("", "identity"):
            raise Unsupported("Compressed requests are not read.", code="encoding-unsupported", hint="Send the body as it is.")
        # Refused before a byte of it is read; what is declared wrongly is counted below.
        declared = self.header(b"content-length")
        if declared.isdigit() and int(declared[:20]) > limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._read(limit)
        except TimeoutError:
            raise Malformed(f"The body was not complete after {BODY_SECONDS:g} s.", code="body-too-slow") from None

    async def _read(self, limit: int) -> bytes:
        message = await self.receive()
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
                if node.receiving + len(part) > MAX_BODIES:
                    raise Overloaded("Too many large requests arrive at once.", hint="Try again in a second.")
                node.receiving += len(part)
                body += part
                if not message.get("more_body"):
                    # Only now can the connection carry another request.
                    self.body_read = True
                    return bytes(body)
                message = await self.receive()
        finally:
            node.receiving -= len(body)


def problem(error: QuarterdeckError, call: Call) -> Reply:
    """An error as problem+json."""
    return json_reply({**error.problem(), "request_id": call.request_id}, error.status, "application/problem+json")


def label_text(label: Label) -> str:
    """A class label as the name of a JSON member."""
    return label if isinstance(label, str) else to_json(label).decode()


def plain_answer(classes: list[Label], answer: Answer) -> dict[str, Any]:
    """One answer as plain records show it."""
    if not classes:
        return {"prediction": answer.prediction}
    scores = {label_text(label): score for label, score in zip(classes, answer.scores, strict=True)} if answer.scores else {}
    return {"prediction": answer.prediction, "scores": scores}


Answering = Callable[[Call], Awaitable[Reply]]
Access = Literal["open", "caller", "predict", "read", "mirror"]


@dataclass(frozen=True, slots=True)
class Door:
    """One route: nothing is reachable that does not state who may reach it.

    `open`: anybody, and nothing of a deployment is shown. `caller`: the door itself shows each caller only what its key opens.
    `predict`, `read`, `mirror`: the path names a deployment, and the key needs that scope by the deployment's access.
    """

    method: Literal["GET", "POST"]
    path: str
    access: Access
    answer: Answering
    protocol: Protocol | None = None
    refusal: Callable[[QuarterdeckError, Call], Reply] = problem


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit // 2**20} MiB.", hint="Send fewer records per request.")
