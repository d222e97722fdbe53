"""The pods of a cluster's deployments, and what they use: by the words of API server and metrics server. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from quarterdeck.plan import Role
from quarterdeck_deployer.infrastructures.base import Reading
from quarterdeck_deployer.infrastructures.kubernetes_fields import Object

PODS = "app.kubernetes.io/name=quarterdeck-node"
"""Label selector of the nodes' pods, as the operator makes them."""
_ROLE = "quarterdeck.dev/role"
_FACTORS = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_LONGEST = 63

Used = tuple[float, float]
"""Processors that are busy, and bytes of memory."""


def usage(metrics: Sequence[Object]) -> dict[str, Used]:
    """Pod → what its containers use together, from a list of `PodMetrics`."""
    return {
        one["metadata"]["name"]: (
            sum(quantity(container.get("usage", {}).get("cpu", "0")) for container in one.get("containers", ())),
            sum(quantity(container.get("usage", {}).get("memory", "0")) for container in one.get("containers", ())),
        )
        for one in metrics
    }


def quantity(text: str) -> float:
    """A quantity as a number: `250m`, `12Mi`, `1e3`; 0 where it is none."""
    found = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]{0,2})", text)
    return float(found[1]) * _FACTORS.get(found[2], 0.0) if found else 0.0


class Busy:
    """Adds up processor time, which a metrics server tells as a rate."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._at: float | None = None

    def readings(self, pods: Sequence[Object], used: Mapping[str, Used], now: float) -> list[Reading]:
        """What each pod says of itself, by name; `now` in monotonic seconds. Unknown usage counts as none."""
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        boots = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in pods}
        self._seconds = {uid: self._seconds.get(uid, 0.0) + used.get(name, (0.0, 0.0))[0] * passed for uid, name in boots.items()}
        found = [_reading(pod, used, self._seconds[pod["metadata"]["uid"]]) for pod in pods]
        return sorted(found, key=lambda one: one.node)


def _reading(pod: Object, used: Mapping[str, Used], seconds: float) -> Reading:
    metadata, status = pod["metadata"], pod.get("status", {})
    conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
    role: Role = "challenger" if metadata.get("labels", {}).get(_ROLE) == "challenger" else "main"
    live = status.get("phase") == "Running" and "deletionTimestamp" not in metadata
    # Pods of long names are told apart by their ends.
    name = metadata["name"][-_LONGEST:].lstrip("-")
    ready = live and conditions.get("Ready") == "True"
    memory = int(used.get(metadata["name"], (0.0, 0.0))[1])
    return Reading(name, role, "", live, ready, 0.0 if live else None, 0, metadata["uid"], memory, seconds)
