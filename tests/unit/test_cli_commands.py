"""Each command against a running deployer: what it prints in each form, how it ends, what it says next."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from quarterdeck.client import Client
from quarterdeck.placement import Rollback
from quarterdeck.resources import read
from quarterdeck_cli import output
from quarterdeck_cli.commands import deployments, keys
from quarterdeck_cli.commands.completion import deployment_names, model_names
from quarterdeck_cli.commands.local import follow
from quarterdeck_cli.main import main
from quarterdeck_cli.output import Format
from tests.unit.cli_shell import Desk, Terminal, desk, ok, run, variables

LISTS = (["get"], ["model", "list"], ["model", "show", "flights"], ["keys", "list"], ["audit", "list"])


@pytest.fixture(scope="module", name="at")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One system for all tests here; each takes a deployment of its own name."""
    with desk(tmp_path_factory.mktemp("desk")) as made:
        made.deployed("first", 1, 2)
        ok("keys", "create", "somebody")
        yield made


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_a_list_is_a_table_with_age_last_and_no_empty_cell(at: Desk, words: list[str]) -> None:
    """One object a row, as many cells as headings."""
    said = run(*words)
    assert said.code == 0
    heading, *rows = said.rows
    assert rows
    assert heading[-1] == "AGE"
    assert all(len(row) == len(heading) for row in rows)
    assert all(re.fullmatch(r"\d+[smhd]", row[-1]) for row in rows)


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_wide_keeps_every_column_of_the_table(at: Desk, words: list[str]) -> None:
    """More may come, and AGE stays last."""
    narrow, wide = run(*words).rows[0], run(*words, "-o", "wide").rows[0]
    assert [heading for heading in wide if heading in narrow] == narrow
    assert wide[-1] == "AGE"


def test_wide_adds_what_tells_deployments_apart(at: Desk) -> None:
    """Project, access, digest and author of a deployment; the whole digest of a version."""
    heading, row = run("get", "first", "-o", "wide").rows
    cells = dict(zip(heading, row, strict=True))
    assert cells["PROJECT"] == "default"
    assert cells["ACCESS"] == "instance"
    assert at.digests[1].removeprefix("sha256:").startswith(cells["DIGEST"])
    assert run("model", "show", "flights", "-o", "wide").out.count("sha256:") == 3


@pytest.mark.parametrize(("main", "challenger"), [("none", "cuda"), ("cuda", "none"), ("cuda", "cuda")])
def test_what_get_writes_asks_for_the_same_again(main: str, challenger: str) -> None:
    """How versions run included: read again and sent again, the document is the very wish that it was written from."""
    places: dict[str, Any] = {"project": "default", "description": "", "access": "public", "records": "off", "running": True}
    places |= {"stage": "prod", "service": "delays"}
    places |= {"rollback": Rollback(min_requests=7).model_dump(mode="json"), "progress_seconds": 90}
    wish = {
        **places,
        "main": {"model": "flights", "version": 1, "trust": "code", "accelerator": main},
        "challenger": {"model": "others", "version": 2, "trust": "data", "accelerator": challenger},
    }
    [again] = read(deployments.resource({"name": "late", "wish": wish}).to_yaml())
    with Client("http://127.0.0.1:1", "token") as client:
        assert client.wish(again) == {**wish, "why": ""}


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_json_and_yaml_say_the_same(at: Desk, words: list[str]) -> None:
    """Whole documents; `get` speaks YAML that `apply` takes instead."""
    as_json = json.loads(run(*words, "-o", "json").out)
    as_yaml = list(yaml.safe_load_all(run(*words, "-o", "yaml").out))
    if words == ["get"]:
        assert {each["kind"] for each in as_yaml} == {"ModelDeployment"}
        assert [each["metadata"]["name"] for each in as_yaml] == [each["name"] for each in as_json]
    else:
        assert [as_json] == as_yaml


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_names_are_the_first_column_alone(at: Desk, words: list[str]) -> None:
    """One a line, for loops in a shell."""
    table = run(*words).rows[1:]
    assert run(*words, "-o", "name").out.splitlines() == [row[0] for row in table]


def test_a_change_tells_verb_effect_and_revision(at: Desk) -> None:
    """Type and name with the past verb, then main, challenger, seconds and revision."""
    said = run("apply", "-f", at.wish("told", 1, 2))
    first, second = said.out.splitlines()
    assert (said.code, first) == (0, "deployment/told applied")
    assert re.fullmatch(r"main flights v1, challenger flights v2 in \d+\.\d\d s, revision 1", second)
    assert said.err == ""


@pytest.mark.parametrize(
    ("words", "verb", "effect"),
    [
        (["challenger", "set", "{}", "3"], "challenged", "main flights v1, challenger flights v3"),
        (["challenger", "swap", "{}"], "swapped", "main flights v2, challenger flights v1"),
        (["challenger", "clear", "{}"], "unchallenged", "main flights v1 in"),
        (["stop", "{}"], "stopped", "main flights v1, challenger flights v2"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else None,
)
def test_each_action_says_what_came_of_it(at: Desk, words: list[str], verb: str, effect: str) -> None:
    """In its own verb; done twice, nothing changes and that is said."""
    name = at.deployed(f"act-{verb}", 1, 2)
    said = run(*[word.format(name) for word in words])
    assert said.code == 0
    assert said.out.splitlines()[0] == f"deployment/{name} {verb}"
    assert said.out.splitlines()[1].startswith(effect)


def test_what_is_so_already_is_said_and_succeeds(at: Desk) -> None:
    """Exit status 0, and no revision is made."""
    name = at.deployed("twice")
    said = run("apply", "-f", f"{name}.yaml")
    assert (said.code, said.out.splitlines()[0]) == (0, "deployment/twice unchanged")
    assert ok("get", name)["wish"]["number"] == 1


def test_a_rollback_goes_back_to_the_former_main(at: Desk) -> None:
    """And the answer as a document names the new revision."""
    name = at.deployed("back", 1)
    at.deployed("back", 2)
    done = ok("rollback", name, "--reason", "too many alarms")
    assert (done["revision"], done["changed"], done["applied"]) == (3, True, True)
    assert ok("get", name)["wish"]["main"]["version"] == 1
    assert ok("audit", "list", "--limit", "1")[0]["reason"] == "too many alarms"


def test_running_starts_what_was_stopped(at: Desk) -> None:
    """Both take a reason."""
    name = at.deployed("pause")
    assert ok("stop", name, "--reason", "bad data")["changed"]
    assert not ok("get", name)["wish"]["running"]
    assert ok("run", name)["changed"]
    assert ok("get", name)["wish"]["running"]


def test_nodes_that_do_not_follow_end_the_wait_not_the_change(at: Desk) -> None:
    """Exit status 6; what goes on, and where to look."""
    at.world.main.slow.add(at.digests[3])
    try:
        said = run("apply", "-f", at.wish("slow", 3), "--timeout", "0.2")
    finally:
        at.world.main.slow.clear()
    assert said.code == 6
    assert "error: The nodes have not taken over revision 1 of deployment/slow." in said.err
    assert said.err.splitlines()[-1] == "hint: The change goes on; look with `quarterdeck status slow`."


def test_without_a_wait_there_is_nothing_to_miss(at: Desk) -> None:
    """--timeout 0 ends at once with status 0, whatever the nodes do."""
    at.world.main.slow.add(at.digests[3])
    try:
        assert run("apply", "-f", at.wish("at-once", 3), "--timeout", "0").code == 0
    finally:
        at.world.main.slow.clear()


def test_a_refused_version_is_named_with_what_serves_on(at: Desk) -> None:
    """Exit status 1, the reason, the version that still answers, and the way back."""
    name = at.deployed("refused", 1)
    at.world.main.refuses[at.digests[3]] = "golden-mismatch"
    try:
        said = run("apply", "-f", at.wish(name, 3), "--timeout", "10")
        tree = run("status", name).out
    finally:
        at.world.main.refuses.clear()
    assert said.code == 1
    assert "Revision 2 of deployment/refused is refused" in said.err
    assert "flights v1 serves on" in said.err
    assert "quarterdeck rollback refused" in said.err.splitlines()[-1]
    assert "golden-mismatch" in tree


def test_several_documents_are_read_before_the_first_changes_anything(at: Desk) -> None:
    """A mistake in the second leaves the first undone."""
    good = (at.folder / at.wish("pair-one")).read_text()
    both = at.file("both.yaml", f"{good}\n---\n{good.replace('pair-one', 'Pair Two')}")
    said = run("apply", "-f", both)
    assert (said.code, said.out) == (2, "")
    assert run("get", "pair-one").code == 3


def test_apply_says_what_needs_a_cluster(at: Desk) -> None:
    """The file is taken whole, and nobody waits for three nodes that will not come."""
    said = run("apply", "-f", at.wish("small", nodes={"replicas": 3}, keyring="ours"))
    assert (said.code, said.out.splitlines()[0]) == (0, "deployment/small applied")
    assert said.err == "without effect here, for they need a cluster: nodes, keyring\n"


def test_apply_reads_stdin(at: Desk) -> None:
    """`-f -`, as other tools have it."""
    text = (at.folder / at.wish("piped")).read_text()
    assert run("apply", "-f", "-", stdin=io.StringIO(text)).out.startswith("deployment/piped applied")


def test_deleting_asks_on_a_terminal_only(at: Desk) -> None:
    """No terminal: the missing flag is named. A no changes nothing, and is no interruption."""
    name = at.deployed("asked")
    blind = run("delete", name)
    assert (blind.code, blind.out) == (2, "")
    assert blind.err.splitlines()[-1] == "hint: Add --yes."
    refused = run("delete", name, stdin=Terminal("n\n"))
    assert refused.code == 1
    assert "nothing was changed" in refused.err
    assert "interrupted" not in refused.err
    assert run("get", name).code == 0
    gone = run("delete", name, stdin=Terminal("y\n"))
    assert (gone.code, gone.out.splitlines()[0]) == (0, f"deployment/{name} deleted")
    assert run("get", name).code == 3


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["get", "nobody"], 3),
        (["model", "show", "nobody"], 3),
        (["model", "activate", "flights", "99"], 3),
        (["challenger", "swap", "first", "--timeout", "many"], 2),
        (["challenger", "set", "first", "0"], 2),
        (["rollback", "nobody", "--to", "1"], 3),
        (["rollback", "first", "--to", "99"], 3),
        (["rollback", "first"], 5),
        (["keys", "revoke", "nobody"], 3),
        (["predictions", "list", "nobody"], 3),
        (["apply", "-f", "nowhere.yaml"], 2),
        (["predict", "first", "--row", "{"], 2),
        (["predict", "first", "nowhere.json"], 2),
        (["predict", "first", "x.json", "--row", "{}"], 2),
        (["feedback", "send", "first", "-f", "nowhere.jsonl"], 2),
        (["package", "inspect", "nowhere"], 3),
        (["package", "pull", "nobody", "1"], 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_failures_have_a_number_for_scripts_and_a_next_step_for_people(at: Desk, words: list[str], code: int) -> None:
    """`error:` first, `hint:` last, nothing on stdout, no traceback."""
    said = run(*words)
    lines = said.err.splitlines()
    assert (said.code, said.out) == (code, "")
    assert lines[0].startswith("error: ")
    assert lines[-1].startswith("hint: ")
    assert "Traceback" not in said.err


def test_a_wrong_token_is_told_apart(at: Desk) -> None:
    """Exit status 4; the token itself is never repeated."""
    with variables(QUARTERDECK_URL=str(at.world.http.base_url), QUARTERDECK_TOKEN="not-the-right-token"):
        said = run("get")
    assert said.code == 4
    assert "not-the-right-token" not in said.out + said.err


def test_a_system_that_is_away_is_told_with_its_address(at: Desk) -> None:
    """Exit status 1 and what to check."""
    with variables(QUARTERDECK_URL="http://127.0.0.1:9"):
        said = run("model", "list")
    assert said.code == 1
    assert "http://127.0.0.1:9/api/models cannot be reached" in said.err
    assert said.err.splitlines()[-1].startswith("hint: ")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_may_stand_anywhere_and_shows_the_traceback(at: Desk, place: int) -> None:
    """People add it to the end of the line that failed."""
    words = ["get", "nobody"]
    words.insert(place, "--debug")
    said = run(*words)
    assert said.code == 3
    assert "Traceback" in said.err
    assert said.err.splitlines()[-1].startswith("hint: ")


def test_quiet_leaves_data_and_errors(at: Desk) -> None:
    """What else stderr would say is silenced for this one command."""
    assert run("keys", "create", "loud").err != ""
    quiet = run("-q", "keys", "create", "silent")
    assert (quiet.code, quiet.err) == (0, "")
    assert quiet.out.startswith("qdk_")
    assert run("get", "nobody", "--quiet").err.startswith("error: ")


def test_a_secret_stands_alone_on_stdout_and_never_comes_again(at: Desk) -> None:
    """`> file` keeps just the key; lists and documents do not have it."""
    said = run("keys", "create", "billing", "--days", "90", "--scope", "predict", "--project", "default")
    secret = said.out.strip()
    assert re.fullmatch(r"qdk_\w{8}_[\w-]{43}_[0-9a-f]{8}", secret)
    assert secret not in said.err
    for form in ("table", "json", "yaml", "name", "wide"):
        assert secret not in run("keys", "list", "-o", form).out


def test_a_revoked_key_says_so(at: Desk) -> None:
    """In the list, and when it is revoked."""
    made = ok("keys", "create", "leaver")
    assert run("keys", "revoke", made["id"]).out.startswith(f"key/{made['id']} revoked")
    (row,) = [row for row in run("keys", "list").rows if row[0] == made["id"]]
    assert "revoked" in row


@pytest.mark.parametrize(
    ("revoked", "days", "state"),
    [(None, None, "valid"), (None, 1, "valid"), (None, -1, "expired"), ("2026-01-01T00:00:00Z", 1, "revoked")],
)
def test_a_key_that_opens_nothing_is_not_called_valid(revoked: str | None, days: int | None, state: str) -> None:
    """Neither after its last day nor after it was revoked."""
    expires = (datetime.now(UTC) + timedelta(days=days)).isoformat() if days else None
    assert keys.state({"revoked": revoked, "expires": expires}) == state


def test_activating_changes_no_deployment(at: Desk) -> None:
    """And says so."""
    said = run("model", "activate", "flights", "2")
    assert said.out == "model/flights activated\nactive version v2; no deployment was changed\n"
    assert dict(zip(*run("model", "list").rows, strict=True))["ACTIVE"] == "v2"


def test_a_full_page_says_that_there_may_be_more(at: Desk) -> None:
    """On stderr, with the option that shows it."""
    said = run("audit", "list", "--limit", "2")
    assert len(said.rows) == 3
    assert said.err == "the newest 2 are shown; see more with --limit\n"
    assert run("audit", "list", "--limit", "1000").err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predictions", "list", "first"], "No recorded predictions of deployment/first yet"),
        (["predictions", "list", "first", "-o", "json"], ""),
    ],
    ids=["table", "json"],
)
def test_an_empty_list_says_why(at: Desk, words: list[str], said: str) -> None:
    """People read a sentence on stderr, programs an empty list."""
    found = run(*words)
    assert found.out == ("" if said else "[]\n")
    assert said in found.err


def test_performance_without_labels_counts_none(at: Desk) -> None:
    """Absent scores are called so."""
    assert run("performance", "first").out.splitlines()[0] == "deployment/first: 0 labelled rows"


@pytest.mark.parametrize("text", ["[]", "3", "[1]", "{", '{"a": 1}\n{"a":', ""])
def test_what_is_no_list_of_objects_is_refused_without_quoting_it(at: Desk, text: str) -> None:
    """Files of labels and of rows alike; what is wrong, and the three forms that are right."""
    said = run("feedback", "send", "first", "-f", at.file("labels.txt", text))
    assert said.code == 2
    assert "labels.txt" in said.err.splitlines()[0]
    assert said.err.splitlines()[-1] == "hint: Give one object, a list of objects, or one object a line."


def test_reading_from_a_terminal_says_so(at: Desk) -> None:
    """Silence would look as if the command hung."""
    said = run("predict", "first", stdin=Terminal("nonsense"))
    assert said.err.startswith("reading JSON from the terminal; Ctrl-D ends it\n")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that waits for as long as it takes: how fast this machine is, is not in question."""
    monkeypatch.setattr("quarterdeck_cli.commands.completion.PATIENCE_SECONDS", 30.0)


@pytest.mark.usefixtures("patient")
def test_live_names_are_completed(at: Desk) -> None:
    """Those that begin so; nothing, and no error, where no system runs."""
    at.deployed("complete-me")
    assert deployment_names("complete-") == ["complete-me"]
    assert model_names("fl") == ["flights"]
    assert model_names("x") == []
    with variables(QUARTERDECK_URL="http://127.0.0.1:9"):
        assert deployment_names("") == []


@pytest.mark.usefixtures("patient")
def test_the_shell_gets_live_names(at: Desk) -> None:
    """By the same road that the printed script takes."""
    at.deployed("finish-me")
    with variables(_QUARTERDECK_COMPLETE="complete_bash", COMP_WORDS="quarterdeck status finish", COMP_CWORD="2"):
        said = io.StringIO()
        # The framework ends the program itself once it has answered a shell.
        with redirect_stdout(said), pytest.raises(SystemExit):
            main([])
    assert said.getvalue().split() == ["finish-me"]


def test_status_shows_one_or_all(at: Desk) -> None:
    """A tree for people, the instance and its deployments for programs."""
    at.deployed("shown", 1, 2)
    tree = run("status", "shown").out
    assert "challenger  flights v2" in tree
    assert "node main  ● ready" in tree
    assert [each["name"] for each in ok("status", "shown")["deployments"]] == ["shown"]
    names = {each["name"] for each in ok("status")["deployments"]}
    assert {"first", "shown"} <= names
    assert yaml.safe_load(run("status", "shown", "-o", "yaml").out)["instance"]["name"]


def test_watching_prints_a_line_per_change(at: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """What is the same is not said again; what has gone is."""
    name = at.deployed("watched", 1, 2)
    first = ok("status", name)
    later = ok("status", name)
    ok("challenger", "swap", name)
    swapped = ok("status", name)
    follow([first, later, swapped, {**swapped, "deployments": []}], Format.table)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [[name, "revision 1"], [name, "revision 2"], [name, "deleted"]]
    assert "main flights v2  challenger flights v1" in lines[1]


def test_watching_gives_programs_a_document_a_line(at: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON lines, so that `jq` follows along; YAML documents with their separators."""
    name = at.deployed("streamed", 1)
    first = ok("status", name)
    at.deployed("streamed", 2)
    second = ok("status", name)
    follow([first, first, second], Format.json)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [first, second]
    follow([first, first, second], Format.yaml)
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == [first, second]


def test_watching_a_terminal_redraws_the_tree(at: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """The cursor goes up instead of the text going down."""
    found = ok("status", "first")
    with variables(CLICOLOR_FORCE="1", TERM="xterm"):
        follow([found, found], Format.table)
    said = capsys.readouterr().out
    assert "\x1b[1A" in said
    assert "node main" in said


def test_watching_ends_with_ctrl_c(at: Desk) -> None:
    """Without a word on stderr; the status says that it did not end by itself."""
    # Whoever runs tests in the background may have told all that they start to take no notice of Ctrl-C.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "quarterdeck_cli", "status", "first", "--watch"]
    with subprocess.Popen(command, cwd=at.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("first  revision 1  deployed yes")
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=60)
    assert (watching.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize(
    ("given", "painted"),
    [
        ({}, False),
        ({"CLICOLOR_FORCE": "1"}, True),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False),
        ({"CLICOLOR_FORCE": "0"}, False),
    ],
    ids=["pipe", "forced", "refused", "not forced"],
)
def test_colour_is_for_terminals_and_for_those_who_ask(at: Desk, given: dict[str, str], painted: bool) -> None:
    """NO_COLOR wins over CLICOLOR_FORCE."""
    with variables(TERM="xterm-256color", **given):
        assert ("\x1b[" in run("status", "first").out) == painted


def test_a_table_in_a_pipe_is_never_cut(at: Desk) -> None:
    """However narrow the terminal may be that nobody looks at."""
    with variables(COLUMNS="20"):
        rows = run("model", "show", "flights", "-o", "wide").rows
    assert all(len(row) == len(rows[0]) for row in rows)


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE], ids=["terminal closed", "pipe closed"])
def test_a_lost_stderr_stops_nobody(number: int) -> None:
    """A supervisor whose window was closed still has requests to end: notes that nobody can read are dropped."""
    try:
        with redirect_stderr(_Lost(number)):
            output.note("one")
            output.note("two")
        assert output.err.quiet
    finally:
        output.err.quiet = False


@pytest.mark.parametrize("words", [["get"], ["get", "-o", "json"], ["status"]], ids=" ".join)
def test_a_reader_who_has_seen_enough_is_no_failure(at: Desk, words: list[str]) -> None:
    """`quarterdeck get | head -1` ends with status 0, in every form, without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "quarterdeck_cli", *words]
        done = subprocess.run(command, cwd=at.folder, stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


class _Lost(io.StringIO):
    """An output of which the other end is gone."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        """What the kernel says then."""
        raise OSError(self.number, os.strerror(self.number))
