"""Gate `replay`: recorded rows, asked of the new version, get answers that are not too far from those that were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from quarterdeck.records import Answer
from quarterdeck.verify import differs
from quarterdeck_deployer.gates.kinds import MAX_LISTED, Finding, ReplayGate


@dataclass(frozen=True)
class Replayed:
    """One recorded row: what main answered then, and what the new version answers; `refusal` says why there is no answer.

    `before` has no scores where the classes were others then: labels alone can be compared.
    """

    row_id: str
    at: datetime
    caller: str
    before: Answer
    after: Answer | None = None
    refusal: str = ""


@dataclass(frozen=True)
class ReplayFacts:
    """The newest recorded rows of a deployment, replayed."""

    deployment: str
    rows: Sequence[Replayed]


def judge(facts: ReplayFacts, gate: ReplayGate) -> Finding:
    """Pass where no larger share of the rows has changed than the gate allows; changed rows are listed in any case."""
    changed = [(row, reason) for row in facts.rows if (reason := changed_by(row, gate.tolerance))]
    share = len(changed) / len(facts.rows) if facts.rows else 0.0
    figures = {"rows": float(len(facts.rows)), "changed": float(len(changed)), "share": share}
    if not facts.rows:
        return Finding(passed=True, detail=f"No row of {facts.deployment} is recorded to be replayed.", figures=figures)
    passed = share <= gate.max_changed
    allowed = f"{gate.max_changed:.1%} may"
    detail = f"{len(changed):,} of {len(facts.rows):,} recorded rows of {facts.deployment} are answered otherwise ({share:.1%};"
    return Finding(
        passed=passed,
        detail=f"{detail} {allowed}).",
        code="" if passed else "replay-changed",
        figures=figures,
        listed=[_listed(row, reason) for row, reason in changed[:MAX_LISTED]],
    )


def changed_by(row: Replayed, tolerance: float) -> str:
    """How an answer has changed, in words; empty where it has not, by more than the tolerance."""
    if row.after is None:
        return row.refusal
    after = row.after if row.before.scores else row.after._replace(scores=[])
    return differs(row.before, after, tolerance)


def _listed(row: Replayed, reason: str) -> dict[str, Any]:
    return {
        "row_id": row.row_id,
        "at": row.at.isoformat(),
        "caller": row.caller,
        "before": row.before.prediction,
        "after": row.after.prediction if row.after else None,
        "reason": reason,
    }
