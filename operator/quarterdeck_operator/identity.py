"""Who asks the plan server: a pod shows its projected token, the API server says whose it is, and each gets its own plan only."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from quarterdeck.errors import Forbidden, NotReady, QuarterdeckError, Unauthenticated
from quarterdeck.plan import Role
from quarterdeck_operator.kube import DEPLOYMENT_LABEL
from quarterdeck_operator.names import TEMPLATE_LABEL, plan_name, role_of
from quarterdeck_operator.world import ResourceKey

KEPT_SECONDS = 60.0
"""How long a token that was found good is not asked about again."""
_MOST_TOKENS = 20_000
_LONGEST_TOKEN = 16_384
MOST_ASKED = 2_000
"""Tokens that the API server is asked about or waited for: more are told to come again, lest a flood fills memory."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose token it is, as the API server says, with the labels that the pod has."""

    namespace: str
    pod: str
    service_account: str
    labels: Mapping[str, str]

    @property
    def deployment(self) -> ResourceKey:
        """The deployment that the pod is a node of."""
        return ResourceKey(self.namespace, self.labels.get(DEPLOYMENT_LABEL, ""))

    @property
    def role(self) -> Role:
        """What the pod does for it."""
        return role_of(self.labels)

    @property
    def plan(self) -> str:
        """Name of the one plan that is for this pod."""
        return plan_name(self.deployment.name, self.role, self.labels.get(TEMPLATE_LABEL, ""))


class Reviewer(Protocol):
    """Asks the API server; blocks."""

    def review(self, token: str) -> Identity | None:
        """Whose token it is; None: it is not good, not for our audience, or not a pod's that exists.

        Raises:
            QuarterdeckError: the API server did not answer.
        """
        ...


class ReviewerTwin:
    """A reviewer that knows what it was told: token → identity."""

    def __init__(self, known: Mapping[str, Identity] | None = None) -> None:
        self.known = dict(known or {})
        self.asked = 0
        self.failure: QuarterdeckError | None = None

    def review(self, token: str) -> Identity | None:
        """The identity of a known token.

        Raises:
            QuarterdeckError: `failure`, while it is set.
        """
        self.asked += 1
        if self.failure:
            raise self.failure
        return self.known.get(token)


@dataclass(frozen=True, slots=True)
class _Known:
    identity: Identity
    until: float


class Guard:
    """Lets pods in, each for its own. Belongs to one event loop.

    Args:
        reviewer: asked in `pool`, once a minute per token.
        pool: bounded threads for its calls.
        clock: monotonic seconds.
    """

    def __init__(self, reviewer: Reviewer, pool: Executor, clock: Callable[[], float] = time.monotonic) -> None:
        self._reviewer, self._pool, self._clock = reviewer, pool, clock
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Future[Identity | None]] = {}

    async def identify(self, authorization: str) -> Identity:
        """Who sent this `Authorization` header.

        Raises:
            Unauthenticated: no token, or one that is not good here.
            NotReady: the API server could not be asked, or too many wait for that.
        """
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN:
            raise Unauthenticated("A pod's token is missing.", hint="Nodes read it from QUARTERDECK_NODE_TOKEN_FILE.")
        # By digest: a dump of this process must not hold what opens the plan server.
        digest = hashlib.sha256(token.encode()).hexdigest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known.until:
            return known.identity
        identity = await self._review(digest, token)
        if identity is None:
            raise Unauthenticated("The token is no pod's of this cluster, or not meant for the plan server.")
        self._keep(digest, identity)
        return identity

    async def _review(self, digest: str, token: str) -> Identity | None:
        """Ask once, however many requests come with the same token meanwhile."""
        asking = self._asking.get(digest)
        if asking is None:
            if len(self._asking) >= MOST_ASKED:
                raise NotReady("Too many tokens are being looked at.", hint="Ask again in a second.")
            asking = asyncio.get_running_loop().run_in_executor(self._pool, self._reviewer.review, token)
            self._asking[digest] = asking
            asking.add_done_callback(lambda done: self._answered(digest, done))
        try:
            # Shielded: a caller who hangs up must not take the answer from the others.
            return await asyncio.shield(asking)
        except QuarterdeckError as error:
            raise NotReady("The API server could not be asked about the token.", hint="It is tried again.") from error

    def _answered(self, digest: str, done: asyncio.Future[Identity | None]) -> None:
        self._asking.pop(digest, None)
        # Looked at here, for everybody who waited for it may have hung up.
        if not done.cancelled():
            done.exception()

    def _keep(self, digest: str, identity: Identity) -> None:
        now = self._clock()
        if len(self._known) >= _MOST_TOKENS:
            self._known = {key: known for key, known in self._known.items() if now < known.until}
        self._known[digest] = _Known(identity, now + KEPT_SECONDS)


def require_plan(identity: Identity, plan: str) -> None:
    """A pod gets the plan of its own deployment, role and template.

    Raises:
        Forbidden: it asks for another.
    """
    if plan != identity.plan:
        raise Forbidden("The plan is another node's.", kind="plan", hint="Check the pod's labels and QUARTERDECK_PLAN.")


def require_node(identity: Identity, node: str) -> None:
    """A pod reports as itself.

    Raises:
        Forbidden: it names another.
    """
    if node != identity.pod:
        raise Forbidden("The report is another node's.", kind="node", hint="Check QUARTERDECK_NODE; it is the pod's own name.")
