"""When keys were used last, from nodes' reports to the ConfigMap that the deployer reads."""

from __future__ import annotations

import asyncio
import json

import pytest

from quarterdeck.placement import KEY_USES, KEY_USES_ENTRY
from quarterdeck.plan import Key, KeyUse, NodeReport, Plan
from quarterdeck_operator.board import Board
from quarterdeck_operator.key_uses import KeyUseNotes, noting
from quarterdeck_operator.kube import CONFIG_MAP, ApiFailure
from quarterdeck_operator.twin import ClusterTwin
from quarterdeck_operator.world import ResourceKey


def board(*told: tuple[str, str, list[tuple[str, int, float]]], woken: list[ResourceKey] | None = None) -> Board:
    """Pods of one deployment in each namespace that have reported: namespace, pod, and what they tell of keys."""
    found = Board(lambda key: None if woken is None else woken.append(key))
    for namespace, pod, uses in told:
        say(found, namespace, pod, uses)
    return found


def say(found: Board, namespace: str, pod: str, uses: list[tuple[str, int, float]]) -> None:
    """A report."""
    keys = [KeyUse(id=ident, requests=requests, last=last) for ident, requests, last in uses]
    report = NodeReport(node=pod, boot="b", role="main", url="u", sequence=1, ready=True, keys=keys)
    found.take(ResourceKey(namespace, "late-flights"), report)


def noted(twin: ClusterTwin, namespace: str) -> list[tuple[str, int, float]]:
    """What the deployer would read there."""
    found = twin.get(CONFIG_MAP.path(namespace, KEY_USES))
    return [(one["id"], one["requests"], one["last"]) for one in json.loads(found["data"][KEY_USES_ENTRY])] if found else []


def test_each_namespace_is_told_the_last_use_at_any_of_its_nodes() -> None:
    """Requests add up, the newest moment counts; where nobody used a key nothing is written."""
    found = board(("a", "p1", [("k1", 2, 50.0), ("k2", 1, 10.0)]), ("a", "p2", [("k1", 3, 40.0)]), ("b", "p3", []))
    twin = ClusterTwin()
    KeyUseNotes(found, twin).write()
    assert noted(twin, "a") == [("k1", 5, 50.0), ("k2", 1, 10.0)]
    assert twin.get(CONFIG_MAP.path("b", KEY_USES)) is None


def test_the_mirroring_token_is_no_key() -> None:
    """It is in use all day, and nobody has made it."""
    assert board(("a", "p1", [("mirror", 9, 50.0)])).key_uses() == {"a": []}


def test_the_same_again_is_not_written_again() -> None:
    """An idle cluster's API server hears nothing of it; what changed is written."""
    found, twin = board(("a", "p1", [("k1", 2, 50.0)])), ClusterTwin()
    notes = KeyUseNotes(found, twin)
    notes.write()
    first = twin.get(CONFIG_MAP.path("a", KEY_USES))
    notes.write()
    assert twin.get(CONFIG_MAP.path("a", KEY_USES)) == first
    say(found, "a", "p1", [("k1", 3, 60.0)])
    notes.write()
    assert noted(twin, "a") == [("k1", 3, 60.0)]


def test_a_namespace_that_refuses_holds_up_no_other_and_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """It is said in the log, and nothing else is lost by it."""

    class Refusing(ClusterTwin):
        """One namespace may not be written, for now."""

        refuses = True

        def patch(self, path, *given, **more):  # type: ignore[no-untyped-def]
            """As the twin does, elsewhere."""
            if self.refuses and "/namespaces/a/" in path:
                raise ApiFailure("PATCH was answered 403.", http=403)
            return super().patch(path, *given, **more)

    twin = Refusing()
    notes = KeyUseNotes(board(("a", "p1", [("k1", 2, 50.0)]), ("b", "p2", [("k1", 1, 5.0)])), twin)
    notes.write()
    assert (noted(twin, "a"), noted(twin, "b")) == ([], [("k1", 1, 5.0)])
    assert "namespace a" in caplog.text
    twin.refuses = False
    notes.write()
    assert noted(twin, "a") == [("k1", 2, 50.0)]


def test_a_use_is_no_reason_to_look_at_a_deployment() -> None:
    """Nothing is decided by it, and it changes all day."""
    woken: list[ResourceKey] = []
    found = board(("a", "p1", [("k1", 2, 50.0)]), woken=woken)
    assert len(woken) == 1
    say(found, "a", "p1", [("k1", 3, 60.0)])
    assert len(woken) == 1


def test_other_keys_reach_nodes_that_wait_before_anybody_has_looked() -> None:
    """Once between two looks, under the number between theirs, the mirroring token where it was."""
    key = ResourceKey("a", "late-flights")
    old, new, mirror = (Key(id=ident, sha256="0" * 64, project="*", scopes=["predict"]) for ident in ("old", "new", "mirror"))
    found = board()
    found.leading = True
    found.publish(key, [plan("main", [old]), plan("challenger", [mirror, old])])

    async def scenario() -> list[Plan | None]:
        waits = [asyncio.create_task(found.newer(key, name, 7, 10.0)) for name in ("main", "challenger")]
        while found.polls < 2:
            await asyncio.sleep(0)
        found.rekey([key, ResourceKey("a", "unknown")], [new], [])
        return [await one for one in waits]

    told = asyncio.run(scenario())
    assert [one.sequence for one in told if one] == [8, 8]
    assert [[each.id for each in one.keyring] for one in told if one] == [["new"], ["mirror", "new"]]
    found.rekey([key], [old], [])
    assert found.plan("a", "main", "late-flights") == told[0]
    found.publish(key, [plan("main", [old], 9)])
    assert asyncio.run(found.newer(key, "main", 8, 10.0)) == plan("main", [old], 9)


def plan(name: str, keyring: list[Key], sequence: int = 7) -> Plan:
    """A served plan."""
    return Plan(node=name, sequence=sequence, store="s3://models", keyring=keyring)


def test_only_the_leader_writes() -> None:
    """Whoever follows has heard nobody."""

    async def scenario() -> list[bool]:
        wrote, leading = [], iter([False, True, False, True])
        done = asyncio.Event()

        async def write() -> None:
            wrote.append(True)
            if len(wrote) == 2:
                done.set()

        task = asyncio.create_task(noting(write, lambda: next(leading, False), 0.0))
        async with asyncio.timeout(10):
            await done.wait()
        task.cancel()
        return wrote

    assert asyncio.run(scenario()) == [True, True]
