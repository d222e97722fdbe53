"""Blocking work of the event loop's own loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(work: Callable[[], T]) -> T:
    """Do blocking work in a thread; whoever is cancelled meanwhile ends after the work.

    A thread cannot be cancelled: whoever ends a loop closes the database next, under its feet.
    """
    working = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.gather(working, return_exceptions=True)
        raise
