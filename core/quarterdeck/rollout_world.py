"""What the live nodes of one role say about one deployment."""

from __future__ import annotations

from collections.abc import Sequence

from quarterdeck.plan import DeploymentReport, NodeReport, Role, VersionRef, VersionReport
from quarterdeck.rollout_record import Counted, Scored, Spec, scored


class World:
    """The live nodes of one role, draining ones left out.

    Words about versions count for the present generation only, lest an old refusal ends a new attempt. One exception makes
    a step back quick: a version that every plan kept resident (`kept`) is ready without a new word.
    """

    def __init__(self, spec: Spec, nodes: Sequence[NodeReport], role: Role, kept: set[Scored]) -> None:
        live = [node for node in nodes if node.role == role and not node.draining]
        self.nodes = [node.node for node in live]
        self.boots = {node.node: node.boot for node in live}
        self.reports: dict[str, DeploymentReport] = {
            node.node: report
            for node in live
            for report in node.deployments
            if report.name == spec.deployment and report.role == role
        }
        self._generation = spec.generation
        self._kept = kept

    def states(self, ref: VersionRef) -> dict[str, VersionReport]:
        """Node → how far it is with this version; a node that answers for an older wish has not spoken yet."""
        return {
            node: version
            for node, report in self.reports.items()
            for version in report.versions
            if scored(version) == scored(ref)
            and (report.generation == self._generation or (version.state == "ready" and scored(version) in self._kept))
        }

    def proven(self, ref: VersionRef) -> bool:
        """Whether every node has the version resident and proven; never true of an empty set."""
        # Of no nodes everything is true; a system that restarts must not flip before anybody has reported.
        return bool(self.nodes) and self.count(ref) == len(self.nodes)

    def count(self, ref: VersionRef) -> int:
        """How many nodes have the version resident and proven."""
        return sum(version.state == "ready" for version in self.states(ref).values())

    def failure(self, ref: VersionRef) -> tuple[str, VersionReport] | None:
        """The first node (by name) that refused the version."""
        for node, version in sorted(self.states(ref).items()):
            if version.state == "failed":
                return node, version
        return None

    def hindered(self, ref: VersionRef) -> tuple[str, VersionReport] | None:
        """The first node (by name) that tries on in vain, and says why: the store is not reached, or lets nobody in."""
        for node, version in sorted(self.states(ref).items()):
            if version.state == "fetching" and version.code:
                return node, version
        return None

    def obstacle(self, ref: VersionRef) -> str:
        """In words, what the version still waits for."""
        if not self.nodes:
            return "no live node has reported"
        for node, version in sorted(self.states(ref).items()):
            if version.reason:
                # Reasons are whole sentences, and this becomes the end of one.
                return f"{node}: {version.reason.removesuffix('.')}"
        return f"{self.count(ref)} of {len(self.nodes)} nodes have it ready"

    def answering(self, ref: VersionRef) -> int:
        """How many nodes answer with the version."""
        return sum(report.active == ref.digest for report in self.reports.values())

    def counted(self, ref: VersionRef) -> dict[str, Counted]:
        """Boot → requests that reached the version in it; boots that none reached are left out."""
        return {
            self.boots[node]: Counted(requests=requests, failures=report.failures.get(ref.digest, 0))
            for node, report in self.reports.items()
            if (requests := report.requests.get(ref.digest, 0))
        }

    def wrong(self, active: VersionRef, revision: int) -> tuple[str, str] | None:
        """The first node (by name) whose last golden row was failed by what is active since this revision, and how."""
        for node, report in sorted(self.reports.items()):
            # A node that has not followed yet speaks of the version before.
            if report.probe_failure and report.revision == revision and report.active == active.digest:
                return node, report.probe_failure
        return None
