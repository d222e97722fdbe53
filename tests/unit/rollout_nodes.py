"""Worlds for the rollout decision in which several nodes come and go: small nodes that follow what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from quarterdeck.plan import DeploymentReport, NodeReport, VersionRef, VersionReport
from quarterdeck.rollout import Condition, Decision, Record, Spec, decide


def ref(version: int) -> VersionRef:
    """A version without bytes."""
    return VersionRef(model="m", version=version, digest="sha256:" + f"{version:064x}")


V1, V2, V3 = ref(1), ref(2), ref(3)


def spec(generation: int = 1, main: VersionRef = V1, **more: Any) -> Spec:
    """The wish of one generation."""
    return Spec(deployment="d", generation=generation, main=main, **more)


def condition(decision: Decision, kind: str) -> Condition:
    """One of what was said."""
    return next(one for one in decision.conditions if one.type == kind)


@dataclass
class Node:
    """One main node: loads what it is told to at once, unless it refuses; counts what it is asked."""

    name: str
    boot: str = "1"
    refuses: set[int] = field(default_factory=set)
    loads: bool = True
    draining: bool = False
    told: Decision | None = None
    generation: int = 0
    active: VersionRef | None = None
    revision: int = 0
    ready: set[int] = field(default_factory=set)
    requests: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    wrong: str = ""

    def follow(self, decision: Decision, generation: int) -> None:
        """Take over what was decided."""
        self.told, self.generation = decision, generation
        wanted = {one.version for one in decision.resident}
        self.ready = (self.ready & wanted) | (wanted - self.refuses if self.loads else set())
        if decision.active and decision.active.version in self.ready:
            self.active, self.revision = decision.active, decision.record.revision

    def serve(self, requests: int, failures: int = 0) -> None:
        """Answer so many requests with what is active, of them so many 5xx."""
        assert self.active is not None
        digest = self.active.digest
        self.requests[digest] = self.requests.get(digest, 0) + requests
        self.failures[digest] = self.failures.get(digest, 0) + failures

    def restart(self) -> None:
        """Another boot: counters begin at zero, and what was told is loaded again."""
        self.boot, self.requests, self.failures, self.wrong = f"{self.boot}+", {}, {}, ""

    def report(self) -> NodeReport:
        """What it says of itself."""
        resident = self.told.resident if self.told else []
        states = [
            VersionReport(
                digest=one.digest,
                version=one.version,
                state="ready" if one.version in self.ready else "failed" if one.version in self.refuses else "loading",
                reason="row 3 differs" if one.version in self.refuses else "",
            )
            for one in resident
        ]
        said = DeploymentReport(
            name="d",
            role="main",
            revision=self.revision,
            generation=self.generation,
            active=self.active.digest if self.active else None,
            versions=states,
            requests=dict(self.requests),
            failures=dict(self.failures),
            probe_failure=self.wrong,
        )
        deployments = [said] if self.told else []
        return NodeReport(
            node=self.name, boot=self.name + self.boot, role="main", url="", sequence=1, ready=True, draining=self.draining,
            deployments=deployments,
        )  # fmt: skip


class World:
    """A deployment, its nodes and a clock; every pass checks that deciding twice is deciding once."""

    def __init__(self, *names: str, wish: Spec | None = None) -> None:
        self.nodes = [Node(name) for name in names or ("a",)]
        self.wish = wish or spec()
        self.record = Record()
        self.now = 1_000.0

    def step(self, seconds: float = 0.0, follow: Sequence[Node] | None = None) -> Decision:
        """Let time pass, decide by what the nodes say, and tell those who listen."""
        self.now += seconds
        seen = [node.report() for node in self.nodes]
        decision = decide(self.wish, self.record, seen, self.now)
        assert decide(self.wish, decision.record, seen, self.now).record == decision.record
        self.record = decision.record
        for node in self.nodes if follow is None else follow:
            node.follow(decision, self.wish.generation)
        return decision

    def settle(self, seconds: float = 0.0) -> Decision:
        """As many passes as it takes until nothing moves."""
        decision = self.step(seconds)
        for _ in range(5):
            decision = self.step()
        return decision

    def wishes(self, main: VersionRef, **more: Any) -> None:
        """The next generation."""
        self.wish = spec(self.wish.generation + 1, main, **more)

    def answering(self) -> list[int]:
        """The version that each node answers with; 0: none."""
        return [node.active.version if node.active else 0 for node in self.nodes]


def swapped(*names: str, before: tuple[int, int] = (200, 0), **more: Any) -> World:
    """A world in which version 2 has just taken the place of version 1, which had served `before` requests on each node."""
    world = World(*names, wish=spec(**more))
    world.settle()
    for node in world.nodes:
        node.serve(*before)
    world.step(3_600)
    world.wishes(V2, chosen=2, **more)
    world.settle()
    assert set(world.answering()) == {2}
    return world
