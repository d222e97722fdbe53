"""What a deployment owns in the cluster, object by object, and who says how many pods there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from quarterdeck.plan import Plan, Role
from quarterdeck.resources import Spec
from quarterdeck_operator import plans
from quarterdeck_operator.children.everything import Children, Parts, build
from quarterdeck_operator.names import labels, selector
from quarterdeck_operator.plans import Wish
from quarterdeck_operator.template import render
from quarterdeck_operator.world import Object, ObjectKey, Template
from tests.operator_objects import KEY, OWNER, SEED, SETTINGS, decision, observed, ref, spec

SCALED: dict[str, Any] = {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}, "resources": {"requests": {"cpu": "500m"}}}
DEPLOYMENT, AUTOSCALER = ObjectKey("Deployment", "late-flights-main"), ObjectKey("HorizontalPodAutoscaler", "late-flights-main")


def children(of: Spec, owned: Sequence[Object] = (), *, challenger: bool = False) -> Children:
    """Everything that is built for a spec in a world."""
    roles: list[Role] = ["main", "challenger"] if challenger else ["main"]
    templates: dict[Role, Template] = {role: render(of, role, SETTINGS) for role in roles}
    world = observed(owned)
    wish = Wish(of, 1, decision(ref(1)), templates, (), store="s3://a/b", seed=SEED)
    return build(Parts(OWNER, of, templates, plans.build(world, wish), 1, "CA PEM", world.owned))


def keyed(objects: Sequence[Object]) -> dict[ObjectKey, Object]:
    """Objects by kind and name."""
    return {ObjectKey(one["kind"], one["metadata"]["name"]): one for one in objects}


def live(replicas: int) -> Object:
    """The main Deployment as it is in the cluster."""
    return {"kind": "Deployment", "metadata": {"name": DEPLOYMENT.name}, "spec": {"replicas": replicas}}


def other(kind: str, name: str, **more: Any) -> Object:
    """Some owned object."""
    return {"kind": kind, "metadata": {"name": name, **more}}


def replicas(of: Spec, owned: Sequence[Object] = ()) -> int | None:
    """The number of main pods that is applied."""
    found: int | None = keyed(children(of, owned).objects)[DEPLOYMENT]["spec"].get("replicas")
    return found


def test_a_plain_deployment_owns_this() -> None:
    """Plan first, pods after what they need."""
    built = children(spec())
    assert [(one["kind"], one["metadata"]["name"]) for one in built.objects][1:] == [
        ("NetworkPolicy", "late-flights-main"),
        ("Service", "late-flights"),
        ("Deployment", "late-flights-main"),
    ]
    assert built.objects[0]["kind"] == "ConfigMap"
    assert built.delete == []


def test_a_challenger_brings_objects_of_its_own() -> None:
    """Pods, a Service and a policy that main's do not share."""
    built = keyed(children(spec({"challengerReplicas": 3}), challenger=True).objects)
    assert built[ObjectKey("Deployment", "late-flights-challenger")]["spec"]["replicas"] == 3
    assert built[ObjectKey("Service", "late-flights-challenger")]["spec"]["selector"] == selector("late-flights", "challenger")
    assert ObjectKey("NetworkPolicy", "late-flights-challenger") in built


def test_every_object_is_marked_and_owned() -> None:
    """By label for whoever looks, by owner reference for the garbage collector."""
    built = children(spec({"replicas": 2, "grpc": True}), challenger=True).objects
    for one in built:
        meta = one["metadata"]
        assert meta["namespace"] == "shop"
        assert labels("late-flights").items() <= meta["labels"].items()
        (owner,) = meta["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("ModelDeployment", KEY.name, "uid-1", True)


def test_names_fit_for_the_longest_deployment() -> None:
    """40 characters are allowed; labels and Services take 63."""
    long = "d" * 40
    template = render(spec(), "challenger", SETTINGS)
    assert len(f"{long}-challenger-{template.hash}") <= 63


def test_pods_are_replaced_one_by_one_and_never_fewer() -> None:
    """The new one first, and it must have been ready for a while."""
    wanted = keyed(children(spec(progressSeconds=90)).objects)[DEPLOYMENT]["spec"]
    assert wanted["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert (wanted["progressDeadlineSeconds"], wanted["minReadySeconds"], wanted["revisionHistoryLimit"]) == (90, 3, 2)
    assert wanted["selector"]["matchLabels"].items() <= wanted["template"]["metadata"]["labels"].items()


def test_a_deployments_pods_ask_for_the_plan_that_is_beside_them() -> None:
    """Template label, variable, mounted ConfigMap and plan carry one hash."""
    built = children(spec())
    config, template = built.objects[0], keyed(built.objects)[DEPLOYMENT]["spec"]["template"]
    name = config["metadata"]["name"]
    assert Plan.model_validate_json(config["data"]["plan.json"]).node == name
    assert config["data"]["ca.crt"] == "CA PEM"
    assert name.endswith(template["metadata"]["labels"]["quarterdeck.dev/template"])
    assert config["metadata"]["labels"]["quarterdeck.dev/template"] == template["metadata"]["labels"]["quarterdeck.dev/template"]
    assert {"name": "QUARTERDECK_PLAN", "value": name} in template["spec"]["containers"][0]["env"]
    assert {"name": "plan", "configMap": {"name": name, "optional": True}} in template["spec"]["volumes"]


@pytest.mark.parametrize(("grpc", "ports"), [(False, [(80, 8080)]), (True, [(80, 8080), (8081, 8081)])])
def test_the_service_opens_the_doors_there_are(grpc: bool, ports: list[tuple[int, int]]) -> None:
    """HTTP always, gRPC where it is wished."""
    service = keyed(children(spec({"grpc": grpc})).objects)[ObjectKey("Service", "late-flights")]
    assert [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]] == ports


def test_main_is_reached_from_anywhere_and_a_challenger_by_its_main_pods_only() -> None:
    """Of the same deployment and namespace; ways out stay open."""
    built = keyed(children(spec(), challenger=True).objects)
    main, challenger = (built[ObjectKey("NetworkPolicy", f"late-flights-{role}")]["spec"] for role in ("main", "challenger"))
    assert main["policyTypes"] == challenger["policyTypes"] == ["Ingress"]
    assert [set(rule) for rule in main["ingress"]] == [{"ports"}]
    assert [port["port"] for port in main["ingress"][0]["ports"]] == [8080, 8081]
    assert challenger["ingress"] == [
        {
            "from": [{"podSelector": {"matchLabels": selector("late-flights", "main")}}],
            "ports": [{"port": 8080, "protocol": "TCP"}],
        }
    ]


@pytest.mark.parametrize(
    ("nodes", "more", "there"),
    [
        ({"replicas": 1}, {}, False),
        ({"replicas": 2}, {}, True),
        (SCALED, {}, True),
        ({**SCALED, "autoscaling": {"maxReplicas": 1}}, {}, False),
        ({"replicas": 3}, {"running": False}, False),
    ],
)
def test_a_disruption_budget_where_it_can_promise_something(nodes: dict[str, Any], more: dict[str, Any], there: bool) -> None:
    """Not with one replica, not while stopped."""
    budget = keyed(children(spec(nodes, **more)).objects).get(ObjectKey("PodDisruptionBudget", "late-flights-main"))
    assert (budget is not None) == there
    assert budget is None or budget["spec"]["maxUnavailable"] == 1


def test_the_autoscaler_follows_the_serving_containers_processor_time() -> None:
    """The agent's is no load that more nodes would take away."""
    scaler = keyed(children(spec(SCALED)).objects)[AUTOSCALER]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "late-flights-main"}
    target = {"type": "Utilization", "averageUtilization": 70}
    assert scaler["metrics"] == [
        {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "serve", "target": target}}
    ]


@pytest.mark.parametrize(
    ("nodes", "running", "owned", "number"),
    [
        ({"replicas": 3}, True, [], 3),
        ({"replicas": 3}, True, [live(7)], 3),
        ({"replicas": 3}, False, [live(3)], 0),
        # An autoscaler comes: the first pods are asked for, then the number is its own, whatever it is.
        (SCALED, True, [], 2),
        (SCALED, True, [live(4)], None),
        (SCALED, True, [live(4), other(*AUTOSCALER)], None),
        # It leaves a Deployment of no pods alone: after a stop the first ones are asked for.
        (SCALED, True, [live(0)], 2),
        # It goes: gone first, then the number.
        ({"replicas": 3}, True, [live(4), other(*AUTOSCALER)], None),
        ({"replicas": 3}, True, [live(4), other(*AUTOSCALER, deletionTimestamp="now")], None),
        (SCALED, False, [live(4), other(*AUTOSCALER)], None),
        (SCALED, False, [live(4)], 0),
    ],
)
def test_who_says_how_many_pods_there_are(nodes: dict[str, Any], running: bool, owned: list[Object], number: int | None) -> None:
    """The spec or the autoscaler, never both, and no dip between them."""
    assert replicas(spec(nodes, running=running), owned) == number


@pytest.mark.parametrize(("nodes", "running"), [({"replicas": 3}, True), (SCALED, False)])
def test_an_autoscaler_that_is_wanted_no_more_goes_first(nodes: dict[str, Any], running: bool) -> None:
    """Before anything else is deleted, and with it the budget of a stopped deployment."""
    owned = [other("ConfigMap", "late-flights-main-0000000000"), other(*AUTOSCALER), live(4)]
    assert children(spec(nodes, running=running), owned).delete[0] == AUTOSCALER


def test_a_stopped_deployment_keeps_everything_but_pods() -> None:
    """Services and plans stay: starting again is quick and addresses last."""
    built = keyed(children(spec({"replicas": 3}, running=False), challenger=True).objects)
    assert built[DEPLOYMENT]["spec"]["replicas"] == 0
    assert built[ObjectKey("Deployment", "late-flights-challenger")]["spec"]["replicas"] == 0
    assert ObjectKey("Service", "late-flights") in built


def test_what_nobody_wants_any_more_is_deleted_but_never_the_record() -> None:
    """A challenger that was taken away, plans of templates without pods; not what goes already."""
    owned = [
        other("Deployment", "late-flights-challenger"),
        other("ConfigMap", "late-flights-main-0000000000"),
        other("ConfigMap", "late-flights-record"),
        other("Service", "late-flights-challenger", deletionTimestamp="now"),
        live(1),
    ]
    assert children(spec(), owned).delete == [
        ObjectKey("ConfigMap", "late-flights-main-0000000000"),
        ObjectKey("Deployment", "late-flights-challenger"),
    ]


def test_building_again_gives_the_same() -> None:
    """A restart writes nothing."""
    assert children(spec(SCALED), challenger=True) == children(spec(SCALED), challenger=True)
