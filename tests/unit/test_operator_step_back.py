"""A step back while pods are being replaced, by a whole look of the operator: old pods that answer are reached too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quarterdeck.plan import LoadState, NodeReport, VersionRef
from quarterdeck_operator.decision import Context, decide_world
from quarterdeck_operator.world import Object, ObjectKey, Observed, Wanted
from tests.operator_objects import KEY, NOW, SEED, SETTINGS, observed, pod, ref, report

V1, V2, V3 = ref(1), ref(2), ref(3)
CONTEXT = Context(SETTINGS, "CA PEM", SEED)
OLD_PODS = ["old-0", "old-1"]


def resource(version: int, generation: int, **nodes: Any) -> Object:
    """The ModelDeployment."""
    spec = {"model": {"name": "m", "version": version}, "nodes": {"replicas": 2, **nodes}}
    return {"metadata": {"name": KEY.name, "namespace": KEY.namespace, "uid": "u", "generation": generation}, "spec": spec}


def told(names: list[str], generation: int, active: VersionRef, **states: LoadState) -> list[NodeReport]:
    """What pods say about a wish."""
    reports = [report(name, "main", active, **states) for name in names]
    return [one.model_copy(update={"deployments": [_of(one, generation)]}) for one in reports]


def _of(report_: NodeReport, generation: int) -> Any:
    return report_.deployments[0].model_copy(update={"generation": generation})


def after(world: Observed, wanted: Wanted, **more: Any) -> Observed:
    """The world once everything was written."""
    owned = {ObjectKey(one["kind"], one["metadata"]["name"]): one for one in wanted.objects}
    return replace(world, record=wanted.record, record_version="1", owned=owned, **more)


def replacing() -> tuple[Observed, str]:
    """Version 2 answers, version 1 is the way back, and other pods are wanted, none of which has come up."""
    pins = {f"m/{one.version}": one.digest for one in (V1, V2, V3)}
    world = observed()
    world = replace(world, record=world.record.model_copy(update={"pins": pins}), record_version="1")
    wanted = decide_world(world, resource(1, 1), CONTEXT)
    hash_ = wanted.record.templates["main"].hash
    pods = [pod(name, hash_) for name in OLD_PODS]
    for version, generation, current in ((1, 1, V1), (2, 2, V1), (2, 2, V2)):
        states: dict[str, LoadState] = {"v1": "ready", **({"v2": "ready"} if generation == 2 else {})}
        world = after(world, wanted, pods=pods, reports=told(OLD_PODS, generation, current, **states), now=NOW + 100 * generation)
        wanted = decide_world(world, resource(version, generation), CONTEXT)
    assert wanted.record.record.active == V2
    world = after(world, wanted)
    wanted = decide_world(world, resource(2, 3, image="registry.example/missing:1"), CONTEXT)
    return after(world, wanted), hash_


def told_of(wanted: Wanted, kind: str) -> Object:
    """A condition of the status."""
    return next(one for one in wanted.status["conditions"] if one["type"] == kind)


def answering(wanted: Wanted, hash_: str) -> VersionRef | None:
    """What pods of a template are told to answer with."""
    (plan,) = (one for one in wanted.plans if one.node.endswith(hash_))
    return plan.deployments[0].active


def with_a_broken_new_pod(world: Observed, generation: int) -> Observed:
    """A new pod came up in an environment in which nothing loads: it reports, and is never ready."""
    new = pod("new-0", world.record.templates["main"].hash, ready=False)
    (told_by,) = told(["new-0"], generation, V1, v1="failed", v2="failed")
    silent = told_by.model_copy(update={"deployments": [told_by.deployments[0].model_copy(update={"active": None})]})
    return replace(world, pods=[*world.pods, new], reports=[*world.reports, silent])


def test_a_step_back_is_not_held_up_by_new_pods_that_cannot_load_anything() -> None:
    """The image is another, wrong one and stays so: who answers is asked, and what is wrong with the new pod is told."""
    world, hash_ = replacing()
    world = with_a_broken_new_pod(world, 4)
    wanted = decide_world(world, resource(1, 4, image="registry.example/missing:1"), CONTEXT)
    assert (wanted.record.record.active, wanted.record.record.hold) == (V1, None)
    assert answering(wanted, hash_) == V1
    wanted = decide_world(after(world, wanted), resource(1, 4, image="registry.example/missing:1"), CONTEXT)
    assert (wanted.record.record.active, wanted.record.record.hold) == (V1, None)
    assert told_of(wanted, "ModelLoaded")["status"] == "False"


def test_a_step_back_waits_for_new_pods_that_answer() -> None:
    """One that gets requests and does not hold the version yet would answer with another one than the rest."""
    world, _ = replacing()
    new = pod("new-0", world.record.templates["main"].hash)
    wish = resource(1, 4, image="registry.example/missing:1")
    world = replace(world, pods=[*world.pods, new], reports=[*world.reports, *told(["new-0"], 4, V2, v1="loading", v2="ready")])
    assert decide_world(world, wish, CONTEXT).record.record.active == V2
    world = replace(world, reports=[*world.reports[:-1], *told(["new-0"], 4, V2, v1="ready", v2="ready")])
    assert decide_world(world, wish, CONTEXT).record.record.active == V1


def test_a_version_and_its_environment_are_taken_back_together() -> None:
    """The old pods are those that are wanted again, so nobody else is asked."""
    world, hash_ = replacing()
    wanted = decide_world(with_a_broken_new_pod(world, 4), resource(1, 4), CONTEXT)
    assert wanted.record.templates["main"].hash == hash_
    assert answering(wanted, hash_) == V1


def test_a_version_on_trial_is_judged_by_old_pods_while_new_ones_come_up() -> None:
    """What they answer wrongly takes the version back, although a new pod has reported."""
    world, hash_ = replacing()
    world = with_a_broken_new_pod(world, 3)
    wrong = [
        one.model_copy(
            update={"deployments": [_of(one, 2).model_copy(update={"revision": 2, "probe_failure": "Row 1 differs."})]}
        )
        for one in told(OLD_PODS, 2, V2, v1="ready", v2="ready")
    ]
    wanted = decide_world(
        replace(world, reports=[*wrong, world.reports[-1]]), resource(2, 3, image="registry.example/missing:1"), CONTEXT
    )
    assert wanted.record.record.active == V1
    assert answering(wanted, hash_) == V1


def test_a_replacement_alone_leaves_old_pods_as_they_are() -> None:
    """They answer with what they answered; the status does not call them gone."""
    world, hash_ = replacing()
    wanted = decide_world(world, resource(2, 3, image="registry.example/missing:1"), CONTEXT)
    assert answering(wanted, hash_) == V2
    assert told_of(wanted, "Ready")["status"] == "True"


def test_a_step_back_reaches_pods_whose_replacement_does_not_come_up() -> None:
    """The image is missing, and version 2 turns out to be bad: version 1 is resident and answers at once."""
    world, hash_ = replacing()
    wanted = decide_world(world, resource(1, 4, image="registry.example/missing:1"), CONTEXT)
    assert wanted.record.record.active == V1
    assert answering(wanted, hash_) == V1


@pytest.mark.parametrize("state", ["ready", "loading"])
def test_a_step_forward_waits_for_the_new_pods(state: LoadState) -> None:
    """Old pods were never told to hold version 3, and a change of version and environment belongs together."""
    world, hash_ = replacing()
    wish = resource(3, 4, image="registry.example/other:1")
    wanted = decide_world(world, wish, CONTEXT)
    assert answering(wanted, hash_) == V2
    current = wanted.record.templates["main"].hash
    new = pod("new-0", current, ready=False)
    reports = [*world.reports, *told(["new-0"], 4, V2, v2="ready", v3=state)]
    wanted = decide_world(after(world, wanted, pods=[*world.pods, new], reports=reports), wish, CONTEXT)
    assert wanted.record.record.active == (V3 if state == "ready" else V2)
    assert (answering(wanted, current), answering(wanted, hash_)) == (V3 if state == "ready" else V2, V2)
