"""What nodes have said: the latest report of each, how old it is, and which of them are alive."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from quarterdeck.errors import InvalidInput, NotFound
from quarterdeck.plan import NodeReport, Role

LIVE_SECONDS = 10.0
NODES: dict[str, Role] = {"main": "main", "challenger": "challenger"}
"""Nodes of the local infrastructure and their roles."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A report and when it came (Unix seconds); `present` is False for what was read from the database after a restart."""

    report: NodeReport
    at: float
    present: bool = True

    def live(self, now: float) -> bool:
        """Whether the node was heard of in the last ten seconds, by this process."""
        # A clock that was set back makes reports come from the future: they are as old as nobody knows, until the next one.
        return self.present and abs(now - self.at) <= LIVE_SECONDS


class Nodes:
    """The latest reports, in memory. Read from many threads, written from one: every change replaces the whole mapping."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._heard: dict[str, Heard] = {}

    def take(self, node: str, report: NodeReport) -> None:
        """Keep a report in place of the one before.

        Raises:
            NotFound: no such node.
            InvalidInput: the report is of another node or role.
        """
        role = require_node(node)
        if report.node != node or report.role != role:
            raise InvalidInput(
                "The report is of another node or role than its path says.",
                kind="node",
                name=node,
                hint="Check the node's QUARTERDECK_NODE and QUARTERDECK_ROLE.",
            )
        # A new mapping instead of a changed one: readers in other threads see the old or the new, never half.
        self._heard = {**self._heard, node: Heard(report, self._clock())}

    def remember(self, node: str, report: NodeReport, at: float) -> None:
        """Take over what an earlier process was told: good for "last seen", never for "alive"."""
        # A report that came in meanwhile is newer than anything stored.
        self._heard = {node: Heard(report, at, present=False), **self._heard}

    def heard(self, node: str) -> Heard | None:
        """The latest report of one node, however old."""
        return self._heard.get(node)

    def age(self, node: str) -> float | None:
        """Seconds since its latest report; None: never heard of."""
        heard = self._heard.get(node)
        return max(0.0, self._clock() - heard.at) if heard else None

    def live(self) -> list[NodeReport]:
        """Reports of at most ten seconds' age, by node name."""
        now = self._clock()
        # Sorted, so that equal worlds give equal decisions and equal plans.
        return [heard.report for _, heard in sorted(self._heard.items()) if heard.live(now)]

    def refused(self, deployment: str) -> bool:
        """Whether a live node has refused a version that this deployment wants."""
        reports = [one for report in self.live() for one in report.deployments if one.name == deployment]
        return any(version.state == "failed" for report in reports for version in report.versions)


def require_node(node: str) -> Role:
    """The role of a node.

    Raises:
        NotFound: no such node.
    """
    if node not in NODES:
        raise NotFound(f"There is no such node here. There are: {', '.join(NODES)}.", kind="node", name="")
    return NODES[node]
