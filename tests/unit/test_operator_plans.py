"""Plans of a cluster: what each role and template is told, how plans are numbered, and what ConfigMaps do not hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.plan import Key, LoadState, Plan, Role, VersionName, VersionRef
from quarterdeck.rollout import Decision, Record
from quarterdeck_operator.children.configs import plan_map
from quarterdeck_operator.plans import Wish, build, mirror_token, mounted, number, served
from quarterdeck_operator.template import render
from quarterdeck_operator.world import ClusterRecord, Object, ResourceKey, Template
from tests.operator_objects import KEY, OWNER, SEED, SETTINGS, decision, observed, pod, ref, report, spec

V1, V2, V3 = ref(1), ref(2), ref(3)
MAIN = render(spec(), "main", SETTINGS)
CHALLENGER = render(spec(), "challenger", SETTINGS)
NEWER = render(spec({"image": "registry.example/node:2"}), "main", SETTINGS)
BOTH: Mapping[Role, Template] = {"main": MAIN, "challenger": CHALLENGER}
PERSON = Key(id="abc", sha256="0" * 64, project="*", scopes=["predict"])
MIRRORING = decision(V1, challenger=V2, mirror=V2)


def wish(decided: Decision, templates: Mapping[Role, Template] = BOTH, **more: Any) -> Wish:
    """A wish of generation 4."""
    base = {"spec": spec(access="project"), "generation": 4, "resolve": (), "store": "s3://a/b", "seed": SEED}
    return Wish(**{**base, "decision": decided, "templates": templates, **more})


def by_name(plans: list[Plan]) -> dict[str, Plan]:
    """Plans by their names."""
    return {plan.node: plan for plan in plans}


def as_map(plan: Plan, sequence: int = 3) -> Object:
    """The ConfigMap that a plan lies in."""
    return plan_map(OWNER, mounted(plan, sequence), "CA")


def test_each_role_has_a_plan_of_its_own() -> None:
    """Main answers with what is active and mirrors; the challenger holds and answers with itself."""
    main, challenger = build(observed(keyring=[PERSON]), wish(MIRRORING))
    assert main.node == f"late-flights-main-{MAIN.hash}"
    assert challenger.node == f"late-flights-challenger-{CHALLENGER.hash}"
    (told,) = main.deployments
    assert (told.name, told.role, told.active, told.resident, told.access) == ("late-flights", "main", V1, [V1], "project")
    assert told.generation == 4
    assert told.mirror is not None
    assert (told.mirror.url, told.mirror.version) == ("http://late-flights-challenger.shop.svc", V2)
    (told,) = challenger.deployments
    assert (told.role, told.active, told.resident, told.mirror) == ("challenger", V2, [V2], None)
    assert main.store == challenger.store == "s3://a/b"
    assert main.namespace == challenger.namespace == "shop"


def test_only_challengers_know_the_mirroring_token_and_by_digest_only() -> None:
    """What main shows is what the challenger's keyring opens, for mirroring and nothing else."""
    main, challenger = build(observed(keyring=[PERSON]), wish(MIRRORING))
    assert main.keyring == [PERSON]
    assert main.deployments[0].mirror is not None
    token = main.deployments[0].mirror.token
    entry, person = challenger.keyring
    assert person == PERSON
    assert (entry.sha256, entry.scopes) == (hashlib.sha256(token.encode()).hexdigest(), ["mirror"])


def test_no_config_map_holds_the_mirroring_token() -> None:
    """Many may read ConfigMaps; a node that starts from one serves and does not mirror."""
    token = mirror_token(SEED, KEY)
    for plan in build(observed(), wish(MIRRORING)):
        text = as_map(plan)["data"]["plan.json"]
        assert token not in text
        assert Plan.model_validate_json(text).deployments[0].mirror is None
    assert token in served(build(observed(), wish(MIRRORING))[0], 3).model_dump_json()


def test_mirroring_tokens_differ_by_deployment_and_by_seed() -> None:
    """A main pod of one deployment opens no other's challenger."""
    keys = [KEY, ResourceKey("shop", "other"), ResourceKey("other", "late-flights")]
    assert len({mirror_token(seed, key) for key in keys for seed in (SEED, b"t" * 32)}) == 6


def test_the_served_copy_is_newer_than_the_mounted_one_and_older_than_the_next() -> None:
    """A node that has either takes the right one over."""
    (plan, *_) = build(observed(), wish(MIRRORING))
    numbers = [copy(plan, sequence).sequence for sequence in (3, 4) for copy in (mounted, served)]
    assert numbers == [6, 7, 8, 9]


def test_versions_without_a_digest_are_asked_for() -> None:
    """Nodes look them up; whoever decides has no store."""
    names = [VersionName(model="m", version=7)]
    assert [plan.deployments[0].resolve for plan in build(observed(), wish(decision(), resolve=names))] == [names, names]


def test_plans_of_older_templates_stay_frozen_while_they_have_pods() -> None:
    """They answer as before; who may ask follows, and copies still go to the challenger."""
    (old, _) = build(observed(keyring=[PERSON]), wish(MIRRORING))
    look = observed(owned=[as_map(old)], pods=[pod("p", MAIN.hash)], keyring=[])
    newer = wish(
        decision(V2, challenger=V3, mirror=V3),
        {"main": NEWER, "challenger": CHALLENGER},
        spec=spec(access="public"),
        generation=5,
    )
    frozen = by_name(build(look, newer))[old.node]
    (told,) = frozen.deployments
    assert (told.active, told.resident, told.generation) == (V1, [V1], 4)
    assert (told.access, frozen.keyring) == ("public", [])
    assert told.mirror is not None
    assert told.mirror.version == V3


@pytest.mark.parametrize(
    ("states", "answers"),
    [
        ([{"v1": "ready", "v2": "ready"}], V2),
        ([{"v1": "ready", "v2": "ready"}, {"v1": "ready", "v2": "loading"}], V1),
        ([{"v1": "ready", "v2": "failed"}], V1),
        ([], V1),
    ],
    ids=["all hold it", "one does not yet", "one refuses it", "nobody is heard of"],
)
def test_a_step_back_reaches_old_pods_that_hold_the_version(states: list[dict[str, LoadState]], answers: VersionRef) -> None:
    """However long their replacement takes, by an image that is missing for example; what they do not hold moves nothing."""
    (old,) = build(observed(), wish(decision(V1, resident=[V1, V2]), {"main": MAIN}))
    pods = [pod(f"p-{number}", MAIN.hash) for number in range(2)]
    reports = [report(f"p-{number}", "main", V1, **known) for number, known in enumerate(states)]
    look = observed(owned=[as_map(old)], pods=pods, reports=reports)
    back = decision(V2, record=Record(active=V2, revision=9))
    (told,) = by_name(build(look, wish(back, {"main": NEWER})))[old.node].deployments
    assert (told.active, told.revision) == (answers, 9 if answers == V2 else 1)
    assert told.resident == [V1, V2]


def test_a_version_that_old_pods_were_never_told_to_hold_moves_nothing() -> None:
    """It waits for pods of the new environment."""
    (old,) = build(observed(), wish(decision(V1), {"main": MAIN}))
    look = observed(owned=[as_map(old)], pods=[pod("p", MAIN.hash)], reports=[report("p", active=V1, v1="ready", v2="ready")])
    assert by_name(build(look, wish(decision(V2), {"main": NEWER})))[old.node].deployments[0].active == V1


def test_old_pods_do_not_mirror_to_what_they_answer_with() -> None:
    """The challenger may be the very version that is being left."""
    (old, _) = build(observed(), wish(MIRRORING))
    look = observed(owned=[as_map(old)], pods=[pod("p", MAIN.hash)])
    newer = wish(decision(V2, challenger=V1, mirror=V1), {"main": NEWER, "challenger": CHALLENGER})
    assert by_name(build(look, newer))[old.node].deployments[0].mirror is None


def test_plans_of_older_templates_go_with_their_pods() -> None:
    """Their ConfigMaps are superfluous then."""
    (old, _) = build(observed(), wish(MIRRORING))
    plans = build(observed(owned=[as_map(old)]), wish(MIRRORING, {"main": NEWER}))
    assert [plan.node for plan in plans] == [f"late-flights-main-{NEWER.hash}"]


def test_a_stored_plan_that_was_tampered_with_is_not_frozen() -> None:
    """One that says something about another deployment, or nothing that can be read."""
    (old, _) = build(observed(), wish(MIRRORING))
    foreign = as_map(old.model_copy(update={"deployments": [old.deployments[0].model_copy(update={"name": "other"})]}))
    garbled = as_map(old)
    garbled["data"]["plan.json"] = "{"
    for stored in (foreign, garbled):
        look = observed(owned=[stored], pods=[pod("p", MAIN.hash)])
        assert old.node not in by_name(build(look, wish(MIRRORING, {"main": NEWER})))


def test_the_last_good_keyring_stays_while_the_new_one_cannot_be_read() -> None:
    """A typing mistake locks nobody out; the mirroring entry is not taken for a person's key."""
    stored = [as_map(plan) for plan in build(observed(keyring=[PERSON]), wish(MIRRORING))]
    main, challenger = build(observed(owned=stored, keyring_problem="0.sha256: bad"), wish(MIRRORING))
    assert main.keyring == [PERSON]
    assert [key.id for key in challenger.keyring] == ["mirror", "abc"]
    main, _ = build(observed(owned=stored), wish(MIRRORING))
    assert main.keyring == []


def test_plans_are_renumbered_when_their_content_changes_and_only_then() -> None:
    """A restart changes nothing, a new version does."""
    plans = build(observed(), wish(MIRRORING))
    sequence, content = number(ClusterRecord(), plans, [])
    assert sequence == 1
    record = ClusterRecord(sequence=sequence, content=content)
    assert number(record, build(observed(), wish(MIRRORING)), [report("p", active=V1)]) == (1, content)
    changed, other = number(record, build(observed(), wish(decision(V2))), [])
    assert changed == 2
    assert other != content


@given(seen=st.integers(0, 10**6), stored=st.integers(0, 10**6))
def test_numbers_rise_above_all_that_nodes_have_seen(seen: int, stored: int) -> None:
    """A record that was lost or restored starts low, and nodes take no older plan."""
    plans = build(observed(), wish(MIRRORING))
    content = number(ClusterRecord(), plans, [])[1]
    node = report("p").model_copy(update={"sequence": seen})
    sequence, _ = number(ClusterRecord(sequence=stored, content=content), plans, [node])
    assert served(plans[0], sequence).sequence >= seen
    assert number(ClusterRecord(sequence=sequence, content=content), plans, [node]) == (sequence, content)
