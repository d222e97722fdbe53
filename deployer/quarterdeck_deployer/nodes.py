"""What nodes have said: the latest report of each, how old it is, and which of them are alive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from quarterdeck.errors import InvalidInput, NotFound
from quarterdeck.plan import NodeReport, Role

LIVE_SECONDS = 10.0
NODES: dict[str, Role] = {"main": "main", "challenger": "challenger"}
"""Nodes of the local infrastructure and their roles."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node that belongs to an infrastructure: what it does, and where others reach it (base URL)."""

    role: Role
    url: str = ""


BESIDE: Mapping[str, Member] = {node: Member(role) for node, role in NODES.items()}
"""The members of the local infrastructure, wherever they listen."""


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
    """The latest reports, in memory. Read from many threads without a lock: every change replaces the whole mapping.

    Attributes:
        members: the nodes that count, by name; replaced as a whole when one joins or leaves.
    """

    def __init__(self, clock: Callable[[], float] = time.time, members: Mapping[str, Member] = BESIDE) -> None:
        self._clock = clock
        self.members = members
        self._heard: dict[str, Heard] = {}
        # Reports come in the event loop, memories in the thread of whoever lets a node join.
        self._changing = threading.Lock()

    def take(self, node: str, report: NodeReport) -> None:
        """Keep a report in place of the one before.

        Raises:
            NotFound: no such node.
            InvalidInput: the report is of another node or role.
        """
        if report.node != node or report.role != self.member(node).role:
            raise InvalidInput(
                "The report is of another node or role than its path says.",
                kind="node",
                name=node,
                hint="Check the node's QUARTERDECK_NODE and QUARTERDECK_ROLE.",
            )
        # A new mapping instead of a changed one: readers in other threads see the old or the new, never half.
        with self._changing:
            self._heard = {**self._heard, node: Heard(report, self._clock())}

    def member(self, node: str) -> Member:
        """What a node is here.

        Raises:
            NotFound: no such node.
        """
        if node not in self.members:
            raise no_such_node(self.members)
        return self.members[node]

    def remember(self, node: str, report: NodeReport, at: float) -> None:
        """Take over what an earlier process was told: good for "last seen", never for "alive"."""
        # A report that came in meanwhile is newer than anything stored.
        with self._changing:
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
        return sorted((one.report for one in self.words() if one.live(now)), key=lambda report: report.node)

    def words(self) -> list[Heard]:
        """The latest report of every member that was ever heard of."""
        # What a node said before it was revoked counts for nothing any more.
        return [heard for node in self.members if (heard := self._heard.get(node))]

    def refused(self, deployment: str) -> bool:
        """Whether a live node has refused a version that this deployment wants."""
        reports = [one for report in self.live() for one in report.deployments if one.name == deployment]
        return any(version.state == "failed" for report in reports for version in report.versions)


def no_such_node(known: Iterable[str]) -> NotFound:
    """The refusal of a name that none of the nodes has."""
    names = ", ".join(sorted(known))
    return NotFound(
        f"There is no such node here. There are: {names}." if names else "There is no node yet.", kind="node", name=""
    )
