"""The comparison's own judgement: what it reads, compares and concludes must be right before any figure is believed."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bench import answers, processes, profiling, wrk
from bench.answers import ARROW, WrongAnswer
from bench.cells import CONNECTIONS
from bench.compare import LONG, SERVERS, groups, options_of
from bench.forms import FORMS
from bench.goals import GOALS, judge
from bench.node import DEPLOYMENT, OURS, Caller, plan
from bench.packages import Published
from bench.rows import Journal, Results, Row, read
from bench.servers import BATCHING, NOT_BATCHING, PEERS_BY_NAME, Running, Target, first_answer
from bench.tables import BEGIN, END, markdown, number, table, write
from bench.work import WORKS
from quarterdeck.plan import VersionRef
from quarterdeck_node.auth import Keyring
from tests.support import ROOT

SAID = (
    "Running 1s test\n"
    'JSON {"requests":1000,"duration_us":2000000,"p50_us":150,"p99_us":2500,"max_us":9000,'
    '"connect":1,"read":2,"write":3,"status":100,"timeout":4}\n'
)


def test_what_wrk_says_is_read() -> None:
    """Only good answers count as throughput; every kind of error counts as error."""
    load = wrk.parse(SAID, cpu=0.5)
    assert load == wrk.Load(1000, 450.0, 0.15, 2.5, 9.0, 110, 0.5)


@pytest.mark.parametrize("said", ["", "unable to connect to 127.0.0.1:1\n", "JSON {broken"])
def test_a_run_that_wrk_did_not_finish_is_no_figure(said: str) -> None:
    """Its words are kept for the reader."""
    with pytest.raises(ValueError, match="did not finish"):
        wrk.parse(said)


def arrow(columns: dict[str, list[Any]]) -> bytes:
    """Columns as an Arrow stream."""
    table_ = pa.table(columns)
    target = io.BytesIO()
    with pa.ipc.new_stream(target, table_.schema) as stream:
        stream.write_table(table_)
    return target.getvalue()


PLAIN = {"version": 1, "revision": 3, "predictions": [{"prediction": 0, "scores": {"0": 0.75, "1": 0.25}}]}
OIP = {"outputs": [{"name": "prediction", "shape": [1], "data": [1]}, {"name": "scores", "shape": [1, 2], "data": [0.75, 0.25]}]}


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/json", json.dumps([0.25]).encode()),
        ("application/json", json.dumps({"predictions": [[0.75, 0.25]]}).encode()),
        ("application/json", json.dumps(PLAIN).encode()),
        ("application/json", json.dumps(OIP).encode()),
        (ARROW, arrow({"prediction": [1], "score_0": [0.75], "score_1": [0.25]})),
    ],
    ids=["list", "pairs", "plain", "oip", "arrow"],
)
def test_an_answer_of_any_dialect_is_compared(media: str, body: bytes) -> None:
    """The score of class 1 is found; one that is off by more than 1e-9 is a wrong answer."""
    assert answers.scores(media, body, 1) == [0.25]
    assert answers.difference(media, body, [0.25 + 5e-10]) == pytest.approx(5e-10, rel=1e-3)
    with pytest.raises(WrongAnswer, match="off by"):
        answers.difference(media, body, [0.25 + 2e-9])
    with pytest.raises(WrongAnswer, match="off by"):
        answers.difference(media, body, [float("nan")])


def test_an_answer_with_too_few_scores_is_wrong() -> None:
    """However right those are that it has."""
    with pytest.raises(WrongAnswer, match="1 floats for 3 rows"):
        answers.difference("application/json", b"[0.5]", [0.5, 0.5, 0.5])


def row(server: str, repetition: int, cell: str = "single", connections: int = 16, **figures: float) -> Row:
    """A row with some figures."""
    return Row(server, cell, connections, repetition, figures)


RUN = Results(
    {"versions": {"base": {"uvicorn": "0.54.0"}}, "when": "today"},
    (
        row("bare", 0, rps=100.0, p99_ms=1.0),
        row("bare", 1, rps=200.0, p99_ms=2.0),
        row("bare", 2, rps=50.0, p99_ms=1.0),
        row("quarterdeck", 0, rps=80.0, p99_ms=2.0, errors=0.0),
        row("quarterdeck", 1, rps=120.0, p99_ms=9.0, errors=1.0),
        row("quarterdeck", 2, rps=45.0, p99_ms=2.0, errors=0.0),
        row("kserve", 0, rps=2.0),
        row("kserve", 1, rps=1.0),
        row("mlserver-batch", 1, rps=6.0),
        row("kserve", 2, rps=1000.0, disturbed=1.0),
    ),
)


def test_ratios_are_taken_inside_a_repetition() -> None:
    """0.8, 0.6 and 0.9: not the ratio of the medians, which would be 0.8 by another road."""
    assert RUN.ratio("quarterdeck", "bare", "single", 16) == 0.8
    assert RUN.ratio("quarterdeck", "bare", "single", 16, "p99_ms") == 2.0
    assert RUN.ratio("quarterdeck", "nobody", "single", 16) is None
    assert (RUN.median("bare", "single", 16, "rps"), RUN.spread("bare", "single", 16, "rps")) == (100.0, 1.5)


def test_the_best_of_several_is_chosen_anew_in_each_repetition() -> None:
    """80/2 and 120/6; the third has a disturbed peer only, which does not count."""
    others = [(peer, "single", 16) for peer in ("kserve", "mlserver-batch")]
    assert RUN.best_ratio(("quarterdeck", "single", 16), others) == 30.0
    assert [one.server for one in RUN.disturbed] == ["kserve"]


def test_a_run_is_kept_as_lines_and_read_again(tmp_path: Path) -> None:
    """Two files are one run with more repetitions."""
    for name in ("one", "two"):
        journal = Journal(tmp_path / name, RUN.about)
        for one in RUN.rows:
            journal.add(one)
    assert read([tmp_path / "one"]) == RUN
    both = read([tmp_path / "one", tmp_path / "two"])
    assert [one.repetition for one in both.of("quarterdeck", "single", 16)] == [0, 1, 2, 3, 4, 5]


def test_goals_say_what_is_missed() -> None:
    """What was not measured is neither met nor missed."""
    found = {judged.goal.what: judged.verdict for judged in judge(RUN)}
    assert found["single, 16 connections: of bare uvicorn"] == "met"
    assert found["single, 16 connections: the best peer without it"] == "met"
    assert found["single, 16 connections: the best peer with its batching"] == "missed"
    assert found["answers other than 2xx"] == "missed"
    assert found["mirroring everything: main's throughput kept"] == "not measured"
    assert len(found) == len(GOALS)
    assert {judged.verdict for judged in judge(Results({}, ()))} == {"not measured"}


def test_tables_have_a_line_per_server() -> None:
    """Figures by thousands, ratios beside them, and what was left out by name."""
    text = markdown(RUN)
    assert "| quarterdeck | 80 | 0.800 | – |" in text
    assert "uvicorn 0.54.0" in text
    assert "kserve single at 16 (repetition 2)" in text
    assert table(["a"], []) == ""
    assert [number(1234.5), number(None), number(0.126, 2)] == ["1,234", "–", "0.13"]
    for found in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in found.splitlines()}) == 1


def test_a_page_gets_the_tables_between_its_marks(tmp_path: Path) -> None:
    """Again and again; a page without marks is left alone."""
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nEnd.\n")
    for text in ("one\n", "two \\1\n"):
        write(page, text)
    assert page.read_text() == f"# Title\n\n{BEGIN}\n\ntwo \\1\n\n{END}\n\nEnd.\n"
    page.write_text("# Title\n")
    with pytest.raises(ValueError, match="marks"):
        write(page, "text")


ROWS = [{"age": 1.5, "country": "FR"}, {"age": 2.5, "country": "DE"}]


@pytest.mark.parametrize("form", [name for name in FORMS if name not in ("arrow", "number")])
def test_every_form_holds_the_same_values(form: str) -> None:
    """Whatever the dialect is, each value of the rows is in the batch's body once, and one row's in a single one."""
    for work, rows in (("batch", ROWS), ("single", ROWS[:1])):
        body = FORMS[form][work](rows)
        assert b"\n" not in body
        floats = sorted(answers.floats(json.loads(body)))
        assert floats == [one["age"] for one in rows]
        assert body.count(b'"FR"') == 1


def test_arrow_holds_the_same_values_too() -> None:
    """As columns."""
    assert pa.ipc.open_stream(FORMS["arrow"]["batch"](ROWS)).read_all().to_pylist() == ROWS


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_can_be_asked_in_a_form_that_exists(name: str) -> None:
    """Its works have forms, and its environment has a lock."""
    server = SERVERS[name]
    assert server.name == name
    assert all(work in FORMS[target.form] and work in CONNECTIONS for work, target in server.targets.items())
    assert not server.environment or (ROOT / "requirements" / f"bench-{server.environment}.lock").is_file()
    assert sorted(given for group in groups(server, list(WORKS), True) for given in group) == sorted(server.targets)


def test_every_peer_is_a_peer_of_one_kind() -> None:
    """With batching, without, or a limit that is no peer."""
    limits = {"bare", "fastapi-noop", "naive"}
    assert set(BATCHING) | set(NOT_BATCHING) | limits == set(PEERS_BY_NAME)
    assert not set(BATCHING) & set(NOT_BATCHING)


def test_the_locks_pin_one_scikit_learn_and_one_lightgbm() -> None:
    """The same pickled pipeline is loaded everywhere."""
    for library in ("scikit-learn", "lightgbm", "joblib"):
        locks = [ROOT / "requirements" / "dev.lock", *(ROOT / "requirements").glob("bench-*.lock")]
        assert len({re.search(rf"^{library}==(\S+)", lock.read_text(), re.MULTILINE)[1] for lock in locks}) == 1  # type: ignore[index]


def test_our_node_is_asked_with_a_key_that_it_checks() -> None:
    """Access is that of an instance, records are spooled, and nobody else's key opens it."""
    caller = Caller()
    version = VersionRef(model="pipe", version=1, digest="sha256:" + "a" * 64)
    made = plan(Published("folder", version, "compiled", ""), caller)
    (deployment,) = made.deployments
    assert (deployment.name, deployment.access, deployment.records) == (DEPLOYMENT, "instance", "spooled")
    keyring = Keyring(made.keyring)
    assert keyring.allows(caller.secret, deployment, "predict")
    assert not keyring.allows(Caller().secret, deployment, "predict")
    assert caller.secret not in made.model_dump_json()
    assert {target.form for server in OURS.values() for target in server.targets.values()} == {"plain", "oip", "arrow"}


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The URL of a server that always answers the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_post_tells_status_type_and_body() -> None:
    """Whatever the status is."""
    with answering(418, b"[0.5]") as url:
        assert answers.post(f"{url}/x", b"{}", {"content-type": "application/json"}) == (418, "text/plain", b"[0.5]")


def test_a_server_that_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison goes on with the next one at once."""
    monkeypatch.setattr("bench.servers.bodies", lambda *_: [b"{}"])
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(ChildProcessError, match="bare ended"):
        first_answer(PEERS_BY_NAME["bare"], Running("http://127.0.0.1:1", (ended.pid,), 0.0), "single", [ended])


def test_a_server_that_refuses_the_form_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """422 will not become 200 by waiting."""
    monkeypatch.setattr("bench.servers.bodies", lambda *_: [b"{}"])
    with answering(422, b"{}") as url, pytest.raises(WrongAnswer, match="does not take the form record"):
        first_answer(PEERS_BY_NAME["bare"], Running(url, (), 0.0), "single", [])


def test_processes_end_with_all_that_they_started(tmp_path: Path) -> None:
    """The child of a child too, which is asked for nothing and would stay."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import signal; signal.pause()'])"
    started = processes.start([sys.executable, "-c", code], core=0, folder=tmp_path, log=tmp_path / "log", variables={})
    while len(everyone := processes.tree(started.pid)) < 2:
        assert started.poll() is None
    assert processes.memory([started.pid]).rss > 1
    processes.stop([started], 0.5)
    assert started.poll() is not None
    assert not any(map(processes.alive, everyone))


RAW = """\
main (/x/site-packages/uvicorn/server.py:1);predict (/y/api_node/quarterdeck_node/predictor.py:5) 6
main (/x/site-packages/uvicorn/server.py:1);score (/y/core/quarterdeck/compiled/trees.py:7) 3
main (/x/site-packages/uvicorn/server.py:1);scores (<program>:3) 1
_bootstrap (/usr/lib/python3.11/threading.py:1);_worker (/usr/lib/python3.11/concurrent/futures/thread.py:81) 40
"""


def test_a_profile_tells_parts_and_functions() -> None:
    """By the deepest frame, and by everything below a function; threads that wait for work are no work."""
    profile = profiling.read(RAW)
    assert profile.samples == 10
    assert profile.parts == [("quarterdeck_node/predictor", 0.6), ("quarterdeck/compiled/trees", 0.3), ("<program>", 0.1)]
    assert profile.alone[0] == ("quarterdeck_node/predictor predict", 0.6)
    assert profile.inclusive[0] == ("uvicorn main", 1.0)
    assert "| uvicorn main | 100.0% |" in profiling.show(profile)


def test_the_command_line_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Cells and servers are those that exist; the quick selection is a part of the whole."""
    options = options_of(["--cells", "single", "--servers", "bare,quarterdeck", "--load-core", "1"])
    assert (options.cells, options.servers) == (["single"], ["bare", "quarterdeck"])
    assert set(options_of(["--quick"]).servers) < set(options_of([]).servers) == set(SERVERS) - set(LONG)
    assert set(options_of(["--all"]).servers) == set(SERVERS)
    assert not groups(SERVERS["mlflow"], ["booster"], options_of([]).all)
    with pytest.raises(SystemExit):
        options_of(["--servers", "bare,nobody"])
    assert "there is no nobody" in capsys.readouterr().err


def test_rows_are_plain_data() -> None:
    """What is kept can be read by anything that reads JSON."""
    assert json.loads(json.dumps(asdict(RUN.rows[0])))["figures"] == {"rps": 100.0, "p99_ms": 1.0}
    assert Target("/x", "record").media == "application/json"
