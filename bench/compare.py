"""The comparison: every server in turn, again and again, and the figures that come of it.

    make bench                      # the standard selection, about 25 minutes on a quiet machine
    make bench QUICK=1              # bare, ours and KServe, about 3 minutes
    python -m bench.compare --cells single --servers bare,quarterdeck,kserve --reps 3 --seconds 5

Prints a line per cell, then tables and goals as Markdown; every row is kept as a line of JSON in --out. Loopback only.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, get_args

from bench import cells, idle, inprocess, mirroring, overload, starting, work
from bench.answers import WrongAnswer
from bench.cells import Rules
from bench.goals import judge
from bench.node import OURS
from bench.packages import Kind, published
from bench.places import CACHE, make_environments, python_of, versions
from bench.rows import Journal, Row, read
from bench.servers import PEERS_BY_NAME, Cores, Server
from bench.tables import markdown
from bench.work import WORKS, Work

SERVERS: dict[str, Server] = {**PEERS_BY_NAME, **OURS}
LONG = ("quarterdeck-one-core",)
"""Left out of the standard selection, as are the 20 floats where a peer must be started anew for them; --all brings them."""
QUICK = ("bare", "quarterdeck", "quarterdeck-oip", "kserve")
_LIBRARIES = (
    "bentoml", "fastapi", "httptools", "kserve", "lightgbm", "litserve", "mlflow", "mlserver", "numpy", "pandas", "pydantic",
    "quarterdeck", "ray", "scikit-learn", "starlette", "uvicorn", "uvloop",
)  # fmt: skip
_SHOWN = (
    "rps", "rows_per_s", "p50_ms", "p99_ms", "cpu_us", "errors", "kept", "p99_ratio", "both_s", "serve_s", "start_s", "rss_mb",
    "server_cpu", "foreign_cpu",
)  # fmt: skip
SPECIAL: dict[str, Callable[[int, Rules], Iterable[Row]]] = {
    "in-process": inprocess.measure,
    "start": lambda repetition, rules: [starting.measure(repetition, rules)],
    "mirroring": lambda repetition, rules: [mirroring.measure(repetition, rules)],
    "idle": lambda repetition, rules: [idle.measure(repetition, rules)],
    "overload": lambda repetition, rules: (overload.measure(kind, repetition, rules) for kind in get_args(overload.Kind)),
}
"""Cells that need no other server."""
ONCE = tuple(name for name in SPECIAL if name != "in-process")
"""Cells that compare inside themselves, so that they need not stand in every repetition."""
FAILURES = (WrongAnswer, TimeoutError, ChildProcessError, subprocess.CalledProcessError, OSError, ValueError)


def options_of(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default=",".join((*WORKS, *SPECIAL)), help="of " + ", ".join((*WORKS, *SPECIAL)))
    parser.add_argument("--servers", default="", help="of " + ", ".join(SERVERS))
    parser.add_argument("--all", action="store_true", help="what the standard selection leaves out, too: half as long again")
    parser.add_argument("--reps", type=int, default=3, help="repetitions")
    parser.add_argument("--special-reps", type=int, default=1, help=f"of {', '.join(ONCE)}")
    parser.add_argument("--seconds", type=int, default=3, help="of load per cell")
    parser.add_argument("--attempts", type=int, default=4, help="how often a disturbed cell is measured at most")
    parser.add_argument("--disturbance", type=float, default=0.1, help="cores used by others from which on a cell is disturbed")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--out", type=Path, default=CACHE / "results.jsonl", help="JSON lines")
    parser.add_argument("--quick", action="store_true", help=f"one repetition of {', '.join(QUICK)}; three minutes")
    parser.add_argument("--strict", action="store_true", help="exit status 1 where a goal is missed")
    options = parser.parse_args(arguments)
    options.all |= bool(options.servers)
    options.servers = options.servers or ",".join(name for name in SERVERS if options.all or name not in LONG)
    if options.quick:
        options.servers, options.reps, options.cells = ",".join(QUICK), 1, ",".join((*WORKS, "in-process", "start", "mirroring"))
    for name, known in (("cells", (*WORKS, *SPECIAL)), ("servers", tuple(SERVERS))):
        chosen = getattr(options, name).split(",")
        if unknown := [one for one in chosen if one not in known]:
            parser.error(f"--{name}: there is no {', '.join(unknown)}; there is {', '.join(known)}")
        setattr(options, name, chosen)
    if {options.server_core, options.load_core} - os.sched_getaffinity(0) or options.server_core == options.load_core:
        parser.error("the server and the load need a core each; see --server-core and --load-core")
    return options


def main() -> NoReturn:
    """Measure, print, and exit with 1 where something failed, or, with --strict, where a goal was missed."""
    # Ended by a signal, servers are stopped like at any other end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = options_of(sys.argv[1:])
    rules = Rules(options.seconds, options.attempts, options.disturbance, Cores(options.server_core, options.load_core))
    servers = [SERVERS[name] for name in options.servers]
    _prepare(servers, options.cells)
    journal = Journal(options.out, _about(servers, options))
    failed = 0
    for repetition in range(options.reps):
        for row in _repetition(servers, options, repetition, rules):
            if isinstance(row, str):
                failed += 1
                print(row, flush=True)
            else:
                journal.add(row)
                print(_line(row), flush=True)
    results = read([options.out])
    print(f"\n{markdown(results)}\nKept in {options.out}.")
    missed = options.strict and any(judged.missed for judged in judge(results))
    sys.exit(1 if failed or missed else 0)


def _repetition(servers: list[Server], options: argparse.Namespace, repetition: int, rules: Rules) -> Iterator[Row | str]:
    """Every cell once; what failed is told as a text, and the next goes on."""
    for server in servers:
        for group in groups(server, [given for given in WORKS if given in options.cells], options.all):
            try:
                with server.started(group[0], rules.cores) as running:
                    for given in group:
                        yield from cells.measure(server, running, given, repetition, rules)
            except FAILURES as error:
                yield f"FAILED {server.name} {', '.join(group)}: {error}"
    for name in (name for name in SPECIAL if name in options.cells and (name not in ONCE or repetition < options.special_reps)):
        try:
            yield from SPECIAL[name](repetition, rules)
        except FAILURES as error:
            yield f"FAILED {name}: {error}"


def groups(server: Server, wanted: list[Work], every: bool) -> list[list[Work]]:
    """Works that one start of a server can be asked for; `every`: also those for which a peer must be started anew."""
    there = [given for given in wanted if given in server.targets]
    if not server.single_model:
        return [there] if there else []
    pipe: list[Work] = [given for given in there if given != "booster"]
    trees: list[Work] = [given for given in there if given == "booster" and (every or server.name in OURS)]
    return [group for group in (pipe, trees) if group]


def _prepare(servers: list[Server], wanted: list[str]) -> None:
    """Everything that takes time and is no part of a figure."""
    make_environments(*sorted({server.environment for server in servers if server.environment}))
    work.make()
    kinds: dict[str, tuple[Kind, ...]] = dict.fromkeys(("mirroring", "idle", "start"), ("pipe",)) | {
        "overload": ("slow", "waiting")
    }
    for kind in sorted({kind for name in wanted for kind in kinds.get(name, ())}):
        published(kind)
    for server in servers:
        for given in OURS[server.name].targets if server.name in OURS else ():
            found = OURS[server.name].published(given)
            print(f"# {server.name}, {given}: served as {found.form} {found.fallback}".rstrip(), flush=True)


def _about(servers: list[Server], options: argparse.Namespace) -> dict[str, Any]:
    """What the run is made with."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    environments = sorted({server.environment for server in servers if server.environment})
    found = {name: versions(python_of(name), *_LIBRARIES) for name in environments}
    machine = f"{os.cpu_count()} × {cpu[1] if cpu else platform.machine()}, {memory:.0f} GB, Linux {platform.release()}"
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{machine}, CPython {platform.python_version()}",
        "seconds": options.seconds,
        "versions": {"quarterdeck": versions(Path(sys.executable), *_LIBRARIES), **found},
    }


def _line(row: Row) -> str:
    """One cell, for whoever watches."""
    shown = {name: row.figures[name] for name in _SHOWN if name in row.figures}
    said = "  ".join(f"{name} {value:,.3f}".rstrip("0").rstrip(".") for name, value in shown.items())
    where = f"{row.repetition} {row.server} {row.cell} {row.connections or ''}"
    return f"{where:42} {said}{'  DISTURBED' if row.disturbed else ''}"


if __name__ == "__main__":
    main()
