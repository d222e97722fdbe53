"""What is said about a decision: one condition for each question that people and programs ask."""

from __future__ import annotations

from quarterdeck.rollout_record import Condition, ConditionType, Record, Spec, has, reason_of, same
from quarterdeck.rollout_watch import ROLLED_BACK, trouble, way_back
from quarterdeck.rollout_world import World


def conditions(spec: Spec, record: Record, main: World, challenger: World, now: float) -> list[Condition]:
    """Every condition, each once, about a record that has just been decided; `now` in Unix seconds."""
    return [
        _ready(spec, record, main),
        _progressing(spec, record, main),
        _model_loaded(spec, record, main),
        _rollback_ready(record, main),
        *_challenger_conditions(spec, record, challenger),
        _rolled_back(spec, record, main, now),
    ]


def _ready(spec: Spec, record: Record, main: World) -> Condition:
    if not spec.running:
        return _no("Ready", "Stopped", "Stopped by wish; start it with `quarterdeck run`.")
    if not main.nodes:
        return Condition(type="Ready", status="Unknown", reason="NoNodes", message="No live node has reported.")
    if record.active is None:
        wish = spec.wanted
        return _no("Ready", "NothingProven", f"Nothing answers yet: {main.obstacle(wish)}." if wish else "No version is chosen.")
    answering = main.answering(record.active)
    if answering < len(main.nodes):
        return _no("Ready", "NodesBehind", f"{answering} of {len(main.nodes)} nodes answer with {record.active}.")
    return _yes("Ready", "Answering", f"{answering} of {len(main.nodes)} nodes answer with {record.active}.")


def _progressing(spec: Spec, record: Record, main: World) -> Condition:
    if spec.generation < record.generation:
        reason = f"The wish {spec.generation} is older than {record.generation}, which was decided already; nothing is changed."
        return _no("Progressing", "OlderGeneration", reason)
    if record.hold and record.hold.code == ROLLED_BACK:
        return _no("Progressing", "RolledBack", f"Stopped: {record.hold.reason} {record.active} answers again.")
    if record.hold:
        return _no(
            "Progressing", "Held", f"Stopped: {record.hold.reason} What served goes on serving; the next change tries again."
        )
    if record.target:
        return _yes("Progressing", "Loading", f"{record.target}: {main.obstacle(record.target)}.")
    return _no("Progressing", "Settled", "Nothing is under way.")


def _model_loaded(spec: Spec, record: Record, main: World) -> Condition:
    wanted = spec.wanted
    if wanted is None:
        return _no("ModelLoaded", "NoVersion", "No version is chosen.")
    # Before a hold: what was taken back has loaded well, and is kept away for another reason.
    if wanted.digest in record.rejected and not same(wanted, record.active):
        return _no("ModelLoaded", "Rejected", f"{wanted} was rejected and is not loaded as main.")
    if record.hold:
        return _no("ModelLoaded", reason_of(record.hold.code), record.hold.reason)
    failed = main.failure(wanted)
    if failed:
        node, version = failed
        return _no("ModelLoaded", reason_of(version.code or "load-failed"), f"{wanted} on node {node}: {version.reason}")
    if main.proven(wanted):
        return _yes("ModelLoaded", "Proven", f"{wanted} matched its golden rows on {len(main.nodes)} of {len(main.nodes)} nodes.")
    hindered = main.hindered(wanted)
    if hindered:
        node, version = hindered
        message = f"{wanted} on node {node}: {version.reason}"
        return Condition(type="ModelLoaded", status="Unknown", reason=reason_of(version.code), message=message)
    return Condition(type="ModelLoaded", status="Unknown", reason="Loading", message=f"{wanted}: {main.obstacle(wanted)}.")


def _rollback_ready(record: Record, main: World) -> Condition:
    back = record.previous or record.left
    if back is None or same(back, record.active):
        return _no("RollbackReady", "NothingBefore", "There is nothing to go back to yet.")
    ready = main.count(back)
    message = f"{back} is resident on {ready} of {len(main.nodes)} nodes."
    return _yes("RollbackReady", "Resident", message) if main.proven(back) else _no("RollbackReady", "NotResident", message)


def _challenger_conditions(spec: Spec, record: Record, challenger: World) -> list[Condition]:
    wish = spec.challenger
    if wish is None:
        nobody = "No challenger is set."
        return [_no("ChallengerReady", "NoChallenger", nobody), _no("ChallengerReceiving", "NoChallenger", nobody)]
    failed = challenger.failure(wish)
    if failed:
        node, version = failed
        ready = _no("ChallengerReady", reason_of(version.code or "load-failed"), f"{wish} on node {node}: {version.reason}")
    elif challenger.proven(wish):
        ready = _yes(
            "ChallengerReady", "Proven", f"{wish} matched its golden rows on all {len(challenger.nodes)} challenger nodes."
        )
    else:
        ready = _no("ChallengerReady", "Loading", f"{wish}: {challenger.obstacle(wish)}.")
    if not spec.running:
        return [ready, _no("ChallengerReceiving", "Stopped", "The deployment is stopped.")]
    if has(record.active, wish.digest):
        return [ready, _no("ChallengerReceiving", "SameAsMain", f"{wish} is main already; mirroring is paused.")]
    if record.challenger is None and ready.status == "True" and not spec.reachable:
        return [ready, _no("ChallengerReceiving", "NotReachable", f"Mirroring starts once the Service leads to {wish}.")]
    if record.challenger is None:
        return [ready, _no("ChallengerReceiving", "NotReady", f"Mirroring starts once {wish} is ready.")]
    return [ready, _yes("ChallengerReceiving", "Mirroring", f"Rows of main are copied to {wish}.")]


def _rolled_back(spec: Spec, record: Record, main: World, now: float) -> Condition:
    wanted, found = spec.wanted, trouble(spec, record, main, now) if spec.running else None
    if found and way_back(record) is None:
        message = f"{found.message} There is no version to go back to: deploy another one."
        return _no("RolledBack", "NothingToGoBackTo", message)
    if found:
        message = f"{found.message} Taking it back by itself is switched off: go back with `quarterdeck rollback`."
        return _no("RolledBack", "NotAutomatic", message)
    if wanted and wanted.digest in record.rejected and not same(wanted, record.active):
        if record.taken_back and has(wanted, record.taken_back.version.digest):
            message = f"{record.taken_back.message} Deploy a better version; whoever wants this one again deploys it by name."
            return _yes("RolledBack", record.taken_back.reason, message)
        return _yes("RolledBack", "Rejected", f"{wanted} was rejected; deploy it again by name to use it.")
    if record.rejected and not record.hold:
        return _no(
            "RolledBack", "RejectedBefore", f"{len(record.rejected)} version(s) were left by a rollback and stay rejected."
        )
    return _no("RolledBack", "Never", "No version is rejected.")


def _yes(kind: ConditionType, reason: str, message: str) -> Condition:
    return Condition(type=kind, status="True", reason=reason, message=message)


def _no(kind: ConditionType, reason: str, message: str) -> Condition:
    return Condition(type=kind, status="False", reason=reason, message=message)
