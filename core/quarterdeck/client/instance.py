"""What the instance is."""

from __future__ import annotations

from quarterdeck.client.calls import Calls, Json, as_object


class Instance(Calls):
    """`/api/instance`."""

    def instance(self) -> Json:
        """Name, version, store and URLs of the system."""
        return as_object(self.call("GET", "/api/instance"))
