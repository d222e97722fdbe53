"""What became of actions."""

from __future__ import annotations

from quarterdeck.client.calls import Calls, Json, as_object, part


class Actions(Calls):
    """`/api/actions`."""

    def actions(self, deployment: str = "", state: str = "", limit: int | None = None) -> list[Json]:
        """Actions, newest first; the first `limit`, all where it is None.

        Args:
            deployment: only of this one.
            state: only in this one: ``accepted``, ``applied``, ``failed`` or ``overtaken``.
            limit: how many.
        """
        return self.every("/api/actions", limit, deployment=deployment or None, state=state or None)

    def action(self, action: str) -> Json:
        """One action: who wanted what, and how it ended."""
        return as_object(self.call("GET", f"/api/actions/{part(action)}"))
