"""Stages, promotions and test queries on the command line: what is printed, and how it ends for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.promotion_world import MODEL, built
from tests.unit.cli_shell import Desk, desk, ok, run


@pytest.fixture(scope="module", name="at")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One system with two real versions, of which the first is deployed as `late`."""
    with desk(tmp_path_factory.mktemp("desk")) as made:
        for version in (1, 3):
            ref = built(version).push(made.world.deployer.storage, version)
            published = {"version": version, "digest": ref.digest}
            assert made.world.http.post(f"/api/models/{MODEL}/versions", json=published).status_code == 201
        made.world.ok(made.world.http.put("/api/deployments/late", json={"main": {"model": MODEL, "version": 1}}))
        yield made


def test_stages_are_listed_shown_and_changed(at: Desk) -> None:
    """What is not said stays as it is; a file says all."""
    assert [row[0] for row in run("stage", "list").rows] == ["NAME", "dev", "staging", "prod"]
    assert "gate       replay days=7" in run("stage", "show", "prod").out
    said = run("stage", "put", "staging", "--approval", "--reason", "two people")
    assert (said.code, said.out.splitlines()[0]) == (0, "stage/staging is set")
    assert [gate["gate"] for gate in ok("stage", "show", "staging")["gates"]] == ["package", "golden"]
    assert "approval   by a second person" in said.out
    at.file("canary.yaml", "position: 7\ngates: [{gate: golden}]\n")
    assert ok("stage", "put", "canary", "-f", "canary.yaml")["position"] == 7
    assert run("stage", "delete", "canary").out == "stage/canary deleted\n"
    assert run("stage", "put", "staging", "--no-approval").code == 0
    refused = run("stage", "delete", "dev")
    assert (refused.code, "1 deployments live there" in refused.err) == (5, True)


@pytest.mark.parametrize("text", ["[1]", "{", "\udcff"])
def test_a_stage_file_that_is_none_is_refused(at: Desk, text: str) -> None:
    """Before anything is sent."""
    (at.folder / "odd.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert run("stage", "put", "canary", "-f", "odd.json").code == 2
    assert run("scenario", "put", "late", "odd", "-f", "odd.json").code == 2


def test_a_promotion_is_told_gate_by_gate(at: Desk) -> None:
    """Done is 0 and names the next step; the list and the number show the same again."""
    said = run("promote", "late", "--to", "staging", "--wait", "--why", "good")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].endswith(" done")
    assert lines[1] == "late v1 from late (dev) to late-staging (staging)"
    assert [line.split()[:2] for line in lines[2:4]] == [["passed", "package"], ["passed", "golden"]]
    assert lines[-1] == "deployment/late-staging promoted, revision 1"
    number = lines[0].split()[0].partition("/")[2]
    assert run("promotion", "show", number).out == said.out
    assert number in [row[0] for row in run("promotion", "list", "--stage", "staging").rows]
    assert run("get", "--stage", "staging", "-o", "name").out == "late-staging\n"


def test_a_refusal_ends_with_one_and_says_where_to_look(at: Desk) -> None:
    """The rows in question stand below the gate that has refused."""
    body = {"rows": [{"hour": 13.0, "distance": 1300.0}], "expect": [{"prediction": "yes"}]}
    at.file("lunch.json", json.dumps(body))
    assert run("scenario", "put", "late", "lunch", "-f", "lunch.json").out.startswith("test-query/lunch of deployment/late saved")
    said = run("promote", "late", "--to", "prod", "--version", "3", "--wait")
    assert said.code == 1
    assert "  query: lunch  row: 0  reason: another label than expected" in said.out
    assert "  look: quarterdeck scenario run late --version 3" in said.out
    assert "Gate scenarios" in said.err


def test_queries_are_asked_side_by_side(at: Desk) -> None:
    """One column a version; a version that fails one ends with 1."""
    at.file("early.json", json.dumps({"rows": [{"hour": 1.0, "distance": 100.0}], "expect": [{"prediction": "no"}]}))
    assert run("scenario", "put", "late", "early", "-f", "early.json").code == 0
    said = run("scenario", "run", "late", "--version", "1", "--version", "3", "--query", "early")
    assert (said.code, said.out.splitlines()[-1]) == (0, "v1 passed 1 of 1, v3 passed 1 of 1")
    assert "early[0]" in said.out
    at.file("wrong.json", json.dumps({"rows": [{"hour": 1.0}]}))
    assert run("scenario", "put", "late", "wrong", "-f", "wrong.json").code == 0
    failed = run("scenario", "run", "late", "--query", "wrong")
    assert failed.code == 1
    assert "  v1: column distance is missing" in failed.out
    assert ok("scenario", "show", "late", "wrong")["rows"] == [{"hour": 1.0}]
    assert run("scenario", "delete", "late", "wrong").code == 0
    assert "wrong" not in run("scenario", "list", "late").out


def test_whoever_asked_cannot_approve(at: Desk) -> None:
    """Waiting for a person is no failure; deciding for oneself is one."""
    assert run("stage", "put", "fair", "--approval").code == 0
    found = ok("promote", "late", "--to", "fair", "--wait")
    assert found["state"] == "waiting for approval"
    for word in ("approve", "reject"):
        said = run("promotion", word, str(found["id"]))
        assert (said.code, "another person must decide" in said.err) == (4, True)
