"""From decisions to plans: pure builders of what each node is told."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from quarterdeck.plan import DeploymentPlan, Key, Mirror, Plan, Role
from quarterdeck.rollout import Decision
from quarterdeck_deployer.keys import console_entry, mirror_entry
from quarterdeck_deployer.nodes import NODES
from quarterdeck_deployer.revisions import RevisionView
from quarterdeck_deployer.settings import Settings, Tokens


@dataclass(frozen=True, slots=True)
class Decided:
    """A wish, and what was decided about it."""

    wish: RevisionView
    decision: Decision


class PlanBuilder:
    """Builds the plans of one instance."""

    def __init__(self, settings: Settings, tokens: Tokens) -> None:
        self._challenger_url, self._mirror_token, self._store = settings.challenger_url, tokens.mirror, settings.store_url
        self._console, self._mirror = console_entry(tokens.admin), mirror_entry(tokens.mirror)

    def plans(self, decided: Sequence[Decided], keyring: Sequence[Key]) -> dict[str, Plan]:
        """One plan per node, all with sequence 0; whoever publishes them numbers them."""
        # Only the challenger node knows the mirroring token: on main it would open nothing but confusion.
        extra = {"main": [self._console], "challenger": [self._console, self._mirror]}
        return {
            node: Plan(
                node=node,
                sequence=0,
                store=self._store,
                keyring=[*extra[role], *keyring],
                deployments=[self._deployment(one, role) for one in decided],
            )
            for node, role in NODES.items()
        }

    def _deployment(self, one: Decided, role: Role) -> DeploymentPlan:
        wish, decision = one.wish, one.decision
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
            mirror=self._mirroring(decision) if main else None,
        )

    def _mirroring(self, decision: Decision) -> Mirror | None:
        if decision.mirror is None:
            return None
        return Mirror(url=self._challenger_url, version=decision.mirror, token=self._mirror_token)


def content_digest(plan: Plan) -> str:
    """Hex digest of everything but the sequence: plans with equal digests ask for the same."""
    return hashlib.sha256(plan.content()).hexdigest()
