"""What the command prints: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

Json = Mapping[str, Any]
Column = tuple[str, str | Callable[[Json], object]]
"""Heading, and the member of the row (dots go deeper) or what makes the cell."""

ABSENT, UNKNOWN = "<none>", "<unknown>"
_UNBOUND_WIDTH = 10_000


class Format(StrEnum):
    """Forms of a single answer."""

    table = "table"
    json = "json"
    yaml = "yaml"


class ListFormat(StrEnum):
    """Forms of a list."""

    table = "table"
    json = "json"
    yaml = "yaml"
    name = "name"
    wide = "wide"


Output = Annotated[Format, typer.Option("-o", "--output", help="How to print the answer.")]
ListOutput = Annotated[ListFormat, typer.Option("-o", "--output", help="How to print the list.")]


def _forced() -> bool | None:
    """True where colour is wanted although nobody watches; None: let the terminal decide."""
    return True if os.environ.get("CLICOLOR_FORCE", "0") != "0" and "NO_COLOR" not in os.environ else None


def stdout() -> Console:
    """The console of data; as wide as the data where it is no terminal, so that nothing is cut in a pipe."""
    console = Console(force_terminal=_forced(), highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _UNBOUND_WIDTH
    return console


class _Aside(Console):
    """A console whose loss is no reason to stop: the work counts, not its telling."""

    def on_broken_pipe(self) -> None:
        """Go on in silence, where the library would end the program."""
        self.quiet = True


err = _Aside(stderr=True, force_terminal=_forced(), highlight=False)
"""The console of everything that is not data; `--quiet` silences it."""


def emit(data: Any, form: str, *, lines: bool = False) -> None:
    """Print a document whole, as JSON or YAML; with `lines`, JSON stands on one line, for those that read a stream."""
    # Written as they are: a console would wrap long values and paint what looks like markup.
    if form == Format.yaml:
        sys.stdout.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    else:
        sys.stdout.write(json.dumps(data, indent=None if lines else 2, ensure_ascii=False) + "\n")
    if lines:
        # Whoever reads a stream waits for this very document.
        sys.stdout.flush()


def show(data: Json, form: Format, lines: Sequence[str]) -> None:
    """Print one answer: the document itself, or its `lines` for people."""
    if form is Format.table:
        print("\n".join(lines))
    else:
        emit(data, form)


def show_list(rows: Sequence[Json], columns: Sequence[Column], form: ListFormat, empty: str, wide: Sequence[Column] = ()) -> None:
    """Print a list, one object a row.

    Args:
        rows: the API's objects.
        columns: for the table; the first one also makes ``-o name``.
        form: the form.
        empty: what stderr says where there are no rows.
        wide: further columns of ``-o wide``, which stand before the last one.
    """
    if form is ListFormat.name:
        print("\n".join(_cell(row, columns[0][1]) for row in rows), end="\n" if rows else "")
    elif form not in (ListFormat.table, ListFormat.wide):
        emit(list(rows), form)
    elif not rows:
        note(empty)
    else:
        more = wide if form is ListFormat.wide else ()
        # AGE stays the last column in either width, so that `awk '{print $NF}'` goes on working.
        stdout().print(table(rows, [*columns[:-1], *more, columns[-1]]))


def table(rows: Sequence[Json], columns: Sequence[Column]) -> Table:
    """A plain table without rules, so that other programs can cut it at blanks."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for heading, _ in columns:
        made.add_column(heading, no_wrap=True)
    for row in rows:
        made.add_row(*(_cell(row, column) for _, column in columns))
    return made


def _cell(row: Json, column: str | Callable[[Json], object]) -> str:
    found: object = dig(row, column) if isinstance(column, str) else column(row)
    return word(found)


def dig(row: Json, path: str) -> Any:
    """The member that a dotted path names; None where there is none."""
    found: Any = row
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def word(value: object) -> str:
    """A value as a cell shows it: never empty."""
    if value is None or value == "" or value == []:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ",".join(map(word, value)) if isinstance(value, list) else str(value)


def short(digest: str | None) -> str:
    """The front of a digest, enough to tell versions apart by eye."""
    return digest.removeprefix("sha256:")[:12] if digest else ABSENT


def age(moment: str | None) -> str:
    """How long ago an ISO 8601 time was, in its largest unit."""
    if not moment:
        return ABSENT
    then = datetime.fromisoformat(moment)
    seconds = (datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()
    return span(max(0.0, seconds))


def span(seconds: float | None) -> str:
    """A duration in its largest unit; None is not known."""
    if seconds is None:
        return UNKNOWN
    # One unit is enough to tell fresh from stale, and keeps the column narrow.
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:.0f}s"


def note(sentence: str) -> None:
    """A sentence on stderr: a hint, a warning, what is going on."""
    try:
        err.print(sentence, soft_wrap=True, markup=False)
    except OSError:
        # The terminal was closed. A supervisor in it still has requests to end and records to ship.
        err.quiet = True


def next_step(command: str) -> None:
    """The likely next command, where a person watches."""
    # In a script a proposal would only be noise in its log.
    if err.is_terminal:
        note(f"next: {command}")


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Say what is waited for while it takes longer than a moment; silent where nobody watches."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as progress:
        progress.add_task(what, total=None)
        yield


@contextmanager
def transfer(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for bytes; the function that is yielded takes (file, bytes done, bytes in all)."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as progress:
        bars: dict[str, Any] = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(f"{what} {name}", total=total)
            progress.update(bars[name], completed=done, total=total)

        yield report


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Elapsed time."""
        return time.monotonic() - self._start
