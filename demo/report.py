"""What the demo found, as people read it, and the checks that decide the exit status of `make demo ONCE=1`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from demo.recompute import Pair, Scores
from demo.replay import Replayed
from demo.show import console

Json = dict[str, Any]
LEAST_PAIRED = 0.99
"""Share of the mirrored rows that must have ended as complete pairs."""
EQUAL = 1e-12
"""How far a printed score may be from its recomputation: the order of additions, nothing else."""
OUTCOMES = ("answered", "failed", "expired", "dropped", "pending")


@dataclass(frozen=True)
class Evidence:
    """Everything that was counted: by the caller, by the nodes' mirror, in the store, and twice as scores."""

    replayed: Replayed
    mirror: Json
    ledger: Json
    scores: Pair
    recomputed: Pair


def scores_of(performance: Json) -> Pair:
    """Main's and challenger's scores as the deployer tells them."""

    def one(role: str) -> Scores:
        found = performance[role] or {}
        return Scores(int(performance["rows"]), float(found.get("brier", "nan")), float(found.get("accuracy", "nan")))

    return Pair(one("main"), one("challenger"))


def failures(evidence: Evidence) -> Iterator[str]:
    """What does not hold, in words; nothing where all is well."""
    replayed, mirror = evidence.replayed, evidence.mirror
    if replayed.answered != replayed.sent:
        yield f"{replayed.sent - replayed.answered:,} of {replayed.sent:,} rows were not answered: {replayed.failures[:1]}"
    if evidence.ledger["records"] != replayed.answered:
        yield f"{replayed.answered:,} rows were answered, but the store holds {evidence.ledger['records']:,} records"
    total = sum(mirror[name] for name in OUTCOMES)
    if mirror["mirrored"] != total:
        yield f"the mirror's ledger does not add up: {mirror['mirrored']:,} mirrored, {total:,} accounted for"
    # Nothing mirrored would make every share right, so it is a failure of its own.
    if evidence.ledger["pairs"] < LEAST_PAIRED * mirror["mirrored"] or not mirror["mirrored"]:
        why = f"; the mirror's last error: {mirror['last_error']}" if mirror.get("last_error") else ""
        yield f"only {evidence.ledger['pairs']:,} of {mirror['mirrored']:,} mirrored rows have both answers in the store{why}"
    for role, told, again in zip(Pair._fields, evidence.scores, evidence.recomputed, strict=True):
        for figure in Scores._fields:
            one, other = getattr(told, figure), getattr(again, figure)
            # Written so that NaN, which is neither less nor more, counts as different.
            if not abs(one - other) <= EQUAL:
                yield f"{figure} of {role} is {one!r}, recomputed from the stored files it is {other!r}"


def show_counts(evidence: Evidence) -> None:
    """Sent, answered, mirrored, paired, labelled; and what became of the mirrored rows."""
    counts = [
        ("sent", evidence.replayed.sent),
        ("answered", evidence.replayed.answered),
        ("mirrored", evidence.mirror["mirrored"]),
        ("paired", evidence.ledger["pairs"]),
        ("labelled", evidence.ledger["labelled"]),
    ]
    console.print("\n[bold]Rows[/]     " + "   ".join(f"{name} [bold]{count:,}[/]" for name, count in counts))
    became = " + ".join(f"{evidence.mirror[name]:,} {name}" for name in OUTCOMES)
    console.print(f"[bold]Mirror[/]   {evidence.mirror['mirrored']:,} = {became}")


def show_scores(evidence: Evidence, versions: tuple[str, str]) -> None:
    """Both models on the same rows, with the recomputation beside."""
    flights = f"{evidence.scores.main.rows:,} flights"
    table = Table(title=f"Both models on the same {flights} (Brier score: less is better)", title_justify="left")
    for column in ("", "version", "Brier", "accuracy", "recomputed from Parquet"):
        table.add_column(column)
    for role, version, told, again in zip(Pair._fields, versions, evidence.scores, evidence.recomputed, strict=True):
        recomputed = f"{again.brier:.6f}  {again.accuracy:.4f}"
        table.add_row(role, version, f"{told.brier:.6f}", f"{told.accuracy:.4f}", recomputed)
    console.print()
    console.print(table)
