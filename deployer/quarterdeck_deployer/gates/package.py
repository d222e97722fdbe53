"""Gate `package`: what the target's store holds is what was published."""

from __future__ import annotations

from dataclasses import dataclass

from quarterdeck.errors import QuarterdeckError
from quarterdeck_deployer.gates.kinds import Finding


@dataclass(frozen=True)
class PackageFacts:
    """How many files and bytes were compared with their digests."""

    files: int
    size: int


def judge(facts: PackageFacts) -> Finding:
    """Pass: what is not what was published has been refused while it was read."""
    figures = {"files": float(facts.files), "bytes": float(facts.size)}
    return Finding(passed=True, detail=f"{facts.files} files in the target's store have their digests.", figures=figures)


def refused(error: QuarterdeckError) -> Finding:
    """The finding that an error stands for: its own words and code, and the place that it names."""
    place = error.extra.get("place")
    return Finding(passed=False, detail=str(error), code=error.code, listed=[{"place": str(place)}] if place else [])
