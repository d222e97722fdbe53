"""Two versions side by side, as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterator

from quarterdeck.client import Json
from quarterdeck_cli.output import word

_SECTIONS = ("package", "features", "hyperparameters", "metrics", "environment", "files", "golden")


def sections(comparison: Json) -> Iterator[tuple[str, list[Json]]]:
    """Title and rows of each section; sections without a difference have a title that says so."""
    for name in _SECTIONS:
        rows = [_row(each) for each in comparison[name]]
        yield (name, rows) if rows else (f"{name}: no difference", [])


def same(comparison: Json) -> str:
    """How much is alike, in a line."""
    return "alike: " + ", ".join(f"{count} of {name}" for name, count in comparison["same"].items())


def _row(difference: Json) -> Json:
    change = difference["change"]
    told = {side: _short(difference[side]) for side in ("a", "b")}
    return {"name": f"  {difference['name']}", **told, "change": "" if change is None else f"{change:+.6g}"}


def _short(value: object) -> str:
    # Answers and features are objects: what counts of them, in words.
    if isinstance(value, dict):
        return " ".join(f"{key} {word(member)}" for key, member in value.items() if member not in (None, False, []))
    return word(value)
