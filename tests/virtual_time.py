"""A loop whose time is told and not measured: who waits for a moment waits no time at all, and every run is the same."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
TURN = 1e-5
"""Seconds that each turn of the loop takes, so that whoever turns until a moment gets there."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Where nothing is ready, its time jumps to the next timer."""

    def __init__(self) -> None:
        self._now = 1_000.0
        super().__init__(_Jumping(self._pass))

    def time(self) -> float:
        """Seconds, from a moment of its own."""
        return self._now

    def _pass(self, seconds: float) -> None:
        self._now += seconds


class _Jumping(selectors.DefaultSelector):
    """Never waits for a moment, only for the event that ends a wait without one."""

    def __init__(self, passes: Callable[[float], None]) -> None:
        super().__init__()
        self._passes = passes

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(timeout if timeout is None else 0)
        self._passes(TURN if found or not timeout else max(timeout, TURN))
        return found


def run(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, in a loop of this kind."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)
