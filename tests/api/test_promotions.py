"""Promotions through the API: what is copied, what gates refuse and tell, who wins, and what a second person may do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeck.copying import check_stored, holds
from quarterdeck.errors import Conflict, Forbidden
from quarterdeck.storage import open_storage
from quarterdeck.storage.keys import blob_key, manifest_key
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.promotions import DecisionInput, PromotionInput
from tests.deployer_process import DeployerProcess, prepare
from tests.deployer_world import ADMIN
from tests.promotion_world import MODEL, NAME, ROWS, Breaking, Stages, built, ref, stages
from tests.s3 import S3Server
from tests.support import eventually

PROD = f"{NAME}-prod"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stages]:
    """Version 1 is deployed in dev."""
    with stages(tmp_path / "data") as found:
        found.publish(1)
        found.deploy()
        yield found


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    """The same, for tests that change nothing."""
    with stages(tmp_path_factory.mktemp("still")) as found:
        found.publish(1)
        found.deploy()
        yield found


def test_a_version_goes_from_stage_to_stage_through_their_gates(here: Stages, tmp_path: Path) -> None:
    """The target is made from the source, in the store of its own infrastructure; history tells who, why and what was found."""
    store = here.infrastructure("edge", str(tmp_path / "edge"), "prod")
    first = here.promote("staging", why="good enough")
    assert (first["state"], first["target"], first["revision"]) == ("done", f"{NAME}-staging", 1)
    assert [(gate["gate"], gate["passed"]) for gate in first["gates"]] == [("package", True), ("golden", True)]
    # One store: nothing had to be copied.
    assert first["copied"] == {"files": 0, "bytes": 0}
    second = here.promote("prod", name=f"{NAME}-staging")
    assert second["state"] == "done", second
    assert [gate["gate"] for gate in second["gates"]] == ["package", "golden", "scenarios", "schema", "replay"]
    assert second["copied"]["files"] == len(built(1).manifest.files)
    assert check_stored(store, ref(1)) == built(1).manifest
    wish = here.world.get(PROD)["wish"]
    assert (wish["stage"], wish["service"], wish["kind"], wish["access"]) == ("prod", NAME, "promote", "public")
    assert wish["why"] == f"promotion {second['id']}"
    told = here.world.http.get("/api/promotions", params={"service": NAME}).json()
    assert [(one["id"], one["who"], one["why"]) for one in told] == [
        (second["id"], "admin", ""),
        (first["id"], "admin", "good enough"),
    ]


def test_what_is_there_is_promoted_in_the_same_deployment(here: Stages) -> None:
    """A second promotion changes main of the deployment of that service; its own settings and challenger stay."""
    here.promote("staging")
    here.publish(2)
    here.world.ok(here.world.http.put(f"/api/deployments/{NAME}-staging", json={
        "main": {"model": MODEL, "version": 1}, "challenger": {"model": MODEL, "version": 2}, "stage": "staging", "service": NAME,
        "records": "off",
    }))  # fmt: skip
    again = here.promote("staging")
    assert (again["state"], again["revision"], again["reason"]) == ("done", None, "It is so already.")
    second = here.promote("staging", version=2)
    assert (second["state"], second["reason"]) == ("done", "The challenger has become main.")
    wish = here.world.get(f"{NAME}-staging")["wish"]
    assert (wish["main"]["version"], wish["challenger"], wish["records"]) == (2, None, "off")
    # Rolling back restores the pair, and the deployment stays where it lives.
    here.world.do("rollback", f"{NAME}-staging", revision=2)
    wish = here.world.get(f"{NAME}-staging")["wish"]
    assert (wish["main"]["version"], wish["challenger"]["version"]) == (1, 2)
    assert (wish["stage"], wish["service"], wish["project"]) == ("staging", NAME, "default")


def test_a_damaged_package_is_refused_and_the_target_stays(here: Stages) -> None:
    """The refusal names the file and where to look; nothing is deployed."""
    file = built(1).manifest.files[0]
    here.world.deployer.storage.put(blob_key(file.sha256), b"x" * file.size)
    found = here.promote("staging")
    assert (found["state"], found["code"]) == ("refused", "digest-mismatch")
    assert [gate["gate"] for gate in found["gates"]] == ["package"]
    assert found["gates"][0]["listed"] == [{"place": file.path}]
    assert found["gates"][0]["look"]["command"] == f"quarterdeck promotion show {found['id']}"
    assert here.world.http.get(f"/api/deployments/{NAME}-staging").status_code == 404


def test_a_number_that_the_target_has_for_something_else_fails_by_both_digests(here: Stages, tmp_path: Path) -> None:
    """Its store is somebody else's too."""
    store = here.infrastructure("edge", str(tmp_path / "edge"), "prod")
    other = built(2).push(store, 1)
    found = here.promote("prod")
    assert (found["state"], found["code"]) == ("failed", "version-taken")
    assert other.digest in found["reason"]
    assert ref(1).digest in found["reason"]


def test_a_store_that_is_away_is_waited_for(here: Stages, tmp_path: Path) -> None:
    """It says nothing about the version: what is waited for stands in the promotion, and nobody has to ask again."""
    here.infrastructure("edge", str(tmp_path / "edge"), "prod")
    store = Breaking(2)
    here.world.deployer.infrastructures._stores["edge"] = store
    found = here.promote("prod")
    assert (found["state"], store.left < 0) == ("done", True)
    check_stored(store, ref(1))


def test_expected_answers_are_asked_of_the_new_version(here: Stages) -> None:
    """A query that callers rely on refuses a version that answers otherwise; queries can be run side by side beforehand."""
    here.publish(3)
    body = {"rows": [{"hour": 13.0, "distance": 1300.0}], "expect": [{"prediction": "yes"}]}
    path = f"/api/deployments/{NAME}/test-queries/lunch"
    assert here.world.http.put(path, json=body).status_code == 201
    run = here.world.ok(here.world.http.post(f"/api/deployments/{NAME}/test-queries/run", json={"versions": [1, 3]}))
    assert (run["versions"], run["failed"]) == ([1, 3], [0, 1])
    lunch = next(query for query in run["queries"] if query["query"] == "lunch")["rows"][0]
    assert [one["prediction"] for one in lunch["answers"]] == ["yes", "no"]
    assert lunch["answers"][1]["problem"] == lunch["answers"][1]["differs"] == "another label than expected"
    found = here.promote("prod", version=3)
    assert (found["state"], found["code"]) == ("refused", "scenarios-failed")
    assert found["gates"][-1]["listed"] == [{"query": "lunch", "row": 0, "reason": "another label than expected"}]
    assert found["gates"][-1]["look"]["command"] == f"quarterdeck scenario run {NAME} --version 3"


def test_callers_who_would_be_refused_are_listed(here: Stages) -> None:
    """By the name of their key, with column and reason: what they send today must not be an error tomorrow."""
    key = here.world.http.post("/api/keys", json={"name": "booking", "project": "default", "scopes": ["predict"]}).json()["id"]
    here.records(NAME, ROWS, key=key)
    here.publish(4, columns=("hour",))
    found = here.promote("prod", version=4)
    assert (found["state"], found["code"]) == ("refused", "scenarios-failed")
    here.stage("prod", gates=[{"gate": "schema"}])
    found = here.promote("prod", version=4)
    assert (found["state"], found["code"]) == ("refused", "schema-refuses")
    [listed] = found["gates"][0]["listed"]
    assert (listed["caller"], listed["column"], listed["rows"]) == ("booking", "distance", len(ROWS))
    assert listed["reason"] == "is not a feature of this model"
    assert found["gates"][0]["figures"]["rows"] == len(ROWS)


def test_replayed_rows_that_change_are_listed(here: Stages) -> None:
    """As many as the gate allows are no reason to refuse, one more is; the target's own traffic counts before the source's."""
    here.stage("prod", gates=[{"gate": "replay", "max_changed": 2 / 24, "tolerance": 1.0}])
    here.promote("prod")
    here.records(PROD, ROWS)
    here.publish(3)
    here.publish(5)
    found = here.promote("prod", version=3)
    assert found["state"] == "done", found
    figures = found["gates"][0]["figures"]
    assert (figures["rows"], figures["changed"]) == (24, 2)
    assert {row["before"] for row in found["gates"][0]["listed"]} == {"yes"}
    refused = here.promote("prod", version=5)
    assert (refused["state"], refused["code"]) == ("refused", "replay-changed")
    assert here.main(PROD) == ("prod", 3, 2)


def test_a_second_person_decides(here: Stages) -> None:
    """Once the gates have passed; never the one who asked, and only once."""
    here.stage("staging", approval=True)
    found = here.promote("staging", why="for the fair")
    assert found["state"] == "waiting for approval"
    own = here.world.http.post(f"/api/promotions/{found['id']}/approve")
    assert (own.status_code, own.json()["code"]) == (403, "second-person-needed")
    for same in ("admin (console)", "admin (token)"):
        with pytest.raises(Forbidden):
            here.as_person(same, "approve", found["id"])
    done = here.as_person("eve", "approve", found["id"], "looked at it")
    assert (done["state"], done["decided_by"], done["decided_why"]) == ("done", "eve", "looked at it")
    assert here.world.get(f"{NAME}-staging")["wish"]["why"] == f"for the fair (promotion {found['id']}, approved by eve)"
    with pytest.raises(Conflict, match="waits for nobody"):
        here.as_person("eve", "reject", found["id"])
    assert said(here) == [("approve-promotion", "eve"), ("ask-promotion", "admin")]


def said(here: Stages) -> list[tuple[str, str]]:
    """What the audit trail tells of promotions, newest first: what was done by whom."""
    entries = here.world.http.get("/api/audit", params={"object": f"deployment/{NAME}"}).json()
    return [(one["verb"], one["who"]) for one in entries if one["verb"].endswith("-promotion")]


def test_whoever_approves_is_of_the_targets_project(here: Stages) -> None:
    """It is the target that changes: being of the source's project is not enough."""
    here.world.ok(here.world.http.post("/api/projects", json={"name": "theirs"}))
    here.deploy(name="theirs", stage="staging", service=NAME, project="theirs")
    here.publish(2)
    here.stage("staging", approval=True, gates=[])
    found = here.promote("staging", version=2)
    decide = here.world.deployer.promotions.approve
    for projects in (frozenset({"default"}), frozenset({"theirs"})):
        with pytest.raises(Forbidden, match="its project"):
            decide(found["id"], DecisionInput(), Act(who="eve", projects=projects))
    assert decide(found["id"], DecisionInput(), Act(who="eve", projects=frozenset({"default", "theirs"}))).state == "done"


def test_a_gate_that_the_stage_gets_meanwhile_is_asked(here: Stages) -> None:
    """While others are asked, and while a person is waited for, who then decides with its finding at hand."""
    here.stage("staging", gates=[{"gate": "golden"}], approval=True)
    with here.paused():
        number = here.world.deployer.promotions.ask(NAME, PromotionInput(to="staging"), Act(who="admin")).id
        # Next it reads which gates there are, and then waits for a place to load the version.
        eventually(lambda: here.world.deployer.promotions.one(number).copied)
        here.stage("staging", gates=[{"gate": "golden"}, {"gate": "schema"}])
    waiting = eventually(lambda: _waits(here, number))
    assert [gate["gate"] for gate in waiting["gates"]] == ["golden", "schema"]
    here.stage("staging", gates=[{"gate": "golden"}, {"gate": "schema"}, {"gate": "scenarios"}])
    told = here.as_person("eve", "approve", number)
    assert (told["state"], told["decided_by"]) == ("checking", "")
    asked = eventually(lambda: _waits(here, number))
    assert [gate["gate"] for gate in asked["gates"]] == ["golden", "schema", "scenarios"]
    assert here.as_person("eve", "approve", number)["state"] == "done"


def _waits(here: Stages, number: int) -> dict[str, Any]:
    found: dict[str, Any] = here.world.ok(here.world.http.get(f"/api/promotions/{number}"))
    return found if found["state"] == "waiting for approval" else {}


def test_a_rejected_promotion_changes_nothing(here: Stages) -> None:
    """The reason is kept."""
    here.stage("staging", approval=True)
    found = here.promote("staging")
    told = here.as_person("eve", "reject", found["id"], "not before Christmas")
    assert (told["state"], told["code"]) == ("refused", "rejected")
    assert "not before Christmas" in told["reason"]
    assert said(here) == [("reject-promotion", "eve"), ("ask-promotion", "admin")]
    assert here.world.http.get(f"/api/deployments/{NAME}-staging").status_code == 404


def test_whoever_waits_for_a_person_may_be_overtaken(here: Stages) -> None:
    """The target changed meanwhile: nobody is asked to approve what was checked against something else."""
    here.promote("staging")
    here.publish(2)
    here.stage("staging", approval=True)
    found = here.promote("staging", version=2)
    here.world.do("stop", f"{NAME}-staging")
    ended = eventually(lambda: _ended(here, found["id"]))
    assert (ended["state"], ended["code"]) == ("overtaken", "changed-meanwhile")
    assert "is at revision 2" in ended["reason"]


def _ended(here: Stages, number: int) -> dict[str, Any]:
    found: dict[str, Any] = here.world.ok(here.world.http.get(f"/api/promotions/{number}"))
    return found if found["ended"] else {}


def test_of_fifty_at_once_one_wins_and_the_others_are_told(here: Stages) -> None:
    """To a target that is there, and to one that is still to be made: one revision, and everybody else hears which."""
    here.publish(2)
    here.publish(3)
    ask = here.world.deployer.promotions.ask
    here.stage("open", gates=[{"gate": "golden"}])
    there = 0
    for revision in (1, 2):
        # What is there already can be promoted by anybody without a change, and would win nothing.
        versions = [version for version in (1, 2, 3) if version != there]
        wanted = [PromotionInput(to="open", version=versions[place % len(versions)]) for place in range(50)]
        # Nothing is carried out before all have been asked for: no model may be loaded meanwhile.
        with here.paused(), ThreadPoolExecutor(50) as pool:
            asked = [pool.submit(ask, NAME, one, Act(who=f"p-{place}")) for place, one in enumerate(wanted)]
            numbers = [one.result().id for one in asked]
        ended = [eventually(lambda number=number: _ended(here, number)) for number in numbers]  # type: ignore[misc]
        winners = [one for one in ended if one["state"] == "done"]
        assert [one["revision"] for one in winners] == [revision]
        there = winners[0]["main"]["version"]
        assert here.main(f"{NAME}-open") == ("open", there, revision)
        losers = [one for one in ended if one is not winners[0]]
        assert {one["state"] for one in losers} == {"overtaken"}
        assert {one["reason"].partition(" since ")[0] for one in losers} == {
            f"{winners[0]['who']} was first: {NAME}-open is at revision {revision} with {MODEL} v{there}"
        }


def test_what_was_begun_is_carried_on_after_a_restart(here: Stages, tmp_path: Path) -> None:
    """The row is all that there is: a deployer that finds an open promotion ends it, and asks no gate twice."""
    here.world.deployer.promoter.close()
    wanted = PromotionInput(to="staging", why="before the crash")
    number = here.world.deployer.promotions.ask(NAME, wanted, Act(who="admin")).id
    assert here.world.deployer.promotions.one(number).state == "checking"
    with stages(tmp_path / "data") as again:
        ended = eventually(lambda: _ended(again, number))
        assert (ended["state"], ended["revision"]) == ("done", 1)
        assert [gate["gate"] for gate in ended["gates"]] == ["package", "golden"]


def test_promotions_outlive_a_deployer_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL while gates are asked: each promotion ends once, with one revision and each gate once."""
    prepare(tmp_path)
    here = DeployerProcess(tmp_path)
    store = open_storage(str(tmp_path / "store"))
    digest = built(1).push(store, 1).digest
    here.up()
    try:
        headers = {"authorization": f"Bearer {ADMIN}"}
        with httpx.Client(base_url=here.url, headers=headers, timeout=60) as http:
            assert http.post(f"/api/models/{MODEL}/versions", json={"version": 1, "digest": digest}).status_code == 201
            body = {"main": {"model": MODEL, "version": 1}}
            assert http.put(f"/api/deployments/{NAME}", json=body).status_code == 201
            targets = [f"target-{place}" for place in range(3)]
            for target in targets:
                http.post(f"/api/deployments/{NAME}/promote", json={"to": "staging", "name": target}).raise_for_status()
            # As soon as they are acknowledged: the first is at its gates, the last not even begun.
            here.kill()
            here.up()
            for number, target in enumerate(targets, start=1):
                ended = eventually(lambda number=number: _of(http, number))  # type: ignore[misc]
                assert (ended["state"], ended["revision"]) == ("done", 1), ended
                assert [gate["gate"] for gate in ended["gates"]] == ["package", "golden"]
                assert len(http.get(f"/api/deployments/{target}/revisions").json()) == 1
    finally:
        assert here.stop() == 0


def _of(http: httpx.Client, number: int) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/api/promotions/{number}").raise_for_status().json()
    return found if found["ended"] else {}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("nobody", {"to": "staging"}, 404, "not-found"),
        (NAME, {"to": "moon"}, 404, "not-found"),
        (NAME, {"to": "dev"}, 409, "same-stage"),
        (NAME, {"to": "staging", "version": 9}, 404, "not-found"),
        (NAME, {"to": "staging", "name": NAME}, 409, "stage-fixed"),
        (NAME, {"to": "staging", "name": "Not A Name"}, 422, "invalid-input"),
    ],
)
def test_what_cannot_be_promoted_is_refused_at_once(
    still: Stages, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    """Nothing is written."""
    answer = still.world.http.post(f"/api/deployments/{path}/promote", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert still.world.http.get("/api/promotions").json() == []


def test_several_deployments_of_a_service_must_be_told_apart(here: Stages) -> None:
    """Where the target stage has two of them, the promotion names one."""
    for name in ("one", "two"):
        here.deploy(name=name, stage="staging", service=NAME)
    answer = here.world.http.post(f"/api/deployments/{NAME}/promote", json={"to": "staging"})
    assert (answer.status_code, answer.json()["code"]) == (409, "target-ambiguous")
    assert "one, two" in answer.json()["detail"]
    answer = here.world.http.post(f"/api/deployments/{NAME}/promote", json={"to": "staging", "name": "two"}, params={"wait": 60})
    assert (answer.json()["target"], answer.json()["state"]) == ("two", "done")
    listed = here.world.http.get("/api/deployments", params={"service": NAME}).json()
    assert [(one["name"], one["wish"]["stage"]) for one in listed] == [(NAME, "dev"), ("one", "staging"), ("two", "staging")]


def test_the_same_request_with_the_same_key_is_one_promotion(here: Stages) -> None:
    """A caller who lost the answer asks again."""
    headers = {"idempotency-key": "once"}
    told = [here.world.http.post(f"/api/deployments/{NAME}/promote", json={"to": "staging"}, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in told] == [202, 202]
    assert told[0].json()["id"] == told[1].json()["id"]
    assert len(here.world.http.get("/api/promotions").json()) == 1


def test_versions_go_from_bucket_to_bucket(tmp_path: Path, s3: S3Server) -> None:
    """By way of the deployer, each store with its own address."""
    buckets = {stage: s3.url(s3.bucket()) for stage in ("staging", "prod")}
    with stages(tmp_path / "data") as here:
        here.publish(1)
        here.deploy()
        for stage, store in buckets.items():
            here.infrastructure(stage, store, stage)
        for name, stage in ((NAME, "staging"), (f"{NAME}-staging", "prod")):
            found = here.promote(stage, name=name)
            assert (found["state"], found["copied"]["files"]) == ("done", len(built(1).manifest.files)), found
        arrived = open_storage(buckets["prod"])
        assert check_stored(arrived, ref(1)) == built(1).manifest
        assert arrived.get(manifest_key(MODEL, 1)) == built(1).manifest.canonical()


def test_a_deleted_version_goes_from_every_store(here: Stages, tmp_path: Path) -> None:
    """Its copy, too; what somebody else has under that number, and the files that another version has there, stay."""
    edge, far = (here.infrastructure(name, str(tmp_path / name), stage) for name, stage in (("edge", "prod"), ("far", "staging")))
    foreign = built(3).push(far, 2)
    here.publish(2)
    here.deploy(2, "prod-late", stage="prod")
    assert check_stored(edge, ref(2))
    here.world.ok(here.world.http.delete("/api/deployments/prod-late"))
    gone = here.world.ok(here.world.http.delete(f"/api/models/{MODEL}/versions/2"))
    shared = {entry.sha256 for entry in built(1).manifest.files}
    own = {entry.sha256: entry.size for entry in built(2).manifest.files if entry.sha256 not in shared}
    assert (gone["removed"], gone["freed_bytes"]) == (sorted(own), 2 * sum(own.values()))
    assert not [sha256 for sha256 in own if edge.size(blob_key(sha256)) is not None]
    with pytest.raises(Conflict, match="another"):
        holds(edge, ref(2))
    assert check_stored(far, foreign) == built(3).manifest
    assert check_stored(here.world.deployer.storage, ref(1)) == built(1).manifest
