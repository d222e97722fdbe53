"""From decisions to plans: pure builders of what each node is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from quarterdeck.plan import DeploymentPlan, Key, Mirror, NodeReport, Plan, TokenIssuer, VersionRef
from quarterdeck.rollout import Decision
from quarterdeck_deployer.keys import console_entry, mirror_entry, mirror_token
from quarterdeck_deployer.nodes import NODES, Member
from quarterdeck_deployer.revisions import RevisionView
from quarterdeck_deployer.settings import Tokens


@dataclass(frozen=True, slots=True)
class Decided:
    """A wish, and what was decided about it."""

    wish: RevisionView
    decision: Decision


class PlanBuilder:
    """Builds the plans of one infrastructure's nodes.

    Args:
        store: URL of the infrastructure's packages and records.
        tokens: of the instance; nodes are told what follows from them.
        issuers: whose people's tokens open these nodes, as of each plan.
    """

    def __init__(self, store: str, tokens: Tokens, issuers: Callable[[], list[TokenIssuer]] = list) -> None:
        self._store, self._mirror_token, self._issuers = store, tokens.mirror, issuers
        self._console = console_entry(tokens.admin)

    def plans(
        self, decided: Sequence[Decided], keyring: Sequence[Key], members: Mapping[str, Member], live: Sequence[NodeReport] = ()
    ) -> dict[str, Plan]:
        """One plan per node, all with sequence 0; whoever publishes them numbers them.

        Args:
            members: the nodes.
            live: what those that live have said; it tells which challenger nodes can take copies.
        """
        mains = [node for node, member in members.items() if member.role == "main"]
        # Only challenger nodes know the mirroring tokens: on main they would open nothing but confusion.
        doors = [mirror_entry(self._mirror_token)]
        doors += [mirror_entry(self._token(node), node) for node in mains if node not in NODES]
        extra = {"main": [self._console], "challenger": [self._console, *doors]}
        issuers = self._issuers()
        return {
            node: Plan(
                node=node,
                sequence=0,
                store=self._store,
                keyring=[*extra[member.role], *keyring],
                issuers=issuers,
                deployments=[self._deployment(one, node, members, live) for one in decided],
            )
            for node, member in members.items()
        }

    def _deployment(self, one: Decided, node: str, members: Mapping[str, Member], live: Sequence[NodeReport]) -> DeploymentPlan:
        wish, decision, role = one.wish, one.decision, members[node].role
        main = role == "main"
        # A node without a challenger still holds the deployment, empty: its report then shows that it let go.
        challenger = [decision.challenger] if decision.challenger else []
        return DeploymentPlan(
            name=wish.deployment,
            project=wish.project,
            service=wish.service or wish.deployment,
            stage=wish.stage,
            role=role,
            revision=decision.record.revision,
            generation=wish.number,
            active=decision.active if main else decision.challenger,
            resident=decision.resident if main else challenger,
            access=wish.access,
            records=wish.records,
            mirror=self._mirroring(one, node, members, live) if main else None,
        )

    def _mirroring(self, one: Decided, node: str, members: Mapping[str, Member], live: Sequence[NodeReport]) -> Mirror | None:
        version = one.decision.mirror
        if version is None:
            return None
        url = receiver(node, members, _able(one.wish.deployment, version, live) or [report.node for report in live])
        return Mirror(url=url, version=version, token=self._token(node)) if url else None

    def _token(self, node: str) -> str:
        """What the node's copies are sent with: of a node elsewhere one of its own, so that it ends when the node is revoked."""
        return self._mirror_token if node in NODES else mirror_token(self._mirror_token, node)


def receiver(main: str, members: Mapping[str, Member], able: Sequence[str]) -> str:
    """Base URL of the challenger node that takes a main node's copies; empty where there is no challenger node.

    Main nodes are spread over those that are able. Where one dies only its own main nodes change over; where none is able
    the choice is made among all, for then any is as good, and the ledger says that copies fail.
    """
    challengers = [node for node, member in members.items() if member.role == "challenger"]
    among = [node for node in challengers if node in able] or challengers
    # The highest of the digests: equal worlds give equal plans, and no list has to be kept of who sends where.
    best = max(among, key=lambda node: hashlib.sha256(f"{main} {node}".encode()).digest(), default=None)
    return members[best].url.rstrip("/") if best else ""


def _able(deployment: str, version: VersionRef, live: Sequence[NodeReport]) -> list[str]:
    """The live nodes that have the version ready."""
    return [
        report.node
        for report in live
        for one in report.deployments
        if one.name == deployment
        for state in one.versions
        if state.digest == version.digest and state.state == "ready" and not report.draining
    ]


def content_digest(plan: Plan) -> str:
    """Hex digest of everything but the sequence: plans with equal digests ask for the same."""
    return hashlib.sha256(plan.content()).hexdigest()
