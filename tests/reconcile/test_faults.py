"""Every write of a life fails once, in every way, or the operator dies at it: the end is always the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache

import pytest

from quarterdeck_operator.twin import ClusterTwin, owned_paths
from quarterdeck_operator.world import Object
from tests.reconcile.hands import TwinHand, is_operators
from tests.reconcile.world import NAME, Node, World, digest

Act = Callable[[World], None]


def _create(world: World) -> None:
    world.apply(1, challenger={"version": 3}, nodes={"replicas": 2})


def _update(world: World) -> None:
    world.apply(2, challenger={"version": 3}, nodes={"replicas": 2})


def _environment(world: World) -> None:
    world.apply(2, nodes={"autoscaling": {"maxReplicas": 4}, "env": {"A": "1"}})


def _rollback(world: World) -> None:
    world.apply(2, nodes={"replicas": 2}, pin={"version": 1, "reason": "worse"})


def _delete(world: World) -> None:
    world.hand.delete_resource()


ACTS: dict[str, Act] = {
    "create": _create,
    "update": _update,
    "environment": _environment,
    "rollback": _rollback,
    "delete": _delete,
}


class _Nth:
    """Strikes at the nth write, once."""

    def __init__(self, number: int, status: int) -> None:
        self.left, self.status, self.struck = number, status, False

    def __call__(self, method: str, path: str) -> int:
        """The HTTP status to answer with; 0: as always."""
        if not is_operators(path):
            return 0
        self.left -= 1
        self.struck = self.struck or self.left == 0
        return self.status if self.left == 0 else 0


def _live(acts: list[str], last: str, prepare: Callable[[World, ClusterTwin], None]) -> Object:
    """Live through the acts; from the last one on as prepared. Gives back what is there at the end."""
    before = acts[: acts.index(last)] if last else acts
    world, twin = _lived(tuple(before))
    if last:
        ACTS[last](world)
        prepare(world, twin)
        world.settle()
    return _normal(world, twin)


def _lived(acts: tuple[str, ...]) -> tuple[World, ClusterTwin]:
    """A copy of the world after calm acts, with a new operator."""
    twin, nodes = copy.deepcopy(_calm(acts))
    hand = TwinHand()
    hand.twin = hand.reads = hand.writes = twin
    world = World(hand)
    world.nodes = nodes
    world.step_nodes()
    return world, twin


@cache
def _calm(acts: tuple[str, ...]) -> tuple[ClusterTwin, dict[str, Node]]:
    """What is there after calm acts, lived through once."""
    hand = TwinHand()
    world = World(hand)
    for act in acts:
        ACTS[act](world)
        world.settle()
    return hand.twin, world.nodes


def _normal(world: World, twin: ClusterTwin) -> Object:
    """Everything that is owned, and the status, without clocks, numbers that the server gives, and history."""
    found: Object = {path: _masked(twin.get(path) or {}) for path in owned_paths(twin)}
    resource = next((path for path in twin.paths() if path.endswith(f"/modeldeployments/{NAME}")), None)
    if resource:
        found["status"] = (twin.get(resource) or {}).get("status", {})
    found["answering"] = sorted(map(str, world.answering()))
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def _masked(body: Object) -> Object:
    hidden = ("resourceVersion", "uid", "managedFields", "generation")
    metadata = {key: value for key, value in body["metadata"].items() if key not in hidden}
    owners = [{**one, "uid": ""} for one in metadata.get("ownerReferences", ())]
    # A failed look may number plans once more; what they say is compared.
    data = {name: _unnumbered(text) for name, text in body.get("data", {}).items()}
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != "quarterdeck.dev/applied"}
    return {**body, "metadata": {**metadata, "ownerReferences": owners, "annotations": annotations}, "data": data}


def _unnumbered(text: str) -> Object | str:
    if not text.startswith("{"):
        return text
    data: Object = json.loads(text)
    data.pop("sequence", None)
    return data


def _count(acts: list[str], last: str) -> int:
    """How many writes the last act takes when nothing goes wrong."""
    counted: list[int] = []

    def count(world: World, twin: ClusterTwin) -> None:
        counted.append(0)

        def one(method: str, path: str) -> int:
            counted[0] += is_operators(path)
            return 0

        twin.fault = one

    _live(acts, last, count)
    return counted[0]


def _until(act: str) -> list[str]:
    names = list(ACTS)
    return names[: names.index(act) + 1]


@pytest.mark.parametrize("act", ["create", "update", "environment", "rollback"])
@pytest.mark.parametrize("way", ["killed before", "killed after", "409", "429", "500"])
def test_whichever_write_fails_the_end_is_the_same(act: str, way: str) -> None:
    """Given an act, when any of its writes fails or the operator dies before or after it, then the end is a calm day's."""
    acts = _until(act)
    calm = _live(acts, act, lambda world, twin: None)
    for number in range(1, _count(acts, act) + 1):
        strike = _Nth(number, 500 if way.startswith("killed") else int(way))

        def prepare(world: World, twin: ClusterTwin, strike: _Nth = strike) -> None:
            world.failed = world.restart if way.startswith("killed") else lambda: None
            if way == "killed after":
                twin.swallow = strike
            else:
                twin.fault = strike

        assert _live(acts, act, prepare) == calm, f"write {number}"
        assert strike.struck


def test_the_calm_life_ends_where_its_last_resource_says() -> None:
    """Given the whole life but its end, then main answers with the pin, and after the end nothing is left."""
    rolled_back = _live(_until("rollback"), "", lambda world, twin: None)
    assert rolled_back["answering"] == [digest(1)] * 1
    gone = _live(_until("delete"), "", lambda world, twin: None)
    assert gone == {"answering": []}


@pytest.mark.parametrize("act", ["create", "update", "environment", "rollback"])
def test_a_path_ends_where_a_fresh_apply_does(act: str) -> None:
    """Given a path of changes, then its objects are those of a fresh namespace that was given the last resource only."""
    path, fresh = _live(_until(act), "", lambda world, twin: None), _live([act], "", lambda world, twin: None)

    def objects(found: Object) -> Object:
        """Without what remembers: the record, plans (they hold the way back), the status, and a number that autoscalers keep."""
        kept = {name: one for name, one in found.items() if "/configmaps/" not in name and name != "status"}
        main = next(one for name, one in kept.items() if name.endswith("/deployments/late-flights-main"))
        if act == "environment":
            del main["spec"]["replicas"], kept["answering"]
        return kept

    assert objects(path) == objects(fresh)


def test_an_operator_that_begins_anew_writes_nothing() -> None:
    """Given it serves, when the operator is restarted ten times, then no write follows."""
    world = World(TwinHand())
    _create(world)
    world.settle()
    count = len(world.hand.written())
    for _ in range(10):
        world.restart()
        world.reconcile()
        world.step_nodes()
        world.reconcile()
    assert world.writes_since(count) == []
