"""Infrastructures and their nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quarterdeck.client.calls import Calls, Json, as_object, part


class Infrastructures(Calls):
    """`/api/infrastructures` and `/api/nodes`."""

    def infrastructures(self) -> list[Json]:
        """All infrastructures, each with the stages that are on it."""
        return self.every("/api/infrastructures")

    def infrastructure(self, name: str) -> Json:
        """One infrastructure."""
        return as_object(self.call("GET", f"/api/infrastructures/{part(name)}"))

    def strangers(self, name: str) -> list[Json]:
        """Resources of a cluster that could not be adopted, each with the reason and the next step."""
        return self.every(f"/api/infrastructures/{part(name)}/strangers")

    def infrastructure_usage(self, name: str, limit: int | None = None) -> list[Json]:
        """What its nodes used in the last day, by role, in steps of five minutes, the oldest first."""
        return self.every(f"/api/infrastructures/{part(name)}/usage", limit)

    def put_infrastructure(self, name: str, body: Mapping[str, Any]) -> Json:
        """Create an infrastructure, or make it equal to `body`: kind, store, settings."""
        return as_object(self.call("PUT", f"/api/infrastructures/{part(name)}", dict(body)))

    def delete_infrastructure(self, name: str) -> None:
        """Take an infrastructure away that no stage is on and no node has joined."""
        self.call("DELETE", f"/api/infrastructures/{part(name)}")

    def nodes(self, infrastructure: str = "") -> list[Json]:
        """All nodes, or those of one infrastructure, with what they use now."""
        return self.every("/api/nodes", infrastructure=infrastructure or None)

    def node(self, name: str) -> Json:
        """One node."""
        return as_object(self.call("GET", f"/api/nodes/{part(name)}"))

    def node_usage(self, name: str, limit: int | None = None) -> list[Json]:
        """Memory and processors of a node, a sample every 15 seconds of the last 24 hours, the newest first."""
        return self.every(f"/api/nodes/{part(name)}/usage", limit)

    def create_join_token(self, body: Mapping[str, Any]) -> Json:
        """Make a token that lets one node join; the answer holds it, this once."""
        return as_object(self.call("POST", "/api/nodes/tokens", dict(body)))

    def join_node(self, body: Mapping[str, Any]) -> Json:
        """Exchange a join token for a node's name and token; needs no other credential."""
        return as_object(self.call("POST", "/nodes/join", dict(body)))

    def revoke_node(self, name: str) -> Json:
        """Send a node away; it stops answering when it hears of that."""
        return as_object(self.call("DELETE", f"/api/nodes/{part(name)}"))
