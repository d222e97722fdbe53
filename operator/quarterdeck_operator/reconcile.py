"""One look at one deployment, from what is there to what should be: observe, decide, remember, publish, write, tell.

Level-triggered: nothing depends on which event woke it, and whatever is lost by a crash between two lines is decided again,
equally, from the record and the cluster. Blocks; runs in a worker thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from quarterdeck.errors import Conflict, InvalidInput, QuarterdeckError
from quarterdeck.resources import Spec
from quarterdeck.rollout_record import reason_of
from quarterdeck_operator.apply import apply_objects, delete_objects, store_record, tell, write_status
from quarterdeck_operator.board import Board
from quarterdeck_operator.decision import Context, decide_world
from quarterdeck_operator.kube import MODEL_DEPLOYMENT, ApiFailure, Reads, Writes
from quarterdeck_operator.names import labels_of, role_of
from quarterdeck_operator.observe import RecordUnreadable, observe
from quarterdeck_operator.pods import is_ready, is_routed
from quarterdeck_operator.status import moment_text
from quarterdeck_operator.world import Object, Observed, ResourceKey, Wanted

SOON_SECONDS = 1.0
"""After a deletion: what waits for its end is seen to."""
TRIAL_SECONDS = 30.0
"""How often a version on trial is looked at; its failures wake at once."""
PROGRESS_SECONDS = Spec.model_fields["progress_seconds"].default
RECONCILED = "Reconciled"
_PASSING = (0, 409, 429)


@dataclass(slots=True)
class Reconciler:
    """Works on deployments, one at a time each; different ones from different threads.

    Attributes:
        context: replaced as a whole when certificates are renewed.
        identity: how this operator signs its events.
        clock: Unix seconds.
    """

    reads: Reads
    writes: Writes
    board: Board
    context: Context
    identity: str
    clock: Callable[[], float] = time.time

    def reconcile(self, key: ResourceKey) -> float | None:
        """Look once; gives back after how many seconds to look again. None: when something happens.

        Raises:
            ApiFailure: something could not be read or written; look again soon.
            Conflict: a name is taken. InvalidInput: the spec cannot be read. RecordUnreadable: neither can the record.
        """
        try:
            observed = observe(self.reads, self.board, self.context.settings, key, self.clock)
        except RecordUnreadable as trouble:
            self._complain(self.reads.get(MODEL_DEPLOYMENT.path(*key)), trouble)
            raise
        if observed.resource is None:
            # Nothing to delete: the garbage collector follows owner references, also while no operator runs.
            self.board.drop(key)
            return None
        return self._towards(observed, observed.resource)

    def _towards(self, observed: Observed, resource: Object) -> float | None:
        try:
            wanted = decide_world(observed, resource, self.context)
        except InvalidInput as refusal:
            self._complain(resource, refusal)
            raise
        remembered = False
        try:
            # The fence: what was decided is remembered before anybody can act on it.
            store_record(self.reads, self.writes, observed, resource, wanted.record)
            remembered = True
            self.board.publish(observed.key, wanted.plans, trial=wanted.record.record.watch is not None)
            apply_objects(self.reads, self.writes, observed, resource, wanted.objects)
            delete_objects(self.writes, observed, wanted.delete)
        except (ApiFailure, Conflict) as refusal:
            # A quota or a policy says no, and goes on saying it: people must see that. What passes by itself needs no words.
            if not _passing(refusal):
                self._complain(resource, refusal, wanted.status if remembered else None)
            raise
        if resource.get("status") and self.board.young and _unheard(observed):
            # An operator that has just begun knows less than the one before, and must not call that news.
            return SOON_SECONDS
        write_status(self.writes, resource, wanted.status)
        tell(self.writes, resource, wanted.events, self.identity)
        return _again(observed, wanted)

    def _complain(self, resource: Object | None, refusal: QuarterdeckError, otherwise: Object | None = None) -> None:
        """Write a status that says why nothing could be done.

        Args:
            resource: as it is in the cluster.
            refusal: what was said.
            otherwise: what the status would be without that; None: what it is.
        """
        if resource is not None:
            now = moment_text(self.clock())
            before = resource.get("status") or {}
            write_status(self.writes, resource, refused(resource, otherwise or before, refusal, now))


def refused(resource: Object, status: Object, refusal: QuarterdeckError, now: str) -> Object:
    """The status with a condition `Reconciled`, and a last failure, that say what was refused; times are kept while it is so."""
    before = {one["type"]: one for one in (resource.get("status") or {}).get("conditions", ())}.get(RECONCILED, {})
    condition = {
        "type": RECONCILED,
        "status": "False",
        "reason": reason_of(refusal.code),
        "message": str(refusal),
        "lastTransitionTime": before["lastTransitionTime"] if before.get("status") == "False" else now,
        "observedGeneration": int(resource["metadata"]["generation"]),
    }
    others = [one for one in status.get("conditions", ()) if one["type"] != RECONCILED]
    place = f"{refusal.kind} {refusal.name}".strip()
    failure = {"node": "", "place": place, "code": refusal.code, "reason": str(refusal), "time": now}
    last = (resource.get("status") or {}).get("lastFailure") or failure
    if {**last, "time": now} == failure:
        failure = last
    return {**status, "conditions": [*others, condition], "lastFailure": failure}


def _passing(refusal: QuarterdeckError) -> bool:
    """Whether it is likely to be over at the next try."""
    return isinstance(refusal, ApiFailure) and (refusal.http in _PASSING or refusal.http >= 500)


def _unheard(observed: Observed) -> bool:
    """Whether a pod that answers requests has not reported yet."""
    heard = {report.node for report in observed.reports}
    return any(is_ready(pod) and pod["metadata"]["name"] not in heard for pod in observed.pods)


def _again(observed: Observed, wanted: Wanted) -> float | None:
    """Seconds until time alone may change the decision; None: never."""
    record = wanted.record.record
    due = [SOON_SECONDS] if wanted.delete else []
    challengers = [pod for pod in observed.pods if role_of(labels_of(pod)) == "challenger"]
    if record.challenger is None and any(is_ready(pod) and not is_routed(pod, observed.now) for pod in challengers):
        due.append(SOON_SECONDS)
    if record.watch:
        due.append(TRIAL_SECONDS)
    if record.target:
        spec: Object = (observed.resource or {})["spec"]
        due.append(record.target_since + float(spec.get("progressSeconds", PROGRESS_SECONDS)) - observed.now + SOON_SECONDS)
    return max(SOON_SECONDS, min(due)) if due else None
