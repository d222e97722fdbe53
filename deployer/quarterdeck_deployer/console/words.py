"""The words of states, with the shape and the look that go with each; nothing else may stand in a tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, TypeVar

Look = Literal["good", "busy", "warn", "bad", "off", "unknown"]
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Tag:
    """A state: shape and word say it all, the look only repeats it."""

    word: str
    shape: str
    look: Look


def _tags(*entries: tuple[str, str, Look]) -> dict[str, Tag]:
    return {word: Tag(word, shape, look) for word, shape, look in entries}


DEPLOYED = _tags(
    ("yes", "●", "good"), ("building", "◐", "busy"), ("failed", "✕", "bad"), ("no", "○", "off"), ("unknown", "?", "unknown")
)  # fmt: skip
RUNNING = _tags(
    ("yes", "●", "good"), ("starting", "◐", "busy"), ("partly", "▲", "warn"), ("failing", "✕", "bad"),
    ("stopped", "○", "off"), ("unknown", "?", "unknown"),
)  # fmt: skip
REVISION = _tags(
    ("active", "●", "good"), ("applying", "◐", "busy"), ("previous", "○", "off"), ("rejected", "✕", "bad"),
    ("superseded", "○", "off"),
)  # fmt: skip
KEY = _tags(("valid", "●", "good"), ("expired", "○", "off"), ("revoked", "✕", "off"))
PLACED = _tags(
    ("ready", "●", "good"), ("loading", "◐", "busy"), ("fetching", "◐", "busy"), ("failed", "✕", "bad"),
    ("unknown", "?", "unknown"),
)  # fmt: skip

NODE = _tags(("ready", "●", "good"), ("starting", "◐", "busy"), ("unknown", "?", "unknown"), ("revoked", "✕", "off"))
ACTION = _tags(("accepted", "◐", "busy"), ("applied", "●", "good"), ("failed", "✕", "bad"), ("overtaken", "○", "off"))
TRAIL = _tags(("whole", "●", "good"), ("broken", "✕", "bad"))
ANSWER = _tags(("as expected", "●", "good"), ("not as expected", "✕", "bad"), ("differs", "▲", "warn"))
PROMOTION = _tags(
    ("checking", "◐", "busy"), ("waiting for approval", "▲", "warn"), ("refused", "✕", "bad"), ("done", "●", "good"),
    ("failed", "✕", "bad"), ("overtaken", "○", "off"),
)  # fmt: skip
GATE = _tags(("passed", "●", "good"), ("refused", "✕", "bad"))

VERBS = {
    "create": "created",
    "change": "changed",
    "retry": "tried again",
    "challenger": "challenger set",
    "clear": "challenger cleared",
    "swap": "swapped",
    "rollback": "rolled back",
    "promote": "promoted",
    "run": "started",
    "stop": "stopped",
    "delete": "deleted",
    "adopt": "adopted",
}
"""What a revision's kind is called once it is done."""


@dataclass(frozen=True)
class Slice(Generic[T]):
    """A part of a long list: never more than 50 rows on a page. `number` counts pages from 1."""

    items: list[T]
    first: int
    total: int
    number: int
    pages: int

    @property
    def last(self) -> int:
        """Place of the last item shown, counted from 1; 0 in an empty list."""
        return self.first + len(self.items) - 1 if self.items else 0

    def holding(self, items: list[U]) -> Slice[U]:
        """The same part of the list with other things in the place of its items."""
        return Slice(items, self.first, self.total, self.number, self.pages)


PAGE_ROWS = 50


def slice_of(items: Sequence[T], number: int) -> Slice[T]:
    """One page of a list; a number beyond the end gives the last page."""
    # Rounded up; an empty list has one empty page.
    pages = max(1, -(-len(items) // PAGE_ROWS))
    # Links go stale when lists shrink: the last page is better than none.
    number = min(max(number, 1), pages)
    start = (number - 1) * PAGE_ROWS
    return Slice(list(items[start : start + PAGE_ROWS]), start + 1, len(items), number, pages)


def short(digest: str) -> str:
    """The first 8 hex digits of a digest: enough for people to tell two apart."""
    return digest.removeprefix("sha256:")[:8]


def stamp(moment: datetime) -> str:
    """A UTC time as tables show it; the zone stands in the heading."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def age(seconds: float | None) -> str:
    """An age in words, e.g. ``4 s ago``; ``never`` where there is none."""
    if seconds is None:
        return "never"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        # From two on: "1 min ago" could be anything up to two.
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def number(value: float | None, digits: int = 4) -> str:
    """A measure with so many decimals; a dash where it does not apply."""
    return "–" if value is None else f"{value:.{digits}f}"


def count(value: int) -> str:
    """A whole number with thousands apart."""
    return f"{value:,}"


def cores(value: float | None) -> str:
    """Processors kept busy; a dash where nobody knows."""
    return "–" if value is None else f"{value:.2f}"


def size(value: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("B", "KB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
