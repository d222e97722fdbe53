"""A request's headers, looked at once: what follows from them alone holds for every request that brings the same bytes."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from quarterdeck.errors import InvalidInput, TooLarge, Unsupported
from quarterdeck_node.auth import Meter, digest_of
from quarterdeck_node.limits import Limits

_MAX_CALLER_ID = 128
_MAX_TIMEOUT = 3_600.0
_SECONDS = re.compile(r"\d{1,6}(\.\d{1,9})?", re.ASCII)
# Version 00 has exactly these 55 bytes; ids of zeros only are invalid, and so is version ff.
_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


T = TypeVar("T")


class Once(Generic[T]):
    """A property that is worked out at its first use; functools' own takes a lock, which costs more than most of these."""

    def __init__(self, work: Callable[[Any], T]) -> None:
        self._work, self._name = work, work.__name__
        self.__doc__ = work.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> T:
        # Found in the instance from now on, before this is ever asked again.
        found = instance.__dict__[self._name] = self._work(instance)
        return found


class Head:
    """Headers by name, and what the edge concludes from them.

    Args:
        headers: names in lower case, in the order in which they came.
        target: bytes of the request line.
    """

    def __init__(self, headers: Sequence[tuple[bytes, bytes]], target: int = 0) -> None:
        # Backwards, so that the first of two headers of one name counts.
        self._headers = dict(reversed(headers))
        self._fields = len(headers)
        self._size = target + sum(len(name) + len(value) for name, value in headers)
        self._read_as: tuple[str, ...] | None = None
        # Whom this head was let in to: the keyring, the plan and the scopes that were asked, and the key's meter.
        self.admitted: tuple[Any, Any, tuple[str, ...], Meter] | None = None

    def get(self, name: bytes) -> str:
        """One header by its lower-case name; empty where it was not sent."""
        return self._headers.get(name, b"").decode("latin-1")

    def check(self, limits: Limits) -> None:
        """Refuse too many or too large headers.

        Raises:
            TooLarge: code ``headers-too-large``.
        """
        if self._fields > limits.head_fields or self._size > limits.head_bytes:
            raise TooLarge("The request's headers are too large.", code="headers-too-large")

    def check_media(self, media: tuple[str, ...]) -> None:
        """Refuse a body that is something else.

        Raises:
            Unsupported: another content type, or compressed.
        """
        if self._read_as == media:
            return
        if self.media and self.media not in media:
            raise Unsupported("This door does not read that content type.", hint=f"Send {' or '.join(media)}.")
        if self.get(b"content-encoding").lower() not in ("", "identity"):
            raise Unsupported("Compressed requests are not read.", code="encoding-unsupported", hint="Send the body as it is.")
        self._read_as = media

    @Once
    def media(self) -> str:
        """The content type without its parameters; empty where none was sent."""
        return self.get(b"content-type").partition(";")[0].strip().lower()

    @Once
    def length(self) -> int:
        """Bytes of the body as declared; 0 where nothing usable is."""
        declared = self.get(b"content-length")
        return int(declared[:20]) if declared.isascii() and declared.isdigit() else 0

    @Once
    def secret(self) -> str:
        """The API key that was sent, if any."""
        # A scheme that is not ours leaves the other header free to carry the key.
        kind, _, token = self.get(b"authorization").partition(" ")
        if kind.lower() == "bearer":
            return token.strip()
        return self.get(b"x-api-key") or (_user(token) if kind.lower() == "basic" else "")

    @Once
    def digest(self) -> str:
        """What the key is known by."""
        return digest_of(self.secret)

    @Once
    def caller_id(self) -> str:
        """The caller's own request id; empty where none was sent.

        Raises:
            InvalidInput: it cannot be kept.
        """
        given = self.get(b"x-request-id")
        if len(given) > _MAX_CALLER_ID or not (given.isascii() and given.isprintable()):
            raise InvalidInput(
                f"x-request-id must have at most {_MAX_CALLER_ID} printable ASCII characters.",
                code="request-id-invalid",
                kind="header",
                name="x-request-id",
            )
        return given

    @Once
    def timeout(self) -> float:
        """Seconds for which the caller waits for its answer; 0 where it does not say.

        Raises:
            InvalidInput: it is no number of seconds between 0 and 3,600.
        """
        given = self.get(b"quarterdeck-timeout")
        if not given:
            return 0.0
        if not _SECONDS.fullmatch(given) or not 0.0 < float(given) <= _MAX_TIMEOUT:
            raise InvalidInput(
                "Quarterdeck-Timeout must be a decimal number of seconds above 0 and up to 3,600.",
                code="timeout-invalid",
                kind="header",
                name="quarterdeck-timeout",
            )
        return float(given)

    @Once
    def trace(self) -> bytes:
        """The W3C `traceparent` that was sent; empty where none was, or one that is not valid."""
        given = self.get(b"traceparent")
        return given.encode() if len(given) == 55 and _TRACE.fullmatch(given) else b""

    @property
    def trace_id(self) -> str:
        """The trace that this request belongs to; empty where it belongs to none."""
        return self.trace[3:35].decode()


def _user(token: str) -> str:
    """The user name of the Basic scheme, where Dataiku's clients put their key; empty where it cannot be read."""
    try:
        return b64decode(token.strip(), validate=True).decode().partition(":")[0]
    except ValueError:
        return ""
