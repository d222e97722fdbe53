"""Who may ask what: API keys known by their SHA-256, people by signed tokens; three access modes, scopes, projects and rates."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from quarterdeck.api_keys import mistyped
from quarterdeck.errors import Forbidden, TooMany, Unauthenticated
from quarterdeck.plan import DeploymentPlan, Key, TokenIssuer

if TYPE_CHECKING:
    from quarterdeck_node.people import People

Scope = Literal["predict", "feedback", "read", "mirror"]
MAX_PASSED = 8_192
"""Who passed where, as far as it is remembered: people's tokens are new every hour, and a keyring may live for months."""
_NEXT_STEP = "Send a key in `Authorization: Bearer …` or `X-API-Key`; the deployer creates them."


def digest_of(secret: str) -> str:
    """What a key is known by."""
    # A slow hash would protect guessable secrets; keys are 256 random bits, and this runs for every request.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class Meter:
    """What one key was let in for at this node, and the limit of it. It outlives keyrings: a new plan is no new allowance.

    Args:
        id: of the key.

    Attributes:
        requests: let in, in this boot.
        last: monotonic seconds of the last of them; 0.0: none yet.
    """

    __slots__ = ("_burst", "_filled", "_left", "_rate", "id", "last", "requests")

    def __init__(self, id: str) -> None:
        self.id = id
        self.requests, self.last = 0, 0.0
        self._rate, self._burst, self._left, self._filled = 0.0, 1, 1.0, 0.0

    def limited(self, rate: float | None, burst: int) -> Meter:
        """The same meter under another limit; what is used up stays used up."""
        if (rate or 0.0, burst) != (self._rate, self._burst):
            self._left += burst - self._burst
            self._rate, self._burst = rate or 0.0, burst
        return self

    def enter(self, now: float) -> None:
        """Let one request in.

        Args:
            now: monotonic seconds.

        Raises:
            TooMany: the key's limit is reached; nothing is counted then.
        """
        if self._rate:
            # A bucket that fills by the clock: no task, no lock, and nothing to do while nobody asks.
            self._left = min(float(self._burst), self._left + (now - self._filled) * self._rate)
            self._filled = now
            if self._left < 1.0:
                raise self._too_many()
            self._left -= 1.0
        self.requests += 1
        self.last = now

    def _too_many(self) -> TooMany:
        seconds = max(1, math.ceil((1.0 - self._left) / self._rate))
        return TooMany(
            f"The key's limit is reached: {self._rate:g} requests a second at each node.",
            seconds=seconds,
            kind="key",
            name=self.id,
            hint=f"Try again in {seconds} s, or ask for a key with a higher rate.",
        )


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose secret it is, and what that opens.

    Attributes:
        projects: None: of every project.
        expires: Unix seconds; None: never.
    """

    meter: Meter
    projects: frozenset[str] | None
    scopes: frozenset[str]
    expires: float | None = None


_ANYBODY = Holder(Meter(""), None, frozenset())


class Keyring:
    """The keys of one plan. Immutable: a new plan brings a new keyring.

    Args:
        keys: as the plan lists them; revoked keys are simply not there.
        issuers: whose people's tokens are good here.
        meters: those of the keyring before, by the keys' ids.
        clock: Unix seconds; expiry is judged by it.
    """

    def __init__(
        self,
        keys: Sequence[Key] = (),
        issuers: Sequence[TokenIssuer] = (),
        meters: Mapping[str, Meter] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        before = meters or {}
        self.meters = {key.id: (before.get(key.id) or Meter(key.id)).limited(key.rate, key.burst) for key in keys}
        self._holders = {key.sha256: (key.sha256, self._holder(key)) for key in keys}
        self._people = _people(issuers) if issuers else None
        self._clock = clock
        # Who passed where: both are immutable, so what passed once passes until the secret expires.
        self._passed: dict[tuple[str, str, str, tuple[Scope, ...]], Holder] = {}

    def find(self, secret: str, digest: str = "") -> Holder:
        """Whose secret this is.

        Args:
            secret: as it was sent; empty where none was.
            digest: `digest_of(secret)` where the caller has it already.

        Raises:
            Unauthenticated: none sent, not known, or past its expiry.
        """
        if not secret:
            raise Unauthenticated("This needs an API key, and none was sent.", hint=_NEXT_STEP, kind="key")
        digest = digest or digest_of(secret)
        known = self._holders.get(digest)
        # The look-up is by digest, so its timing tells nothing about a secret; the comparison keeps it so should that change.
        if known is not None and hmac.compare_digest(known[0], digest):
            return self._unexpired(known[1])
        if self._people is not None and self._people.token(secret):
            return self._unexpired(self._people.holder(secret, digest))
        if mistyped(secret):
            hint = "Its checksum does not fit: copy the whole key again."
            raise Unauthenticated(
                "The API key has a typo: its checksum does not fit.", code="key-mistyped", hint=hint, kind="key"
            )
        raise Unauthenticated("The API key is not known here.", hint=_NEXT_STEP, kind="key")

    def check(self, secret: str, plan: DeploymentPlan, *scopes: Scope, digest: str = "") -> Holder:
        """Let a caller through to one deployment, or raise; nothing is counted yet.

        Args:
            secret: the key as it was sent; empty where none was.
            plan: the deployment; its `access` decides whether a key is needed and whose.
            scopes: the key must have one of them.
            digest: `digest_of(secret)` where the caller has it already.

        Returns:
            Whose key it is; the nobody with an empty id at a public deployment.

        Raises:
            Unauthenticated: no usable key.
            Forbidden: a usable key of another project or without any of the scopes.
        """
        # The challenger's node works for main alone: strangers' rows would take the room of mirrored ones.
        if plan.access == "public" and scopes != ("mirror",):
            return _ANYBODY
        asked = (digest or digest_of(secret), plan.access, plan.project, scopes)
        passed = self._passed.get(asked)
        if passed is not None:
            return self._unexpired(passed)
        holder = self.find(secret, asked[0])
        ident = holder.meter.id
        if not holder.scopes.intersection(scopes):
            raise Forbidden(f"The key lacks the scope {' or '.join(scopes)}.", code="scope-missing", kind="key", name=ident)
        if plan.access == "project" and holder.projects is not None and plan.project not in holder.projects:
            raise Forbidden("The key belongs to another project.", code="other-project", kind="key", name=ident)
        if len(self._passed) >= MAX_PASSED:
            self._passed.clear()
        self._passed[asked] = holder
        return holder

    def allows(self, secret: str, plan: DeploymentPlan, *scopes: Scope) -> bool:
        """Whether `check` would let this caller through; for lists that show what a caller may see."""
        try:
            self.check(secret, plan, *scopes)
        except (Unauthenticated, Forbidden):
            return False
        return True

    def _holder(self, key: Key) -> Holder:
        projects = None if key.project == "*" else frozenset((key.project,))
        return Holder(self.meters[key.id], projects, frozenset(key.scopes), key.expires)

    def _unexpired(self, holder: Holder) -> Holder:
        # Wall clock, since expiry is a date; plans without the key end it whatever the clocks say.
        if holder.expires is not None and holder.expires <= self._clock():
            raise Unauthenticated("The API key has expired.", hint="Create a new one.", kind="key", name=holder.meter.id)
        return holder


def _people(issuers: Sequence[TokenIssuer]) -> People:
    # Its cryptography takes memory and time to load that nodes whose plans name no issuer should not pay.
    from quarterdeck_node.people import People

    return People(issuers)
