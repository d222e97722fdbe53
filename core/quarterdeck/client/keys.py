"""API keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quarterdeck.client.calls import Calls, Json, as_object, part


class Keys(Calls):
    """`/api/keys`."""

    def keys(self) -> list[Json]:
        """All API keys, without their secrets."""
        return self.every("/api/keys")

    def create_key(self, body: Mapping[str, Any]) -> Json:
        """Create a key; the answer holds its secret, this once."""
        return as_object(self.call("POST", "/api/keys", dict(body)))

    def rotate_key(self, key: str, overlap_hours: float = 24.0, why: str = "") -> Json:
        """Create a key in place of this one, which opens what it did until the overlap ends; the answer holds the new secret."""
        return as_object(self.call("POST", f"/api/keys/{part(key)}/rotate", {"overlap_hours": overlap_hours, "why": why}))

    def revoke_key(self, key: str) -> None:
        """Make a key worthless."""
        self.call("DELETE", f"/api/keys/{part(key)}")
