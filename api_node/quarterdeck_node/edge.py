"""The one edge: who may enter, under which id, and how every answer and every error leaves.

Two roads lead here. The ordinary one is ASGI through the router. The short one begins in the connection's protocol: a whole
request to a path that the router has led to a door before is answered at once, by the same code, without task, scope and queue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from typing import Any, NamedTuple

from quarterdeck.errors import Overloaded, QuarterdeckError, TooMany
from quarterdeck_node.doors.call import Call, CallerGone, Door, Reply
from quarterdeck_node.metrics import Outcome
from quarterdeck_node.node import Node

MAX_LEARNED = 1_024
REASONS = {400: "format", 401: "auth", 403: "auth", 404: "unknown", 405: "unknown", 413: "size", 415: "type", 429: "rate"}
"""What a rejection is counted as, by its HTTP status; any other 4xx is the schema's."""
_ASKED = {401: (b"www-authenticate", b"Bearer"), 503: (b"retry-after", b"1")}
"""The header that tells what is asked of a caller, by HTTP status."""
_log = logging.getLogger(__name__)
_access = logging.getLogger("quarterdeck_node.access")


class Known(NamedTuple):
    """Where the router leads a path: the door, and the scope that doors see of it, but for the headers."""

    door: Door
    scope: dict[str, Any]


class Edge:
    """Answers calls.

    Args:
        node: whose doors these are.

    Attributes:
        known: request target → where it leads; only what the router has found before, so the router stays the one who decides.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.known: dict[bytes, Known] = {}

    async def answer(self, call: Call, door: Door) -> Reply | None:
        """The reply, whatever happens; None where nobody is there to take it."""
        node = self.node
        # Counted from here, so that a slow body counts as load as well.
        node.inflight += 1
        outcome: Outcome = "ok"
        try:
            self._admit(call, door)
            reply = await door.answer(call)
            if reply.status >= 400:
                outcome = "error" if reply.status >= 500 else "rejected"
        except QuarterdeckError as error:
            outcome = _outcome(error)
            reply = door.refusal(error, call)
            if isinstance(error, TooMany):
                reply.headers += ((b"retry-after", b"%d" % error.seconds),)
            if outcome == "rejected":
                node.metrics.rejection(REASONS.get(error.status, "schema"))
        # Nobody is there to answer; it is still a request that was received.
        except CallerGone:
            self._count(call, door, "cancelled")
            return None
        except Exception:
            # The caller learns an id and nothing else; the log has the rest under the same id.
            _log.exception("a request failed", extra=named(call))
            outcome = "error"
            failed = QuarterdeckError("Something failed inside the node.", hint="Look for the request id in its log.")
            reply = door.refusal(failed, call)
        finally:
            node.inflight -= 1
        self._count(call, door, outcome)
        if node.settings.access_log:
            _access.info("%s %s", door.method, door.path, extra={**named(call), "status": reply.status, "outcome": outcome})
        return reply

    def learn(self, scope: MutableMapping[str, Any], door: Door) -> None:
        """Remember where a path leads, after a request there was answered well."""
        # Of the doors that predict only; with the query string left out, which none of them has.
        if door.protocol is None or door.access not in ("predict", "sole", "mirror") or scope["query_string"]:
            return
        target = scope.get("raw_path", b"")
        if target and len(self.known) < MAX_LEARNED:
            kept = {name: scope[name] for name in ("type", "method", "path", "path_params", "query_string")}
            self.known[target] = Known(door, kept)

    def headers(self, call: Call, reply: Reply) -> list[tuple[bytes, bytes]]:
        """Headers of every answer: what it is, its id, what gave it, and whether the connection goes on."""
        headers = [
            (b"content-type", reply.media.encode()),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", call.request_id.encode()),
            *reply.headers,
        ]
        # Refusals name the version too, once one was taken: the schema that refused was its schema.
        if call.snapshot is not None:
            headers += call.snapshot.headers
        if call.head.trace:
            headers.append((b"traceparent", call.head.trace))
        if reply.status in _ASKED:
            headers.append(_ASKED[reply.status])
        if self.closes(call):
            headers.append((b"connection", b"close"))
        return headers

    def closes(self, call: Call) -> bool:
        """Whether the connection ends with this answer."""
        # An unread body would be taken for the next request's start; a node that leaves wants no next request.
        return self.node.draining or (not call.body_read and call.scope["method"] == "POST")

    def lines(self, call: Call, reply: Reply, closes: bool) -> bytes:
        """The same headers as lines of a response's head; `closes` is what the method of that name says."""
        snapshot = call.snapshot
        if snapshot is not None and not (closes or reply.headers or call.head.trace):
            own = f"content-type: {reply.media}\r\ncontent-length: {len(reply.body)}\r\nx-request-id: {call.request_id}\r\n"
            named = own.encode() + snapshot.head
            return named + b"%b: %b\r\n" % _ASKED[reply.status] if reply.status in _ASKED else named
        return b"".join([b"%b: %b\r\n" % line for line in self.headers(call, reply)])

    def _admit(self, call: Call, door: Door) -> None:
        node, limits, access = self.node, self.node.limits, door.access
        call.head.check(limits)
        if node.inflight > limits.inflight and door.protocol is not None:
            raise Overloaded("Too many requests are being answered already.", hint="Try again in a second.")
        if access == "predict":
            call.admit(call.head.secret, "predict")
        elif access == "sole":
            call.admit_sole(call.head.secret, "predict")
        elif access == "mirror":
            call.admit(call.head.secret, "mirror")
        elif access == "read":
            call.admit(call.head.secret, "read", "predict")

    def _count(self, call: Call, door: Door, outcome: Outcome) -> None:
        """Count a request to a deployment; requests that reached none are rejections only."""
        if door.protocol is None or call.slot is None:
            return
        self.node.metrics.request(
            call.slot, call.snapshot, door.protocol, outcome, call.started, time.monotonic(), call.predicted, call.rows
        )


def named(call: Call) -> dict[str, str]:
    """What a log line about a request is found by."""
    trace = {"trace_id": call.head.trace_id} if call.head.trace else {}
    return {"request_id": call.request_id, **trace}


def _outcome(error: QuarterdeckError) -> Outcome:
    if error.status < 500:
        return "rejected"
    return "shed" if error.status == 503 else "error"
