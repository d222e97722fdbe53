"""What passes between serve and a model process: JSON documents, each behind its length in four bytes."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

from pydantic_core import to_json

HEAD = struct.Struct(">I")


def pack(document: dict[str, Any]) -> bytes:
    """The bytes of one document."""
    body = to_json(document)
    return HEAD.pack(len(body)) + body


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """The next document of a blocking stream; None at its end."""
    # A short head is the end: the other side is gone.
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    body = stream.read(HEAD.unpack(head)[0])
    found: dict[str, Any] = json.loads(body)
    return found
