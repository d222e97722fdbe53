"""What is so of a deployment in a cluster, by the words of its operator in the resource's status. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, get_args

from quarterdeck.manifest import Digest
from quarterdeck.plan import MirrorReport, Role, VersionRef
from quarterdeck.resource_status import DeploymentStatus, LastFailure, StatusCondition, StatusVersion
from quarterdeck.rollout import Condition, ConditionType, Hold
from quarterdeck_deployer.infrastructures.kubernetes_fields import Object
from quarterdeck_deployer.infrastructures.kubernetes_resource import revision_of, status_of
from quarterdeck_deployer.observed import Deployed, Failure, ObservedDeployment, Placed, Running
from quarterdeck_deployer.revisions import RevisionView

STALE_SECONDS = 30.0
"""After so long without an answer of the API server nothing is known any more."""
_KNOWN = get_args(ConditionType)


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at the last look.

    Attributes:
        resource: as it was; None: there was none, or nobody has looked yet.
        age_seconds: since the API server last answered; None: it never has.
        problem: why what is wished could not be written, or nothing could be read; empty: nothing stands in the way.
    """

    resource: Object | None
    age_seconds: float | None
    problem: str = ""

    @property
    def known(self) -> bool:
        """Whether it is recent enough to be called known."""
        return self.age_seconds is not None and self.age_seconds <= STALE_SECONDS


def observe(wish: RevisionView, look: Look) -> ObservedDeployment:
    """Put together what is known."""
    return _Seen(wish, look).all()


def holds(resource: Object) -> bool:
    """Whether the operator has stopped a change, or nodes refuse a version that is wanted."""
    status = status_of(resource)
    conditions = {one.type: one for one in status.conditions}
    return status.phase in ("Held", "RolledBack", "Failed") or _challenger_refused(conditions)


def _challenger_refused(conditions: Mapping[str, StatusCondition]) -> bool:
    """Whether a challenger node has said no; one that still loads has not."""
    ready = conditions.get("ChallengerReady")
    return ready is not None and ready.status == "False" and ready.reason not in ("NoChallenger", "Loading")


class _Seen:
    """One resource, as far as it speaks of the wish."""

    def __init__(self, wish: RevisionView, look: Look) -> None:
        self.wish, self.look = wish, look
        self.status = status_of(look.resource) if look.resource else DeploymentStatus()
        self.conditions = {one.type: one for one in self.status.conditions}
        self.taken_over = self._taken_over()

    def all(self) -> ObservedDeployment:
        """Everything at once."""
        wish, status = self.wish, self.status
        waiting = self.main_waits()
        every = waiting or self.challenger_waits()
        hold = self.hold()
        return ObservedDeployment(
            name=wish.deployment,
            generation=wish.number,
            revision=status.revision,
            deployed=self.deployed(),
            running=self.running(),
            main=self.placed(status.active, wish.main),
            target=self.target(),
            challenger=self.placed(status.challenger, wish.challenger) if wish.challenger else None,
            previous=self.placed(status.previous, wish.main),
            failure=self.failure(),
            hold=hold,
            rejected=[wish.main.digest] if self.true("RolledBack") else [],
            rollback_ready=self.true("RollbackReady"),
            mirror=MirrorReport(),
            mirroring=self.true("ChallengerReceiving"),
            conditions=[_condition(one) for one in status.conditions if one.type in _KNOWN],
            nodes=[],
            main_applied=not waiting,
            applied=not every,
            waiting_for=every,
        )

    def main_waits(self) -> str:
        """What is missing until main does what the newest revision says; empty: nothing."""
        wish, status, wanted = self.wish, self.status, self.wish.main
        if self.look.problem:
            return self.look.problem
        if not self.look.known:
            return _silence(self.look.age_seconds)
        if not self.taken_over:
            return f"the cluster has not been told revision {wish.number} yet"
        if not self.looked():
            return "the operator has not looked at it yet"
        if self.false("Reconciled"):
            return self.conditions["Reconciled"].message
        if not wish.running or not status.nodes.wanted:
            return f"{len(status.versions)} version(s) still answer" if status.versions or status.ready_replicas else ""
        hold = self.hold()
        if hold is not None:
            return hold.reason
        if not _is(status.active, wanted) or any(one.digest != wanted.digest for one in status.versions):
            return f"main does not answer with {wanted} on all nodes yet{self.because('ModelLoaded', 'ArtifactVerified')}"
        if status.nodes.ready < status.nodes.wanted or not status.versions:
            return f"{status.nodes.ready} of {status.nodes.wanted} main nodes answer{self.because('PodsHealthy')}"
        return ""

    def challenger_waits(self) -> str:
        """The same of the challenger, which counts only once main has followed."""
        if self.wish.challenger is None or not self.wish.running or not self.status.nodes.wanted:
            return ""
        receiving = self.conditions.get("ChallengerReceiving")
        if receiving is None or (receiving.status != "True" and receiving.reason != "SameAsMain"):
            return f"{self.wish.challenger} gets no copies yet{self.because('ChallengerReady', 'ChallengerReceiving')}"
        return ""

    def deployed(self) -> Deployed:
        """Whether it is built and reachable."""
        age, status = self.look.age_seconds, self.status
        if not self.look.known or self.look.resource is None:
            sentence = self.look.problem or _silence(age)
            gone = self.look.known and not self.look.problem
            return Deployed(state="building" if gone else "unknown", age_seconds=age, sentence=sentence)
        if not self.wish.running:
            return Deployed(state="no", age_seconds=age, sentence="Stopped by wish.")
        if status.active is not None and status.ready_replicas:
            sentence = f"{_named(status.active)} is loaded and proven on {status.ready_replicas} of {status.nodes.wanted} nodes."
            return Deployed(state="yes", age_seconds=age, sentence=sentence)
        failed = status.phase == "Failed"
        sentence = self.words("Ready", "ModelLoaded") or "The operator has not looked at it yet."
        return Deployed(state="failed" if failed else "building", age_seconds=age, sentence=sentence)

    def running(self) -> Running:
        """Whether it answers requests now."""
        age, status = self.look.age_seconds, self.status
        if not self.look.known or self.look.resource is None:
            return Running(state="unknown", age_seconds=age, sentence=self.look.problem or _silence(age))
        ready, wanted = status.nodes.ready, status.nodes.wanted
        if not self.wish.running:
            still = f"Should be stopped; {ready} nodes still answer."
            return Running(state="yes" if ready else "stopped", age_seconds=age, sentence=still if ready else "Stopped by wish.")
        if status.active is None or not ready:
            failing = status.phase in ("Failed", "Degraded", "Held", "RolledBack")
            sentence = self.words("Ready", "PodsHealthy") or "Nothing answers yet."
            return Running(state="failing" if failing else "starting", age_seconds=age, sentence=sentence)
        whole = ready >= wanted and self.true("Ready")
        sentence = f"{_named(status.active)} answers on {ready} of {wanted} nodes."
        return Running(state="yes" if whole else "partly", age_seconds=age, sentence=sentence)

    def hold(self) -> Hold | None:
        """Why automation stopped."""
        progressing, failure = self.conditions.get("Progressing"), self.status.last_failure
        if (
            not self.looked()
            or progressing is None
            or progressing.status != "False"
            or progressing.reason not in ("Held", "RolledBack")
        ):
            return None
        code = "rolled-back" if progressing.reason == "RolledBack" else failure.code if failure else "held"
        return Hold(generation=self.wish.number, reason=progressing.message.removeprefix("Stopped: "), code=code)

    def failure(self) -> Failure | None:
        """The last refusal of what is wanted."""
        last = self.status.last_failure
        if not self.looked() or last is None or not self.trouble():
            return None
        challenger = self.wish.challenger
        role: Role = "challenger" if challenger and self.false("ChallengerReady") and not self.false("ModelLoaded") else "main"
        version = challenger if challenger and role == "challenger" else self.wish.main
        return _failure(last, role, version)

    def target(self) -> Placed | None:
        """What is being prepared to answer."""
        progressing = self.conditions.get("Progressing")
        under_way = self.looked() and progressing is not None and progressing.status == "True"
        return Placed(ref=self.wish.main, nodes=[]) if under_way and not _is(self.status.active, self.wish.main) else None

    def placed(self, version: StatusVersion | None, likely: VersionRef | None) -> Placed | None:
        """A version that the status names, with what the status does not say taken from the wish."""
        if version is None:
            return None
        if likely is not None and _is(version, likely):
            return Placed(ref=likely, nodes=[])
        trust = likely.trust if likely else "data"
        accelerator = likely.accelerator if likely else "none"
        digest: Digest = version.digest or "sha256:" + 64 * "0"
        ref = VersionRef(model=version.model, version=version.version, digest=digest, trust=trust, accelerator=accelerator)
        return Placed(ref=ref, nodes=[])

    def trouble(self) -> bool:
        """Whether something that is wanted is refused now, as opposed to once."""
        told = ("ModelLoaded", "ArtifactVerified", "PodsHealthy")
        refused = self.wish.challenger is not None and _challenger_refused(self.conditions)
        return refused or self.hold() is not None or any(self.false(one) for one in told)

    def looked(self) -> bool:
        """Whether the operator has looked at the newest spec."""
        return bool(self.look.resource) and self.taken_over and self.status.observed_generation >= self.generation()

    def generation(self) -> int:
        """The spec's number in the cluster."""
        return int((self.look.resource or {}).get("metadata", {}).get("generation", 0))

    def true(self, kind: str) -> bool:
        """Whether a condition holds, as far as anything is known."""
        return self.look.known and kind in self.conditions and self.conditions[kind].status == "True"

    def false(self, kind: str) -> bool:
        """Whether a condition is said not to hold."""
        return kind in self.conditions and self.conditions[kind].status == "False"

    def words(self, *kinds: str) -> str:
        """What the first of these conditions says that does not hold."""
        untrue = (self.conditions[kind] for kind in kinds if kind in self.conditions and self.conditions[kind].status != "True")
        return next((one.message for one in untrue), "")

    def because(self, *kinds: str) -> str:
        """The same behind a colon."""
        words = self.words(*kinds)
        return f": {words}" if words else ""

    def _taken_over(self) -> bool:
        return self.look.resource is not None and revision_of(self.look.resource) == self.wish.number


def _condition(one: StatusCondition) -> Condition:
    return Condition(type=cast(ConditionType, one.type), status=one.status, reason=one.reason, message=one.message)


def _failure(last: LastFailure, role: Role, version: VersionRef) -> Failure:
    return Failure(node=last.node or "cluster", role=role, version=version, code=last.code, reason=last.reason, place=last.place)


def _is(version: StatusVersion | None, ref: VersionRef) -> bool:
    if version is None:
        return False
    same = (version.model, version.version) == (ref.model, ref.version)
    return same and version.digest in ("", ref.digest)


def _named(version: StatusVersion) -> str:
    return f"{version.model} v{version.version}"


def _silence(age: float | None) -> str:
    return "the API server has never answered" if age is None else f"the API server has not answered for {age:.0f} s"
