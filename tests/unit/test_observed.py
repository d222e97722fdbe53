"""What is observed of a deployment, by tables of worlds: wish, record and reports → words with their age."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from quarterdeck.plan import DeploymentReport, LoadState, MirrorReport, NodeReport, Role, VersionRef, VersionReport
from quarterdeck.rollout import Hold, Record, decide
from quarterdeck_deployer.nodes import Heard
from quarterdeck_deployer.observed import ObservedDeployment, observe
from quarterdeck_deployer.plans import Decided
from quarterdeck_deployer.revisions import RevisionView

NOW = 10_000.0


def ref(version: int) -> VersionRef:
    return VersionRef(model="m", version=version, digest="sha256:" + f"{version:064x}")


def wish(main: int = 1, challenger: int | None = None, number: int = 1, **more: Any) -> RevisionView:
    """The newest revision."""
    return RevisionView(
        **{
            "description": "",
            "project": "default",
            "main": ref(main),
            "challenger": ref(challenger) if challenger else None,
            "access": "instance",
            "records": "spooled",
            "running": True,
            "deployment": "d",
            "number": number,
            "kind": "change",
            "chosen": number,
            "leaving": None,
            "restored": None,
            "who": "admin",
            "why": "",
            "created": datetime(2026, 11, 21, tzinfo=UTC),
            **more,
        }
    )


def heard(
    age: float = 1.0,
    role: Role = "main",
    active: int | None = None,
    probe: float | None = 1.0,
    generation: int = 1,
    present: bool = True,
    mirroring: int | None = None,
    **states: LoadState,
) -> Heard:
    """A report of that age; states are given as v1="ready" …"""
    versions = [
        VersionReport(
            digest=ref(int(key[1:])).digest,
            version=int(key[1:]),
            state=state,
            place="row 3" if state == "failed" else "",
            code="golden-mismatch" if state == "failed" else "",
            reason="row 3 differs" if state == "failed" else "",
        )
        for key, state in states.items()
    ]
    report = DeploymentReport(
        name="d",
        role=role,
        generation=generation,
        active=ref(active).digest if active else None,
        versions=versions,
        probe_age_seconds=probe,
        mirroring=ref(mirroring).digest if mirroring else None,
        mirror=MirrorReport(mirrored=5, answered=4, pending=1),
    )
    node = NodeReport(node=role, boot="b", role=role, url="http://127.0.0.1:1", sequence=1, ready=True, deployments=[report])
    return Heard(node, NOW - age, present)


@dataclass
class World:
    """One row: a world, and the words for it."""

    name: str
    heard: list[Heard]
    deployed: str
    running: str
    applied: bool
    wish: RevisionView = field(default_factory=wish)
    record: Record = field(default_factory=lambda: Record(revision=1, generation=1, active=ref(1)))


def seen(world: World) -> ObservedDeployment:
    live = [one.report for one in world.heard if one.present and NOW - one.at <= 10]
    return observe(Decided(world.wish, decide(world.wish.spec(), world.record, live, NOW)), world.heard, NOW)


NEW = Record(revision=0, generation=1)
HELD = Record(revision=1, generation=2, active=ref(1), hold=Hold(generation=2, reason="row 3 differs", code="golden-mismatch"))
PAIR = wish(challenger=2)

WORLDS = [
    World("answers", [heard(active=1, v1="ready")], "yes", "yes", True),
    World("nobody ever reported", [], "unknown", "unknown", False),
    World("silent for eleven seconds", [heard(11, active=1, v1="ready")], "unknown", "unknown", False),
    World("heard of before the restart only", [heard(1, active=1, present=False, v1="ready")], "unknown", "unknown", False),
    World("loading", [heard(v1="loading", probe=None)], "building", "starting", False, record=NEW),
    World("not taken over yet", [heard(generation=0, probe=None)], "building", "starting", False, record=NEW),
    World("refused, nothing serves", [heard(v1="failed", probe=None)], "failed", "failing", False, record=NEW),
    World(
        "refused, the old one serves",
        [heard(active=1, generation=2, v1="ready", v2="failed")],
        "yes",
        "yes",
        False,
        wish=wish(2, number=2),
        record=HELD,
    ),
    World("loaded, no golden row answered yet", [heard(active=1, probe=None, v1="ready")], "yes", "starting", True),
    World("golden row answered long ago", [heard(active=1, probe=31.0, v1="ready")], "yes", "failing", True),
    World("stopped", [heard(probe=None)], "no", "stopped", True, wish=wish(running=False)),
    World("should be stopped but answers", [heard(active=1, v1="ready")], "no", "yes", False, wish=wish(running=False)),
    World(
        "challenger still loads",
        [heard(active=1, v1="ready"), heard(role="challenger", v2="loading")],
        "yes",
        "yes",
        False,
        wish=PAIR,
    ),
    World(
        "challenger node is silent",
        [heard(active=1, v1="ready"), heard(20, role="challenger", v2="ready")],
        "yes",
        "yes",
        False,
        wish=PAIR,
    ),
    World(
        "both are ready, but main copies its rows to nobody yet",
        [heard(active=1, v1="ready"), heard(role="challenger", active=2, v2="ready")],
        "yes",
        "yes",
        False,
        wish=PAIR,
    ),
    World(
        "both are ready, and rows are copied",
        [heard(active=1, mirroring=2, v1="ready"), heard(role="challenger", active=2, v2="ready")],
        "yes",
        "yes",
        True,
        wish=PAIR,
    ),
]


@pytest.mark.parametrize("world", WORLDS, ids=[world.name for world in WORLDS])
def test_words_for_what_is_seen(world: World) -> None:
    """deployed, running and applied for each world; whatever is not applied says what it waits for."""
    found = seen(world)
    assert (found.deployed.state, found.running.state, found.applied) == (world.deployed, world.running, world.applied)
    assert bool(found.waiting_for) != found.applied
    assert found.deployed.sentence
    assert found.running.sentence


@pytest.mark.parametrize("world", WORLDS, ids=[world.name for world in WORLDS])
def test_silence_is_never_yes(world: World) -> None:
    """The same worlds with every report a minute older: unknown, with the age of the last word."""
    old = [Heard(one.report, one.at - 60, one.present) for one in world.heard]
    found = seen(World(world.name, old, "", "", False, world.wish, world.record))
    assert (found.deployed.state, found.running.state, found.applied) == ("unknown", "unknown", False)
    assert (found.running.age_seconds is None) == (not old)
    assert not any(node.live or node.ready for node in found.nodes)


def test_failure_names_node_version_reason_and_place() -> None:
    """A refused version is told with everything that the node said; an older wish's refusal is not."""
    refused = heard(active=1, generation=2, v1="ready", v2="failed")
    found = seen(World("", [refused], "", "", False, wish(2, number=2), HELD))
    assert found.failure is not None
    assert (found.failure.node, found.failure.version, found.failure.place) == ("main", ref(2), "row 3")
    assert seen(World("", [refused], "", "", False, wish(2, number=3), HELD)).failure is None


def test_ledger_of_the_mirror_is_passed_on() -> None:
    """mirrored = answered + failed + expired + dropped + pending, as the main node counts it."""
    found = seen(World("", [heard(active=1, v1="ready"), heard(role="challenger", v2="ready")], "", "", True, PAIR))
    assert found.mirror == MirrorReport(mirrored=5, answered=4, pending=1)
