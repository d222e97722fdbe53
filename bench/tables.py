"""Results as Markdown: goals, tables, versions.

    python -m bench.tables .cache/bench/results.jsonl … [--write docs/concepts/performance.md]

With --write the part of that page between its two marks is replaced.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from bench.goals import judge
from bench.rows import Results, Row, read

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
Line = list[str]
_TITLES = {"single": "One record", "batch": "256 records, 4 connections", "booster": "20 floats, 16 connections"}
_CONSTANT = ("bare", "fastapi-noop")


def markdown(results: Results) -> str:
    """Everything that a run found."""
    parts = [
        _about(results),
        "### Goals\n\n" + table(["what", "wanted", "found", ""], _goals(results)),
        *(_throughput(results, cell) for cell in _TITLES if results.servers(cell)),
        *(part(results) for part in (_memory, _mirroring, _idle, _overload, _starting, _in_process)),
        _notes(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Line, lines: Sequence[Line]) -> str:
    """A Markdown table; empty where there are no lines."""
    if not lines:
        return ""
    rows = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def number(value: float | None, digits: int = 0) -> str:
    """A figure for a table; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def write(page: Path, text: str) -> None:
    """Put a text between the marks of a page.

    Raises:
        ValueError: the page has no marks.
    """
    before = page.read_text(encoding="utf-8")
    found, count = re.subn(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n\n{text}\n{END}", before, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{page} does not have the marks {BEGIN} and {END} once")
    page.write_text(found, encoding="utf-8")


def _about(results: Results) -> str:
    about = results.about
    versions = "; ".join(
        f"{name}: " + ", ".join(f"{library} {version}" for library, version in sorted(found.items()))
        for name, found in about.get("versions", {}).items()
    )
    repetitions = 1 + max((row.repetition for row in results.rows), default=-1)
    return (
        f"Measured {about.get('when', '')} on {about.get('machine', '')}. {repetitions} interleaved repetitions, "
        f"{about.get('seconds', '?')} s a cell; medians, and ratios taken inside a repetition.\n\n{versions}."
    )


def _goals(results: Results) -> list[Line]:
    lines = []
    for judged in judge(results):
        goal = judged.goal
        sign = "≥" if goal.bound == "at least" else "≤"
        unit = f" {goal.unit}".rstrip()
        found = "–" if judged.found is None else f"{judged.found:,.2f}{unit}"
        lines.append([goal.what, f"{sign} {goal.wanted:,g}{unit}", found, judged.verdict])
    return lines


def _throughput(results: Results, cell: str) -> str:
    counts = results.connections(cell)
    head = ["server"]
    for count in counts:
        head += [f"{count} conn: req/s", "× bare", "× naive", "p50 ms", "p99 ms"]
    more = ["rows/s"] if cell == "batch" else []
    lines = [_throughput_line(results, server, cell, counts) for server in results.servers(cell)]
    return f"### {_TITLES[cell]}\n\n" + table([*head, *more, "errors", "spread"], lines)


def _throughput_line(results: Results, server: str, cell: str, counts: list[int]) -> Line:
    line, spreads, errors = [server], [0.0], 0.0
    for count in counts:
        of = (server, cell, count)
        line += [
            number(results.median(*of, "rps")),
            number(results.ratio(server, "bare", cell, count), 3),
            number(results.ratio(server, "naive", cell, count), 2),
            number(results.median(*of, "p50_ms"), 2),
            number(results.median(*of, "p99_ms"), 2),
        ]
        spreads.append(results.spread(*of, "rps") or 0.0)
        errors += sum(results.values(*of, "errors"))
    more = [number(results.median(server, cell, counts[0], "rows_per_s"))] if cell == "batch" else []
    return [*line, *more, number(errors), f"{max(spreads):.0%}"]


def _memory(results: Results) -> str:
    """Start, memory, and processor time, which others on the machine disturb less than requests a second."""
    counts = results.connections("single")
    lines = []
    for server in results.servers("single"):
        of = (server, "single", max(counts))
        figures = [(results.median(*of, name), digits) for name, digits in (("start_s", 1), ("rss_mb", 0), ("pss_mb", 0))]
        figures.append((results.median(*of, "helper_pss_mb"), 0))
        figures += [(results.median(server, "single", count, "cpu_us"), 1) for count in counts]
        lines.append([server, *(number(value, digits) for value, digits in figures)])
    head = [
        "server",
        "start, s",
        "RSS, MB",
        "PSS, MB",
        "agent's PSS, MB",
        *(f"µs of processor, {count} conn" for count in counts),
    ]
    return "### Start, memory and processor time per request\n\n" + table(head, lines) if lines else ""


def _special(results: Results, cell: str, title: str, head: Line, figures: list[tuple[str, int]]) -> str:
    """A table of cells that only ours has: a line per server, a column per figure."""
    lines = []
    for server in results.servers(cell):
        count = next(row.connections for row in results.rows if (row.server, row.cell) == (server, cell))
        lines.append([server, *(number(results.median(server, cell, count, name), digits) for name, digits in figures)])
    return f"### {title}\n\n" + table(["server", *head], lines) if lines else ""


def _mirroring(results: Results) -> str:
    head = ["req/s without", "req/s with", "kept by the clock", "kept by main's processor time", "p99 ms without", "p99 ms with",
            "mirrored rows", "answered", "expired", "dropped"]  # fmt: skip
    figures = [("rps_without", 0), ("rps", 0), ("kept_by_the_clock", 2), ("kept", 2), ("p99_ms_without", 2), ("p99_ms", 2),
               ("mirrored", 0), ("answered", 0), ("expired", 0), ("dropped", 0)]  # fmt: skip
    return _special(results, "mirroring", "Mirroring every row to a challenger", head, figures)


def _idle(results: Results) -> str:
    head = ["p99 ms alone", "p99 ms beside", "ratio", "req/s alone", "req/s beside", "still open", "RSS, MB"]
    figures = [("p99_ms_alone", 2), ("p99_ms", 2), ("p99_ratio", 2), ("rps_alone", 0), ("rps", 0), ("open", 0), ("rss_mb", 0)]
    return _special(results, "idle", "Ten thousand idle connections", head, figures)


def _overload(results: Results) -> str:
    head = ["capacity, req/s", "offered, req/s", "goodput, req/s", "kept", "refused", "unanswered", "p50 ms", "p99 ms"]
    figures = [("capacity", 0), ("offered", 0), ("rps", 0), ("kept", 2), ("refused", 0), ("unanswered", 0), ("p50_ms", 0),
               ("p99_ms", 0)]  # fmt: skip
    return _special(results, "overload", "Ten times the capacity of a model of 5 ms", head, figures)


def _starting(results: Results) -> str:
    head = ["both programs, s", "serve alone, s", "serve's RSS, MB", "serve's PSS, MB", "agent's RSS, MB", "agent's PSS, MB"]
    figures = [("both_s", 2), ("serve_s", 2), ("rss_mb", 0), ("pss_mb", 0), ("helper_rss_mb", 0), ("helper_pss_mb", 0)]
    return _special(results, "start", "From start to first good answer", head, figures)


def _in_process(results: Results) -> str:
    rows: dict[str, Row] = {row.cell: row for row in results.rows if row.server == "in-process"}
    lines = []
    for name, row in rows.items():
        of = (row.server, row.cell, row.connections)
        lines.append([name, number(results.median(*of, "call_us")), number(results.median(*of, "rows_per_s"))])
    return "### In process, without a server\n\n" + table(["call", "µs", "rows/s"], lines) if lines else ""


def _notes(results: Results) -> str:
    """Which cells are missing, and that answers were equal."""
    left = sorted({f"{row.server} {row.cell} at {row.connections} (repetition {row.repetition})" for row in results.disturbed})
    compared = [row.figures["difference"] for row in results.rows if "difference" in row.figures and row.server not in _CONSTANT]
    said = [f"Largest difference between any server's score and the original model's: {max(compared):.1e}."] if compared else []
    return " ".join([*said, f"Cells left out, because others used the processor in every attempt: {'; '.join(left) or 'none'}."])


def main() -> None:
    """Print, or write into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--write", type=Path, metavar="PAGE")
    options = parser.parse_args()
    text = markdown(read(options.results))
    if options.write:
        write(options.write, text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
