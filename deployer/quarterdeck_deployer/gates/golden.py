"""Gate `golden`: the package answers its own golden rows as it did where it was built."""

from __future__ import annotations

from dataclasses import dataclass

from quarterdeck_deployer.gates.kinds import Finding


@dataclass(frozen=True)
class GoldenFacts:
    """How many golden rows were asked and answered rightly."""

    rows: int


def judge(facts: GoldenFacts) -> Finding:
    """Pass: a package that cannot be loaded, or answers one of them otherwise, has been refused while it was asked."""
    figures = {"rows": float(facts.rows)}
    return Finding(passed=True, detail=f"All {facts.rows} golden rows were answered rightly.", figures=figures)
