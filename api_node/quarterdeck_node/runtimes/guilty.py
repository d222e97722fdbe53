"""Which row a model fails at, found by halving: ten questions for a thousand rows."""

from __future__ import annotations

from collections.abc import Generator

from quarterdeck.errors import ModelFailed


def search(count: int) -> Generator[tuple[int, int], bool, int | None]:
    """Ask for parts of rows that failed together.

    Args:
        count: how many rows they are.

    Yields:
        (first, behind the last) row of a part to be asked; send whether the model failed at it.

    Returns:
        a row that fails alone; None where they fail in company only.
    """
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if (yield low, middle):
            high = middle
        else:
            low = middle
    # The last part is known to fail only if it was asked: what fails may be the company of two rows.
    return low if (yield low, high) else None


def named(error: ModelFailed, row: int) -> ModelFailed:
    """The error with the row that it is about; rows count from 0, as in refusals of bad input."""
    return type(error)(
        f"Row {row}: {error.detail}",
        code=error.code,
        hint=error.hint,
        kind=error.kind,
        name=error.name,
        extra={**error.extra, "row": row},
    )
