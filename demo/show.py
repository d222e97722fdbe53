"""What the demo says: numbered steps, progress bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

console = Console(highlight=False, soft_wrap=True)


@contextmanager
def step(words: str) -> Iterator[None]:
    """One step: what is being done, then how long it took."""
    begun = time.monotonic()
    with console.status(words) if console.is_terminal else _plain(words):
        yield
    console.print(f"[green]✓[/] {words} [dim]{time.monotonic() - begun:.1f} s[/]")


@contextmanager
def progress(words: str, total: int) -> Iterator[Callable[[int], None]]:
    """A step that can be counted; gives the function to report how many of `total` are done more."""
    begun = time.monotonic()
    if console.is_terminal:
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(words, total=total)
            yield lambda more: bar.advance(task, more)
    else:
        with _plain(words):
            yield _tenths(total)
    console.print(f"[green]✓[/] {words} [dim]{total:,} in {time.monotonic() - begun:.1f} s[/]")


@contextmanager
def _plain(words: str) -> Iterator[None]:
    console.print(f"  {words} …")
    yield


def _tenths(total: int) -> Callable[[int], None]:
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        # A line for each tenth: a log of a build wants to know that it goes on, not each step.
        before, done = done, done + more
        if 10 * before // total < 10 * done // total < 10:
            console.print(f"  {done:,} of {total:,}")

    return advance
