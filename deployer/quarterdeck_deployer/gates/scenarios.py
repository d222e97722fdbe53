"""Gate `scenarios`: the saved test queries of the deployment get answers, and the expected ones where these were written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quarterdeck.records import Answer
from quarterdeck.schema import Prediction
from quarterdeck.verify import differs
from quarterdeck_deployer.gates.kinds import MAX_LISTED, Finding


@dataclass(frozen=True)
class Asked:
    """One test query as a version answered it; `refusal` says why there are no answers."""

    name: str
    rows: int
    expect: Sequence[Prediction]
    tolerance: float
    answers: Sequence[Answer] = ()
    refusal: str = ""


@dataclass(frozen=True)
class Difference:
    """Where a version did not do what a query expects."""

    query: str
    row: int
    reason: str


def differences(asked: Asked) -> list[Difference]:
    """What is not as expected, row by row; empty where the query passes."""
    if asked.refusal:
        return [Difference(asked.name, 0, asked.refusal)]
    found = []
    for row, (expected, answer) in enumerate(zip(asked.expect, asked.answers, strict=False)):
        # Whoever expects a label only need not know the scores of a version that is still to be trained.
        wanted = Answer(expected.prediction, expected.scores or answer.scores)
        if reason := differs(wanted, answer, asked.tolerance):
            found.append(Difference(asked.name, row, reason))
    return found


def judge(asked: Sequence[Asked]) -> Finding:
    """Pass where every query passes; no query at all is no reason to refuse."""
    found = [difference for one in asked for difference in differences(one)]
    failed = {difference.query for difference in found}
    figures = {"queries": float(len(asked)), "failed": float(len(failed)), "rows": float(sum(one.rows for one in asked))}
    if not found:
        detail = f"All {len(asked)} test queries were answered as expected." if asked else "There are no test queries to ask."
        return Finding(passed=True, detail=detail, figures=figures)
    first = found[0]
    return Finding(
        passed=False,
        detail=f"{len(failed)} of {len(asked)} test queries failed; {first.query}, row {first.row}: {first.reason}.",
        code="scenarios-failed",
        figures=figures,
        listed=[{"query": one.query, "row": one.row, "reason": one.reason} for one in found[:MAX_LISTED]],
    )
