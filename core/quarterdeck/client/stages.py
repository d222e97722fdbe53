"""Stages, promotions between them, and test queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quarterdeck.client.calls import Calls, Json, as_object, part


class Stages(Calls):
    """`/api/stages`, `/api/promotions` and the test queries of deployments."""

    def stages(self) -> list[Json]:
        """All stages with their gates, in their order."""
        return self.every("/api/stages")

    def stage(self, name: str) -> Json:
        """One stage."""
        return as_object(self.call("GET", f"/api/stages/{part(name)}"))

    def put_stage(self, name: str, body: Mapping[str, Any]) -> Json:
        """Create a stage, or make it equal to what is given: position, infrastructure, gates, approval, why."""
        return as_object(self.call("PUT", f"/api/stages/{part(name)}", dict(body)))

    def delete_stage(self, name: str, why: str = "") -> None:
        """Take a stage away where nothing lives."""
        self.call("DELETE", f"/api/stages/{part(name)}", why=why or None)

    def promote(
        self,
        name: str,
        to: str,
        version: int | None = None,
        target: str = "",
        why: str = "",
        wait: float | None = None,
        *,
        trust: str = "",
    ) -> Json:
        """Bring a version of a deployment to another stage, through its gates.

        Args:
            name: the deployment that it comes from.
            to: the stage.
            version: of main's model; None: main itself.
            target: the deployment there; empty: the one of the same service.
            why: reason for the history.
            wait: seconds to wait until it has ended or waits for a person; None: do not wait.
            trust: ``code`` or ``data``; empty: as main has it.

        Returns:
            The promotion; `state` tells how far it is, `gates` what was found.
        """
        given = {"to": to, "version": version, "name": target or None, "trust": trust or None, "why": why}
        body = {member: value for member, value in given.items() if value is not None}
        return as_object(self.call("POST", f"/api/deployments/{part(name)}/promote", body, wait=wait))

    def promotions(self, limit: int | None = None, **wanted: str) -> list[Json]:
        """Promotions, newest first; `wanted` may name deployment, service, stage, project and state."""
        return self.every("/api/promotions", limit, **{name: value or None for name, value in wanted.items()})

    def promotion(self, number: int, wait: float | None = None) -> Json:
        """One promotion; with `wait` as soon as it has ended or waits for a person."""
        return as_object(self.call("GET", f"/api/promotions/{number}", wait=wait))

    def approve(self, number: int, why: str = "") -> Json:
        """Say yes to somebody else's promotion."""
        return as_object(self.call("POST", f"/api/promotions/{number}/approve", {"why": why}))

    def reject(self, number: int, why: str = "") -> Json:
        """Say no to somebody else's promotion."""
        return as_object(self.call("POST", f"/api/promotions/{number}/reject", {"why": why}))

    def test_queries(self, name: str) -> list[Json]:
        """The test queries of a deployment."""
        return self.every(f"/api/deployments/{part(name)}/test-queries")

    def test_query(self, name: str, query: str) -> Json:
        """One test query."""
        return as_object(self.call("GET", f"/api/deployments/{part(name)}/test-queries/{part(query)}"))

    def put_test_query(self, name: str, query: str, body: Mapping[str, Any]) -> Json:
        """Save a test query: rows, maybe expect, tolerance, description and why."""
        return as_object(self.call("PUT", f"/api/deployments/{part(name)}/test-queries/{part(query)}", dict(body)))

    def delete_test_query(self, name: str, query: str, why: str = "") -> None:
        """Forget a test query."""
        self.call("DELETE", f"/api/deployments/{part(name)}/test-queries/{part(query)}", why=why or None)

    def run_test_queries(
        self, name: str, versions: Sequence[int] = (), queries: Sequence[str] = (), *, trust: str = "data"
    ) -> Json:
        """Ask versions of main's model the test queries: answers, what is not as expected, where versions differ."""
        body = {"versions": list(versions), "queries": list(queries), "trust": trust}
        return as_object(self.call("POST", f"/api/deployments/{part(name)}/test-queries/run", body))
