"""Which steps of a program its graph scores: what is written when a package is built, and fed when it is served."""

from __future__ import annotations

from quarterdeck.compiled.program import Check, Linear, Link, Mean, Program, Take, Trees, inputs_of

_EXPRESSED = (Check, Linear, Link, Mean, Take, Trees)


def entries(program: Program) -> list[int]:
    """The trees and linear steps that read what was encoded only: their inputs are the graph's, in this order."""
    scored = scoring(program)
    return [place for place in scored if not set(inputs_of(program.steps[place])) & scored.keys()]


def scoring(program: Program) -> dict[int, None]:
    """Trees, linear steps and what reads them, in order: as far as no other kind of step reads those again."""
    found: dict[int, None] = {}
    kept = _before_encoding(program)
    for place, step in enumerate(program.steps):
        if place not in kept and (isinstance(step, (Trees, Linear)) or any(read in found for read in inputs_of(step))):
            found[place] = None
    return found


def _before_encoding(program: Program) -> set[int]:
    """Steps that have no such form, and all that they read: a projection may come before bins, say."""
    kept: set[int] = set()
    for place in reversed(range(len(program.steps))):
        step = program.steps[place]
        if place in kept or not isinstance(step, _EXPRESSED):
            kept |= {place, *inputs_of(step)}
    return kept
