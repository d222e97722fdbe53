"""From a wish to what nodes do: deploy, refuse, swap, roll back, stop, delete; through the API, with node twins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployer_world import MIRROR, World, world


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A deployer with three versions of one model."""
    with world(tmp_path) as found:
        found.digests = [found.register(version) for version in (1, 2, 3)]
        yield found


def pair(deployment: dict[str, Any]) -> tuple[int, int | None]:
    """Version numbers of main and challenger that are wished."""
    wish = deployment["wish"]
    return wish["main"]["version"], wish["challenger"]["version"] if wish["challenger"] else None


def test_deployed_version_becomes_active_once_the_node_has_proven_it(here: World) -> None:
    """Register → PUT → plan → report → active; observed yes and yes, with the digest."""
    assert here.put()["revision"] == 1
    seen = here.settled()
    assert (seen["deployed"]["state"], seen["running"]["state"]) == ("yes", "yes")
    assert seen["main"]["ref"]["digest"] == here.digests[0] == here.main.answering["late"]


def test_refused_version_leaves_the_old_one_serving_and_names_the_reason(here: World) -> None:
    """One NACK aborts; active, plan and answers stay; the place of the failure is shown."""
    here.put()
    here.settled()
    here.main.refuses[here.digests[1]] = "golden-mismatch"
    here.put(main=2)
    here.until(lambda: here.get()["observed"]["hold"])
    seen = here.get()["observed"]
    assert seen["hold"]["code"] == "golden-mismatch"
    assert seen["main"]["ref"]["version"] == 1
    assert (seen["deployed"]["state"], seen["running"]["state"], seen["applied"]) == ("yes", "yes", False)
    assert here.main.history["late"] == [here.digests[0]]


def test_same_wish_again_after_a_refusal_is_a_new_attempt(here: World) -> None:
    """Where automation holds, PUT of the same content makes a revision of kind retry, and the repaired node takes it."""
    here.main.refuses[here.digests[0]] = "load-failed"
    here.put()
    seen = here.until(lambda: (found := here.get()["observed"])["hold"] and found)
    assert (seen["deployed"]["state"], seen["running"]["state"]) == ("failed", "failing")
    here.main.refuses.clear()
    assert here.put() == {
        "deployment": "late",
        "revision": 2,
        "changed": True,
        "applied": False,
        "note": here.get()["observed"]["waiting_for"],
        "action": "late-2",
        "state": "accepted",
        "warnings": [],
    }
    here.settled()
    assert here.get()["wish"]["kind"] == "retry"


def test_same_wish_again_after_a_refused_challenger_is_a_new_attempt(here: World) -> None:
    """Main is not held by its challenger's refusal, yet applying the file again lets the repaired challenger node try."""
    here.challenger.refuses[here.digests[1]] = "load-failed"
    here.put(challenger=2)
    here.until(lambda: here.get()["observed"]["failure"] is not None)
    here.challenger.refuses.clear()
    assert here.put(challenger=2)["revision"] == 2
    here.settled()
    assert here.get()["wish"]["kind"] == "retry"
    assert here.get()["observed"]["mirroring"] is True


def test_equal_wish_makes_no_revision_and_no_audit_row(here: World) -> None:
    """PUT twice is one revision, one audit row; the second answer says that nothing changed."""
    here.put()
    again = here.put(why="said twice")
    assert (again["revision"], again["changed"]) == (1, False)
    assert len(here.http.get("/api/audit", params={"object": "deployment/late"}).json()) == 1


def test_challenger_gets_mirrored_rows_only_when_it_is_ready(here: World) -> None:
    """Main's plan carries the mirror once the challenger has proven the version; only its keyring has the token's digest."""
    here.put(challenger=2)
    here.challenger.slow.add(here.digests[1])
    here.until(lambda: here.get()["observed"]["main_applied"])
    assert here.main.plan is not None
    assert here.main.plan.deployments[0].mirror is None
    here.challenger.slow.clear()
    here.settled()
    here.until(lambda: here.main.plan and here.main.plan.deployments[0].mirror)
    mirror = here.main.plan.deployments[0].mirror
    assert mirror is not None
    assert (mirror.version.version, mirror.token) == (2, MIRROR)
    assert here.challenger.plan is not None
    assert "mirror" in [key.id for key in here.challenger.plan.keyring]
    assert "mirror" not in [key.id for key in here.main.plan.keyring]


def test_challenger_equal_to_main_pauses_mirroring_and_says_so(here: World) -> None:
    """The same digest in both roles is allowed; no row is mirrored."""
    here.put(challenger=1)
    seen = here.settled()
    assert here.main.plan is not None
    assert here.main.plan.deployments[0].mirror is None
    assert not seen["mirroring"]
    assert {one["type"]: one["reason"] for one in seen["conditions"]}["ChallengerReceiving"] == "SameAsMain"


def test_swap_exchanges_main_and_challenger(here: World) -> None:
    """After a swap the former challenger answers, the former main is mirrored to; a second click changes nothing."""
    here.put(challenger=2)
    here.settled()
    assert here.do("swap", leaving=here.digests[0], why="better")["revision"] == 2
    here.settled()
    assert pair(here.get()) == (2, 1)
    assert here.main.answering["late"] == here.digests[1]
    assert here.challenger.answering["late"] == here.digests[0]
    assert here.do("swap", leaving=here.digests[0])["changed"] is False


def test_swap_without_challenger_is_a_conflict(here: World) -> None:
    """The refusal names the next step."""
    here.put()
    answer = here.http.post("/api/deployments/late/swap")
    assert (answer.status_code, answer.json()["code"]) == (409, "no-challenger")


# history: (main, challenger) of revisions 1…; rollback body; the pair that must be wished afterwards
ROLLBACKS = [
    ("to the one before", [(1, None), (2, None)], {}, (1, None)),
    ("restores the challenger too", [(1, 2), (2, 1)], {}, (1, 2)),
    ("skips revisions with the same main", [(1, None), (2, None), (2, 3)], {}, (1, None)),
    ("to any revision by number", [(1, 3), (2, None), (3, None)], {"revision": 1}, (1, 3)),
    ("forward again by number", [(1, None), (2, None), (1, None)], {"revision": 2}, (2, None)),
    ("to a pair with the same main", [(1, 2), (1, 3)], {"revision": 1}, (1, 2)),
]


@pytest.mark.parametrize(("title", "history", "body", "expected"), ROLLBACKS, ids=[row[0] for row in ROLLBACKS])
def test_rollback_restores_the_pair_as_a_new_revision(
    here: World, title: str, history: list[tuple[int, int | None]], body: dict[str, Any], expected: tuple[int, int | None]
) -> None:
    """Whatever the way back, main and challenger of the target revision come back under the next number."""
    for main, challenger in history:
        here.put(main=main, challenger=challenger)
    answer = here.do("rollback", why=title, **body)
    assert (answer["revision"], answer["changed"]) == (len(history) + 1, True)
    assert pair(here.get()) == expected
    here.settled()
    assert here.main.answering["late"] == here.digests[expected[0] - 1]


@pytest.mark.parametrize(
    "body", [{}, {"leaving": "main"}, {"revision": 1}], ids=["bare", "naming what it leaves", "naming where it goes"]
)
def test_second_click_on_rollback_changes_nothing(here: World, body: dict[str, Any]) -> None:
    """However the rollback is asked for, asking twice is one revision and one audit row."""
    here.put(main=1)
    here.put(main=2)
    given = {**body, "leaving": here.digests[1]} if "leaving" in body else body
    first, second = here.do("rollback", **given), here.do("rollback", **given)
    assert (first["changed"], second["changed"], second["revision"]) == (True, False, 3)
    assert second["note"].startswith("Already on flights v1 since")
    trail = here.http.get("/api/audit", params={"object": "deployment/late"}).json()
    assert [entry["verb"] for entry in trail].count("rollback") == 1


def test_rollback_rejects_the_version_it_leaves_until_a_person_chooses_it(here: World) -> None:
    """The left digest is listed as rejected, still serves as challenger, and comes back when deployed by name."""
    here.put(main=1)
    here.settled()
    here.put(main=2, challenger=1)
    here.settled()
    here.do("rollback", leaving=here.digests[1], why="wrong answers")
    assert here.settled()["rejected"] == [here.digests[1]]
    here.do("challenger", version=2)
    assert here.settled()["challenger"]["ref"]["version"] == 2
    here.put(main=2)
    seen = here.settled()
    assert seen["rejected"] == []
    assert here.main.answering["late"] == here.digests[1]


def test_rollback_to_the_resident_previous_needs_no_load(here: World) -> None:
    """`previous` is resident and said to be ready before anybody asks for it."""
    here.put(main=1)
    here.settled()
    here.put(main=2)
    here.settled()
    here.until(lambda: here.get()["observed"]["rollback_ready"])
    assert here.get()["observed"]["previous"]["ref"]["version"] == 1


def test_nothing_to_go_back_to_is_said(here: World) -> None:
    """One revision only: a conflict with its own code."""
    here.put()
    answer = here.http.post("/api/deployments/late/rollback", json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing-to-go-back-to")


def test_stopped_deployment_answers_nothing_and_runs_again(here: World) -> None:
    """Stop empties the node and says stopped; run brings the same version back."""
    here.put()
    here.settled()
    here.do("stop", why="night")
    seen = here.settled()
    assert (seen["deployed"]["state"], seen["running"]["state"]) == ("no", "stopped")
    assert here.main.answering["late"] is None
    here.do("run")
    assert here.settled()["running"]["state"] == "yes"
    assert here.main.answering["late"] == here.digests[0]


def test_deleted_deployment_leaves_the_nodes_and_its_name_goes_on_counting(here: World) -> None:
    """DELETE takes it out of the plan, 404 afterwards; created again it continues above all numbers before."""
    here.put()
    here.settled()
    assert here.ok(here.http.delete("/api/deployments/late", params={"why": "done"}))["revision"] == 2
    assert here.http.get("/api/deployments/late").status_code == 404
    here.until(lambda: "late" not in here.main.answering)
    assert here.put(main=2)["revision"] == 3
    here.settled()
    assert here.main.plan is not None
    assert here.main.plan.deployments[0].revision >= 3


def test_wait_answers_when_nodes_do_it(here: World) -> None:
    """`?wait=` comes back applied as soon as the twins have done it, and unapplied with a reason where they refuse."""
    here.put()
    here.settled()
    answer = here.http.post("/api/deployments/late/stop?wait=0").json()
    assert not answer["applied"]
    assert answer["note"]
    here.settled()
    assert here.http.post("/api/deployments/late/stop?wait=60").json()["applied"]


def test_changed_access_reaches_the_plan_without_a_new_answering_revision(here: World) -> None:
    """Access is part of the plan; `revision` in answers moves with `active` alone."""
    here.put()
    here.settled()
    assert here.main.plan is not None
    before = here.main.plan.deployments[0].revision
    here.put(access="public")
    here.settled()
    deployment = here.main.plan.deployments[0]
    assert (deployment.access, deployment.revision) == ("public", before)


def test_stale_revision_is_refused(here: World) -> None:
    """If-Match with an older number: 409, nothing written, the newest number in the answer."""
    here.put()
    here.put(main=2)
    answer = here.http.post("/api/deployments/late/stop", json={}, headers={"if-match": '"1"'})
    assert (answer.status_code, answer.json()["code"], answer.json()["revision"]) == (409, "changed-meanwhile", 2)
    assert here.get()["wish"]["running"]


MISMATCHES = [
    ("feature missing", {"hour": "float"}, "does not take feature distance"),
    ("feature added", {"hour": "float", "distance": "float", "carrier": "string"}, "takes feature carrier"),
    ("type differs", {"hour": "int", "distance": "float"}, "feature hour is int, main's is float"),
]


@pytest.mark.parametrize(("title", "features", "words"), MISMATCHES, ids=[row[0] for row in MISMATCHES])
def test_challenger_with_another_schema_is_refused_by_name(here: World, title: str, features: dict[str, str], words: str) -> None:
    """422 names the difference; no revision is made."""
    here.put()
    here.register(9, features=features)
    answer = here.http.post("/api/deployments/late/challenger", json={"version": 9})
    assert (answer.status_code, answer.json()["code"]) == (422, "schema-mismatch")
    assert words in answer.json()["detail"]
    assert here.get()["wish"]["number"] == 1


def test_code_must_be_allowed_by_name(here: World) -> None:
    """A package that runs code is refused until the deployment says trust: code beside it."""
    here.register(7, form="joblib", trust="code")
    body: dict[str, Any] = {"main": {"model": "flights", "version": 7}}
    assert here.http.put("/api/deployments/late", json=body).json()["code"] == "trust-required"
    body["main"]["trust"] = "code"
    assert here.http.put("/api/deployments/late", json=body).status_code == 201
    here.settled()
    assert here.main.plan is not None
    assert here.main.plan.deployments[0].active is not None
    assert here.main.plan.deployments[0].active.trust == "code"


def test_sequence_rises_only_with_the_content(here: World) -> None:
    """Reports and ticks alone publish nothing new."""
    here.put()
    here.settled()
    before = (here.main.sequence, here.challenger.sequence)
    steps = here.deployer.local.reconciler.counts.steps
    here.until(lambda: here.deployer.local.reconciler.counts.steps > steps + 5)
    assert (here.main.sequence, here.challenger.sequence) == before


def test_silent_node_makes_everything_unknown(tmp_path: Path) -> None:
    """Before any report neither deployed nor running is claimed."""
    with world(tmp_path) as found:
        found.register(1)
        found.put()
        seen = found.get()["observed"]
        assert (seen["deployed"]["state"], seen["running"]["state"], seen["applied"]) == ("unknown", "unknown", False)
        assert found.get()["urls"]["predict"] == "http://127.0.0.1:8401/deployments/late/predict"
