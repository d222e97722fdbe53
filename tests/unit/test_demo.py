"""The demo's own judgement: it must see when a figure does not hold, and count rows as they are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo import data, replay
from demo.__main__ import _deploy, _port
from demo.recompute import Pair, Scores, recompute
from demo.replay import ROWS_PER_REQUEST, Replayed
from demo.report import Evidence, failures, scores_of
from quarterdeck.client import Client
from quarterdeck.errors import InvalidInput, NotReady

MIRROR = {"mirrored": 1000, "answered": 995, "failed": 1, "expired": 2, "dropped": 1, "pending": 1}
LEDGER = {"records": 1000, "pairs": 995, "labelled": 970}
SCORES = Pair(Scores(970, 0.18, 0.75), Scores(970, 0.17, 0.76))
GOOD = Evidence(Replayed(sent=1000, answered=1000), MIRROR, LEDGER, SCORES, SCORES)


def test_nothing_fails_where_every_figure_holds() -> None:
    """The exit status is 0 only then."""
    assert list(failures(GOOD)) == []


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (replace(GOOD, replayed=Replayed(1000, 999)), "1 of 1,000 rows were not answered"),
        (replace(GOOD, ledger={**LEDGER, "records": 999}), "the store holds 999 records"),
        (replace(GOOD, mirror={**MIRROR, "pending": 0}), "does not add up"),
        (replace(GOOD, ledger={**LEDGER, "pairs": 989}), "only 989 of 1,000"),
        (replace(GOOD, mirror=dict.fromkeys(MIRROR, 0)), "0 mirrored rows have both answers"),
        (replace(GOOD, recomputed=SCORES._replace(main=Scores(970, 0.18 + 1e-9, 0.75))), "brier of main"),
        (replace(GOOD, recomputed=SCORES._replace(challenger=Scores(970, 0.17, 0.77))), "accuracy of challenger"),
        (replace(GOOD, recomputed=SCORES._replace(main=Scores(969, 0.18, 0.75))), "rows of main"),
        (replace(GOOD, scores=SCORES._replace(main=Scores(970, float("nan"), 0.75))), "brier of main"),
    ],
)
def test_each_figure_that_does_not_hold_is_named(evidence: Evidence, words: str) -> None:
    """One wrong figure is enough, and the message says which."""
    assert any(words in message for message in failures(evidence))


def test_a_wish_that_is_not_followed_is_told_with_what_is_waited_for() -> None:
    """The demo ends with the deployer's own words and the place of the logs."""
    done = {"deployment": "late-flights", "revision": 1, "changed": True, "applied": False, "note": "v2 loads on node main"}
    answers = {"GET": {"store": "memory://demo-twin"}, "PUT": done}
    twin = httpx.MockTransport(lambda request: httpx.Response(200, json=answers[request.method]))
    with Client("http://deployer", transport=twin) as client, pytest.raises(NotReady, match="v2 loads on node main") as caught:
        _deploy(client, [])
    assert "logs" in caught.value.hint


def test_missing_scores_of_a_challenger_are_no_scores() -> None:
    """A pair without challenger gives NaN, which equals nothing."""
    performance = {"rows": 3, "main": {"brier": 0.25, "accuracy": 0.5}, "challenger": None}
    found = scores_of(performance)
    assert found.main == Scores(3, 0.25, 0.5)
    assert found.challenger.brier != found.challenger.brier


def test_rows_are_plain_json_and_unknown_is_null() -> None:
    """What is not known is sent as null, never as NaN."""
    frame = pd.DataFrame({name: [1.0, float("nan")] for name in data.NUMBERS} | {name: ["a", "b"] for name in data.WORDS})
    rows = data.records(frame)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert rows[1]["temp"] is None


def test_labels_name_rows_as_the_requests_named_them() -> None:
    """Every labelled row is named by its request and its place in it; rows without truth are left out."""
    truth = ["late", None] * ROWS_PER_REQUEST
    found = {(label["caller_id"], label["row"]): label["value"] for label in replay.labels(truth)}
    assert len(found) == ROWS_PER_REQUEST
    assert found[replay.request_name(ROWS_PER_REQUEST), 0] == "late"


@contextmanager
def door(status: int) -> Iterator[tuple[str, list[str]]]:
    """A server that answers one prediction per row with `status`; gives its URL and the ids that it was sent."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        """Answers like a node."""

        def do_POST(self) -> None:
            """One request."""
            rows = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append(self.headers["x-request-id"])
            body = json.dumps({"predictions": [{"prediction": "late"} for _ in rows]}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_replay_sends_every_row_once() -> None:
    """Sent and answered are counted apart; progress reaches the end."""
    advanced: list[int] = []
    with door(200) as (url, seen):
        done = replay.replay(url, [{"a": number} for number in range(100)], advanced.append)
    assert (done.sent, done.answered, done.failures, sum(advanced)) == (100, 100, [], 100)
    assert sorted(seen) == [replay.request_name(first) for first in range(0, 100, ROWS_PER_REQUEST)]


def test_replay_counts_refused_rows_as_unanswered() -> None:
    """A status other than 200 is a failure with its words, and nothing is sent again."""
    with door(503) as (url, seen):
        done = replay.replay(url, [{"a": 1}] * ROWS_PER_REQUEST, lambda more: None)
    assert (done.sent, done.answered, len(seen)) == (ROWS_PER_REQUEST, 0, 1)
    assert "503" in done.failures[0]


def test_recomputation_scores_only_rows_that_both_answered_and_that_have_a_truth(tmp_path: Path) -> None:
    """Three rows: one complete, one whose challenger failed, one without truth."""
    ids, request = ["r-0", "r-1", "r-2"], replay.request_name(0)
    main = {
        "row_id": ids,
        "caller_id": [request] * 3,
        "row": [0, 1, 2],
        "prediction": ['"late"', '"on-time"', '"late"'],
        "scores": [[0.75, 0.25], [0.5, 0.5], [0.9, 0.1]],
    }
    challenger = {
        "row_id": ids,
        "result": ["answered", "failed", "answered"],
        "prediction": ['"on-time"', None, '"late"'],
        "scores": [[0.25, 0.75], [], [0.5, 0.5]],
    }
    for name, table in (("main", main), ("challenger", challenger)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(table), tmp_path / name / "part.parquet")
    found = recompute(tmp_path, ["late", "late", None], ["late", "on-time"], "late")
    assert found == Pair(Scores(1, 0.0625, 1.0), Scores(1, 0.5625, 0.0))


@pytest.mark.parametrize("given", ["x", "-1", "65535", "8400 "])
def test_a_port_that_is_none_is_refused_by_name(given: str) -> None:
    """The message names the variable and what to give."""
    with pytest.raises(InvalidInput, match="PORT"):
        _port(given)
