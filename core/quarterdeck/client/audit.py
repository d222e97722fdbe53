"""The audit trail."""

from __future__ import annotations

from collections.abc import Iterator

from quarterdeck.client.answers import exchange
from quarterdeck.client.calls import Calls, Json, as_object


class Audit(Calls):
    """`/api/audit`."""

    def audit(self, limit: int | None = None, *, object: str = "", who: str = "", verb: str = "") -> list[Json]:
        """Who did what and when, newest first; the first `limit`, all where it is None.

        Args:
            limit: how many.
            object: only of this one, e.g. ``deployment/late-flights``.
            who: only what this caller did.
            verb: only actions of this kind.
        """
        return self.every("/api/audit", limit, object=object or None, who=who or None, verb=verb or None)

    def verify_audit(self, sequence: int = 0, sha256: str = "") -> Json:
        """Whether the trail is as it was written; with the number and seal of an entry that was noted, nothing is cut off."""
        return as_object(self.call("GET", "/api/audit/verify", sequence=sequence or None, sha256=sha256 or None))

    def export_audit(self) -> Iterator[str]:
        """The whole trail, oldest first: one JSON object a line, each with its seal."""
        found = exchange(self._api, "GET", f"{self.url}/api/audit/export", None, {}, {}, self._timeout)
        # At line feeds only: a reason may hold other signs that Python takes for the end of a line.
        yield from found.content.decode().removesuffix("\n").split("\n")
