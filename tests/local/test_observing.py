"""What is said about a running system: only what was seen, with its age; and figures that agree with what was sent."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from quarterdeck.resources import ModelDeployment
from tests.local.shared import Shared
from tests.local.system import cli
from tests.support import eventually

UNSEEN_SECONDS, BACK_SECONDS = 30.0, 60.0
NUMBER: dict[str, Any] = {"name": "number", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]}


@contextmanager
def paused(shared: Shared, name: str) -> Iterator[None]:
    """A child that is there and does nothing."""
    child = shared.system.child(name)
    os.kill(child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(child.pid, signal.SIGCONT)


def states(shared: Shared, name: str) -> tuple[str, str]:
    """Deployed and running, as the deployer says."""
    seen = shared.observed(name)
    return seen["deployed"]["state"], seen["running"]["state"]


def taken_over(shared: Shared, node: str) -> bool:
    """Whether a node does what the deployer's newest plan says."""
    return bool(shared.deployer_metric("quarterdeck_deployer_plan_sequence", node=node) == shared.node_seen(node)["sequence"])


def until_unseen(shared: Shared, name: str) -> list[tuple[str, str]]:
    """What is said from now until the node's silence is noticed; each state once, in order."""
    said: list[tuple[str, str]] = []

    def unknown() -> bool:
        now = states(shared, name)
        if now not in said:
            said.append(now)
        return now == ("unknown", "unknown")

    eventually(unknown, UNSEEN_SECONDS, every=0.2)
    return said


def console(shared: Shared, path: str) -> str:
    """A page of the console."""
    token = (shared.system.home.folder / "token").read_text().strip()
    with httpx.Client(base_url=shared.client.url, trust_env=False) as browser:
        browser.get("/login", params={"token": token})
        page = browser.get(path)
    assert page.status_code == 200
    return page.text


def test_silence_of_the_main_node_is_never_taken_for_health(shared: Shared) -> None:
    """A stopped process: unknown with its age everywhere, no change is called applied, and everything is well again after it."""
    name = "observing-silence"
    two = shared.version(2)
    shared.deploy(name, shared.version(1))
    eventually(lambda: states(shared, name) == ("yes", "yes"), BACK_SECONDS, every=0.1)
    with paused(shared, "main"):
        assert until_unseen(shared, name)[-1] == ("unknown", "unknown")
        seen = shared.observed(name)
        for word in ("deployed", "running"):
            assert seen[word]["age_seconds"] > 10
            assert seen[word]["sentence"].startswith("No main node has reported for ")
        assert {node["node"]: node["live"] for node in seen["nodes"]} == {"main": False, "challenger": True}
        assert (seen["applied"], seen["waiting_for"]) == (False, "no live main node has reported")
        assert shared.deployer_metric("quarterdeck_deployer_deployment_applied", deployment=name) == 0
        assert "unknown" in console(shared, f"/deployments/{name}").lower()
        got = json.loads(cli(shared.system.folder, "get", name, "-o", "json").stdout)
        assert (got["observed"]["deployed"]["state"], got["observed"]["running"]["state"]) == ("unknown", "unknown")
        wished = {"model": {"name": two.model, "version": two.version}, "access": "public"}
        resource = ModelDeployment.model_validate({"metadata": {"name": name}, "spec": wished})
        done = shared.client.apply(resource, wait=1)
        assert (done["changed"], done["applied"]) == (True, False)
        # Never "yes" while nobody has spoken, however often it is asked.
        assert states(shared, name) == ("unknown", "unknown")
    eventually(lambda: states(shared, name) == ("yes", "yes") and shared.observed(name)["applied"], BACK_SECONDS, every=0.1)
    assert shared.ask(name, {"number": 1.0}).json()["version"] == 2


def test_silence_of_the_challenger_node_touches_main_in_no_way(shared: Shared) -> None:
    """Main answers, is deployed and running; what is unknown is the challenger, and mirrored rows are not lost in silence."""
    name = "observing-beside"
    shared.deploy(name, shared.version(1), shared.version(2))
    shared.mirroring(name)
    with paused(shared, "challenger"):
        eventually(lambda: not shared.node_seen("challenger")["live"], UNSEEN_SECONDS, every=0.2)
        eventually(lambda: states(shared, name) == ("yes", "yes"), every=0.1)
        answer = shared.ask(name, [{"number": 1.0}] * 3)
        assert (answer.status_code, answer.json()["version"]) == (200, 1)
        seen = shared.observed(name)
        assert (seen["applied"], seen["main_applied"]) == (False, True)
        assert seen["challenger"]["nodes"] == []
    eventually(lambda: shared.observed(name)["applied"], BACK_SECONDS, every=0.1)
    shared.mirroring(name)
    before = shared.observed(name)["mirror"]["answered"]
    assert shared.ask(name, {"number": 1.0}).status_code == 200
    eventually(lambda: shared.observed(name)["mirror"]["answered"] > before, BACK_SECONDS, every=0.1)
    mirror = shared.observed(name)["mirror"]
    assert mirror["mirrored"] == sum(mirror[result] for result in ("answered", "failed", "expired", "dropped", "pending"))


def test_a_stopped_deployment_is_called_stopped(shared: Shared) -> None:
    """Stopped and started by wish: each is said once it is seen, and doors, list and page agree."""
    name = "observing-stopped"
    shared.deploy(name, shared.version(1))
    assert shared.client.stop(name, wait=60)["applied"]
    assert states(shared, name) == ("no", "stopped")
    refused = shared.ask(name, {"number": 1.0})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    listed = {one["name"]: one["answers"] for one in shared.http.get("/deployments").json()["deployments"]}
    assert listed[name] is False
    assert shared.http.get(f"/v2/models/{name}/ready").status_code == 503
    assert shared.client.start(name, wait=60)["applied"]
    eventually(lambda: states(shared, name) == ("yes", "yes"), BACK_SECONDS, every=0.1)
    assert shared.ask(name, {"number": 1.0}).status_code == 200


def test_the_nodes_figures_agree_with_what_was_sent(shared: Shared) -> None:
    """Requests by door and outcome, rows, latencies, refusals and records: counted once each, from 0."""
    name = "observing-counted"
    revision = shared.deploy(name, shared.version(1))
    of = {"deployment": name, "version": "1", "role": "main"}

    def count(metric: str, **labels: str) -> float:
        return shared.node_metric(metric, **labels)

    assert count("quarterdeck_requests_total", **of) == count("quarterdeck_rows_total", **of) == 0
    before = {
        what: count("quarterdeck_rejections_total", reason=what) for what in ("schema", "format", "type", "size", "unknown")
    }
    recorded = count("quarterdeck_records_total", kind="main")
    for number in range(1, 6):
        assert shared.ask(name, [{"number": 1.0}] * number).status_code == 200
    assert shared.infer(name, {"inputs": [NUMBER]}).status_code == 200
    assert shared.form(name, {"number": 1.0}).status_code == 200
    assert shared.ask(name, {"number": "x"}).status_code == 422
    assert shared.ask(name, b"nothing").status_code == 400
    assert shared.ask(name, b"a=1", {"content-type": "text/plain"}).status_code == 415
    assert shared.ask(name, b" " * (9 * 2**20)).status_code == 413
    assert shared.http.get("/nothing").status_code == 404
    requests = {
        (protocol, outcome): count("quarterdeck_requests_total", **of, protocol=protocol, outcome=outcome)
        for protocol in ("plain", "oip", "form")
        for outcome in ("ok", "rejected", "error", "shed")
    }
    expected = {("plain", "ok"): 5, ("oip", "ok"): 1, ("form", "ok"): 1, ("plain", "rejected"): 4}
    assert requests == {pair: expected.get(pair, 0) for pair in requests}
    assert count("quarterdeck_rows_total", **of) == 1 + 2 + 3 + 4 + 5 + 2 + 1
    assert count("quarterdeck_request_duration_seconds_count", **of, phase="total") == 11
    for what, earlier in before.items():
        assert count("quarterdeck_rejections_total", reason=what) == earlier + 1, what
    assert count("quarterdeck_records_total", kind="main") == recorded + 18
    assert count("quarterdeck_records_dropped_total") == 0
    digest = shared.refs["versions-1"].digest
    assert count("quarterdeck_active_version_info", **of, digest=digest, revision=str(revision)) == 1
    assert count("quarterdeck_inflight_requests") <= 1
    eventually(lambda: count("quarterdeck_node_running", deployment=name) == 1)
    eventually(lambda: count("quarterdeck_spool_rows") == 0, every=0.2)


def test_the_mirrors_figures_agree_with_its_ledger(shared: Shared) -> None:
    """What the node exports, what it reports to the deployer, and what was sent are the same numbers."""
    name = "observing-mirror"
    shared.deploy(name, shared.version(1), shared.version(2))
    shared.mirroring(name)
    for number in (1, 2, 3):
        assert shared.ask(name, [{"number": 1.0}] * number).status_code == 200
    eventually(lambda: shared.node_metric("quarterdeck_mirror_rows_total", deployment=name, result="answered") == 6)
    assert shared.node_metric("quarterdeck_mirror_offered_rows_total", deployment=name) == 6
    assert shared.node_metric("quarterdeck_mirror_rows_total", deployment=name) == 6
    eventually(lambda: shared.observed(name)["mirror"]["answered"] == 6, every=0.2)
    # The challenger's node counts what reached it by that door.
    urls = shared.system.note.urls
    text = httpx.get(f"{urls['challenger']}/metrics", trust_env=False).text
    rows_there = [line for line in text.splitlines() if line.startswith("quarterdeck_rows_total") and f'"{name}"' in line]
    assert sum(float(line.rpartition(" ")[2]) for line in rows_there) == 6


@pytest.mark.parametrize("who", ["main", "challenger", "deployer"])
def test_every_program_speaks_prometheus(shared: Shared, who: str) -> None:
    """The text parses, every family is ours, has words and a type, counters end in _total, and labels are a closed set."""
    urls = shared.system.note.urls
    answer = httpx.get((shared.client.url if who == "deployer" else urls[who]) + "/metrics", trust_env=False)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.text))
    assert families
    labels = {label for family in families for one in family.samples for label in one.labels}
    known = {"deployment", "stage", "role", "version", "protocol", "outcome", "le", "kind", "reason", "model", "digest", "phase"}
    assert labels <= known | {"revision", "result", "node", "accelerator", "infrastructure"}
    for family in families:
        assert family.name.startswith("quarterdeck_")
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        assert all(one.name.endswith("_total") for one in family.samples if family.type == "counter")
        series = [(one.name, tuple(sorted(one.labels.items()))) for one in family.samples]
        assert len(series) == len(set(series))


def test_the_deployers_figures_agree_with_its_api(shared: Shared) -> None:
    """Every living deployment has its series; the loop goes on without failures; plans are those that the nodes took over."""
    name = "observing-deployer"
    shared.deploy(name, shared.version(1))
    assert shared.deployer_metric("quarterdeck_deployer_deployment_applied", deployment=name) == 1
    steps = shared.deployer_metric("quarterdeck_deployer_reconcile_steps_total")
    eventually(lambda: shared.deployer_metric("quarterdeck_deployer_reconcile_steps_total") > steps)
    assert shared.deployer_metric("quarterdeck_deployer_reconcile_failures_total") == 0
    for node in ("main", "challenger"):
        assert shared.deployer_metric("quarterdeck_deployer_node_report_age_seconds", node=node) < 10
        eventually(partial(taken_over, shared, node), every=0.1)
    shared.client.delete(name, wait=60)
    with pytest.raises(AssertionError):
        shared.deployer_metric("quarterdeck_deployer_deployment_applied", deployment=name)
