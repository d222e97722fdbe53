"""An instance with something on every page of its console: people, projects, keys, nodes that joined, and a day of their use."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from sqlalchemy import insert

from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.infrastructures.joining import JoinInput, JoinTokenInput
from quarterdeck_deployer.models import NodeUsage
from quarterdeck_deployer.usage import SPELL_SECONDS
from tests.deployer_world import World

PLACE, PROJECT = "edge", "delays"
NODES = {"edge-main-1": "main", "edge-main-2": "main", "edge-challenger-1": "challenger"}
STEPS = 24 * 3600 // SPELL_SECONDS


@dataclass
class Furnished:
    """Ids of what was made: people by their name, and one key."""

    people: dict[str, str]
    key: str


def furnish(here: World) -> Furnished:
    """One person of each role, a project, a key, and a static infrastructure with three nodes, one of which was sent away."""
    here.ok(here.http.post("/api/projects", json={"name": PROJECT, "description": "Flight delays"}))
    people = {}
    for name, role in (("vera", "viewer"), ("dora", "developer"), ("anna", "approver"), ("adam", "admin")):
        given = {"name": name.title(), "email": f"{name}@example.org", "role": role, "projects": ["default", PROJECT]}
        people[name] = str(here.ok(here.http.post("/api/people", json=given))["id"])
    key = here.ok(here.http.post("/api/keys", json={"name": "booking", "project": PROJECT, "rate": 20, "days": 90}))
    here.http.put(f"/api/infrastructures/{PLACE}", json={"kind": "static", "store": f"memory://{PLACE}"}).raise_for_status()
    for node, role in NODES.items():
        join(here, node, role)
    here.http.delete("/api/nodes/edge-challenger-1").raise_for_status()
    spend(here)
    return Furnished(people, str(key["id"]))


def join(here: World, node: str, role: str) -> None:
    """A node joins; nothing runs anywhere."""
    wanted = JoinTokenInput.model_validate({"infrastructure": PLACE, "role": role})
    token = here.deployer.joined.token(wanted, Act(who="admin")).token
    here.deployer.joined.join(JoinInput(token=token, url=f"http://{node}.example.org:8401", name=node))


def spend(here: World) -> None:
    """A day of memory and processors of two roles, with two hours in which nothing was heard."""
    now = int(time.time())
    rows = [
        {
            "node": node,
            "at": now - step * SPELL_SECONDS,
            "infrastructure": PLACE,
            "role": role,
            "rss_bytes": round((9 if role == "main" else 5) * 1e8 + 2e8 * math.sin(step / 20)),
            "cpu_cores": round((0.9 if role == "main" else 0.3) * (1 + math.cos(step / 9)), 3),
        }
        for node, role in NODES.items()
        for step in range(1, STEPS)
        if not 100 <= step < 124
    ]
    with here.deployer.writing.begin() as session:
        session.execute(insert(NodeUsage), rows)
