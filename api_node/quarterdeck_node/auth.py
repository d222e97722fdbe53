"""Who may ask what: API keys known by their SHA-256, three access modes, scopes and projects."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from typing import Literal

from quarterdeck.api_keys import mistyped
from quarterdeck.errors import Forbidden, Unauthenticated
from quarterdeck.plan import DeploymentPlan, Key

Scope = Literal["predict", "feedback", "read", "mirror"]
_NEXT_STEP = "Send a key in `Authorization: Bearer …` or `X-API-Key`; the deployer creates them."


def digest_of(secret: str) -> str:
    """What a key is known by."""
    # A slow hash would protect guessable secrets; keys are 256 random bits, and this runs for every request.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class Keyring:
    """The keys of one plan. Immutable: a new plan brings a new keyring.

    Args:
        keys: as the plan lists them; revoked keys are simply not there.
        clock: Unix seconds; expiry is judged by it.
    """

    def __init__(self, keys: Sequence[Key] = (), clock: Callable[[], float] = time.time) -> None:
        self._keys = {key.sha256: key for key in keys}
        self._expiring = {key.id for key in keys if key.expires is not None}
        self._clock = clock
        # Which key passed where: both are immutable, so what passed once passes until the key expires.
        self._passed: dict[tuple[str, str, str, tuple[Scope, ...]], Key] = {}

    def find(self, secret: str, digest: str = "") -> Key:
        """The key with this secret.

        Args:
            secret: as it was sent; empty where none was.
            digest: `digest_of(secret)` where the caller has it already.

        Raises:
            Unauthenticated: none sent, not known, or past its expiry.
        """
        if not secret:
            raise Unauthenticated("This needs an API key, and none was sent.", hint=_NEXT_STEP, kind="key")
        digest = digest or digest_of(secret)
        key = self._keys.get(digest)
        # The look-up is by digest, so its timing tells nothing about a secret; the comparison keeps it so should that change.
        if key is None and mistyped(secret):
            hint = "Its checksum does not fit: copy the whole key again."
            raise Unauthenticated(
                "The API key has a typo: its checksum does not fit.", code="key-mistyped", hint=hint, kind="key"
            )
        if key is None or not hmac.compare_digest(key.sha256, digest):
            raise Unauthenticated("The API key is not known here.", hint=_NEXT_STEP, kind="key")
        return self._unexpired(key)

    def _unexpired(self, key: Key) -> Key:
        # Wall clock, since expiry is a date; plans without the key end it whatever the clocks say.
        if key.expires is not None and key.expires <= self._clock():
            raise Unauthenticated("The API key has expired.", hint="Create a new key.", kind="key", name=key.id)
        return key

    def check(self, secret: str, plan: DeploymentPlan, *scopes: Scope, digest: str = "") -> str:
        """Let a caller through to one deployment, or raise.

        Args:
            secret: the key as it was sent; empty where none was.
            plan: the deployment; its `access` decides whether a key is needed and whose.
            scopes: the key must have one of them.
            digest: `digest_of(secret)` where the caller has it already.

        Returns:
            The key's id; empty for callers without a key at a public deployment.

        Raises:
            Unauthenticated: no usable key.
            Forbidden: a usable key of another project or without any of the scopes.
        """
        # The challenger's node works for main alone: strangers' rows would take the room of mirrored ones.
        if plan.access == "public" and scopes != ("mirror",):
            return ""
        asked = (digest or digest_of(secret), plan.access, plan.project, scopes)
        passed = self._passed.get(asked)
        if passed is not None:
            return self._unexpired(passed).id
        key = self.find(secret, asked[0])
        if not set(scopes) & set(key.scopes):
            raise Forbidden(f"The key lacks the scope {' or '.join(scopes)}.", code="scope-missing", kind="key", name=key.id)
        if plan.access == "project" and key.project not in ("*", plan.project):
            raise Forbidden("The key belongs to another project.", code="other-project", kind="key", name=key.id)
        self._passed[asked] = key
        return key.id

    def expires(self, ident: str) -> bool:
        """Whether the key of this id has a date at which it ends."""
        return ident in self._expiring

    def allows(self, secret: str, plan: DeploymentPlan, *scopes: Scope) -> bool:
        """Whether `check` would let this caller through; for lists that show what a caller may see."""
        try:
            self.check(secret, plan, *scopes)
        except (Unauthenticated, Forbidden):
            return False
        return True
