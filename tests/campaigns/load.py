"""Load from several connections that remembers every answer."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple, Self
from urllib.parse import urlsplit

_PAUSE_AFTER_FAILURE = 0.02
_TIMEOUT = 30.0


class Answer(NamedTuple):
    """One acknowledged request: who answered, as header and body say, and the predicted numbers."""

    request_id: str
    version: int
    digest: str
    revision: int
    values: tuple[float, ...]


@dataclass
class Tally:
    """What one connection has seen. `unanswered` counts connection failures by kind, `refused` other answers by status."""

    answers: list[Answer] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Load:
    """`connections` threads that ask as fast as they are answered, until the block ends.

    A failed request is not repeated: the next one is a new one.
    """

    def __init__(self, url: str, deployment: str, connections: int = 8, rows: int = 3) -> None:
        place = urlsplit(url)
        self._host, self._port = place.hostname or "", place.port
        self._path = f"/deployments/{deployment}/predict"
        self._body = json.dumps([{"number": float(row)} for row in range(rows)])
        self._rows = rows
        self._over = threading.Event()
        self.tallies = [Tally() for _ in range(connections)]
        self._threads = [threading.Thread(target=self._ask_on, args=(tally,), daemon=True) for tally in self.tallies]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(2 * _TIMEOUT)

    def total(self) -> Tally:
        """All connections together."""
        whole = Tally()
        for each in self.tallies:
            whole.answers += each.answers
            whole.refused += each.refused
            whole.unanswered += each.unanswered
            whole.wrong += each.wrong
        return whole

    def _ask_on(self, tally: Tally) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        while not self._over.is_set():
            try:
                connection.request("POST", self._path, self._body, {"content-type": "application/json"})
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                tally.unanswered[type(error).__name__] += 1
                connection.close()
                time.sleep(_PAUSE_AFTER_FAILURE)
                continue
            if response.status == 200:
                self._take(tally, response, json.loads(body))
            else:
                tally.refused[response.status] += 1
                time.sleep(_PAUSE_AFTER_FAILURE)
        connection.close()

    def _take(self, tally: Tally, response: http.client.HTTPResponse, body: dict[str, object]) -> None:
        predictions = body["predictions"]
        assert isinstance(predictions, list)
        header = {name: response.headers[f"quarterdeck-{name}"] for name in ("version", "digest", "revision")}
        answer = Answer(
            response.headers["x-request-id"],
            int(header["version"]),
            header["digest"],
            int(header["revision"]),
            tuple(each["prediction"] for each in predictions),
        )
        told = tuple(str(body[name]) for name in ("version", "digest", "revision"))
        if told != tuple(header.values()) or body["request_id"] != answer.request_id or len(answer.values) != self._rows:
            tally.wrong.append(f"header and body of {answer.request_id} tell different things")
        tally.answers.append(answer)
