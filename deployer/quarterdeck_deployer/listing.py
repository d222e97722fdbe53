"""Lists page by page: which slice is wanted, and how a query gives it without counting what came before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, TypeVarTuple

from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from quarterdeck.errors import InvalidInput

Place = tuple[str | int, ...]
"""Where a row stands in its list: its values of the columns that the list is sorted by, which together are unique."""

Item = TypeVar("Item")
Made = TypeVar("Made")
Selected = TypeVarTuple("Selected")
Column = InstrumentedAttribute[str] | InstrumentedAttribute[int]


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` rows behind the row that stands at `after`; from the first one where that is None."""

    limit: int = 100
    after: Place | None = None


@dataclass(frozen=True, slots=True)
class Listed(Generic[Item]):
    """One page, and where the row stands after which the next page begins; None where this is the last page."""

    items: list[Item]
    next: Place | None = None

    def of(self, make: Callable[[Item], Made]) -> Listed[Made]:
        """The same page with each item made into something else."""
        return Listed([make(item) for item in self.items], self.next)


def windowed(query: Select[*Selected], window: Window, *columns: Column, descending: bool = False) -> Select[*Selected]:
    """The query for one page: sorted by `columns` (together unique), with one row more than asked for, to see if any follow.

    Raises:
        InvalidInput: ``cursor-invalid`` where `window.after` belongs to a list of another kind.
    """
    if window.after is not None:
        # By place, not by count: rows that come or go meanwhile neither repeat nor hide others.
        _require_place(window.after, columns)
        row: ColumnElement[Any] = tuple_(*columns)
        place = tuple_(*window.after)
        query = query.where(row < place if descending else row > place)
    order = [column.desc() if descending else column.asc() for column in columns]
    return query.order_by(*order).limit(window.limit + 1)


def page(found: Sequence[Item], window: Window, place: Callable[[Item], Place]) -> Listed[Item]:
    """One page of what a `windowed` query has found.

    Args:
        found: up to one row more than the window holds.
        window: the one that was asked for.
        place: where a row stands in the list.
    """
    items = list(found[: window.limit])
    return Listed(items, place(items[-1]) if len(found) > window.limit else None)


def sliced(items: Sequence[Item], window: Window, place: Callable[[Item], Place]) -> Listed[Item]:
    """One page of a list that lies in memory, sorted by `place`.

    Raises:
        InvalidInput: ``cursor-invalid`` where `window.after` belongs to a list of another kind.
    """
    after = window.after
    if after is not None:
        if items and [type(value) for value in after] != [type(value) for value in place(items[0])]:
            raise _of_another_list()
        items = [item for item in items if place(item) > after]
    return page(items[: window.limit + 1], window, place)


def _require_place(place: Place, columns: Sequence[Column]) -> None:
    # PostgreSQL refuses to compare a text with a number, and would say so to nobody who can do anything about it.
    if [type(value) for value in place] != [column.type.python_type for column in columns]:
        raise _of_another_list()


def _of_another_list() -> InvalidInput:
    return InvalidInput(
        "This cursor belongs to another list.",
        code="cursor-invalid",
        kind="parameter",
        name="after",
        hint="Take it from the Link header of the page before, or leave it out.",
    )
