"""What each node is told, by tables of decisions: plans are pure, name nobody's secret, and their digests are their content."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from quarterdeck.plan import DeploymentPlan, DeploymentReport, Key, Mirror, NodeReport, Plan, VersionRef, VersionReport
from quarterdeck.rollout import Decision, Record
from quarterdeck_deployer.nodes import Member
from quarterdeck_deployer.plans import Decided, PlanBuilder, content_digest, receiver
from quarterdeck_deployer.revisions import RevisionView
from quarterdeck_deployer.settings import Tokens

ADMIN, NODE, MIRROR = "a" * 40, "n" * 40, "m" * 40
CHALLENGER_URL = "http://127.0.0.1:9402"
KEYRING = [Key(id="abcd1234", sha256="0" * 64, project="default", scopes=["predict"])]


def ref(version: int) -> VersionRef:
    """A version that lies nowhere."""
    return VersionRef(model="m", version=version, digest=f"sha256:{version:064x}")


V1, V2, V3 = ref(1), ref(2), ref(3)


def wish(name: str = "late", number: int = 7, **more: Any) -> RevisionView:
    """The newest revision of a deployment."""
    given: dict[str, Any] = {
        "description": "", "project": "default", "main": V1, "challenger": None, "access": "instance", "records": "spooled",
        "running": True, "deployment": name, "number": number, "kind": "change", "chosen": number, "leaving": None,
        "restored": None, "who": "admin", "why": "", "created": datetime(2026, 11, 21, tzinfo=UTC), **more,
    }  # fmt: skip
    return RevisionView(**given)


def decision(
    active: VersionRef | None = V1,
    resident: list[VersionRef] | None = None,
    challenger: VersionRef | None = None,
    mirror: VersionRef | None = None,
    revision: int = 5,
) -> Decision:
    """What was decided about it."""
    record = Record(revision=revision, generation=7, active=active)
    held = [active] if active and resident is None else resident or []
    return Decision(record=record, active=active, resident=held, challenger=challenger, mirror=mirror, conditions=[])


BUILDER = PlanBuilder("s3://models-of-us", Tokens(admin=ADMIN, node=NODE, mirror=MIRROR))
MEMBERS = {"main": Member("main"), "challenger": Member("challenger", CHALLENGER_URL)}


def plans(*decided: Decided, keyring: list[Key] | None = None) -> dict[str, Plan]:
    """The plans of both nodes."""
    return BUILDER.plans(decided, KEYRING if keyring is None else keyring, MEMBERS)


def one(node: str, made: Decision, **wished: Any) -> DeploymentPlan:
    """What a node is told of a single deployment."""
    (found,) = plans(Decided(wish(**wished), made))[node].deployments
    return found


@pytest.mark.parametrize(
    ("made", "main", "challenger", "mirrors"),
    [
        pytest.param(decision(None), (None, []), (None, []), None, id="nothing proven yet"),
        pytest.param(decision(None, [V1]), (None, [V1]), (None, []), None, id="the first one loads"),
        pytest.param(decision(), (V1, [V1]), (None, []), None, id="main alone"),
        pytest.param(decision(V1, [V1, V2]), (V1, [V1, V2]), (None, []), None, id="the next one loads beside"),
        pytest.param(decision(V2, [V2, V1]), (V2, [V2, V1]), (None, []), None, id="the one before stays"),
        pytest.param(decision(challenger=V2), (V1, [V1]), (V2, [V2]), None, id="a challenger loads"),
        pytest.param(decision(challenger=V2, mirror=V2), (V1, [V1]), (V2, [V2]), V2, id="a challenger receives"),
        pytest.param(decision(challenger=V1), (V1, [V1]), (V1, [V1]), None, id="challenger equal to main"),
        pytest.param(decision(challenger=V3, mirror=V2), (V1, [V1]), (V3, [V3]), V2, id="mirroring is the decision's alone"),
    ],
)
def test_each_role_is_told_its_part(
    made: Decision,
    main: tuple[VersionRef | None, list[VersionRef]],
    challenger: tuple[VersionRef | None, list[VersionRef]],
    mirrors: VersionRef | None,
) -> None:
    """Main answers with active and holds the resident ones; the challenger node holds and answers with the challenger."""
    told = one("main", made)
    assert (told.active, told.resident) == main
    assert (told.mirror.version if told.mirror else None) == mirrors
    told = one("challenger", made)
    assert (told.active, told.resident) == challenger
    assert told.mirror is None


@pytest.mark.parametrize("node", ["main", "challenger"])
@pytest.mark.parametrize(
    ("wished", "field", "expected"),
    [
        ({"project": "harbour"}, "project", "harbour"),
        ({"access": "public"}, "access", "public"),
        ({"access": "project"}, "access", "project"),
        ({"records": "off"}, "records", "off"),
        ({"number": 12}, "generation", 12),
        ({"name": "early"}, "name", "early"),
    ],
)
def test_what_people_set_reaches_both_nodes(node: str, wished: dict[str, Any], field: str, expected: object) -> None:
    """Project, access, records and generation are the wish's; a challenger node asks for keys just as main does."""
    assert getattr(one(node, decision(), **wished), field) == expected


def test_the_number_that_answers_name_is_the_decisions() -> None:
    """The wish's number is the generation; what answers name rises only when `active` moves."""
    told = one("main", decision(revision=3), number=9)
    assert (told.revision, told.generation) == (3, 9)


def test_the_mirror_knows_where_and_as_whom() -> None:
    """URL and token of the challenger node, with the bounds of the queue as they are by default."""
    told = one("main", decision(challenger=V2, mirror=V2)).mirror
    assert told == Mirror(url=CHALLENGER_URL, version=V2, token=MIRROR)
    assert MIRROR not in repr(told)


@pytest.mark.parametrize(
    ("node", "ids"), [("main", ["console0", "abcd1234"]), ("challenger", ["console0", "mirror", "abcd1234"])]
)
def test_keyrings_hold_digests_and_the_mirrors_only_where_it_opens_something(node: str, ids: list[str]) -> None:
    """The console's key is known everywhere, the mirror's on the challenger node; none as a secret."""
    plan = plans(Decided(wish(), decision()))[node]
    assert [key.id for key in plan.keyring] == ids
    text = plan.model_dump_json()
    assert not any(secret in text for secret in (ADMIN, NODE, MIRROR))


def test_a_plan_without_deployments_is_a_plan() -> None:
    """The last one was deleted: nodes are told to let go."""
    for node, plan in plans().items():
        assert (plan.node, plan.sequence, plan.store, plan.deployments) == (node, 0, "s3://models-of-us", [])


def test_deployments_keep_their_order() -> None:
    """Equal worlds give equal bytes, because nothing is sorted anew on the way."""
    made = [Decided(wish(name), decision()) for name in ("a", "b", "c")]
    assert [told.name for told in plans(*made)["main"].deployments] == ["a", "b", "c"]


def base() -> Plan:
    """A plan with something in every field."""
    return plans(Decided(wish(), decision(V1, [V1, V2], V3, V3)))["main"]


def changed(**deployment: Any) -> Plan:
    """The plan with one thing changed in its deployment."""
    plan = base()
    return plan.model_copy(update={"deployments": [plan.deployments[0].model_copy(update=deployment)]})


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(changed(active=V2), id="active"),
        pytest.param(changed(active=None), id="no active"),
        pytest.param(changed(resident=[V2, V1]), id="order of resident"),
        pytest.param(changed(resident=[V1]), id="resident"),
        pytest.param(changed(revision=6), id="revision"),
        pytest.param(changed(generation=8), id="generation"),
        pytest.param(changed(access="public"), id="access"),
        pytest.param(changed(records="off"), id="records"),
        pytest.param(changed(mirror=None), id="mirror"),
        pytest.param(changed(active=V1.model_copy(update={"trust": "code"})), id="trust"),
        pytest.param(base().model_copy(update={"keyring": []}), id="keyring"),
        pytest.param(base().model_copy(update={"store": "s3://elsewhere"}), id="store"),
        pytest.param(base().model_copy(update={"deployments": []}), id="deployments"),
        pytest.param(plans(Decided(wish(), decision(V1, [V1, V2], V3, V3)))["challenger"], id="role"),
    ],
)
def test_another_content_is_another_digest(other: Plan) -> None:
    """Whatever a node would do otherwise must reach it, so it must change the number of its plan."""
    assert content_digest(other) != content_digest(base())


@pytest.mark.parametrize("sequence", [0, 1, 10**9])
def test_the_number_is_no_part_of_the_content(sequence: int) -> None:
    """An unchanged plan keeps its number, whatever it is; and the digest is the same in every process."""
    assert content_digest(base().model_copy(update={"sequence": sequence})) == content_digest(base())
    again = Plan.model_validate_json(base().model_dump_json())
    assert content_digest(again) == content_digest(base())


def test_builders_remember_nothing() -> None:
    """The same question twice, with another one in between, has the same answer."""
    decided = [Decided(wish(), decision(V1, [V1, V2], V3, V3))]
    first = BUILDER.plans(decided, KEYRING, MEMBERS)
    BUILDER.plans([], [], MEMBERS)
    assert BUILDER.plans(decided, KEYRING, MEMBERS) == first


MAINS = [f"main-{number}" for number in range(12)]
CHALLENGERS = [f"challenger-{number}" for number in range(3)]
FLEET = {
    **{name: Member("main", f"http://{name}") for name in MAINS},
    **{name: Member("challenger", f"http://{name}/") for name in CHALLENGERS},
}


def takes(able: list[str]) -> dict[str, str]:
    """Main node → who takes its copies."""
    return {main: receiver(main, FLEET, able) for main in MAINS}


def test_main_nodes_are_spread_over_challenger_nodes_and_only_those_of_a_dead_one_change_over() -> None:
    """Each has some of them; where one dies its own find another, and where all are silent the choice is as if none were."""
    all_live = takes(CHALLENGERS)
    assert set(all_live.values()) == {f"http://{name}" for name in CHALLENGERS}
    left = takes(CHALLENGERS[1:])
    assert {main for main in MAINS if left[main] != all_live[main]} == {
        main for main in MAINS if all_live[main] == "http://challenger-0"
    }
    assert takes([]) == all_live
    assert receiver("main-1", {"main-1": Member("main")}, []) == ""


def test_every_joined_main_node_has_a_mirroring_token_of_its_own() -> None:
    """Challenger nodes know each by its digest; a node that is revoked is a member no more, and its token opens nothing."""
    decided = [Decided(wish(), decision(challenger=V2, mirror=V2))]
    made = BUILDER.plans(decided, [], FLEET)
    tokens = {node: made[node].deployments[0].mirror.token for node in MAINS}  # type: ignore[union-attr]
    assert len(set(tokens.values())) == len(MAINS)
    assert MIRROR not in tokens.values()
    known = {key.sha256 for key in made["challenger-0"].keyring}
    assert {hashlib.sha256(token.encode()).hexdigest() for token in tokens.values()} <= known
    fewer = BUILDER.plans(decided, [], {node: member for node, member in FLEET.items() if node != "main-3"})
    gone = hashlib.sha256(tokens["main-3"].encode()).hexdigest()
    assert gone not in {key.sha256 for key in fewer["challenger-0"].keyring}


def test_copies_go_to_challenger_nodes_that_have_the_version_ready() -> None:
    """One that has just joined and still loads gets none while another one is able."""
    ready = VersionReport(digest=V2.digest, version=2, state="ready")
    report = NodeReport(
        node="challenger-2", boot="b", role="challenger", url="u", sequence=1, ready=True,
        deployments=[DeploymentReport(name="late", role="challenger", versions=[ready])],
    )  # fmt: skip
    loading = report.model_copy(update={"node": "challenger-0", "deployments": []})
    made = BUILDER.plans([Decided(wish(), decision(challenger=V2, mirror=V2))], [], FLEET, [loading, report])
    assert {made[node].deployments[0].mirror.url for node in MAINS} == {"http://challenger-2"}  # type: ignore[union-attr]
