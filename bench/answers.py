"""Whether a server's answer is the original model's: every score, in order."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

TOLERANCE = 1e-9
ARROW = "application/vnd.apache.arrow.stream"


class WrongAnswer(Exception):
    """A server answered something else than the model says; the message says what."""


def post(url: str, body: bytes, headers: Mapping[str, str], seconds: float = 30.0) -> tuple[int, str, bytes]:
    """One POST on a connection of its own: status, content type, body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=seconds)
    try:
        connection.request("POST", parts.path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read()
    finally:
        connection.close()


def floats(document: Any) -> Iterator[float]:
    """The floats of a JSON document, depth first; whole numbers (labels, shapes, versions) are none."""
    if isinstance(document, float):
        yield document
    elif isinstance(document, list):
        for value in document:
            yield from floats(value)
    elif isinstance(document, dict):
        for value in document.values():
            yield from floats(value)


def scores(media: str, body: bytes, rows: int) -> list[float]:
    """P(class 1) of each row in an answer of any dialect: its only float, or the second of each pair.

    Raises:
        WrongAnswer: the answer has neither one float nor two per row.
    """
    found = _arrow_floats(body) if media == ARROW else list(floats(json.loads(body)))
    if len(found) == 2 * rows:
        return found[1::2]
    if len(found) == rows:
        return found
    raise WrongAnswer(f"{len(found)} floats for {rows} rows: {body[:200]!r}")


def difference(media: str, body: bytes, expected: Sequence[float]) -> float:
    """The largest difference between an answer and what is expected.

    Raises:
        WrongAnswer: it is more than 1e-9, or the numbers of scores differ.
    """
    found = scores(media, body, len(expected))
    largest = max(abs(one - other) for one, other in zip(found, expected, strict=True))
    if not largest <= TOLERANCE:
        raise WrongAnswer(f"off by {largest:.3g}: {body[:200]!r}")
    return largest


def _arrow_floats(body: bytes) -> list[float]:
    """Every float of every row, in the columns' order."""
    table = pa.ipc.open_stream(io.BytesIO(body)).read_all()
    return list(floats([list(row.values()) for row in table.to_pylist()]))
